"""One held session on the runner's side: its PTY master, its ring, its input.

Output goes from the PTY into the ring as long as there is room and, with a link, as long as HQ lets it; who
sends it on follows the ring at its own pace. Input waits in a bounded queue until the PTY takes it. Neither
ever blocks.

**When a session is over.** The keeper tells that the command has exited; what it wrote before may still be in
the PTY. The session is over when the PTY says that nobody has it open any more. But a process that the
command left in the background can keep it open for ever: then the session is over once the PTY is empty, and
stays so for `GRACE_S`. What such a process writes later is not part of the session.

**Input is applied at most once.** How many bytes are in the PTY is noted in the ring's memory, where it
survives this process, before they are written: a process killed in between may lose the input of its last
write, up to `WRITE_BYTES`, but never types a line twice.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import struct
import termios
import time
from collections import deque
from typing import NamedTuple, Protocol

from agentrelay.fastpath import FREE, ByteRing, HoldPolicy
from agentrelay.runner.read_queue import ReadQueue
from agentrelay.runner.read_turn import ReadTurn

log = logging.getLogger("agentrelay.runner")

WRITE_BYTES = 4096
"""Most that is written to a PTY at once; the kernel takes about as much."""

MAX_INPUT_BYTES = (1 << 20) + (1 << 17)
"""Bound of the input queue: the 1 MiB that HQ lets be on its way, and a frame beyond that."""

GRACE_S = 0.2
"""How long an exited command's PTY has to stay empty while somebody else holds it open."""

AFTER_EXIT_BYTES = 1 << 18
"""What is read after the exit at most, if somebody else keeps writing: far more than a PTY holds."""

REOPEN_S = 0.25
"""A program can close its terminal and open it again: how often to look whether it has."""

_WINDOW_SIZE = struct.Struct("HHHH")


class Facts(NamedTuple):
    """What does not change in the life of a session."""

    session_id: str
    epoch: str
    pid: int
    command: list[str]
    cwd: str
    ring_bytes: int


class Exit(NamedTuple):
    """How a command ended; both None if that cannot be known."""

    exit_code: int | None
    signal: int | None


class Sink(Protocol):
    """Who follows a session, if there is a link."""

    def on_output(self, n_bytes: int, *, more: bool) -> None:
        """Learn that the ring has grown by `n_bytes`; `more`: the PTY is not empty and is read on at once."""

    def on_input_applied(self) -> None:
        """Learn that `input_applied` has grown."""

    def on_over(self) -> None:
        """Learn that the session is over: its ring will not grow any more."""


