"""What a log is worth after a crash: which segments count, and where the last one's good records end.

Only the last segment can be torn: a segment is synced before the next one is begun. So the last one is read
and cut behind its last good record, and older ones are checked when somebody reads them.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from agentrelay.hq.log.format import (
    END_DATA_BYTES,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    BadFormat,
    End,
    Gap,
    Kind,
    Resize,
    decode_record,
    decode_record_header,
)
from agentrelay.hq.log.segment import Found, Segment, decode_or_none, list_segments, load_segment, walk

_END_RECORD_BYTES: Final = RECORD_HEADER_BYTES + END_DATA_BYTES


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found wrong with a log.

    Attributes:
        cut_bytes: length of the torn tail that was cut off the last segment.
        set_aside: segment files without a whole header of this session, renamed to end in `.broken`.
        lost: spans of output that cannot be read, as far as recovery read the log.
    """

    cut_bytes: int = 0
    set_aside: tuple[str, ...] = ()
    lost: tuple[tuple[int, int], ...] = ()


class Tail(NamedTuple):
    """What the records of the last segment come to.

    Attributes:
        end: offset after the last output or gap.
        output_bytes: output in the segment, gaps not counted.
        rows: size of the PTY there.
        cols: likewise.
        ended: the END record, if there is one.
        cut_bytes: what was cut off the file.
        lost: spans of output in the middle whose check fails.
    """

    end: int
    output_bytes: int
    rows: int
    cols: int
    ended: End | None
    cut_bytes: int
    lost: list[tuple[int, int]]


def recover_segments(
    directory: Path, *, session_id: str, epoch: str
) -> tuple[list[Segment], Tail | None, Recovery]:
    """Find the segments of a session, set aside what is none, and cut the torn tail.

    Returns:
        The segments in order, what the last one comes to (None without segments), and what was wrong.

    Raises:
        OSError: a file cannot be read or changed (not: its content is damaged).
    """
    segments: list[Segment] = []
    set_aside: list[str] = []
    for path in list_segments(directory):
        segment = _load(path, session_id, epoch)
        if segment is not None:
            segments.append(segment)
        elif path.stat().st_size < SEGMENT_HEADER_BYTES:
            path.unlink()  # its creation was interrupted: it never held a record
        else:
            path.rename(path.with_suffix(".broken"))
            set_aside.append(path.name)
    if not segments:
        return [], None, Recovery(set_aside=tuple(set_aside))
    tail = recover_tail(segments[-1])
    return segments, tail, Recovery(tail.cut_bytes, tuple(set_aside), tuple(tail.lost))


def _load(path: Path, session_id: str, epoch: str) -> Segment | None:
    try:
        segment = load_segment(path)
    except BadFormat:
        return None
    return segment if (segment.header.session_id, segment.header.epoch) == (session_id, epoch) else None


def recover_tail(segment: Segment) -> Tail:
    """Find where the last segment's good records end, and cut the file there.

    Raises:
        OSError: the file cannot be read or cut.
    """
    fd = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        ended = _closing_record(fd, segment)
        if ended is not None:  # closed in good order and synced: nothing can be torn
            # Its last size and amount of output are not known then; nobody appends to it any more.
            return Tail(ended.offset, 0, segment.header.rows, segment.header.cols, ended, 0, [])
        tail, good_bytes = _check_records(fd, segment)
        if good_bytes < segment.size_bytes:
            os.ftruncate(fd, good_bytes)
            segment.size_bytes = good_bytes
        return tail
    finally:
        os.close(fd)


def _closing_record(fd: int, segment: Segment) -> End | None:
    position = segment.size_bytes - _END_RECORD_BYTES
    if position < SEGMENT_HEADER_BYTES:
        return None
    data = os.pread(fd, _END_RECORD_BYTES, position)
    try:
        record = decode_record(decode_record_header(data), data[RECORD_HEADER_BYTES:])
    except BadFormat:
        return None
    return record if isinstance(record, End) else None


def _check_records(fd: int, segment: Segment) -> tuple[Tail, int]:
    end, rows, cols = segment.header.first_offset, segment.header.rows, segment.header.cols
    ended: End | None = None
    output_bytes = 0
    good_bytes = SEGMENT_HEADER_BYTES
    lost: list[tuple[int, int]] = []
    doubtful: list[Found] = []  # damaged; in the middle if a good record follows, else part of the torn tail
    for found in walk(fd, SEGMENT_HEADER_BYTES, segment.size_bytes, with_data=True):
        header = found.header
        if found.data is None:
            doubtful.append(found)
            continue
        for damaged in doubtful:
            segment.note(damaged.header.offset, damaged.position)
            if damaged.header.kind == Kind.OUTPUT:
                lost.append((damaged.header.offset, damaged.header.offset + damaged.header.data_bytes))
        doubtful.clear()
        if header.kind == Kind.OUTPUT:  # the common kind needs no record object
            end = max(end, header.offset + header.data_bytes)
            output_bytes += header.data_bytes
        else:
            match decode_or_none(found):
                case Resize(rows=rows, cols=cols):
                    pass
                case Gap(end=gap_end):
                    end = max(end, gap_end)
                case End() as record:
                    ended = record
                case _:
                    pass
        segment.note(header.offset, found.position)
        good_bytes = found.next_position
    return Tail(end, output_bytes, rows, cols, ended, segment.size_bytes - good_bytes, lost), good_bytes
