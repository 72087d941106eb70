"""Makes the memory that a session's output is kept in, so that it outlives the runner.

docs/protocol.md section 4.1. The keeper makes it and never touches it again; the runner maps it.

The keeper imports this module: stdlib only.
"""

import itertools
import os
import struct

HEADER_BYTES = 4096
MAGIC = 0x31474E4952524741  # "AGRRING1", read as a little-endian number
GUARD_BYTES = 16_384
"""Bytes after head that hold 0xFF before a read, so that what a killed reader did not count can be found."""

MIN_RING_BYTES = 131_072
MAX_RING_BYTES = 1 << 30

_HEADER = struct.Struct("=QQQQQ")  # magic, ring_bytes, head, keep, input_applied
_numbers = itertools.count()


def create_ring_memory(ring_bytes: int, *, directory_fd: int) -> int:
    """Give a descriptor of fresh ring memory, empty, its guard filled. The caller owns it.

    Args:
        ring_bytes: size of the data, a power of two from 131,072 to 1 GiB. Pages are used as they fill up.
        directory_fd: where to make a nameless file on a system without `memfd_create`.

    Raises:
        ValueError: `ring_bytes` is not such a number.
        OSError: no memory or no descriptor is left.
    """
    if not MIN_RING_BYTES <= ring_bytes <= MAX_RING_BYTES or ring_bytes & (ring_bytes - 1):
        rule = f"ring_bytes is a power of two from {MIN_RING_BYTES} to {MAX_RING_BYTES}"
        raise ValueError(f"{rule}, not {ring_bytes}")
    fd = _nameless_file(directory_fd)
    try:
        os.ftruncate(fd, HEADER_BYTES + ring_bytes)
        os.pwrite(fd, _HEADER.pack(MAGIC, ring_bytes, 0, 0, 0), 0)
        os.pwrite(fd, b"\xff" * GUARD_BYTES, HEADER_BYTES)
    except OSError:
        os.close(fd)
        raise
    return fd


def _nameless_file(directory_fd: int) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("agentrelay-ring", os.MFD_CLOEXEC)
    name = f".ring-{os.getpid()}-{next(_numbers)}"
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
    os.unlink(name, dir_fd=directory_fd)
    return fd
