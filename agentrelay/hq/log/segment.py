"""One segment file: where its records are, and how they are read back.

A `Segment` knows its file, its header and how far the file is valid; a sparse index leads from an offset to a
position in the file. It is not locked: `SessionLog` serialises who changes it.
"""

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from agentrelay.hq.log.format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BadFormat,
    Record,
    RecordHeader,
    SegmentHeader,
    data_is_intact,
    decode_record,
    decode_record_header,
    decode_segment_header,
    encode_segment_header,
)

INDEX_STRIDE_BYTES: Final = 64 * 1024
"""File distance between two entries of the index: 4 KiB of index for a full segment."""

READ_BYTES: Final = 256 * 1024
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

    __slots__ = ("_index", "header", "path", "size_bytes")

    def __init__(self, path: Path, header: SegmentHeader, size_bytes: int = SEGMENT_HEADER_BYTES) -> None:
        self.path = path
        self.header = header
        self.size_bytes = size_bytes
        # Offsets and positions. None: a file of an earlier run, which nobody has read yet.
        self._index: tuple[array[int], array[int]] | None = None

    def note(self, offset: int, position: int) -> None:
        """Index the record at `position`; records are noted in the order of the file."""
        if self._index is None:
            self._index = array("Q"), array("Q")
        offsets, positions = self._index
        if not positions or position - positions[-1] >= INDEX_STRIDE_BYTES:
            offsets.append(offset)
            positions.append(position)

    def position_before(self, offset: int) -> int:
        """Position of a record from which a walk meets every output byte at `offset` and later.

        Raises:
            OSError: the file has to be read for it and cannot be.
        """
        if self._index is None:
            self._load_index()
        offsets, positions = self._index or ([], [])
        nearest = bisect_right(offsets, offset) - 1
        return positions[nearest] if nearest >= 0 else SEGMENT_HEADER_BYTES

    def _load_index(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            read = Segment(self.path, self.header, self.size_bytes)
            for found in walk(fd, SEGMENT_HEADER_BYTES, self.size_bytes, with_data=False):
                read.note(found.header.offset, found.position)
            self._index = read._index
        finally:
            os.close(fd)


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
        write_all(fd, encode_segment_header(header))
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


def read_records(segment: Segment, position: int, size_bytes: int) -> Iterator[Record]:
    """Read the records of a segment from `position` to `size_bytes`; damaged ones are left out.

    Raises:
        OSError: the file cannot be read; FileNotFoundError where a limit has deleted it.
    """
    fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for found in walk(fd, position, size_bytes, with_data=True):
            record = decode_or_none(found)
            if record is not None:
                yield record
    finally:
        os.close(fd)


def walk(fd: int, position: int, end: int, *, with_data: bool) -> Iterator[Found]:
    """Walk over the records of a file from `position` up to `end`.

    Ends where the file ends, a record is incomplete, or a header's check fails (what follows has no known
    beginning then).

    Args:
        fd: open for reading; used with pread only.
        position: of a record.
        end: position that no record may pass.
        with_data: read and check the data too; without, `Found.data` is None and means nothing.

    Yields:
        Each record. Its data is a view that is valid until the next step.
    """
    buffer = b""
    buffer_at = position
    while position + RECORD_HEADER_BYTES <= end:
        at = position - buffer_at
        if at + RECORD_HEADER_BYTES > len(buffer):
            buffer, buffer_at, at = os.pread(fd, min(READ_BYTES, end - position), position), position, 0
        try:
            header = decode_record_header(buffer, at)
        except BadFormat:
            return
        if position + header.record_bytes > end:
            return
        data: memoryview | None = None
        if with_data:
            if at + header.record_bytes > len(buffer):
                wanted = max(header.record_bytes, min(READ_BYTES, end - position))
                buffer, buffer_at, at = os.pread(fd, wanted, position), position, 0
            whole = memoryview(buffer)[at + RECORD_HEADER_BYTES : at + header.record_bytes]
            data = whole if data_is_intact(header, whole) else None
        yield Found(position, header, data)
        position += header.record_bytes


def write_all(fd: int, *parts: bytes | memoryview) -> None:
    """Write every byte of `parts`, with the GIL released during each system call.

    Raises:
        OSError: as writev(2); part of the bytes may have been written then.
    """
    written = os.writev(fd, parts)
    total = sum(len(part) for part in parts)
    while written < total:  # a signal or a full disk: the next call says which
        rest = []
        skip = written
        for part in parts:
            if skip < len(part):
                rest.append(memoryview(part)[skip:])
            skip = max(0, skip - len(part))
        parts = tuple(rest)
        total -= written
        written = os.writev(fd, parts)


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
