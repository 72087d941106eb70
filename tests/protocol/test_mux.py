"""Mux frames: the readable side agrees with the vectors and with the compiled hot path."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay import fastpath
from agentrelay.errors import ProtocolError
from agentrelay.protocol import mux

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "mux_frames.json").read_text()
)
U64 = st.integers(0, 2**64 - 1)
STREAMS = st.integers(0, 2**32 - 1)


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=by_name)
def test_a_frame_is_taken_apart(vector: dict[str, Any]) -> None:
    frame = mux.unpack(memoryview(bytes.fromhex(vector["payload"])))

    assert (frame.kind, frame.stream, frame.data.hex()) == (vector["kind"], vector["stream"], vector["data"])


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=by_name)
def test_the_hot_path_packs_the_same_frame(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["payload"])
    frame = fastpath.pack_frame(vector["kind"], vector["stream"], bytes.fromhex(vector["data"]), None)

    assert frame == fastpath.frame_header(len(payload)) + payload


@pytest.mark.parametrize("vector", VECTORS["malformed"], ids=by_name)
def test_a_malformed_frame_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        mux.unpack(memoryview(bytes.fromhex(vector["payload"])))

    assert refused.value.code == "bad_message"
    assert str(refused.value).startswith("a mux frame has ")


@pytest.mark.parametrize("vector", VECTORS["acks"], ids=lambda vector: str(vector["acked"]))
def test_an_ack_carries_two_offsets(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["data"])

    assert mux.pack_ack(vector["acked"], vector["limit"]) == data
    assert mux.unpack_ack(memoryview(data)) == (vector["acked"], vector["limit"])


@pytest.mark.parametrize("vector", VECTORS["input_acks"], ids=lambda vector: str(vector["offset"]))
def test_an_input_ack_carries_one_offset(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["data"])

    assert mux.pack_offset(vector["offset"]) == data
    assert mux.unpack_offset(memoryview(data)) == vector["offset"]


@given(st.binary(max_size=40))
def test_whatever_bytes_come_only_the_peer_is_blamed(data: bytes) -> None:
    for unpack, n_bytes in ((mux.unpack_ack, 16), (mux.unpack_offset, 8)):
        if len(data) == n_bytes:
            unpack(memoryview(data))
        else:
            with pytest.raises(ProtocolError, match=f"carries {n_bytes} bytes, not {len(data)}"):
                unpack(memoryview(data))
    well_formed = len(data) >= mux.HEADER_BYTES and not any(data[1:4])
    if well_formed:
        frame = mux.unpack(memoryview(data))
        assert bytes([frame.kind, 0, 0, 0]) + frame.stream.to_bytes(4) + frame.data == data
    else:
        with pytest.raises(ProtocolError):
            mux.unpack(memoryview(data))


@given(kind=st.sampled_from(mux.Kind), stream=STREAMS, data=st.binary(max_size=200))
def test_what_the_hot_path_packs_is_taken_apart_again(kind: mux.Kind, stream: int, data: bytes) -> None:
    frame = fastpath.pack_frame(kind, stream, data, None)
    status, start, end, _ = fastpath.scan_frame(frame, 0, len(frame), False, mux.MAX_LINK_PAYLOAD_BYTES)

    assert status == fastpath.FAST
    assert tuple(mux.unpack(memoryview(frame)[start:end])) == (kind, stream, data)


@given(acked=U64, limit=U64)
def test_offsets_survive_packing(acked: int, limit: int) -> None:
    assert mux.unpack_ack(memoryview(mux.pack_ack(acked, limit))) == (acked, limit)
    assert mux.unpack_offset(memoryview(mux.pack_offset(acked))) == acked


def test_the_largest_frame_has_the_size_of_the_hot_path() -> None:
    assert mux.MAX_LINK_PAYLOAD_BYTES == fastpath.MAX_LINK_PAYLOAD_BYTES
    assert mux.HEADER_BYTES == fastpath.MUX_HEADER_BYTES
    assert len(fastpath.pack_frame(mux.Kind.OUTPUT, 1, bytes(mux.MAX_DATA_BYTES), None)) == 4 + 65_520
