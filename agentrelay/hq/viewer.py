"""Viewer: one attached WebSocket, as a cursor into a session's output (docs/protocol.md section 2).

There is no queue per viewer. What it has been sent is a number; what comes next lies in the session's ring,
and is written from there straight to its socket, or, when it is older, comes from the output log. A viewer
that does not keep up gets less often more, then a fresh snapshot; it never makes anybody wait.
"""

import asyncio
import itertools
import logging

from msgspec import UNSET

from agentrelay import fastpath
from agentrelay.errors import LimitReached, LogError, NotInControl, ProtocolError, RequestError, SessionOver
from agentrelay.hq import rendering
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.session import RING_BYTES, Session
from agentrelay.protocol import pace
from agentrelay.protocol.messages import (
    Ack,
    Attach,
    Attached,
    Control,
    Error,
    InputAck,
    Message,
    Ping,
    Pong,
    Replay,
    Resize,
    Resized,
    Resync,
    SessionEnded,
    SessionStarted,
    Signal,
    TakeControl,
    ViewerGap,
    ViewerMessage,
    encode,
)
from agentrelay.transport.endpoint import INTERNAL_ERROR, REPLACED, Endpoint

log = logging.getLogger("agentrelay.hq")

FRAME_BYTES = 64 << 10
"""Most output in one frame: large enough that headers cost nothing, small enough to share a link fairly."""

IN_FLIGHT_BYTES = 512 << 10
"""Most output sent beyond the last ack of a viewer that acks."""

REPLAY_ALL_BYTES = 1 << 20
"""A session with no more output than this is replayed whole to a viewer that has nothing yet."""

REPLAY_MISSED_BYTES = 8 << 20
"""A viewer that missed no more than this gets the bytes; beyond it a snapshot is cheaper for everybody."""

FELL_BEHIND_BYTES = 16 << 20
"""A viewer that is this far behind what it was promised as replay gets a snapshot."""

INPUT_ACK_EVERY_BYTES = 16 << 10
INPUT_ACK_AFTER_S = 0.25

_ids = itertools.count(1)


