"""Archive: the output logs of all sessions of this HQ, and what connects each to its session."""

import asyncio
import logging
from pathlib import Path

from agentrelay.fastpath import ByteRing
from agentrelay.hq.log.budget import LogBudget
from agentrelay.hq.log.keyframe import Keyframe, read_keyframe, write_keyframe
from agentrelay.hq.log.recording import Recording
from agentrelay.hq.log.session_log import SessionLog
from agentrelay.hq.log.writer import LogWriter
from agentrelay.hq.session import Session, State

log = logging.getLogger("agentrelay.hq")

TOTAL_BYTES = 32 << 30
"""Most disk space of all logs together; output of sessions that ended longest ago goes first."""

CLOSE_S = 5.0
"""How long HQ waits for the disk when it stops."""


class LogRecorder:
    """The output log of one session, as the session sees it.

    Args:
        log: its files.
        recording: its place in the log writer; None once the session is over.
        record_input: whether to record what is typed, and not only how much.
    """

    def __init__(self, log: SessionLog, recording: Recording | None, *, record_input: bool = False) -> None:
        self.log = log
        self.recording = recording
        self._record_input = record_input
        self.deleted = False
        self.directory_lock = asyncio.Lock()  # nothing may appear in the directory while it is deleted

    @property
    def logged(self) -> int:
        """Offset before which everything is in the log."""
        return self.recording.logged if self.recording is not None else self.log.end

    @property
    def base(self) -> int:
        """Offset of the oldest byte in the log."""
        return self.log.base

    def wake(self) -> None:
        """There is output behind `logged` in the ring."""
        if self.recording is not None:
            self.recording.wake()

    def resized(self, *, rows: int, cols: int) -> None:
        """Record a size."""
        if self.recording is not None:
            self.recording.resized(rows=rows, cols=cols)

    def took_input(self, viewer: str, data: bytes | memoryview) -> None:
        """Record that a viewer typed; what, only where that is switched on."""
        if self.recording is not None:
            self.recording.typed(viewer, len(data), bytes(data) if self._record_input else None)

    def gap(self, stop: int, ring: ByteRing) -> None:
        """Record that the bytes before `stop` are lost; output goes on there, in `ring`."""
        if self.recording is not None:
            self.recording.gap(stop, ring)

    def ended(self, *, exit_code: int | None, signal: int | None) -> None:
        """Record the end."""
        if self.recording is not None:
            self.recording.ended(exit_code=exit_code, signal=signal)

    async def read(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        """Give `(offset, bytes)` from `start`, or from the first byte after it that is there; b"" at the end.

        Raises:
            LogError: a file cannot be read.
        """
        return await asyncio.to_thread(self.log.read, start, max_bytes)

    async def sizes(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Give the size in force at `start`, and its changes before `stop`: `(offset, rows, cols)`.

        Raises:
            LogError: a file cannot be read.
        """
        return await asyncio.to_thread(self.log.sizes, start, stop)

    async def keyframe(self) -> Keyframe | None:
        """Give the newest keyframe."""
        return await asyncio.to_thread(read_keyframe, self.log.directory, self.log.epoch)

    async def keep(self, keyframe: Keyframe) -> None:
        """Keep a newer keyframe.

        Raises:
            LogError: the disk refuses.
        """
        async with self.directory_lock:
            if not self.deleted:
                await asyncio.to_thread(write_keyframe, self.log.directory, self.log.epoch, keyframe)


class Archive:
    """All output logs, one directory each below `directory`.

    Args:
        record_input: whether they are to hold what is typed.
    """

    def __init__(self, directory: Path, *, record_input: bool = False) -> None:
        self._directory = directory
        self._record_input = record_input
        self._budget = LogBudget(TOTAL_BYTES)
        self._writer = LogWriter(self._budget)

    def start(self) -> None:
        """Start writing; needs the running loop."""
        self._writer.start()

    async def close(self) -> None:
        """Write what is waiting; a disk that does not answer for 5 s is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.close()
        except TimeoutError:
            log.warning("the disk did not take the last output within %.0f s", CLOSE_S)

    def open(self, session: Session) -> LogRecorder:
        """Begin the log of a session, before its first byte."""
        files = SessionLog(
            self._path(session),
            session_id=session.session_id,
            epoch=session.epoch,
            rows=session.rows,
            cols=session.cols,
        )
        return self._follow(session, files)

    async def reopen(self, session: Session) -> LogRecorder:
        """Open the log of a session of an earlier HQ, or begin one; the session goes on where the log ends.

        Raises:
            LogError: its files cannot be read.
        """
        return self._go_on(session, await asyncio.to_thread(self._recover, session))

    async def delete(self, recorder: LogRecorder) -> None:
        """Delete the log of a session that is over, as soon as the log writer is done with it.

        Raises:
            LogError: something could not be deleted.
        """
        self._budget.remove(recorder.log)
        if recorder.recording is not None:
            await recorder.recording.close()
        async with recorder.directory_lock:
            recorder.deleted = True
            await asyncio.to_thread(recorder.log.delete)

    def _recover(self, session: Session) -> SessionLog:
        return SessionLog.recover(
            self._path(session),
            session_id=session.session_id,
            epoch=session.epoch,
            rows=session.rows,
            cols=session.cols,
        )

    def _go_on(self, session: Session, files: SessionLog) -> LogRecorder:
        session.head = files.end
        session.sizes.append((files.end, session.rows, session.cols))
        self._budget.add(files)
        if files.ended is not None and session.state is not State.ENDED:
            # The log was told first, and nobody else before HQ died.
            session.exit_code, session.signal = files.ended.exit_code, files.ended.signal
            session.ended_at = files.ended.time_us / 1e6
            session.state = State.ENDED
        if session.state is State.ENDED:
            return LogRecorder(files, None)
        return self._follow(session, files)

    def _follow(self, session: Session, files: SessionLog) -> LogRecorder:
        ring = session.writable_ring()
        ring.keep = files.end
        recording = self._writer.follow(
            files, ring, on_logged=session.on_logged, on_failed=session.on_recording_failed
        )
        return LogRecorder(files, recording, record_input=self._record_input)

    def _path(self, session: Session) -> Path:
        return self._directory / session.session_id
