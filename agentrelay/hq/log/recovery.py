"""What a log is worth after a crash: which segments count, and where the last one's good records end.

When HQ is killed only the last segment can be torn. Of that one, recovery reads from the last intact MARK on
and cuts behind the last good record; what is before is checked when somebody reads it. So a start costs one
block per session, however much output it has.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agentrelay.hq.log.format import (
    BLOCK_BYTES,
    MARK_BYTES,
    SEGMENT_HEADER_BYTES,
    BadFormat,
    End,
    Gap,
    Kind,
    RecordHeader,
    Resize,
)
from agentrelay.hq.log.segment import Segment, decode_or_none, list_segments, load_segment, read_mark, walk


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
        output_bytes: output recorded in the whole log, gaps not counted.
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
        tail, good_bytes = _check_tail(fd, segment)
        if good_bytes < segment.size_bytes:
            os.ftruncate(fd, good_bytes)
            segment.size_bytes = good_bytes
        return tail
    finally:
        os.close(fd)


def _check_tail(fd: int, segment: Segment) -> tuple[Tail, int]:
    header = segment.header
    end, output_bytes, rows, cols = header.first_offset, header.output_before_bytes, header.rows, header.cols
    position, good_bytes = 0, SEGMENT_HEADER_BYTES
    for block_at in range(segment.size_bytes // BLOCK_BYTES * BLOCK_BYTES, 0, -BLOCK_BYTES):
        mark = read_mark(fd, block_at)
        if mark is not None:
            end, output_bytes, rows, cols = mark.offset, mark.output_bytes, mark.rows, mark.cols
            position, good_bytes = block_at, block_at + MARK_BYTES
            break
    ended: End | None = None
    lost: list[tuple[int, int]] = []
    doubtful: list[RecordHeader] = []  # damaged: in the middle if a good record follows, else the torn tail
    for found in walk(fd, position, segment.size_bytes):
        record = found.header
        if found.data is None:
            doubtful.append(record)
            continue
        lost += [(bad.offset, bad.offset + bad.data_bytes) for bad in doubtful if bad.kind == Kind.OUTPUT]
        doubtful.clear()
        good_bytes = found.position + record.record_bytes
        if record.kind == Kind.OUTPUT:  # by far the most: no need to make an object
            end = max(end, record.offset + record.data_bytes)
            output_bytes += record.data_bytes
            continue
        match decode_or_none(found):
            case Resize(rows=rows, cols=cols):
                pass
            case Gap(end=gap_end):
                end = max(end, gap_end)
            case End() as ended:
                pass
            case _:
                pass
    return Tail(end, output_bytes, rows, cols, ended, segment.size_bytes - good_bytes, lost), good_bytes
