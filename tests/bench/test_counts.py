"""What the hot path does per frame and per byte, in counts that no machine can change."""

import socket
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

from agentrelay import fastpath
from agentrelay.protocol import mux

STREAM = 7
MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    not fastpath.COMPILED, reason="the twin copies and allocates where it reads best"
)


def packed(n_bytes: int, frame_bytes: int) -> tuple[bytearray, int]:
    """Pack `n_bytes` of output in frames of `frame_bytes` data bytes; gives them and their number."""
    ring = fastpath.ByteRing(MIB)
    masks = fastpath.MaskSource()
    frames = bytearray(n_bytes + 16 * (n_bytes // frame_bytes + 1))
    pos = 0
    for start in range(0, n_bytes, frame_bytes):
        stop = min(n_bytes, start + frame_bytes)
        ring.append(bytes(stop - start))
        pos, start = fastpath.pack_output(frames, pos, ring, start, stop, STREAM, masks)
        assert start == stop
    ring.close()
    return frames[:pos], -(-n_bytes // frame_bytes)


@pytest.fixture
def receiver() -> Iterator[fastpath.MuxReceiver[str]]:
    ring = fastpath.ByteRing(MIB)
    ring.keep = fastpath.FREE
    receiver: fastpath.MuxReceiver[str] = fastpath.MuxReceiver(
        masked=True, max_payload_bytes=mux.MAX_LINK_PAYLOAD_BYTES
    )
    receiver.open(STREAM, ring, "session")
    yield receiver
    ring.close()


def test_output_is_packed_into_as_few_frames_as_can_be() -> None:
    ring = fastpath.ByteRing(MIB)
    ring.append(bytes(MIB))
    out = bytearray(2 * MIB)

    pos, done = fastpath.pack_output(out, 0, ring, 0, MIB, STREAM, fastpath.MaskSource())

    assert done == MIB
    frames = -(-MIB // (fastpath.MAX_LINK_PAYLOAD_BYTES - fastpath.MUX_HEADER_BYTES))
    assert pos - MIB <= frames * 16
    ring.close()


@pytest.mark.parametrize("frame_bytes", [64, 4096, 65_512])
def test_receiving_allocates_nothing_for_a_frame_or_a_byte(
    receiver: "fastpath.MuxReceiver[str]", frame_bytes: int
) -> None:
    frames, n_frames = packed(MIB, frame_bytes)
    receiver.receive(frames, 0, len(frames))
    receiver.take_touched()

    blocks = sys.getallocatedblocks()
    tracemalloc.start()
    pos, status = receiver.receive(frames, 0, len(frames))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (pos, status) == (len(frames), fastpath.MORE)
    assert receiver.frames == 2 * n_frames
    assert receiver.output_bytes == 2 * MIB
    assert peak_bytes < 1024
    assert sys.getallocatedblocks() - blocks < 10


def test_sending_to_a_viewer_copies_nothing_in_this_process() -> None:
    ring = fastpath.ByteRing(MIB)
    ring.append(bytes(65_536))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
        tracemalloc.start()
        sent = fastpath.write_frames(ours.fileno(), ring, 0, 65_536, 65_536)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert sent == (65_536, b"")
    assert peak_bytes < 1024
    ring.close()


def test_a_stream_of_small_writes_travels_in_few_frames() -> None:
    policy = fastpath.HoldPolicy()
    now_us, drains, waiting_bytes, next_us = 0, 0, 0, 0
    for _ in range(4000):  # one second of 40 bytes every 250 us
        now_us += 250
        waiting_bytes += 40
        if now_us >= next_us:
            drains += 1
            next_us = now_us + policy.drained(now_us, waiting_bytes)
            waiting_bytes = 0

    assert drains < 4000 / 12
