"""Session: one program on a PTY as HQ knows it, and everything that follows its output.

The session knows no socket. Its output lies in a ring (the newest bytes) and in the output log (the older
ones); whoever follows it, a viewer or the log writer, is a cursor into that one stream. This file owns the
session's states, who controls it, and what the runner may forget and send.
"""

import time
from collections import deque
from collections.abc import Callable
from enum import Enum

import msgspec

from agentrelay.errors import LimitReached, NotInControl, ProtocolError, RunnerAway, SessionOver
from agentrelay.fastpath import FREE, ByteRing
from agentrelay.hq.info import SessionInfo, SessionState
from agentrelay.hq.input_queue import WINDOW_BYTES, InputQueue
from agentrelay.hq.roles import Follower, Link, Recorder
from agentrelay.protocol import pace
from agentrelay.protocol.ids import Epoch, RunnerId, SessionId, StreamId

RING_BYTES = 4 << 20
"""Newest output held in memory; its pages are given back while nobody needs them."""

QUIET_S = 2.0
"""Without output for this long, a session's ring memory is given back."""

MAX_UNLOGGED_GAPS = 64
"""A ring is kept for each until the log has it; a runner makes one when it comes back, at most."""

SIZES = 256
"""Changes of size that a session remembers for rendering."""

MOST_INPUT_BYTES = 4 * WINDOW_BYTES
"""Input that can wait. A viewer is not read from one window on; but others can come and take control."""

INPUT_KEYS = 64
"""Viewers whose input counts a session remembers for resuming."""


class State(Enum):
    """Where a session is in its life; `TRANSITIONS` says what can follow what.

    Attributes:
        text: what the outside calls it.
        over: whether no output is to be expected any more.
    """

    STARTING = "starting"
    RUNNING = "running"
    AWAY = "away"
    ENDED = "ended"
    LOST = "lost"

    def __init__(self, text: SessionState) -> None:
        self.text = text
        self.over = text in ("ended", "lost")


TRANSITIONS: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.RUNNING, State.ENDED, State.LOST}),
    State.RUNNING: frozenset({State.AWAY, State.ENDED, State.LOST}),
    State.AWAY: frozenset({State.RUNNING, State.ENDED, State.LOST}),
    State.ENDED: frozenset(),
    State.LOST: frozenset({State.RUNNING, State.AWAY, State.ENDED}),
}
"""A lost session can come back: its runner may have been started with another state directory by mistake."""