class PtySession:
    """One session. Owns its descriptors.

    Args:
        facts: what it is.
        master: PTY master, non-blocking.
        memory: ring memory; what an earlier process left uncounted in it is counted now.
        turn: that of all sessions of this runner.
        queue: likewise.
        loop: the running loop.

    Attributes:
        ring: its output.
        master: the PTY master, for who hands it to a new keeper.
        memory: the ring memory, likewise.
        exit: how the command ended, once that is known.
        over: whether it is over: `exit` is known and no output will follow.
        acked: offset before which output is safe with HQ.
        limit: offset before which output may be sent, and is read while the command runs; None: no link.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        master: int,
        memory: int,
        turn: ReadTurn,
        queue: ReadQueue,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.facts = facts
        self.master = master
        self.memory = memory
        self.ring = ByteRing.shared(memory)
        recovered = self.ring.recover()
        if recovered:
            log.info(
                "session %s: %d bytes were read and not counted; they are here", facts.session_id, recovered
            )
        self.acked = min(self.ring.keep, self.ring.head)
        self.limit: int | None = None
        self.exit: Exit | None = None
        self.over = False
        self._keeper_lost = False
        self._turn = turn
        self._queue = queue
        self._loop = loop
        self._sink: Sink | None = None
        self._policy = HoldPolicy()
        self._reading = False
        self._writing = False
        self._closed = False
        self._pause: asyncio.TimerHandle | None = (
            None  # a hold, or the wait for a terminal to be opened again
        )
        self._grace: asyncio.TimerHandle | None = None
        self._grace_is_over = False
        self._after_exit_bytes = 0
        self._input: deque[bytes] = deque()
        self._input_bytes = 0
        self._skip_input_bytes = 0
        self._over = asyncio.Event()
        self._update_reading()

    # --- following --------------------------------------------------------------------------------

    def hold_everything(self) -> None:
        """Keep every byte that is here, safe or not, until `attach` or `detach`: HQ is about to choose."""
        self.ring.keep = self.ring.base

    def attach(self, sink: Sink, *, acked: int, limit: int, input_offset: int) -> None:
        """Follow this session from now on.

        Args:
            sink: is told of what happens.
            acked: offset before which output may be forgotten.
            limit: offset before which output may be sent.
            input_offset: where HQ's input goes on.
        """
        self._sink = sink
        applied = self.ring.input_applied
        self._skip_input_bytes = max(0, applied - input_offset)
        if input_offset > applied:
            self.ring.input_applied = input_offset
        self.acked = acked
        self.take_ack(acked, limit)

    def detach(self) -> None:
        """Go on without a link, until the ring is full; HQ will send again what input was not applied."""
        self._sink = None
        self.limit = None
        self.ring.keep = self.acked
        self._drop_input()
        self._update_reading()

    def discard(self, sink: Sink) -> None:
        """Read on to the end and keep nothing, for nobody will want it; `sink` is told of the end."""
        self._sink = sink
        self.limit = None
        self.acked = self.ring.keep = FREE
        self._drop_input()
        self._update_reading()

    def take_ack(self, acked: int, limit: int) -> None:
        """Forget what is safe, and read up to `limit`."""
        self.acked = max(self.acked, min(acked, self.ring.head))
        self.ring.keep = self.acked
        self.limit = limit
        self._update_reading()
        if self.exit is not None:
            # It may have been the full ring that stood before the end, and an empty PTY never gets readable.
            self._loop.call_soon(self._read_now)

    # --- output -----------------------------------------------------------------------------------

    def _room(self) -> int:
        room = self.ring.room_bytes
        if self.limit is None or self.exit is not None:
            # When the command has exited there is nothing to pace, and its end lies behind its last output.
            return room
        return min(room, self.limit - self.ring.head)

    def _update_reading(self) -> None:
        wanted = self._pause is None and not self.over and not self._closed and self._room() > 0
        if wanted and not self._reading:
            self._loop.add_reader(self.master, self._read)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.master)
        self._reading = wanted

    def _read(self) -> None:
        """Read, now or in the next iteration of the loop."""
        now_us = time.monotonic_ns() // 1000
        if self._queue.is_late(self) and not self._turn.goes_first(self, now_us):
            self._queue.wait(self)
        else:
            self._read_at(now_us)

    def read_in_turn(self) -> None:
        """Read what there is; called by the queue."""
        if not self.over and not self._closed:
            self._read_at(time.monotonic_ns() // 1000)

    def _read_at(self, now_us: int) -> None:
        room = self._room()
        if room <= 0:
            self._update_reading()
            return
        most = self._turn.bytes_at(self, now_us)
        try:
            n_bytes = self.ring.read_fd(self.master, min(room, most))
            ended = n_bytes == 0 and self.ring.eof
        except OSError as error:
            log.warning("session %s: its PTY cannot be read: %s", self.facts.session_id, error)
            n_bytes, ended = 0, True
        break_us = self._turn.break_after(self, now_us, n_bytes)
        pause_us = self._policy.drained(now_us, n_bytes) or break_us
        if n_bytes and self._sink is not None:
            self._sink.on_output(n_bytes, more=n_bytes == most < room and not pause_us)
        if ended:
            self._on_end()
        elif self.exit is not None:
            self._after_exit(n_bytes)
        elif pause_us:
            self._pause_reading(pause_us / 1e6)
        self._update_reading()

    def _pause_reading(self, seconds: float) -> None:
        self._pause = self._loop.call_later(seconds, self._read_now)

    def _read_now(self) -> None:
        """Read without asking the loop whether there is something: that would be two system calls more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if not self.over and not self._closed:
            self._read()

    def _on_end(self) -> None:
        """Nobody has the terminal open."""
        if self.exit is None and self._keeper_lost:
            self.exit = Exit(None, None)
        if self.exit is not None:
            self._finish()
        else:
            # The keeper will tell; or the program is one that has closed its terminal and works on.
            self._pause_reading(REOPEN_S)

    # --- the end ----------------------------------------------------------------------------------

    def take_exit(self, end: Exit) -> None:
        """Learn how the command ended; the session is over when its PTY has been emptied."""
        if self.exit is None and not self._closed:
            self.exit = end
            self._read_now()

    def lose_keeper(self) -> None:
        """Learn that nobody can tell how the command ends: the end of its PTY has to do."""
        self._keeper_lost = True

    def regain_keeper(self) -> None:
        """Learn that its own keeper is there again."""
        self._keeper_lost = False

    def _after_exit(self, n_bytes: int) -> None:
        self._after_exit_bytes += n_bytes
        if n_bytes and self._after_exit_bytes < AFTER_EXIT_BYTES:
            # Only a read that gives nothing shows that it is empty, and the loop tells nothing of that.
            self._loop.call_soon(self._read_now)
            return
        if self._grace_is_over:
            self._finish()
        elif self._grace is None:
            self._grace = self._loop.call_later(GRACE_S, self._end_grace)

    def _end_grace(self) -> None:
        self._grace_is_over = True
        self._read_now()

    def _finish(self) -> None:
        if not self.over:
            self.over = True
            self._over.set()
            self._cancel_timers()
            self._drop_input()
            self._update_reading()
            if self._sink is not None:
                self._sink.on_over()

    async def wait_over(self) -> None:
        """Wait until the session is over."""
        await self._over.wait()

    def close(self) -> None:
        """Let go of everything: HQ has what there was."""
        if self._closed:
            return
        self._closed = True
        self._sink = None
        self._cancel_timers()
        self._drop_input()
        self._update_reading()
        self.ring.close()
        os.close(self.master)
        os.close(self.memory)

    def _cancel_timers(self) -> None:
        for timer in (self._pause, self._grace):
            if timer is not None:
                timer.cancel()
        self._pause = None

    # --- input ------------------------------------------------------------------------------------

    @property
    def input_applied(self) -> int:
        """Input bytes that are in the PTY."""
        return self.ring.input_applied

    def write_input(self, data: bytes) -> bool:
        """Write input, or queue what the program does not take yet.

        Returns:
            False if the queue is full: the sender has not kept to its window. Nothing was taken.
        """
        if self.over or self._closed:
            return True
        if self._skip_input_bytes:
            skipped = min(self._skip_input_bytes, len(data))
            self._skip_input_bytes -= skipped
            data = data[skipped:]
        if self._input_bytes + len(data) > MAX_INPUT_BYTES:
            return False
        if data:
            self._input.append(data)
            self._input_bytes += len(data)
            now_us = time.monotonic_ns() // 1000
            self._policy.input(now_us)
            self._turn.typed(self, now_us)
            if not self._writing:
                self._write()
            if self._pause is not None:
                self._read_now()
        return True

    def _write(self) -> None:
        applied = self.ring.input_applied
        before = applied
        while self._input:
            data = self._input[0]
            piece = data[:WRITE_BYTES]
            self.ring.input_applied = applied + len(piece)
            try:
                n_bytes = os.write(self.master, piece)
            except BlockingIOError:
                n_bytes = 0
            except OSError as error:
                # Nobody has the terminal open: what is typed now goes nowhere, as in any terminal.
                log.debug("session %s takes no input: %s", self.facts.session_id, error)
                n_bytes = len(piece)
            applied += n_bytes
            self.ring.input_applied = applied
            self._input_bytes -= n_bytes
            if n_bytes == len(data):
                self._input.popleft()
            elif n_bytes:
                self._input[0] = data[n_bytes:]
            if n_bytes < len(piece):
                break
        self._watch_writable(bool(self._input))
        if applied != before and self._sink is not None:
            self._sink.on_input_applied()

    def _watch_writable(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self.master, self._write)
        elif self._writing and not wanted:
            self._loop.remove_writer(self.master)
        self._writing = wanted

    def _drop_input(self) -> None:
        self._input.clear()
        self._input_bytes = 0
        self._watch_writable(False)

    # --- size and signals -------------------------------------------------------------------------

    @property
    def size(self) -> tuple[int, int]:
        """`(rows, cols)` as the PTY has them."""
        packed = fcntl.ioctl(self.master, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE.size))
        rows, cols, _, _ = _WINDOW_SIZE.unpack(packed)
        return rows, cols

    def resize(self, *, rows: int, cols: int) -> None:
        """Set the size; the kernel tells the foreground process group."""
        if not self._closed:
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, _WINDOW_SIZE.pack(rows, cols, 0, 0))

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the command's process group, if there is no keeper to do it; nothing once it has exited."""
        if self.exit is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.facts.pid, number)

    def signal_foreground(self, number: signal.Signals) -> None:
        """Send a signal to the foreground process group of the terminal; nothing if there is none."""
        if self.over or self._closed:
            return
        try:
            group = os.tcgetpgrp(self.master)
            if group > 1:
                os.killpg(group, number)
        except OSError as error:
            log.info("session %s: %s reached nobody: %s", self.facts.session_id, number.name, error.strerror)
