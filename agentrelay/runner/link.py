"""The runner's end of the link: register, resume, streams, fair sending (docs/protocol.md section 3).

Every session that has output to send stands in one queue. Whoever is first packs one frame's worth into the
send buffer and goes to the end, until the buffer is full or nobody waits; then the buffer is sent. While the
socket takes no more nobody packs: the bytes wait in their rings, and who fills his ring is not read any more.
"""

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Sequence

from agentrelay.errors import ProtocolError, StartFailed
from agentrelay.fastpath import MAX_LINK_PAYLOAD_BYTES, MaskSource, pack_frame, pack_output
from agentrelay.protocol import mux
from agentrelay.protocol.messages import (
    Error,
    Exited,
    Forget,
    HqMessage,
    LinkGap,
    Message,
    Preset,
    Registered,
    Resumed,
    Start,
    Started,
    StartNotDone,
    Stop,
    StreamResize,
    StreamSignal,
    decode_from_hq,
    encode,
)
from agentrelay.runner.pty import PtySession
from agentrelay.runner.read_turn import LONG_BYTES
from agentrelay.runner.registration import Identity, plain, registration, shortened
from agentrelay.runner.sessions import Sessions
from agentrelay.transport.endpoint import GOING_AWAY, Endpoint

log = logging.getLogger("agentrelay.runner")

SEND_BYTES = 256 << 10
"""Size of the send buffer: what one `send` can take, and all of ours that ever waits in the transport."""

FRAME_BYTES = LONG_BYTES
"""What a session packs before the next has its turn: one full frame."""

_FRAME_ROOM = MAX_LINK_PAYLOAD_BYTES + 8

GATHER_BYTES = SEND_BYTES // _FRAME_ROOM * FRAME_BYTES
"""What floods gather together before it is sent, at most: one send's worth. They wake HQ and the viewers once
for four full frames, or for many small ones, which is cheaper for everybody and for the floods themselves."""

GATHER_S = 0.002
"""How long they may take over that."""

INPUT_ACK_S = 0.02
INPUT_ACK_BYTES = 16 << 10
"""Input is acknowledged after so much of it, or so long: no echo should wait behind an acknowledgement."""


class Stream:
    """A session as this link carries it."""

    def __init__(self, link: "Link", number: int, session: PtySession, *, sent: int) -> None:
        self.number = number
        self.session = session
        self.sent = sent
        self.queued = False
        self.told_exit = False
        self.input_acked = session.input_applied
        self.input_ack: asyncio.TimerHandle | None = None
        self._link = link

    @property
    def sendable_bytes(self) -> int:
        """How much may be sent now."""
        session = self.session
        head, limit = session.ring.head, session.limit
        return (head if limit is None or head < limit else limit) - self.sent

    @property
    def ended(self) -> bool:
        """Whether its exit can be told: everything before it has been sent."""
        session = self.session
        return session.over and not self.told_exit and self.sent >= session.ring.head

    def on_output(self, n_bytes: int, *, more: bool) -> None:
        """Stand in the queue; while there is more to come at once, only with enough for one send."""
        if more:
            self._link.gather(self, n_bytes)
        else:
            self._link.offer(self)

    def cancel_timer(self) -> None:
        """Leave nothing behind."""
        if self.input_ack is not None:
            self.input_ack.cancel()
            self.input_ack = None

    def on_over(self) -> None:
        """Stand in the queue, if only to tell it."""
        self._link.offer(self)

    def on_input_applied(self) -> None:
        """See that HQ hears of it."""
        self._link.acknowledge_input(self)


