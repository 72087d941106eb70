"""One session's place in the log writer: a cursor that follows the session's ring onto the disk."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from agentrelay.errors import LogError
from agentrelay.hq.log.format import End, Gap, Input, Resize
from agentrelay.hq.log.session_log import SessionLog

if TYPE_CHECKING:
    from agentrelay.hq.log.writer import LogWriter

logger = logging.getLogger(__name__)

R = TypeVar("R", Resize, Input)

HURRY_BYTES: Final = 704 * 1024
"""Output of one session that is written without waiting for more. Each time costs both threads a switch, and
a runner may always send 768 KiB beyond what is logged (docs/protocol.md section 3.1)."""

BATCH_BYTES: Final = 1 << 20
"""What is written at once, before the next session has its turn."""

MOST_INPUT_BYTES: Final = 1 << 31
"""What one record may count of input that is not recorded itself; the format has 32 bits for it."""

TAKE_BACK_EVENTS: Final = 16
"""How many of the last records are looked at for one that the next can take the place of."""

MOST_WAITING: Final = 64
"""How many records may wait for the disk for another to hold what was typed; beyond it is only counted."""

MAX_INPUT_BYTES: Final = 64 * 1024
"""A longer paste is recorded in pieces: a record has to fit in a block."""


ARRIVAL_US: Final = 20_000
"""How exactly a record tells when output arrived: as a film of 50 pictures a second would."""


class Source(Protocol):
    """Where output is until it is written: a `ByteRing`.

    The writer's thread calls both; bytes from the reported offset on must stay readable (`ByteRing.keep`).
    """

    @property
    def head(self) -> int:
        """Offset after the newest byte."""
        ...

    def view(self, start: int, end: int) -> memoryview:
        """Give the bytes of [start, end). The writer releases the view as soon as they are written."""
        ...


class _Over:
    """Stands for the source of a session that is over."""

    def __init__(self, head: int) -> None:
        self.head = head

    def view(self, start: int, end: int) -> memoryview:
        raise IndexError(f"no bytes from {start} to {end}: the session is over")


class Event(NamedTuple):
    """What to do when everything before `offset` is written."""

    offset: int
    record: Resize | Input | Gap | End | None = None
    source: Source | None = None
    done: asyncio.Future[None] | None = None
    closes: bool = False


class Report(NamedTuple):
    """What the writer's thread did for a recording, delivered on the loop."""

    recording: "Recording"
    logged: int
    written_bytes: int
    failure: str | None
    done: list[asyncio.Future[None]]


