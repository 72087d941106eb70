"""One segment file: where its records are, and how they are read back.

A `Segment` knows its file, its header, how far the file is valid, and where the log stands at each block,
which leads from an offset to a position in the file. It is not locked: `SessionLog` is.
"""

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agentrelay.hq.log.format import (
    BLOCK_BYTES,
    MARK_BYTES,
    MAX_OFFSET,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BadFormat,
    Mark,
    Record,
    RecordHeader,
    SegmentHeader,
    data_is_intact,
    decode_record,
    decode_record_header,
    decode_segment_header,
    encode_segment_header,
)

MAX_PARTS: Final = 1024
"""What Linux takes in one writev (IOV_MAX)."""

_NAME = re.compile(r"(\d{20})-(\d{8})\.seg")


def segment_name(first_offset: int, serial: int) -> str:
    """Name a segment's file so that names sort as the segments do."""
    return f"{first_offset:020d}-{serial:08d}.seg"


class Found(NamedTuple):
    """A record in a segment file; `data` is None where its check fails."""

    position: int
    header: RecordHeader
    data: memoryview | None

    @property
    def next_position(self) -> int:
        """Where the next record begins."""
        return self.position + self.header.record_bytes


def decode_or_none(found: Found) -> Record | None:
    """Decode a record; None where it is damaged."""
    try:
        return None if found.data is None else decode_record(found.header, found.data)
    except BadFormat:
        return None


class Segment:
    """One segment.

    Attributes:
        path: its file.
        header: what the file begins with.
        size_bytes: length of the valid part of the file.
    """

    __slots__ = ("_block_offsets", "header", "path", "size_bytes")

    def __init__(self, path: Path, header: SegmentHeader, size_bytes: int = SEGMENT_HEADER_BYTES) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes
        self._block_offsets: array[int] | None = None
        if size_bytes <= BLOCK_BYTES:  # else a file of an earlier run: read when somebody asks
            self._block_offsets = array("Q", [header.first_offset])

    def extend(self, size_bytes: int, block_offsets: list[int]) -> None:
        """Take over that records were appended, with the offsets at the blocks they begin."""
        if self._block_offsets is not None:
            self._block_offsets.extend(block_offsets)
        self.size_bytes = size_bytes

    def position_before(self, offset: int) -> int:
        """Position of a block from which a walk meets every output byte at `offset` and later.

        Raises:
            OSError: the file has to be read for it and cannot be.
        """
        offsets = self._block_offsets
        if offsets is None:
            offsets = self._block_offsets = self._read_marks()
        return max(0, bisect_right(offsets, offset) - 1) * BLOCK_BYTES

    def _read_marks(self) -> "array[int]":
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            offsets: array[int] = array("Q")
            after = MAX_OFFSET
            for position in range(self.size_bytes // BLOCK_BYTES * BLOCK_BYTES, 0, -BLOCK_BYTES):
                mark = read_mark(fd, position)
                # Without its mark a block is found by walking on from the one before.
                after = after if mark is None else mark.offset
                offsets.append(after)
        finally:
            os.close(fd)
        offsets.append(self.header.first_offset)
        offsets.reverse()
        return offsets


def create_segment(directory: Path, header: SegmentHeader) -> tuple[Segment, int]:
    """Create the file of a new segment.

    Returns:
        The segment and a descriptor, open for appending, that the caller owns.

    Raises:
        OSError: the file cannot be created or written.
    """
    path = directory / segment_name(header.first_offset, header.serial)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, [encode_segment_header(header)])
        sync_directory(directory)
    except BaseException:
        os.close(fd)
        path.unlink(missing_ok=True)  # a segment without a whole header would be set aside at the next start
        raise
    return Segment(path, header), fd


def list_segments(directory: Path) -> list[Path]:
    """Name the segment files of a session in their order; empty where the directory does not exist."""
    try:
        names = sorted(name for name in os.listdir(directory) if _NAME.fullmatch(name))
    except FileNotFoundError:
        return []
    return [directory / name for name in names]


def load_segment(path: Path) -> Segment:
    """Read the header of a segment file; records are neither read nor checked.

    Raises:
        BadFormat: it is not a segment, or not the one its name says.
        OSError: the file cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = decode_segment_header(os.pread(fd, SEGMENT_HEADER_BYTES, 0))
        size_bytes = os.fstat(fd).st_size
    finally:
        os.close(fd)
    if path.name != segment_name(header.first_offset, header.serial):
        raise BadFormat(f"{path.name} has the header of {segment_name(header.first_offset, header.serial)}")
    return Segment(path, header, size_bytes)


def read_mark(fd: int, position: int) -> Mark | None:
    """Read the MARK of the block at `position`; None if there is none that is intact.

    Raises:
        OSError: the file cannot be read.
    """
    data = os.pread(fd, MARK_BYTES, position)
    try:
        record = decode_record(decode_record_header(data), data[RECORD_HEADER_BYTES:])
    except BadFormat:
        return None
    return record if isinstance(record, Mark) else None


def read_records(segment: Segment, position: int, size_bytes: int) -> Iterator[Record]:
    """Read the records of a segment from the block at `position` to `size_bytes`; damaged ones are left out.

    Raises:
        OSError: the file cannot be read; FileNotFoundError where a limit has deleted it.
    """
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for found in walk(fd, position, size_bytes):
            record = decode_or_none(found)
            if record is not None:
                yield record
    finally:
        os.close(fd)


def walk(fd: int, position: int, end: int) -> Iterator[Found]:
    """Walk over the records of a file, block by block.

    A block is over where the rest of it is no record: it was filled up, or is damaged, or the file is torn.

    Args:
        fd: open for reading; used with pread only.
        position: of a block.
        end: position that no record may pass.

    Yields:
        Each record. Its data is a view that is valid until the next step.

    Raises:
        OSError: the file cannot be read.
    """
    for block_at in range(position, end, BLOCK_BYTES):
        block = memoryview(os.pread(fd, min(BLOCK_BYTES, end - block_at), block_at))
        at = SEGMENT_HEADER_BYTES if block_at == 0 else 0
        while at + RECORD_HEADER_BYTES <= len(block):
            try:
                header = decode_record_header(block, at)
            except BadFormat:
                break
            next_at = at + header.record_bytes
            if next_at > len(block):
                break
            data = block[at + RECORD_HEADER_BYTES : next_at]
            yield Found(block_at + at, header, data if data_is_intact(header, data) else None)
            at = next_at


def write_all(fd: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write every byte of `parts`, with the GIL released during each system call.

    Raises:
        OSError: as writev(2); part of the bytes may have been written then.
    """
    written = os.writev(fd, parts[:MAX_PARTS])
    total = sum(len(part) for part in parts)
    while written < total:  # many parts, a signal or a full disk: the next call says which
        rest = []
        skip = written
        for part in parts:
            if skip < len(part):
                rest.append(memoryview(part)[skip:])
            skip = max(0, skip - len(part))
        parts = rest
        total -= written
        written = os.writev(fd, parts[:MAX_PARTS])


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable.

    Raises:
        OSError: as fsync(2).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
