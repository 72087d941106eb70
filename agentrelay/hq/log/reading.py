"""Reading a log back: one piece of output, or every record, over segments that may be damaged or deleted.

Works on `Extent`s, taken from the log at one moment, so that it needs no lock while it reads files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from agentrelay.errors import LogError
from agentrelay.hq.log.format import Gap, Mark, Output, Record, Resize
from agentrelay.hq.log.segment import Segment, read_records


class Extent(NamedTuple):
    """A segment and how much of its file was valid when the reader looked."""

    segment: Segment
    size_bytes: int


def read_output(extents: Sequence[Extent], start: int, max_bytes: int) -> tuple[int, bytes]:
    """Read one piece of output from `start`, or from the first byte after it that can be read.

    Returns:
        The offset of the first byte, and the bytes; `(start, b"")` if there are none.

    Raises:
        LogError: a file cannot be read.
    """
    begin = position = start
    pieces: list[bytes] = []
    room = max_bytes
    for record in _records(extents, near=start):
        if not isinstance(record, Output) or end_of(record) <= position:
            continue
        if record.offset > position:
            if pieces:
                break
            begin = position = record.offset
        piece = record.data[position - record.offset :][:room]
        pieces.append(piece)
        position += len(piece)
        room -= len(piece)
        if not room:
            break
    return begin, b"".join(pieces)


def read_all(extents: Sequence[Extent], start: int, end: int) -> Iterator[Record]:
    """Read every record from the offset `start` up to `end`, the end of the log; see `SessionLog.records`.

    Raises:
        LogError: a file cannot be read.
    """
    if not extents:
        return
    header = extents[0].segment.header
    size = Resize(start, header.created_us, header.rows, header.cols)
    position = start
    begun = False
    for record in _records(extents):
        if not begun:
            if isinstance(record, Resize) and record.offset <= position:
                size = replace(record, offset=position)
                continue
            covers_bytes = isinstance(record, Output | Gap)
            if end_of(record) < position or (end_of(record) == position and covers_bytes):
                continue
            begun = True
            yield size
        if record.offset > position:
            yield Gap(position, record.time_us, record.offset)
        elif isinstance(record, Output) and record.offset < position:
            record = replace(record, offset=position, data=record.data[position - record.offset :])
        elif isinstance(record, Gap) and record.offset < position:
            record = replace(record, offset=position)
        position = max(position, end_of(record))
        yield record
    if not begun:
        yield size
    if position < end:
        yield Gap(position, size.time_us, end)


def read_sizes(extents: Sequence[Extent], start: int, stop: int) -> list[tuple[int, int, int]]:
    """Read the size in force at `start` and its changes before `stop`; see `SessionLog.sizes`.

    Raises:
        LogError: a file cannot be read.
    """
    header = extents[0].segment.header if extents else None
    sizes = [(start, header.rows, header.cols)] if header else []
    for record in _records(extents, near=start, marks=True):
        if record.offset >= stop:
            break
        if isinstance(record, Mark | Resize) and record.offset <= start:
            sizes = [(start, record.rows, record.cols)]
        elif isinstance(record, Resize):
            sizes.append((record.offset, record.rows, record.cols))
    return sizes


def _records(extents: Sequence[Extent], near: int | None = None, *, marks: bool = False) -> Iterator[Record]:
    """Read the intact records; begin close before the output at `near` if it is given."""
    for segment, size_bytes in extents:
        try:
            position = 0 if near is None else segment.position_before(near)
            for record in read_records(segment, position, size_bytes):
                if marks or not isinstance(record, Mark):
                    yield record
        except FileNotFoundError:
            continue  # deleted by a limit since the reader looked: what follows is still there
        except OSError as error:
            raise LogError(f"cannot read {segment.path}: {error.strerror}") from error


def end_of(record: Record) -> int:
    """Give the offset after what the record covers."""
    match record:
        case Output():
            return record.offset + len(record.data)
        case Gap():
            return record.end
        case _:
            return record.offset
