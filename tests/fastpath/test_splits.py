"""A link's bytes split anywhere are the same bytes: streams, limits, frames that are not the receiver's."""

from contextlib import ExitStack, closing
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

STREAMS = 3
RING_BYTES = 65_536

FRAMES = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 1, 1, 4]),
        st.integers(0, STREAMS),  # the last one is not open
        st.one_of(st.binary(max_size=20), st.sampled_from([125, 126, 127, 400]).map(bytes)),
    ),
    max_size=6,
)
Pieces = list[tuple[int, int]]


def link_bytes(frames: list[tuple[int, int, bytes]], masked: bool) -> bytes:
    payloads = [bytes([kind, 0, 0, 0, 0, 0, 0, stream]) + data for kind, stream, data in frames]
    return b"".join(Frame(Opcode.BINARY, payload).serialize(mask=masked) for payload in payloads)


def receive(fastpath: ModuleType, data: bytes, cuts: list[int], masked: bool) -> Any:
    """Receive `data` up to each of `cuts` in turn, keeping unfinished tails; gives all that can be seen."""
    receiver = fastpath.MuxReceiver(masked=masked, max_payload_bytes=4096)
    refused: list[int] = []
    with ExitStack() as stack:
        rings = [stack.enter_context(closing(fastpath.ByteRing(RING_BYTES))) for _ in range(STREAMS)]
        for stream, ring in enumerate(rings):
            receiver.open(stream, ring, stream)
        receiver.set_limit(0, 150)
        receiver.skip(1, 5)
        done, tail = 0, bytearray()
        for cut in [*cuts, len(data)]:
            buffer = tail + data[done + len(tail) : cut]
            pos = 0
            while True:
                pos, status = receiver.receive(buffer, pos, len(buffer))
                extent = fastpath.frame_extent(buffer, pos, len(buffer))
                if status == fastpath.MORE or not 0 < extent <= len(buffer) - pos:
                    break
                refused.append(done + pos)
                pos += extent
            done, tail = done + pos, buffer[pos:]
        contents = [bytes(ring.view(ring.base, ring.head)) for ring in rings]
    return contents, refused, sorted(receiver.take_touched()), receiver.frames, receiver.output_bytes


@pytest.mark.parametrize("masked", [True, False])
@settings(deadline=None, max_examples=30)
@given(frames=FRAMES)
def test_a_link_split_at_every_byte_gives_the_same_output(
    fastpath: ModuleType, masked: bool, frames: list[tuple[int, int, bytes]]
) -> None:
    data = link_bytes(frames, masked)
    whole = receive(fastpath, data, [], masked)

    for cut in range(len(data) + 1):
        assert receive(fastpath, data, [cut], masked) == whole, f"cut at {cut}"
    assert receive(fastpath, data, list(range(len(data))), masked) == whole


@settings(deadline=None, max_examples=100)
@given(frames=FRAMES, cuts=st.lists(st.integers(0, 3000), max_size=8), masked=st.booleans())
def test_what_is_received_is_what_was_sent(
    fastpath: ModuleType, frames: list[tuple[int, int, bytes]], cuts: list[int], masked: bool
) -> None:
    data = link_bytes(frames, masked)

    contents, *_ = receive(fastpath, data, sorted(min(cut, len(data)) for cut in cuts), masked)

    sent = [
        b"".join(data for kind, to, data in frames if (kind, to) == (1, stream)) for stream in range(STREAMS)
    ]
    within_limit = b""
    for kind, to, data in frames:
        # A frame that passes the limit is refused whole; the next may fit again.
        if (kind, to) == (1, 0) and len(within_limit) + len(data) <= 150:
            within_limit += data
    assert contents == [within_limit, sent[1][5:], sent[2]]