class Link:
    """One link, from the handshake to its end; the handler of its endpoint.

    Args:
        sessions: what it carries.
        identity: as whom to register.
        presets: what is installed here.

    Attributes:
        registered: set when HQ has answered `register`.
        closed: `(code, reason)` once the link is gone.
    """

    def __init__(self, sessions: Sessions, identity: Identity, presets: Sequence[Preset]) -> None:
        loop = asyncio.get_running_loop()
        self.registered = asyncio.Event()
        self.closed: asyncio.Future[tuple[int, str]] = loop.create_future()
        self._loop = loop
        self._sessions = sessions
        self._complaints: list[str] = []
        self._identity = identity
        self._presets = presets
        self._endpoint: Endpoint
        self._streams: dict[int, Stream] = {}
        self._starting: dict[int, list[HqMessage]] = {}  # what was asked of a stream that is being started
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue: deque[Stream] = deque()
        self._gathering: dict[Stream, None] = {}
        self._gathered_bytes = 0
        self._end_of_gathering: asyncio.TimerHandle | None = None
        self._sending_soon = False
        self._buffer = bytearray(SEND_BYTES)
        self._masks = MaskSource()
        self._exit_told = asyncio.Event()

    def open(self, endpoint: Endpoint) -> None:
        """Register on an endpoint whose handshake is over."""
        self._endpoint = endpoint
        for session in self._sessions.held.values():
            session.hold_everything()
        endpoint.send_text(registration(self._identity, self._presets, self._sessions.held.values()))

    def close(self, reason: str) -> None:
        """Close because this process ends."""
        self._endpoint.close(GOING_AWAY, reason)

    # --- sending ----------------------------------------------------------------------------------

    def offer(self, stream: Stream) -> None:
        """Let a stream send what it has, if anything, in its turn."""
        self._enqueue(stream)
        self._send()

    def offer_soon(self, stream: Stream) -> None:
        """Let a stream send what it has together with others that are offered in this turn of the loop."""
        if stream not in self._gathering and (stream.sendable_bytes > 0 or stream.ended):
            self._enqueue(stream)
            if not self._sending_soon:
                self._sending_soon = True
                self._loop.call_soon(self._send)

    def gather(self, stream: Stream, n_bytes: int) -> None:
        """Let a stream send what it has, `n_bytes` of it new, when all together have enough, or soon."""
        self._gathering[stream] = None
        self._gathered_bytes += n_bytes
        if self._gathered_bytes >= GATHER_BYTES:
            self._send_gathered()
        elif self._end_of_gathering is None:
            self._end_of_gathering = self._loop.call_later(GATHER_S, self._send_gathered)

    def _send_gathered(self) -> None:
        for stream in list(self._gathering):
            self._enqueue(stream)
        self._stop_gathering()
        self._send()

    def _stop_gathering(self) -> None:
        self._gathering.clear()
        self._gathered_bytes = 0
        if self._end_of_gathering is not None:
            self._end_of_gathering.cancel()
            self._end_of_gathering = None

    def _enqueue(self, stream: Stream) -> None:
        self._gathering.pop(stream, None)
        if not stream.queued:
            stream.queued = True
            self._queue.append(stream)

    def on_writable(self) -> None:
        """Go on sending."""
        self._send()

    def _send(self) -> None:
        self._sending_soon = False
        queue = self._queue
        buffer = self._buffer
        while queue and self._endpoint.writable:
            pos = 0
            ended: list[Stream] = []
            while queue and pos + _FRAME_ROOM <= SEND_BYTES:
                stream = queue.popleft()
                n_bytes = stream.sendable_bytes
                if n_bytes > 0:
                    ring = stream.session.ring
                    end = stream.sent + min(n_bytes, FRAME_BYTES)
                    pos, stream.sent = pack_output(
                        buffer, pos, ring, stream.sent, end, stream.number, self._masks
                    )
                if n_bytes > FRAME_BYTES:
                    queue.append(stream)
                    continue
                stream.queued = False
                if stream.session.over and stream.ended:
                    stream.told_exit = True
                    ended.append(stream)
            if pos:
                self._endpoint.send_packed(buffer, 0, pos)
            for stream in ended:
                self._tell_exit(stream)

    def _tell_exit(self, stream: Stream) -> None:
        end = stream.session.exit
        if end is not None:
            self._flush_input_ack(stream)
            self._say(
                Exited(stream=stream.number, offset=stream.sent, exit_code=end.exit_code, signal=end.signal)
            )

        self._exit_told.set()

    async def wait_exits_told(self) -> None:
        """Wait until HQ has been told of the exit of every session, or the link is gone."""
        while not all(stream.told_exit for stream in self._streams.values()):
            self._exit_told.clear()
            await self._exit_told.wait()

    def acknowledge_input(self, stream: Stream) -> None:
        """Tell HQ, soon, how far the input is in the PTY."""
        if stream.session.input_applied - stream.input_acked >= INPUT_ACK_BYTES:
            self._flush_input_ack(stream)
        elif stream.input_ack is None:
            stream.input_ack = self._loop.call_later(INPUT_ACK_S, self._flush_input_ack, stream)

    def _flush_input_ack(self, stream: Stream) -> None:
        if stream.input_ack is not None:
            stream.input_ack.cancel()
            stream.input_ack = None
        applied = stream.session.input_applied
        if applied != stream.input_acked:
            stream.input_acked = applied
            data = mux.pack_offset(applied)
            self._endpoint.send_frame(pack_frame(mux.Kind.INPUT_ACK, stream.number, data, self._masks))

    def _say(self, message: Message) -> None:
        self._endpoint.send_text(encode(message))

    # --- receiving --------------------------------------------------------------------------------

    def on_binary(self, data: memoryview) -> None:
        """Take a mux frame: INPUT or ACK."""
        frame = mux.unpack(data)
        stream = self._streams.get(frame.stream)
        if stream is None:
            return  # late
        if frame.kind == mux.Kind.INPUT:
            if not stream.session.write_input(bytes(frame.data)):
                raise ProtocolError(
                    "limit_reached", f"more input for stream {frame.stream} than its window holds"
                )
        elif frame.kind == mux.Kind.ACK:
            acked, limit = mux.unpack_ack(frame.data)
            stream.session.take_ack(acked, limit)
            self.offer_soon(stream)

    def on_text(self, text: bytes) -> None:
        """Take a control message."""
        try:
            message = decode_from_hq(text)
            if message is not None:
                self._take(message)
        except ProtocolError as error:
            self._say(Error(code=error.code, message=str(error)))

    def on_text_too_big(self, n_bytes: int) -> None:
        """Say why the connection is closed."""
        self._say(Error(code="too_large", message=f"a control message of {n_bytes} bytes"))

    def on_closed(self, code: int, reason: str) -> None:
        """Let the sessions go on without a link."""
        for stream in self._streams.values():
            stream.cancel_timer()
        self._streams.clear()
        self._stop_gathering()
        self._exit_told.set()
        self._queue.clear()
        for session in self._sessions.held.values():
            session.detach()
        if not self.closed.done():
            self.closed.set_result((code, reason))

    def _take(self, message: HqMessage) -> None:
        match message:
            case Registered():
                self._resume(message)
            case Start():
                self._starting[message.stream] = []
                task = self._loop.create_task(self._start(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case StreamResize() | StreamSignal() | Stop():
                if message.stream in self._starting:
                    self._starting[message.stream].append(message)
                elif message.stream in self._streams:
                    self._apply(self._streams[message.stream].session, message)
            case Forget():
                self._forget(message.session_id)
            case Error():
                self._complaints.append(f"{message.message} ({message.code})")
                if self.registered.is_set():
                    self._log_complaints()

    def _apply(self, session: PtySession, message: HqMessage) -> None:
        match message:
            case StreamResize():
                session.resize(rows=message.rows, cols=message.cols)
            case StreamSignal():
                session.signal_foreground(signal_by_name(message.name))
            case Stop():
                self._sessions.stop(session)

    def _forget(self, session_id: str) -> None:
        for number, stream in self._streams.items():
            if stream.session.facts.session_id == session_id:
                self._close_stream(number)
                break
        self._sessions.forget(session_id)

    def _close_stream(self, number: int) -> None:
        stream = self._streams.pop(number)
        stream.cancel_timer()
        self._gathering.pop(stream, None)
        if stream.queued:
            self._queue.remove(stream)

    async def _start(self, asked: Start) -> None:
        try:
            session = await self._sessions.start(asked)
        except StartFailed as error:
            del self._starting[asked.stream]
            self._say(
                StartNotDone(
                    session_id=asked.session_id, stream=asked.stream, code=error.code, message=str(error)
                )
            )
            return
        waiting = self._starting.pop(asked.stream)
        if self.closed.done():
            return  # the next link registers it
        facts = session.facts
        self._say(
            Started(
                session_id=facts.session_id,
                stream=asked.stream,
                epoch=facts.epoch,
                pid=facts.pid,
                rows=asked.rows,
                cols=asked.cols,
                command=shortened(facts.command),
                cwd=plain(facts.cwd),
            )
        )
        self._open_stream(session, number=asked.stream, sent=0, acked=0, limit=asked.limit, input_offset=0)
        for message in waiting:
            self._apply(session, message)

    def _open_stream(
        self, session: PtySession, *, number: int, sent: int, acked: int, limit: int, input_offset: int
    ) -> None:
        stream = Stream(self, number, session, sent=sent)
        self._streams[number] = stream
        session.attach(stream, acked=acked, limit=limit, input_offset=input_offset)
        stream.input_acked = session.input_applied
        self.offer(stream)

    # --- resume -----------------------------------------------------------------------------------

    def _resume(self, answer: Registered) -> None:
        listed = {resumed.session_id for resumed in answer.sessions}
        for session_id in [session_id for session_id in self._sessions.held if session_id not in listed]:
            self._sessions.abandon(session_id)
        for resumed in answer.sessions:
            session = self._sessions.held.get(resumed.session_id)
            if session is not None:
                self._resume_session(session, resumed)
        self.registered.set()
        self._log_complaints()

    def _log_complaints(self) -> None:
        # Of a link that is refused the close says why, and it is dialled again and again.
        for complaint in self._complaints:
            log.warning("HQ says: %s", complaint)
        self._complaints.clear()

    def _resume_session(self, session: PtySession, resumed: Resumed) -> None:
        base, head = session.ring.base, session.ring.head
        sent = min(resumed.from_, head)
        if sent < base:
            self._say(LinkGap(stream=resumed.stream, from_=sent, to=base))
            sent = base
        self._open_stream(
            session,
            number=resumed.stream,
            sent=sent,
            acked=resumed.acked,
            limit=resumed.limit,
            input_offset=resumed.input,
        )


def signal_by_name(name: str) -> signal.Signals:
    """Give the signal called `name`, such as `INT` or `SIGINT`.

    Raises:
        ProtocolError: there is none.
    """
    upper = name.upper()
    try:
        return signal.Signals[upper if upper.startswith("SIG") else f"SIG{upper}"]
    except KeyError:
        raise ProtocolError("bad_message", f"there is no signal {name!r}") from None
