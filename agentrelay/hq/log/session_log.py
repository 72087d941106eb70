"""The output log of one session: a directory of segments, appended to at one end and trimmed at the other.

One thread appends (the `LogWriter`'s); any thread may read meanwhile. The lock guards what both look at and
is never held during I/O, so a stalled disk stalls only the thread that touches it.
"""

import os
import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agentrelay.errors import LogError
from agentrelay.hq.log.blocks import Layout
from agentrelay.hq.log.format import (
    SEGMENT_HEADER_BYTES,
    End,
    Gap,
    Input,
    Record,
    Resize,
    SegmentHeader,
    encode_record,
    encode_segment_header,
)
from agentrelay.hq.log.keyframe import NAME as KEYFRAME_NAME
from agentrelay.hq.log.reading import Extent, read_all, read_output, read_sizes
from agentrelay.hq.log.recovery import Recovery, recover_segments
from agentrelay.hq.log.segment import (
    Segment,
    create_segment,
    segment_name,
    sync_directory,
    write_all,
)

MAX_APPEND_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much is kept of one session.

    Attributes:
        keep_bytes: output that is never deleted; older segments are, once this much is behind them.
        segment_bytes: size at which a new segment is begun.
    """

    keep_bytes: int = 64 << 20
    segment_bytes: int = 16 << 20


class SessionLog:
    """The output log of one session.

    Making one does no I/O: the directory and the first segment appear with the first record.

    Attributes:
        directory: of the segments; 0700, files 0600.
        recovery: what recovery found; empty for a new log.
    """

    def __init__(
        self,
        directory: Path,
        *,
        session_id: str,
        epoch: str,
        rows: int,
        cols: int,
        limits: LogLimits | None = None,
    ) -> None:
        """Make the log of a new session of this size; `directory` should not exist yet."""
        self.directory = directory
        self.session_id = session_id
        self.epoch = epoch
        self.recovery = Recovery()
        self._limits = limits or LogLimits()
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._append_fd = -1
        self._end = 0
        self._output_bytes = 0
        self._disk_bytes = 0  # counted along: the budget asks every log for it
        self._rows, self._cols = rows, cols
        self._ended: End | None = None

    @classmethod
    def recover(
        cls,
        directory: Path,
        *,
        session_id: str,
        epoch: str,
        rows: int,
        cols: int,
        limits: LogLimits | None = None,
    ) -> "SessionLog":
        """Open the log of a session of an earlier run, whatever state its files are in.

        The last segment is read and a torn tail is cut off, unless it was closed by END; older segments are
        checked when they are read. Segments of another session or epoch, or without a whole header, are set
        aside.

        Args:
            directory: need not exist.
            session_id: whose log this is.
            epoch: likewise.
            rows: size to assume where the log does not tell.
            cols: likewise.
            limits: the default limits if None.

        Raises:
            LogError: the files cannot be read or changed (not: their content is damaged).
        """
        log = cls(directory, session_id=session_id, epoch=epoch, rows=rows, cols=cols, limits=limits)
        try:
            found = recover_segments(directory, session_id=session_id, epoch=epoch)
        except OSError as error:
            raise LogError(f"cannot recover the log in {directory}: {error.strerror}") from error
        log._segments, tail, log.recovery = found
        if tail is not None:
            log._end, log._ended = tail.end, tail.ended
            log._rows, log._cols = tail.rows, tail.cols
            log._disk_bytes = sum(segment.size_bytes for segment in log._segments)
            log._output_bytes = tail.output_bytes
        return log

    @property
    def base(self) -> int:
        """Offset of the oldest byte that can be read; `end` where there is none."""
        with self._lock:
            return self._segments[0].header.first_offset if self._segments else self._end

    @property
    def end(self) -> int:
        """Offset after the last byte (or gap) that is in the log."""
        return self._end

    @property
    def ended(self) -> End | None:
        """The END record, once the session is over."""
        return self._ended

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns at `end`."""
        return self._rows, self._cols

    @property
    def disk_bytes(self) -> int:
        """Length of all segment files together."""
        return self._disk_bytes

    @property
    def oldest_us(self) -> int:
        """When the oldest segment was begun, in unix microseconds; 0 for an empty log."""
        with self._lock:
            return self._segments[0].header.created_us if self._segments else 0

    @property
    def is_open(self) -> bool:
        """Whether a file descriptor is held."""
        return self._append_fd >= 0

    # Appending: one thread

    def append_output(
        self,
        offset: int,
        data: bytes | memoryview,
        *,
        time_us: int | None = None,
        arrivals: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Append output bytes; `data` is only read during the call.

        Args:
            offset: of the first byte; must be `end`.
            data: at most 1 MiB.
            time_us: when they arrived, in unix microseconds; now if None.
            arrivals: from which offset on they arrived later, and when, in order; outside of `data` ignored.

        Raises:
            LogError: the disk refuses, or the log is over or elsewhere. The log stays readable.
        """
        if offset != self._end or len(data) > MAX_APPEND_BYTES:
            raise LogError(f"the log ends at {self._end}: {len(data)} bytes at {offset} cannot follow")
        segment = self._segment_for(len(data))
        layout = self._layout(segment)
        layout.add_output(data, _now_us() if time_us is None else time_us, arrivals)
        self._write(segment, layout)

    def append(self, record: Resize | Input | Gap | End) -> None:
        """Append a record of another kind. END is also synced to the disk, and closes the log.

        Raises:
            LogError: as `append_output`.
        """
        if record.offset != self._end:
            raise LogError(f"the log ends at {self._end}: a record at {record.offset} cannot follow")
        end = max(self._end, record.end) if isinstance(record, Gap) else self._end
        data = encode_record(record)
        segment = self._segment_for(len(data))
        layout = self._layout(segment)
        layout.add_record(data, offset=end, time_us=record.time_us)
        self._write(segment, layout)
        if isinstance(record, Resize):
            self._rows, self._cols = record.rows, record.cols
        elif isinstance(record, End):
            self._ended = record
            try:
                os.fdatasync(self._append_fd)
            except OSError as error:
                raise self._refused(error) from error
            self.close_file()

    def _layout(self, segment: Segment) -> Layout:
        return Layout(
            segment.size_bytes,
            offset=self._end,
            output_bytes=self._output_bytes,
            rows=self._rows,
            cols=self._cols,
        )

    def _write(self, segment: Segment, layout: Layout) -> None:
        try:
            try:
                write_all(self._append_fd, layout.parts)
            except OSError:
                os.ftruncate(self._append_fd, segment.size_bytes)
                raise
        except OSError as error:
            raise self._refused(error) from error
        with self._lock:
            self._disk_bytes += layout.position - segment.size_bytes
            segment.extend(layout.position, layout.block_offsets)
            self._end = layout.offset
        self._output_bytes = layout.output_bytes

    def _refused(self, error: OSError) -> LogError:
        self.close_file()
        return LogError(f"cannot write the log in {self.directory}: {error.strerror}")

    def _segment_for(self, n_bytes: int) -> Segment:
        """Have the segment open that takes the next record."""
        if self._ended is not None:
            raise LogError("the session of this log is over")
        try:
            last = self._segments[-1] if self._segments else None
            if last is None:
                # The parent holds every session's output, so it is as private as this directory.
                self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.directory.mkdir(mode=0o700, exist_ok=True)
                return self._begin_segment(None)
            if self._append_fd < 0:
                self._append_fd = os.open(last.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            fits = last.size_bytes + n_bytes <= self._limits.segment_bytes
            if fits or last.size_bytes <= SEGMENT_HEADER_BYTES:
                return last
            self.close_file()
            segment = self._begin_segment(last)
            self._delete_surplus()
        except OSError as error:
            raise self._refused(error) from error
        return segment

    def _begin_segment(self, last: Segment | None) -> Segment:
        segment, self._append_fd = create_segment(self.directory, self._next_header(last))
        with self._lock:
            self._segments.append(segment)
            self._disk_bytes += segment.size_bytes
        return segment

    def _next_header(self, last: Segment | None) -> SegmentHeader:
        serial = last.header.serial + 1 if last else 0
        return SegmentHeader(
            self.session_id,
            self.epoch,
            serial,
            self._end,
            self._output_bytes,
            _now_us(),
            self._rows,
            self._cols,
        )

    def close_file(self) -> None:
        """Close the file; the next append opens it again."""
        if self._append_fd >= 0:
            os.close(self._append_fd)
            self._append_fd = -1

    # Deleting: the appending thread, or any once nobody appends any more

    def _delete_surplus(self) -> None:
        while len(self._segments) > 1:
            kept = self._output_bytes - self._segments[1].header.output_before_bytes
            if kept < self._limits.keep_bytes or not self.delete_oldest():
                return

    def delete_oldest(self) -> bool:
        """Delete the oldest segment; of an ended log the last one too, leaving its END.

        Returns:
            Whether there was something that could be deleted.
        """
        with self._lock:
            oldest = self._segments.pop(0) if len(self._segments) > 1 else None
            self._disk_bytes -= oldest.size_bytes if oldest else 0
        if oldest is not None:
            oldest.path.unlink(missing_ok=True)
            return True
        return self._delete_ended_output()

    def _delete_ended_output(self) -> bool:
        last = self._segments[-1] if self._segments else None
        if self._ended is None or last is None or last.header.first_offset == self._end:
            return False
        header = self._next_header(last)
        data = encode_segment_header(header) + encode_record(replace(self._ended, offset=self._end))
        path = self.directory / segment_name(header.first_offset, header.serial)
        unfinished = path.with_suffix(".new")
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, [data])
        finally:
            os.close(fd)
        unfinished.rename(path)
        with self._lock:
            self._segments = [Segment(path, header, len(data))]
            self._disk_bytes = len(data)
        last.path.unlink(missing_ok=True)
        (self.directory / KEYFRAME_NAME).unlink(missing_ok=True)
        sync_directory(self.directory)
        return True

    def delete(self) -> None:
        """Delete the log with its directory. Nobody may append any more.

        Raises:
            LogError: something could not be deleted.
        """
        self.close_file()
        with self._lock:
            self._segments.clear()
            self._disk_bytes = 0
        try:
            shutil.rmtree(self.directory)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise LogError(f"cannot delete {self.directory}: {error.strerror}") from error

    # Reading: any thread

    def read(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        """Read output from the offset `start`, or from the next byte after it that can be read.

        Reads as much as is in one piece. Calling with the end of the last answer reads on; no bytes means the
        end of the log. A record is checked whole, so small pieces of large records cost as much as large
        pieces: 1 MiB is a good `max_bytes`.

        Returns:
            The offset of the first byte returned (larger than `start` after a gap), and the bytes.

        Raises:
            LogError: a file cannot be read.
        """
        extents, base, end = self._extents(start)
        begin, data = read_output(extents, max(start, base), max_bytes)
        return (begin, data) if data else (max(start, end), b"")

    def records(self, start: int = 0) -> Iterator[Record]:
        """Read every record from the offset `start` on; spans that are missing or damaged come as GAP.

        The first is a RESIZE that gives the size in force there.

        Raises:
            LogError: a file cannot be read.
        """
        extents, base, end = self._extents(start)
        return read_all(extents, max(start, base), end)

    def sizes(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Give the size in force at the offset `start` and its changes before `stop`: `(offset, rows, cols)`.

        Raises:
            LogError: a file cannot be read.
        """
        return read_sizes(self._extents(start)[0], start, stop)

    def _extents(self, offset: int) -> tuple[list[Extent], int, int]:
        """Give the segments with output at `offset` or later, and base and end, all as of one moment."""
        with self._lock:
            firsts = [segment.header.first_offset for segment in self._segments]
            chosen = self._segments[max(0, bisect_right(firsts, offset) - 1) :]
            base = firsts[0] if firsts else self._end
            return [Extent(segment, segment.size_bytes) for segment in chosen], base, self._end


def _now_us() -> int:
    return time.time_ns() // 1000