class Session:
    """One session.

    Args:
        changed: called after every change that `describe` shows, output offsets excepted.
        active: called when there is something to `settle` a little later.
        unattended: called with the offset of new output that came while nobody controlled the session, nor is
            about to.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        session_id: SessionId,
        runner_id: RunnerId,
        name: str,
        command: list[str],
        preset: str | None,
        cwd: str | None,
        rows: int,
        cols: int,
        recording: bool,
        created_at: float,
        changed: "Callable[[Session], None]",
        active: "Callable[[Session], None]",
        unattended: "Callable[[Session, int], None]",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session_id = session_id
        self.runner_id = runner_id
        self.name = name
        self.command = command
        self.preset = preset
        self.cwd = cwd
        self.rows = rows
        self.cols = cols
        self.recorded = recording
        """Whether it was started with recording."""
        self.recording = recording
        """Whether its output is recorded now: a disk may have refused."""
        self.created_at = created_at
        self.ended_at: float | None = None
        self.state = State.STARTING
        self.epoch = Epoch("")
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.title = ""
        self.head = 0
        self.ring: ByteRing | None = None
        self.recorder: Recorder | None = None
        self.followers: list[Follower] = []
        self.controller: Follower | None = None
        self.awaits_starter = False
        """Whether the viewer that started it is yet to take control; it is shown all output."""
        self.stop_asked = False
        self.sizes: deque[tuple[int, int, int]] = deque(maxlen=SIZES)
        """Where in the output the size changed in this HQ's life, and what it was when that began:
        `(offset, rows, cols)`, oldest first. Empty: it has had one size since its first byte."""
        self.input = InputQueue()
        self._input_taken: dict[str, int] = {}
        self._unlogged_gaps: deque[int] = deque()  # where they begin; each has a ring before it
        self._json = b""
        self._json_offsets: tuple[int, int] | None = None  # as of which it is; None: something has changed
        self._changed = changed
        self._active = active
        self._unattended = unattended
        self._clock = clock
        self._link: Link | None = None
        self._stream = StreamId(0)
        self._output_s = 0.0
        self._told_acked = 0
        self._told_limit = 0

    # What it is

    @property
    def over(self) -> bool:
        """Whether no output is to be expected any more."""
        return self.state.over

    @property
    def base(self) -> int:
        """Offset of the oldest byte that can still be read."""
        if self.recorder is not None:
            return self.recorder.base
        return self.ring.base if self.ring is not None else self.head

    @property
    def ring_base(self) -> int:
        """Offset of the oldest byte in memory; older ones are in the log."""
        return self.ring.base if self.ring is not None else self.head

    def describe(self) -> SessionInfo:
        """Give what the outside may know."""
        return SessionInfo(
            session_id=self.session_id,
            runner_id=self.runner_id,
            name=self.name,
            command=self.command,
            preset=self.preset,
            cwd=self.cwd,
            rows=self.rows,
            cols=self.cols,
            state=self.state.text,
            pid=self.pid,
            epoch=self.epoch,
            created_at=self.created_at,
            ended_at=self.ended_at,
            exit_code=self.exit_code,
            signal=self.signal,
            offset=self.head,
            base_offset=self.base,
            viewers=len(self.followers),
            recording=self.recording,
            title=self.title,
        )

    def describe_json(self) -> bytes:
        """Give that as JSON, which is kept: lists of many sessions are asked for again and again."""
        offsets = self.head, self.base
        if offsets != self._json_offsets:
            self._json_offsets = offsets
            self._json = msgspec.json.encode(self.describe())
        return self._json

    def _note_change(self) -> None:
        self._json_offsets = None
        self._changed(self)

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.name = name
        self._note_change()

    def retitle(self, title: str) -> None:
        """Learn what its program calls its window."""
        if title != self.title:
            self.title = title
            self._note_change()

    # Its runner

    def start(self, *, epoch: Epoch, pid: int, link: Link, stream: StreamId, limit: int) -> None:
        """Begin: the program runs and `stream` of `link` carries it from offset 0."""
        self.epoch = epoch
        self.pid = pid
        self._told_limit = limit
        self._go(State.RUNNING)
        self._attach_link(link, stream)

    def resume(self, *, link: Link, stream: StreamId, acked: int, limit: int) -> None:
        """Go on with a link that came back; `acked` and `limit` are what the runner was told."""
        self._told_acked = acked
        self._told_limit = limit
        if self.state is not State.RUNNING:
            self.ended_at = None
            self._go(State.RUNNING)
        self._attach_link(link, stream)
        link.send_resize(stream, rows=self.rows, cols=self.cols)

    def on_link_lost(self, link: Link) -> None:
        """The link is gone; the program goes on without us."""
        if self._link is link:
            self._link = None
            if self.state in (State.RUNNING, State.STARTING):
                self._go(State.AWAY if self.state is State.RUNNING else State.LOST)

    def give_up(self, why: str) -> None:
        """Count on it no more, and tell its viewers why: the runner does not hold it, or nobody wants it."""
        if not self.over:
            self.ended_at = time.time()
            self._go(State.LOST)
            for follower in list(self.followers):
                follower.on_trouble("session_over", why)
                follower.on_ended()

    def _attach_link(self, link: Link, stream: StreamId) -> None:
        self._link = link
        self._stream = stream
        self._send_input()
        if self.stop_asked:
            link.send_stop(stream)

    def _go(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"a session cannot go from {self.state.text} to {state.text}")
        self.state = state
        self._note_change()

    # Output

    def writable_ring(self) -> ByteRing:
        """Give the ring that the link puts output into, made on first use, empty at `head`."""
        if self.ring is None:
            self.ring = ByteRing(RING_BYTES, offset=self.head)
            self.ring.keep = FREE
        return self.ring

    def on_output(self) -> None:
        """Pass on what the link has put into the ring."""
        assert self.ring is not None
        was_head, self.head = self.head, self.ring.head
        self._output_s = now_s = self._clock()
        for follower in list(self.followers):
            if follower.position >= was_head:
                follower.moved_s = now_s  # it had nothing to move over until now
            follower.on_output()
        if self.recorder is not None:
            self.recorder.wake()
        if self.controller is None and not self.awaits_starter:
            self._unattended(self, was_head)
        if self.head - self._told_acked >= pace.GRANT_BYTES or (
            self.head + pace.WINDOW_BYTES - self._told_limit >= pace.GRANT_BYTES
        ):
            self._regulate(pace.GRANT_BYTES)  # neither number can be worth telling before
        self._active(self)

    async def read_output(self, start: int, max_bytes: int) -> tuple[int, bytes]:
        """Give output from `start` on, or from the first byte after it that is still there.

        Returns `(offset, bytes)`: at most `max_bytes` from `offset`; no bytes at the end of what there is.

        Raises:
            LogError: the output log cannot be read.
        """
        if start < self.ring_base and self.recorder is not None:
            offset, data = await self.recorder.read(start, max_bytes)
            if data:
                return offset, data
        start = max(start, self.ring_base)
        stop = min(self.head, start + max_bytes)
        if start >= stop or self.ring is None:
            return start, b""
        with self.ring.view(start, stop) as view:
            return start, bytes(view)

    def on_gap(self, start: int, stop: int) -> None:
        """The runner no longer has the bytes `[start, stop)`: record it, show it, go on at `stop`.

        Raises:
            ProtocolError: too many gaps are not in the log yet.
        """
        ring = self.writable_ring()
        if self.acked < start:
            if len(self._unlogged_gaps) == MAX_UNLOGGED_GAPS:
                raise ProtocolError(
                    "limit_reached", f"{MAX_UNLOGGED_GAPS} gaps in the output of {self.session_id} at a time"
                )
            self._unlogged_gaps.append(start)
            # The log writer is not done with this ring; it goes on to the next one by itself.
            self.ring = ByteRing(RING_BYTES, offset=stop)
            self.ring.keep = stop
        else:
            ring.restart(stop)
        self.head = stop
        if self.recorder is not None:
            self.recorder.gap(stop, self.writable_ring())
        for follower in list(self.followers):
            follower.on_gap(start, stop)

    def on_logged(self, offset: int) -> None:
        """The log has the output before `offset`."""
        while self._unlogged_gaps and self._unlogged_gaps[0] < offset:
            self._unlogged_gaps.popleft()
        if self.ring is not None:
            self.ring.keep = offset
            for follower in list(self.followers):
                if follower.position < self.ring.base:
                    follower.on_output()  # behind a gap the ring goes on before the log has come to it
        self.regulate()

    def is_logging(self, offset: int) -> bool:
        """Tell whether the byte at `offset`, no longer in memory, is on its way into the log."""
        return self.recording and self.recorder is not None and self.recorder.logged <= offset

    def on_recording_failed(self, reason: str) -> None:
        """The log can take no more: go on in memory, and say so."""
        self.recording = False
        if self.ring is not None:
            self.ring.keep = FREE
        for follower in list(self.followers):
            follower.on_trouble("recording_stopped", f"recording stopped: {reason}")
            follower.on_output()
        self._note_change()
        self.regulate()

    def on_exited(self, *, exit_code: int | None, signal: int | None) -> None:
        """The program has exited and every byte of its output is here."""
        if self.state is State.ENDED:
            return
        self.exit_code = exit_code
        self.signal = signal
        self.ended_at = time.time()
        self._link = None
        if self.recorder is not None:
            self.recorder.ended(exit_code=exit_code, signal=signal)
        self._go(State.ENDED)
        for follower in list(self.followers):
            follower.on_ended()

    @property
    def acked(self) -> int:
        """Offset before which the runner may forget."""
        return self.recorder.logged if self.recorder is not None and self.recording else self.head

    def regulate(self) -> None:
        """Tell the runner what it may forget and how far it may send, where that has moved enough."""
        self._regulate(pace.GRANT_BYTES)
        self._active(self)

    def settle(self) -> bool:
        """Tell the runner also what has moved only a little; tells whether that leaves nothing to do.

        Call it again a little later until it does: a viewer that has stalled is noticed here.
        """
        self._regulate(1)
        settled = self._link is None or (
            self._told_acked >= self.head and self._told_limit >= self.head + pace.WINDOW_BYTES
        )
        return settled and self._clock() - self._output_s >= QUIET_S and self._release_memory()

    def _regulate(self, worth_bytes: int) -> None:
        if self._link is None:
            return
        acked, limit = self.acked, self.limit()
        if limit - self._told_limit >= worth_bytes or acked - self._told_acked >= worth_bytes:
            self._told_acked = acked
            self._told_limit = max(limit, self._told_limit)
            self._link.send_ack(self._stream, acked, self._told_limit)

    def limit(self) -> int:
        """Give the offset before which the runner may send."""
        now_s = self._clock()
        moving = [
            follower.position
            for follower in self.followers
            # Who waits for output that is still to come, or so it says, takes none now.
            if follower.position == self.head
            or (follower.position < self.head and now_s - follower.moved_s < pace.STALL_S)
        ]
        kept = self.acked
        return pace.limit(pace=max(moving, default=kept), kept=kept, ring_bytes=RING_BYTES)

    @property
    def promised(self) -> int:
        """Offset before which the runner has been told that it may send."""
        return self._told_limit

    def _release_memory(self) -> bool:
        """Give the ring's memory back if nobody needs it; tells whether none is left to give back."""
        if self.ring is None or self.recorder is None or not self.recording:
            return True
        if self.recorder.logged < self.head:
            return False
        if any(follower.position < self.head for follower in self.followers):
            return False
        if self.state is State.ENDED:
            self.ring.close()
            self.ring = None
        else:
            self.ring.release_memory()
        return True

    # Viewers and control

    def attach(self, follower: Follower) -> None:
        """Let a viewer follow; while nobody controls, it takes control."""
        self.followers.append(follower)
        if self.controller is None and not self.over:
            self._control(follower)
        self._note_change()

    def detach(self, follower: Follower) -> None:
        """Let a viewer go; control it had is nobody's."""
        if follower in self.followers:
            self.followers.remove(follower)
            if self.controller is follower:
                self._control(None)
            self._note_change()
            self.regulate()

    def take_control(self, follower: Follower) -> None:
        """Make a viewer the one whose input and size count."""
        if self.controller is not follower:
            self._control(follower)

    def give_up_starter(self) -> None:
        """Learn that the viewer that started it does not come."""
        if self.awaits_starter:
            self.awaits_starter = False
            if self.controller is None:
                self._unattended(self, 0)

    def _control(self, follower: Follower | None) -> None:
        self.controller = follower
        for each in list(self.followers):
            each.on_control()

    def _need_control(self, follower: Follower) -> None:
        if self.controller is None:
            self._control(follower)
        if self.controller is not follower:
            raise NotInControl("another viewer controls this session; take control first")

    # Input, size, signals

    def take_input(self, follower: Follower, data: bytes | memoryview) -> None:
        """Take keyboard input of a viewer.

        Raises:
            SessionOver: the program has ended.
            NotInControl: another viewer controls.
            LimitReached: so much waits already that nobody can have waited for the program to read.
        """
        self._need_running()
        self._need_control(follower)
        self._need_room(MOST_INPUT_BYTES)
        self._take_input(follower.viewer_id, data)

    def send_input(self, data: bytes) -> None:
        """Take input that comes from no viewer: the API, or HQ's own answer to a query.

        Raises:
            SessionOver: the program has ended.
            LimitReached: it has not read what came before.
        """
        self._need_running()
        self._need_room(WINDOW_BYTES)
        self._take_input("api", data)

    def _need_room(self, bound_bytes: int) -> None:
        waiting_bytes = self.input.taken - self.input.applied
        if waiting_bytes >= bound_bytes:
            raise LimitReached(f"the program has not read the last {waiting_bytes} bytes")

    def _take_input(self, who: str, data: bytes | memoryview) -> None:
        self.input.take(data, self._clock())
        self._send_input()
        if self.recorder is not None:
            self.recorder.took_input(who, data)

    def on_input_applied(self, offset: int) -> None:
        """The runner has put the input before `offset` into the PTY."""
        self.input.receive_applied(offset)
        self._send_input()
        for follower in list(self.followers):
            follower.on_input_applied()

    def resume_input(self, applied: int) -> None:
        """Go on with the input behind what the runner has applied; say what had waited too long."""
        dropped_bytes = self.input.resume(applied, self._clock())
        for follower in list(self.followers):
            follower.on_input_applied()
        if dropped_bytes:
            message = f"{dropped_bytes} bytes of input had waited over 10 s for the runner and were dropped"
            for follower in list(self.followers):
                follower.on_trouble("input_dropped", message)

    def _send_input(self) -> None:
        if self._link is not None:
            self._link.send_input(self._stream, self.input)

    def input_taken(self, key: str) -> int | None:
        """Give how many input bytes came from the viewer that calls itself `key`; None if unknown."""
        return self._input_taken.get(key)

    def count_input(self, key: str, n_bytes: int) -> int:
        """Count input of the viewer that calls itself `key`; gives the new count."""
        taken = self._input_taken.pop(key, 0) + n_bytes
        self._input_taken[key] = taken
        if len(self._input_taken) > INPUT_KEYS:
            del self._input_taken[next(iter(self._input_taken))]
        return taken

    def resize(self, *, rows: int, cols: int, follower: Follower | None = None) -> None:
        """Set the size, on behalf of a viewer or of the API.

        Raises:
            SessionOver: the program has ended.
            NotInControl: another viewer controls.
        """
        self._need_running()
        if follower is not None:
            self._need_control(follower)
        if (rows, cols) == (self.rows, self.cols):
            return
        if not self.sizes:
            self.sizes.append((0, self.rows, self.cols))
        self.sizes.append((self.head, rows, cols))
        self.rows, self.cols = rows, cols
        if self.recorder is not None:
            self.recorder.resized(rows=rows, cols=cols)
        if self._link is not None:
            self._link.send_resize(self._stream, rows=rows, cols=cols)
        for each in list(self.followers):
            each.on_resized()
        self._note_change()

    def send_signal(self, name: str, *, follower: Follower | None = None) -> None:
        """Send a signal to the foreground process group, on behalf of a viewer or of the API.

        Raises:
            SessionOver: the program has ended.
            NotInControl: another viewer controls.
            RunnerAway: there is no link to send it on.
        """
        self._need_running()
        if follower is not None:
            self._need_control(follower)
        if self._link is None:
            raise RunnerAway(f"runner {self.runner_id} is not connected, so it cannot be sent a signal now")
        self._link.send_signal(self._stream, name)

    def stop(self) -> None:
        """End the program; while the runner is away, as soon as it comes back."""
        self._need_running()
        self.stop_asked = True
        if self._link is not None:
            self._link.send_stop(self._stream)

    def _need_running(self) -> None:
        if self.over:
            raise SessionOver("the session's program has ended")
