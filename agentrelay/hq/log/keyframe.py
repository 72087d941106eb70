"""Keyframe: a picture of a session's screen at one offset, beside its log (docs/log-format.md section 5).

There is one for a session at most. It only saves work: one that is missing, torn or foreign counts as none.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from agentrelay.errors import LogError
from agentrelay.hq.log.format import MAX_ID_BYTES
from agentrelay.hq.log.segment import write_all

NAME: Final = "keyframe"
MAGIC: Final = b"AGRKEY\r\n"
VERSION: Final = 1

_HEADER = struct.Struct(">8sHHHHQI64s")
_CHECK = struct.Struct(">Q")


class Keyframe(NamedTuple):
    """What a terminal of `rows` and `cols` is fed to show what the output before `offset` shows."""

    offset: int
    rows: int
    cols: int
    data: bytes


def write_keyframe(directory: Path, epoch: str, keyframe: Keyframe) -> None:
    """Put a keyframe in the place of the one before.

    Raises:
        LogError: the disk refuses, or there is no log.
    """
    packed = zlib.compress(keyframe.data, 1)
    head = _HEADER.pack(
        MAGIC, VERSION, 0, keyframe.rows, keyframe.cols, keyframe.offset, len(packed), epoch.encode()
    )
    check = _CHECK.pack(xxh3_64_intdigest(head + packed))
    unfinished = directory / f"{NAME}.new"
    try:
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, [head, check, packed])
        finally:
            os.close(fd)
        unfinished.replace(directory / NAME)
    except OSError as error:
        raise LogError(f"cannot write a keyframe in {directory}: {error.strerror}") from error


def read_keyframe(directory: Path, epoch: str) -> Keyframe | None:
    """Read the keyframe of a session's log; None if there is none that is whole and of this epoch."""
    try:
        data = (directory / NAME).read_bytes()
    except OSError:
        return None
    start = _HEADER.size + _CHECK.size
    if len(data) < start:
        return None
    head, packed = data[: _HEADER.size], data[start:]
    magic, version, _, rows, cols, offset, packed_bytes, of_epoch = _HEADER.unpack(head)
    if (magic, version, packed_bytes) != (MAGIC, VERSION, len(packed)):
        return None
    if _CHECK.unpack_from(data, _HEADER.size)[0] != xxh3_64_intdigest(head + packed):
        return None
    if of_epoch != epoch.encode().ljust(MAX_ID_BYTES, b"\0"):
        return None
    return Keyframe(offset, rows, cols, zlib.decompress(packed))
