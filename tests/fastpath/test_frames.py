"""Scanning, masking and making WebSocket frames."""

import json
import mmap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "frames.json").read_text()
)["frames"]
STATUS = {"more": "MORE", "fast": "FAST", "slow": "SLOW"}
NO_LIMIT = 2**63 - 1


def websocket_frame(data: bytes, *, opcode: Opcode = Opcode.BINARY, fin: bool = True, masked: bool) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=masked)


def bytes_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["bytes"]) + bytes(vector.get("zeros", 0))


frames = st.builds(
    websocket_frame,
    st.one_of(
        st.binary(max_size=200),
        st.integers(120, 132).map(bytes),
        st.integers(65_530, 65_540).map(bytes),
    ),
    opcode=st.sampled_from([Opcode.BINARY] * 5 + [Opcode.TEXT, Opcode.CONT]),
    fin=st.sampled_from([True, True, True, False]),
    masked=st.just(True),
) | st.builds(
    websocket_frame,
    st.sampled_from([b"", b"ping", Close(1000, "").serialize()]),
    opcode=st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
    masked=st.booleans(),
)


# ---- scan_frame


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors(fastpath: ModuleType, vector: dict[str, Any]) -> None:
    data = bytes_of(vector)
    status, start, end, mask = fastpath.scan_frame(
        data, 0, len(data), vector["masked"], vector.get("max_payload_bytes", NO_LIMIT)
    )
    assert status == getattr(fastpath, STATUS[vector["status"]])
    assert fastpath.frame_extent(data, 0, len(data)) == vector["extent"]
    if "opcode" in vector:
        assert fastpath.frame_opening(data, 0) == (vector["fin"], vector["opcode"])
    if status == fastpath.FAST:
        assert mask == int(vector["mask"], 16)
        payload = bytearray(data[start:end])
        fastpath.unmask(payload, 0, len(payload), mask)
        assert payload.hex() == vector["payload"] or (len(payload), set(payload)) == (vector["zeros"], {0})


@given(data=st.lists(frames, min_size=1, max_size=4).map(b"".join), cut=st.data())
def test_a_stream_gives_the_same_events_wherever_it_is_split(
    fastpath: ModuleType, data: bytes, cut: st.DataObject
) -> None:
    def events(pieces: list[bytes]) -> list[object]:
        received = bytearray()
        found: list[object] = []
        pos = 0
        for piece in pieces:
            received += piece
            while pos < len(received):
                status, start, end, mask = fastpath.scan_frame(received, pos, len(received), True, 65_536)
                if status == fastpath.FAST:
                    payload = received[start:end]
                    fastpath.unmask(payload, 0, len(payload), mask)
                    found.append(bytes(payload))
                    pos = end
                    continue
                extent = fastpath.frame_extent(received, pos, len(received))
                if status == fastpath.MORE:
                    assert extent == 0 or extent > len(received) - pos
                    break
                if extent == 0 or extent > len(received) - pos:
                    break
                found.append((fastpath.frame_opening(received, pos), bytes(received[pos : pos + extent])))
                pos += extent
        assert pos == len(received)
        return found

    # Every byte boundary of short streams, and some of long ones.
    cuts = range(1, len(data)) if len(data) < 300 else cut.draw(st.lists(st.integers(1, len(data) - 1)))
    whole = events([data])
    assert whole
    for at in cuts:
        assert events([data[:at], data[at:]]) == whole


@given(data=st.lists(frames, min_size=1, max_size=2).map(b"".join))
def test_a_byte_at_a_time(fastpath: ModuleType, data: bytes) -> None:
    final = fastpath.scan_frame(data, 0, len(data), True, 65_536)[0]
    for end in range(min(len(data), 300)):
        status = fastpath.scan_frame(data, 0, end, True, 65_536)[0]
        # What is said about a part is never taken back.
        assert status in (fastpath.MORE, final)


@given(
    data=st.binary(max_size=30),
    at=st.tuples(st.integers(-2, 32), st.integers(-2, 32)),
    masked=st.booleans(),
    limit=st.integers(0, 2**63 - 1) | st.integers(0, 200),
)
def test_no_bytes_are_too_strange(
    fastpath: ModuleType, data: bytes, at: tuple[int, int], masked: bool, limit: int
) -> None:
    start, end = at
    if not 0 <= start <= end <= len(data):
        with pytest.raises(IndexError):
            fastpath.scan_frame(data, start, end, masked, limit)
        with pytest.raises(IndexError):
            fastpath.frame_extent(data, start, end)
        with pytest.raises(IndexError):
            fastpath.unmask(bytearray(data), start, end, 1)
        return
    status, payload_start, payload_end, mask = fastpath.scan_frame(data, start, end, masked, limit)
    # Bytes outside the range do not count.
    assert fastpath.scan_frame(data[start:end], 0, end - start, masked, limit) == (
        status,
        payload_start - start,
        payload_end - start,
        mask,
    )
    if status == fastpath.FAST:
        assert start < payload_start <= payload_end <= end
        assert payload_end - start == fastpath.frame_extent(data, start, end)
        assert payload_end - payload_start <= limit
    else:
        assert (payload_start, payload_end, mask) == (start, start, 0)


