"""The hot path at the same work again and again, for tools that count: `python -m bench.counted WHAT TIMES`.

What it does, and which system calls, depends on nothing but the arguments, so that the difference of two runs
is what the work costs.

- `receive`: a megabyte of a link's frames of 64 bytes of output goes into a ring;
- `relay`: a megabyte goes from a pipe through a ring to a viewer, 64 KiB at a time.
"""

import os
import socket
import sys
from collections.abc import Callable

from agentrelay import fastpath

MIB = 1 << 20
PIECE_BYTES = 1 << 16
SMALL_BYTES = 64
FRAMES = MIB // SMALL_BYTES
STREAM = 7


def receive(times: int) -> None:
    """Receive frames."""
    frame = fastpath.pack_frame(1, STREAM, bytes(SMALL_BYTES), fastpath.MaskSource())
    buffer = frame * FRAMES
    receiver: fastpath.MuxReceiver[str] = fastpath.MuxReceiver(
        masked=True, max_payload_bytes=fastpath.MAX_LINK_PAYLOAD_BYTES
    )
    receiver.open(STREAM, fastpath.ByteRing(MIB), "session")
    for _ in range(times):
        if receiver.receive(buffer, 0, len(buffer)) != (len(buffer), fastpath.MORE):
            raise RuntimeError("the receiver stopped")


def relay(times: int) -> None:
    """Relay output."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    ring = fastpath.ByteRing(MIB)
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PIECE_BYTES)
    data = bytes(PIECE_BYTES)
    for _ in range(times * (MIB // PIECE_BYTES)):
        os.write(writer, data)
        start = ring.head
        ring.read_fd(reader, PIECE_BYTES)
        fastpath.write_frames(ours.fileno(), ring, start, ring.head, PIECE_BYTES)
        theirs.recv(2 * PIECE_BYTES)


WORK: dict[str, Callable[[int], None]] = {"receive": receive, "relay": relay}


if __name__ == "__main__":
    WORK[sys.argv[1]](int(sys.argv[2]))