class Recording:
    """One session's place in the `LogWriter`, made by `LogWriter.follow`.

    Its public methods are for the loop thread and never block. Records are written in the order of the calls,
    each behind the output that was in the source at the call.

    Attributes:
        log: what is written.
        logged: everything before this offset is in the log.
        failed: why recording stopped, or None. What was written stays readable.
    """

    def __init__(
        self,
        writer: "LogWriter",
        log: SessionLog,
        source: Source,
        on_logged: Callable[[int], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self.log = log
        self.logged = log.end
        self.failed: str | None = None
        self._writer = writer
        self._source = source
        self._on_logged = on_logged
        self._on_failed = on_failed
        self._queued = False
        self._seen = log.end
        self._arrived_us = 0
        self._arrivals: deque[tuple[int, int]] = deque()
        self._events: deque[Event] = deque()
        self._lock = threading.Lock()  # of `_events`, both ends of which are looked at and changed
        # The writer thread's from here on.
        self._reading = source
        self._cursor = log.end
        self._taken = log.end  # what is being written, or has been: more may be worth a hurry
        self._time_us = 0
        self._stopped = False  # failed, closed or ended: nothing is written any more

    # For the loop thread

    def wake(self) -> None:
        """Say that the source has new output; cheap, and may be said too often."""
        if self.failed is not None:
            return
        head, now_us = self._source.head, _now_us()
        if now_us - self._arrived_us >= ARRIVAL_US:
            self._arrived_us = now_us
            self._arrivals.append((self._seen, now_us))
        self._seen = head
        self._enqueue()
        if head - self._taken >= HURRY_BYTES:
            self._writer.hurry()

    def resized(self, *, rows: int, cols: int) -> None:
        """Record that the PTY has this size from here on; of several at one offset the last counts."""
        head = self._source.head
        self._take_back(head, Resize)
        self._put(Event(head, Resize(head, _now_us(), rows, cols)))

    def typed(self, viewer: str, n_bytes: int, data: bytes | None = None) -> None:
        """Record that a viewer sent input; what one sends without data at one offset is one record.

        Args:
            viewer: its name; cut at 255 bytes.
            n_bytes: how much.
            data: the input itself, only where its recording is switched on.
        """
        head, now_us = self._source.head, _now_us()
        name = viewer.encode()[:255].decode(errors="ignore")
        if data is None or len(self._events) >= MOST_WAITING:
            earlier = self._take_back(head, Input, viewer=name)
            if earlier is not None:
                now_us, n_bytes = earlier.time_us, earlier.n_bytes + n_bytes
            self._put(Event(head, Input(head, now_us, name, n_bytes, None)))
            return
        for start in range(0, len(data), MAX_INPUT_BYTES):
            piece = data[start : start + MAX_INPUT_BYTES]
            self._put(Event(head, Input(head, now_us, name, len(piece), piece)))

    def gap(self, end: int, source: Source) -> None:
        """Record that the output from the source's head up to `end` is lost; it goes on in `source`.

        Args:
            end: offset of the next byte.
            source: where bytes from `end` on will be. It may be the present one, emptied and restarted, only
                if `logged` has reached its head; else the present one must stay as it is and `source` be new.
        """
        head = self._source.head if source is not self._source else self.logged
        self._put(Event(head, Gap(head, _now_us(), end), source))
        self._source = source

    def ended(self, *, exit_code: int | None, signal: int | None) -> None:
        """Record the program's end, sync the log to the disk and close it. Nothing may follow.

        The source is not looked at any more once everything in it is logged.
        """
        head = self._source.head
        self._source = _Over(head)  # the session may close its ring now
        self._put(Event(head, End(head, _now_us(), exit_code, signal), closes=True))
        self._writer.hurry()

    async def flush(self) -> None:
        """Wait until everything so far is written, or recording has failed (then see `failed`)."""
        await self._wait_for(closes=False)

    async def close(self) -> None:
        """Write everything so far, then stop recording and let go of the log, which may be deleted after."""
        await self._wait_for(closes=True)

    async def _wait_for(self, *, closes: bool) -> None:
        done = asyncio.get_running_loop().create_future()
        self._put(Event(self._source.head, done=done, closes=closes))
        self._writer.hurry()
        await done

    def _take_back(self, offset: int, kind: type[R], viewer: str | None = None) -> R | None:
        """Take back a late record that is like the next, so that a slow disk does not make many wait.

        Sizes and input may take turns at one offset.
        """
        with self._lock:
            for back in range(1, min(len(self._events), TAKE_BACK_EVENTS) + 1):
                record = self._events[-back].record
                if not isinstance(record, Resize | Input) or record.offset != offset:
                    return None
                if isinstance(record, Input) and record.data is not None:
                    return None  # what was typed stays in its order
                if isinstance(record, kind) and _can_grow(record, viewer):
                    del self._events[-back]
                    return record
            return None

    def _put(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)
        self._enqueue()

    def _next_due(self) -> Event | None:
        """Take the next event if everything before it is written (the writer's thread)."""
        with self._lock:
            if self._events and (self._stopped or self._events[0].offset <= self._cursor):
                return self._events.popleft()
            return None

    def _next_offset(self, head: int) -> int:
        """Give the offset of the next event, or `head` if that comes first (the writer's thread)."""
        with self._lock:
            return min(head, self._events[0].offset) if self._events else head

    def _enqueue(self) -> None:
        if not self._queued:
            self._queued = True
            self._writer.enqueue(self)

    def deliver(self, report: Report) -> None:
        """Take over what the writer's thread reports (called by `LogWriter` on the loop)."""
        if report.logged > self.logged:
            self.logged = report.logged
            self._on_logged(report.logged)
        if report.failure is not None and self.failed is None:
            self.failed = report.failure
            self._on_failed(report.failure)
        for done in report.done:
            if not done.done():
                done.set_result(None)

    # For the writer's thread

    def write_some(self) -> tuple[Report, bool]:
        """Write at most 1 MiB of output and the events between (called by `LogWriter` on its thread).

        Returns:
            What to report, and whether more is waiting.
        """
        self._queued = False  # before looking at head and events: whoever wakes from here on queues again
        before = self._cursor
        done: list[asyncio.Future[None]] = []
        failure: str | None = None
        more = False
        try:
            more = self._follow(done)
        except LogError as error:
            logger.error("session %s is not recorded any more: %s", self.log.session_id, error)  # noqa: TRY400
            failure = str(error)
        except Exception as error:  # this session's recording only, never the thread that writes all others
            logger.exception("recording %s failed", self.log.session_id)
            failure = f"{type(error).__name__}: {error}"
        if failure is not None:
            self._stopped = True
            self.log.close_file()
            more = bool(self._events)
        return Report(self, self.log.end, self._cursor - before, failure, done), more

    def _follow(self, done: list[asyncio.Future[None]]) -> bool:
        room = BATCH_BYTES
        reading: Source | None = None
        head = 0
        while True:
            # First what is due: behind the end the source may be gone.
            while (event := self._next_due()) is not None:
                self._handle(event, done)
            if self._stopped:
                return False
            if reading is not self._reading:
                # Before the events: one that comes later belongs behind this head. What comes behind it while
                # this is written is for the next time, by when it is more.
                reading, head = self._reading, self._reading.head
            stop = self._next_offset(head)
            end = min(stop, self._cursor + room)
            if end <= self._cursor:
                return stop > self._cursor
            self._taken = end
            arrivals = self._arrivals_before(end)
            with self._reading.view(self._cursor, end) as view:
                self.log.append_output(self._cursor, view, time_us=self._time_us, arrivals=arrivals)
            self._time_us = arrivals[-1][1] if arrivals else self._time_us
            room -= end - self._cursor
            self._cursor = end

    def _arrivals_before(self, end: int) -> list[tuple[int, int]]:
        arrivals = []
        while self._arrivals and self._arrivals[0][0] < end:
            arrivals.append(self._arrivals.popleft())
        return arrivals

    def _handle(self, event: Event, done: list[asyncio.Future[None]]) -> None:
        if event.done is not None:
            done.append(event.done)
        if self._stopped:
            return
        if event.source is not None:
            self._reading = event.source
        if event.record is not None:
            self.log.append(event.record)
            self._cursor = self.log.end
        if event.closes:
            self._stopped = True
            self.log.close_file()


def _can_grow(record: Resize | Input, viewer: str | None) -> bool:
    """Tell whether the next record of its kind, of this viewer, can take its place."""
    return isinstance(record, Resize) or (record.viewer == viewer and record.n_bytes < MOST_INPUT_BYTES)


def _now_us() -> int:
    return time.time_ns() // 1000
