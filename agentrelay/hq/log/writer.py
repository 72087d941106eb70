"""One thread that writes the logs of all sessions, so that no disk ever stalls the loop.

A session that is recorded is a follower with a cursor: the loop says `wake`, the thread takes what is between
cursor and head straight from the session's ring, and reports the new offset back in batches. The ring keeps
its bytes until they are reported, so a slow disk only delays that.
"""

import asyncio
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.recording import Recording, Report, Source
from agentrelay.hq.log.session_log import SessionLog

LINGER_S: Final = 0.2
"""How long small output is gathered. Waking the thread costs up to 0.4 ms of CPU, 200 times what a small
write should, so a token stream gets 5 of them a second. Nobody waits: the runner has what is not logged."""

MOST_LINGER_S: Final = 2.0
"""One session whose round took long does not keep all others from being written for longer than this."""

MAX_OPEN_FILES: Final = 256
IDLE_FILE_S: Final = 30.0
REPORT_EVERY_S: Final = 0.05
ENFORCE_EVERY_BYTES: Final = 16 << 20


class LogWriter:
    """Writes the logs of all sessions of an HQ in one thread.

    Made, started and closed on the loop; `on_logged` and `on_failed` of recordings are called on it.
    """

    def __init__(
        self,
        budget: LogBudget,
        *,
        linger_s: float = LINGER_S,
        max_open_files: int = MAX_OPEN_FILES,
        idle_file_s: float = IDLE_FILE_S,
    ) -> None:
        """Make a writer.

        Args:
            budget: told of every log that is followed, and enforced every 16 MiB and when a session ends.
            linger_s: how long small output is gathered before it is written.
            max_open_files: file descriptors held at most between two rounds.
            idle_file_s: age of its last write at which a file is closed.
        """
        self._budget = budget
        self._linger_s = linger_s
        self._max_open_files = max_open_files
        self._idle_file_s = idle_file_s
        self._ready: queue.SimpleQueue[Recording | None] = queue.SimpleQueue()
        # Held while nobody is in a hurry. An Event would take and give back the interpreter many times more.
        self._calm = threading.Lock()
        self._calm.acquire()
        self._behind = False
        self._open: OrderedDict[SessionLog, float] = OrderedDict()
        self._unenforced_bytes = 0
        self._round_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[None] | None = None
        # A daemon, so that a disk that never answers cannot keep HQ from exiting.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Start the thread; recordings report to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._stopped = self._loop.create_future()
        self._thread.start()

    def follow(
        self,
        log: SessionLog,
        source: Source,
        *,
        on_logged: Callable[[int], None],
        on_failed: Callable[[str], None],
    ) -> Recording:
        """Record what `source` has from `log.end` on, whenever `Recording.wake` is called.

        Args:
            log: not appended to by anybody else from now on.
            source: must have every byte from `log.end` on.
            on_logged: called with the offset before which everything is in the log.
            on_failed: called once, with a sentence for people, when the disk refuses; nothing is written
                after it.
        """
        self._budget.add(log)
        return Recording(self, log, source, on_logged, on_failed)

    async def close(self) -> None:
        """Write everything that is waiting, close the files and end the thread.

        Never returns on a disk that never answers: use a timeout.
        """
        if self._stopped is not None:
            self._ready.put(None)
            self.hurry()
            await self._stopped

    def enqueue(self, recording: Recording) -> None:
        """Have the thread look at this recording (called by `Recording` on the loop)."""
        self._ready.put(recording)

    def hurry(self) -> None:
        """End the gathering of small output (called by `Recording` on the loop)."""
        if self._calm.locked():
            self._calm.release()  # the thread takes it again

    # The thread

    def _run(self) -> None:
        stop = False
        while not stop:
            try:
                waiting = [self._ready.get(timeout=self._idle_file_s if self._open else None)]
            except queue.Empty:
                self._close_idle_files()
                continue
            # Lingering four times as long as the last round took bounds what many small writes can cost.
            linger_s = min(max(self._linger_s, 4 * self._round_s), MOST_LINGER_S)
            self._calm.acquire(timeout=0 if self._behind else linger_s)
            self._behind = False
            while not self._ready.empty():
                waiting.append(self._ready.get())
            stop = None in waiting
            self._write_round([recording for recording in waiting if recording is not None])
        # What is left is complete: nothing is put behind the None.
        while not self._ready.empty():
            self._write_round([recording for recording in [self._ready.get()] if recording is not None])
        for log in self._open:
            log.close_file()
        self._open.clear()
        self._post(self._finish)

    def _write_round(self, recordings: list[Recording]) -> None:
        started = reported = time.monotonic()
        reports: list[Report] = []
        for recording in recordings:
            report, more = recording.write_some()
            reports.append(report)
            if more:
                self._ready.put(recording)
                self._behind = True
            now = time.monotonic()
            self._keep_track(recording.log, report, now)
            if now - reported > REPORT_EVERY_S:
                self._report(reports)
                reported, reports = now, []
        self._report(reports)
        self._close_idle_files()
        self._round_s = time.monotonic() - started

    def _keep_track(self, log: SessionLog, report: Report, now: float) -> None:
        self._open.pop(log, None)
        if log.is_open:
            self._open[log] = now
            if len(self._open) > self._max_open_files:
                self._open.popitem(last=False)[0].close_file()
        self._unenforced_bytes += report.written_bytes
        if self._unenforced_bytes >= ENFORCE_EVERY_BYTES or log.ended is not None:
            self._unenforced_bytes = 0
            self._budget.enforce()

    def _close_idle_files(self) -> None:
        oldest_kept = time.monotonic() - self._idle_file_s
        while self._open and next(iter(self._open.values())) <= oldest_kept:
            self._open.popitem(last=False)[0].close_file()

    def _report(self, reports: list[Report]) -> None:
        if reports:
            self._post(lambda: _deliver(reports))

    def _finish(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def _post(self, callback: Callable[[], None]) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # closed since we looked: nobody is left to be told
            return


def _deliver(reports: list[Report]) -> None:
    for report in reports:
        report.recording.deliver(report)