class Viewer:
    """One viewer, attached to one session from `attach` or `adopt` to `detach`.

    Attributes:
        viewer_id: unique in this process, as in `control` messages.
        position: offset of the first byte it has not taken: its last ack if it acks, else what it was sent.
        moved_s: when `position` last moved by what counts, or when it first had something to move over.
    """

    def __init__(self, endpoint: Endpoint, session: Session, metrics: Metrics) -> None:
        self.viewer_id = f"v{next(_ids)}"
        self.moved_s = 0.0
        self._moved_to = 0
        self._endpoint = endpoint
        self._session = session
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._cursor = 0
        self._acked: int | None = None
        self._promised = 0  # replay up to here is sent whatever happens
        self._gaps: list[tuple[int, int]] = []
        self._fetching: asyncio.Task[None] | None = None
        self._key: str | None = None
        self._told_input = 0
        self._input_timer: asyncio.TimerHandle | None = None
        self._ended_sent = False
        self._attached = False  # `attached` or `session_started` has been said
        # What it is to be told once it reads again: how things are then, not all that happened meanwhile.
        self._size_due = False
        self._control_due = False

    # Attaching

    def begin(self, *, ref: str | None, name: str | None) -> None:
        """Follow a session that this viewer has just started, from its first byte, in control.

        Args:
            ref: what the viewer called the session, sent back as it is.
            name: what the viewer calls itself.
        """
        session = self._session
        self._key = name
        self._note_move()
        session.attach(self)
        session.take_control(self)
        session.awaits_starter = False
        self._metrics.attaches += 1
        self._say(
            SessionStarted(
                session_id=session.session_id,
                runner_id=session.runner_id,
                epoch=session.epoch,
                pid=session.pid or 0,
                rows=session.rows,
                cols=session.cols,
                viewer=self.viewer_id,
                ref=UNSET if ref is None else ref,
            )
        )
        self._attached = True
        self.on_output()

    async def attach(self, wish: Attach) -> None:
        """Follow a session from where the viewer left off, or from a replay that is cheap."""
        session = self._session
        self._key = wish.viewer
        start = wish.from_
        if wish.epoch is not None and wish.epoch != session.epoch:
            start = None
        if start is not None and start > session.head + RING_BYTES:
            start = None  # nobody was ever sent that; a ring beyond our head, by an HQ that died
        if start is None and session.base == 0 and session.head <= REPLAY_ALL_BYTES:
            start = 0
        if start is not None and start < session.head:
            missed_bytes = session.head - start
            if missed_bytes > REPLAY_MISSED_BYTES or (
                start < session.base and missed_bytes > REPLAY_ALL_BYTES
            ):
                start = None
        snapshot = await rendering.snapshot(session) if start is None else None
        if snapshot is None and start is None:
            start = max(session.base, session.head - REPLAY_ALL_BYTES)
        if not self._endpoint.open:
            return
        self._take_over(wish.viewer)
        session.attach(self)
        self._metrics.attaches += 1
        if (
            wish.rows is not None
            and wish.cols is not None
            and session.controller is self
            and not session.over
        ):
            session.resize(rows=wish.rows, cols=wish.cols, follower=self)
        if snapshot is not None:
            self._restart(Attached, snapshot.offset, snapshot.data)
            return
        assert start is not None
        # What the log has deleted is no part of the replay.
        self._cursor = first = max(start, min(session.base, session.head))
        self._promised = max(first, session.head)
        self._note_move()
        self._say(self._attached_message(Attached, self._promised, "log", self._promised - first))
        if start < first:
            self._say(ViewerGap(from_=start, to=first))
        self._attached = True
        self._settle_input()
        self.on_output()

    def _take_over(self, name: str | None) -> None:
        """End the connection that this viewer had before, whose break has not been noticed yet."""
        for follower in list(self._session.followers):
            if name is not None and isinstance(follower, Viewer) and follower._key == name:
                follower._endpoint.close(REPLACED, "this viewer has a newer connection")
                follower.detach()

    def _attached_message(self, kind: type[Attached], offset: int, replay: str, n_bytes: int) -> Attached:
        session = self._session
        return kind(
            session_id=session.session_id,
            epoch=session.epoch,
            offset=offset,
            rows=session.rows,
            cols=session.cols,
            control=session.controller is self,
            viewer=self.viewer_id,
            input=session.input_taken(self._key) if self._key else None,
            recording=session.recording,
            replay=Replay(kind=replay, bytes=n_bytes),
        )

    def _restart(self, kind: type[Attached], offset: int, snapshot: bytes) -> None:
        """Show a snapshot valid at `offset` and go on from there."""
        self._cursor = self._promised = offset
        self._acked = None if self._acked is None else offset
        self._gaps = [gap for gap in self._gaps if gap[0] >= offset]
        self._note_move()
        self._say(self._attached_message(kind, offset, "snapshot", len(snapshot)))
        for start in range(0, len(snapshot), FRAME_BYTES):
            piece = snapshot[start : start + FRAME_BYTES]
            self._endpoint.send_frame(fastpath.frame_header(len(piece)) + piece)
        self._attached = True
        self._settle_input()
        self.on_output()

    def detach(self) -> None:
        """Leave the session; the connection is gone. What is being fetched comes to an end by itself."""
        if self._input_timer is not None:
            self._input_timer.cancel()
        self._attached = False
        self._session.detach(self)

    # Output

    @property
    def position(self) -> int:
        """Offset of the first byte it has not taken."""
        return self._cursor if self._acked is None else self._acked

    def _note_move(self) -> None:
        self.moved_s = self._loop.time()
        self._moved_to = self.position

    def on_output(self) -> None:
        """Write what is new, as far as the socket takes it."""
        if not self._attached or self._fetching is not None:
            return
        session = self._session
        end = session.head
        if self._acked is not None:
            end = min(end, self._acked + IN_FLIGHT_BYTES)
        while self._endpoint.writable:
            if self._gaps and self._gaps[0][0] <= self._cursor:
                self._pass_gap()
                continue
            stop = min(end, self._gaps[0][0]) if self._gaps else end
            if self._cursor >= stop:
                break
            if self._cursor < session.ring_base:
                if not session.is_logging(self._cursor):
                    self._fetch(stop)
                break
            self._write(stop)
        if self._cursor - self._moved_to >= pace.SLOWEST_BYTES and self._acked is None:
            self._note_move()
        if session.over and self._cursor >= session.head:
            self._finish()

    def _write(self, stop: int) -> None:
        """Send the ring up to `stop`: to the kernel what it takes, and what it left of a frame queued."""
        ring = self._session.ring
        assert ring is not None
        start = self._cursor
        if self._endpoint.fd >= 0:
            try:
                self._cursor, rest = fastpath.write_frames(self._endpoint.fd, ring, start, stop, FRAME_BYTES)
            except OSError:
                self._endpoint.abort()
                return
        else:
            self._cursor = min(stop, start + FRAME_BYTES)
            with ring.view(start, self._cursor) as payload:
                rest = fastpath.frame_header(len(payload)) + payload
        self._metrics.viewer_bytes += self._cursor - start
        if rest:
            self._endpoint.send_rest(rest)

    def _fetch(self, stop: int) -> None:
        """Get what is no longer in memory from the log, before `stop`, or give up on it for a snapshot."""
        behind_bytes = self._session.head - self._cursor
        too_far = self._cursor >= self._promised and behind_bytes > FELL_BEHIND_BYTES
        self._fetching = self._loop.create_task(self._resync() if too_far else self._fetch_from_log(stop))
        self._fetching.add_done_callback(self._fetched)

    def _fetched(self, task: "asyncio.Task[None]") -> None:
        self._fetching = None
        if task.cancelled():
            return
        error = task.exception()
        if not self._attached:
            return
        if error is not None:
            log.error("a viewer's replay failed", exc_info=error)
            self.on_trouble("internal", "the session's history cannot be read")
            self._endpoint.close(INTERNAL_ERROR, "the session's history cannot be read")
            return
        self.on_output()

    async def _fetch_from_log(self, stop: int) -> None:
        recorder = self._session.recorder
        offset, data = self._cursor, b""
        if recorder is not None:
            try:
                offset, data = await recorder.read(self._cursor, min(FRAME_BYTES, stop - self._cursor))
            except LogError as error:
                log.warning("%s", error)
        if not self._attached:
            return
        if not data and not self._session.is_logging(offset):
            # The log, if there is one, ends before the ring begins: those bytes are nowhere any more.
            offset = max(offset, self._session.ring_base)
        if offset > self._cursor:
            self._gaps.insert(0, (self._cursor, offset))
            self._pass_gap()
        if not data:
            return
        self._endpoint.send_frame(fastpath.frame_header(len(data)) + data)
        self._cursor += len(data)
        self._metrics.viewer_bytes += len(data)
        self._note_move()

    async def _resync(self) -> None:
        snapshot = await rendering.snapshot(self._session)
        if not self._attached:
            return
        if snapshot is None:
            self._promised = self._session.head  # raw output is the better replay then
            return
        self._metrics.resyncs += 1
        self._restart(Resync, snapshot.offset, snapshot.data)

    def _pass_gap(self) -> None:
        start, stop = self._gaps.pop(0)
        if stop <= self._cursor:
            return  # within a larger one that has been shown
        self._say(ViewerGap(from_=max(start, self._cursor), to=stop))
        self._cursor = stop
        if self._acked is not None:
            self._acked = max(self._acked, stop)

    def on_writable(self) -> None:
        """Go on after the socket took everything."""
        if self._size_due:
            self.on_resized()
        if self._control_due:
            self.on_control()
        self.on_output()

    def on_gap(self, start: int, stop: int) -> None:
        """Remember a gap until the cursor comes to it."""
        if self._cursor < stop:
            self._gaps.append((start, stop))
        self.on_output()

    def on_ended(self) -> None:
        """Say so once everything is sent."""
        self.on_output()

    def _finish(self) -> None:
        if self._ended_sent:
            return
        self._ended_sent = True
        session = self._session
        self._say(
            SessionEnded(session_id=session.session_id, exit_code=session.exit_code, signal=session.signal)
        )
        self._endpoint.close(1000, "the session has ended")

    # Control

    def on_resized(self) -> None:
        """Tell the size."""
        self._size_due = self._attached and not self._endpoint.writable
        if self._attached and not self._size_due:
            self._say(Resized(rows=self._session.rows, cols=self._session.cols))

    def on_control(self) -> None:
        """Tell who controls."""
        controller = self._session.controller
        self._control_due = self._attached and not self._endpoint.writable
        if self._attached and not self._control_due:
            viewer = controller.viewer_id if controller is not None else None
            self._say(Control(viewer=viewer, you=controller is self))

    def on_trouble(self, code: str, message: str) -> None:
        """Tell the person."""
        self._say(Error(code=code, message=message))

    def on_message(self, message: ViewerMessage) -> None:
        """Take a control message of an attached viewer.

        Raises:
            ProtocolError: this message has no place here.
        """
        session = self._session
        try:
            match message:
                case Resize(rows=rows, cols=cols):
                    session.resize(rows=rows, cols=cols, follower=self)
                case Ack(offset=offset):
                    self._take_ack(offset)
                case TakeControl():
                    session.take_control(self)
                case Signal(name=name) if not message.is_known:
                    self.on_trouble("bad_message", f"there is no signal {name}")
                case Signal(name=name):
                    session.send_signal(name, follower=self)
                case Ping():
                    self._say(Pong())
                case _:
                    raise ProtocolError("bad_message", f"{message.type} has to be the first message")
        except RequestError as error:
            self.on_trouble(error.code, str(error))

    def _take_ack(self, offset: int) -> None:
        # An ack of what was never sent would move the pace past the truth.
        acked = min(offset, self._cursor)
        if self._acked is None or acked > self._acked:
            self._acked = acked
            if acked - self._moved_to >= pace.SLOWEST_BYTES:
                self._note_move()
            self.on_output()
            self._session.regulate()

    # Input

    def on_input(self, data: memoryview) -> None:
        """Take keyboard input; while the program does not read it, only this viewer waits."""
        session = self._session
        if not data:
            return
        try:
            session.take_input(self, data)
        except (NotInControl, SessionOver) as error:
            self.on_trouble(error.code, str(error))
            return
        except LimitReached as error:
            self.on_trouble(error.code, str(error))  # and count it: it is not to be sent again
        if self._key is not None:
            taken = session.count_input(self._key, len(data))
            if taken - self._told_input >= INPUT_ACK_EVERY_BYTES:
                self._tell_input()
            elif self._input_timer is None:
                self._input_timer = self._loop.call_later(INPUT_ACK_AFTER_S, self._tell_input)
        if session.input.full:
            self._endpoint.pause_reading()

    def on_input_applied(self) -> None:
        """Let it type again."""
        if not self._session.input.full:
            self._endpoint.resume_reading()

    def _settle_input(self) -> None:
        if self._key is not None:
            self._told_input = self._session.input_taken(self._key) or 0

    def _tell_input(self) -> None:
        if self._input_timer is not None:
            self._input_timer.cancel()
            self._input_timer = None
        if self._key is not None:
            self._told_input = self._session.input_taken(self._key) or 0
            self._say(InputAck(offset=self._told_input))

    def _say(self, message: Message) -> None:
        self._endpoint.send_text(encode(message))