@given(data=st.binary(max_size=20), masked=st.booleans(), limit=st.integers(0, 300))
def test_both_implementations_agree(data: bytes, masked: bool, limit: int) -> None:
    from agentrelay import _fastpath, _fastpath_py

    n_bytes = len(data)
    assert _fastpath.scan_frame(data, 0, n_bytes, masked, limit) == _fastpath_py.scan_frame(
        data, 0, n_bytes, masked, limit
    )
    assert _fastpath.frame_extent(data, 0, n_bytes) == _fastpath_py.frame_extent(data, 0, n_bytes)


def test_reads_nothing_past_the_end(fastpath: ModuleType) -> None:
    # The frame ends with the last byte of the last page: one byte more would be a fault.
    frame = websocket_frame(b"x" * 20, masked=True)
    with mmap.mmap(-1, mmap.PAGESIZE) as page:
        page[-len(frame) :] = frame
        start = mmap.PAGESIZE - len(frame)
        for end in range(start, mmap.PAGESIZE):
            assert fastpath.scan_frame(page, start, end, True, 100)[0] == fastpath.MORE
        assert fastpath.scan_frame(page, start, mmap.PAGESIZE, True, 100)[0] == fastpath.FAST


def test_too_large_is_slow_before_the_payload_has_come(fastpath: ModuleType) -> None:
    frame = websocket_frame(bytes(1000), masked=True)
    assert fastpath.scan_frame(frame, 0, 4, True, 999)[0] == fastpath.SLOW
    assert fastpath.scan_frame(frame, 0, 4, True, 1000)[0] == fastpath.MORE


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_takes_any_buffer(fastpath: ModuleType, wrap: type) -> None:
    frame = websocket_frame(b"hello", masked=False)
    assert fastpath.scan_frame(wrap(frame), 0, len(frame), False, 5) == (fastpath.FAST, 2, 7, 0)


def test_refuses_what_is_no_buffer_or_has_gaps(fastpath: ModuleType) -> None:
    with pytest.raises(TypeError):
        fastpath.scan_frame("text", 0, 0, True, 10)
    with pytest.raises(BufferError):
        fastpath.scan_frame(memoryview(bytes(10))[::2], 0, 5, True, 10)
    with pytest.raises(ValueError, match="negative"):
        fastpath.scan_frame(b"", 0, 0, True, -1)


@pytest.mark.parametrize("huge", [2**63, 2**64, 2**200, -(2**200)])
def test_huge_positions_are_refused(fastpath: ModuleType, huge: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: fastpath.scan_frame(b"abc", huge, huge, True, 10),
        lambda: fastpath.frame_extent(b"abc", 0, huge),
        lambda: fastpath.frame_opening(b"abc", huge),
        lambda: fastpath.unmask(bytearray(3), 0, huge, 1),
    ]
    for call in calls:
        with pytest.raises((IndexError, OverflowError)):
            call()


# ---- frame_opening


@pytest.mark.parametrize("start", [-1, 3, 4])
def test_no_opening_outside_the_buffer(fastpath: ModuleType, start: int) -> None:
    with pytest.raises(IndexError):
        fastpath.frame_opening(b"abc", start)


# ---- unmask


@given(
    data=st.binary(max_size=300),
    mask=st.integers(0, 2**32 - 1),
    around=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_unmask_is_the_xor_of_rfc_6455(
    fastpath: ModuleType, data: bytes, mask: int, around: tuple[int, int]
) -> None:
    before, after = around
    buffer = bytearray(b"#" * before + data + b"#" * after)
    fastpath.unmask(buffer, before, before + len(data), mask)
    key = mask.to_bytes(4, "big")
    expected = bytes(byte ^ key[i % 4] for i, byte in enumerate(data))
    assert buffer == b"#" * before + expected + b"#" * after


def test_unmask_refuses_read_only_buffers_and_masks_that_are_none(fastpath: ModuleType) -> None:
    data = b"constant"
    with pytest.raises(BufferError):
        fastpath.unmask(data, 0, 8, 1)
    with pytest.raises(BufferError):
        fastpath.unmask(memoryview(bytearray(8)).toreadonly(), 0, 8, 1)
    assert data == b"constant"
    for mask in (-1, 2**32):
        with pytest.raises(OverflowError):
            fastpath.unmask(bytearray(8), 0, 8, mask)


# ---- frame_header


@pytest.mark.parametrize("n_bytes", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_frame_header_is_what_the_library_writes(fastpath: ModuleType, n_bytes: int) -> None:
    payload = bytes(n_bytes)
    assert fastpath.frame_header(n_bytes) + payload == websocket_frame(payload, masked=False)


def test_frame_header_of_the_largest_and_of_no_payload(fastpath: ModuleType) -> None:
    assert fastpath.frame_header(2**63 - 1) == b"\x82\x7f\x7f" + b"\xff" * 7
    with pytest.raises(ValueError, match="negative"):
        fastpath.frame_header(-1)


# ---- MaskSource


def test_masks_are_random_and_never_zero(fastpath: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = fastpath.MaskSource()
    drawn = [masks.next() for _ in range(5000)]
    assert all(0 < mask < 2**32 for mask in drawn)
    assert len(set(drawn)) > 4900
    # A source that gives mostly zeros.
    monkeypatch.setattr("os.urandom", lambda n_bytes: bytes(n_bytes - 4) + b"\x01\x02\x03\x04")
    masks = fastpath.MaskSource()
    assert [masks.next() for _ in range(3)] == [0x01020304] * 3
