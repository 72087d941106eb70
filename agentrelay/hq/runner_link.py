"""Runner link: HQ's end of the one WebSocket of a runner (docs/protocol.md section 3).

Output frames go from the receive buffer into the rings of their sessions without Python per frame; everything
else on a link is rare and goes through here message by message.
"""

import asyncio
import logging
from itertools import islice
from typing import Protocol

import agentrelay
from agentrelay import fastpath
from agentrelay.errors import ProtocolError
from agentrelay.fastpath import MuxReceiver
from agentrelay.hq.input_queue import InputQueue
from agentrelay.hq.metrics import Metrics
from agentrelay.hq.session import Session, State
from agentrelay.protocol import mux, resume
from agentrelay.protocol.ids import RunnerId, SessionId, StreamId, is_runner_id
from agentrelay.protocol.messages import (
    MAX_LINK_TEXT_BYTES,
    Error,
    Exited,
    Forget,
    LinkGap,
    Message,
    Register,
    Registered,
    Resumed,
    RunnerMessage,
    Start,
    Started,
    StartNotDone,
    StreamResize,
    StreamSignal,
    decode_from_runner,
    encode,
)
from agentrelay.protocol.messages import Stop as StopMessage
from agentrelay.transport.endpoint import INTERNAL_ERROR, POLICY_VIOLATION, REPLACED, Endpoint

log = logging.getLogger("agentrelay.hq")

REGISTER_S = 10.0

CONTROLS_S = 0.02
"""How often a stream is told of a size or the same signal, at most."""

PASSED_ON_A_TURN = 32
"""How many sessions pass output on before everything else has a turn: each writes to its viewers."""

ATTACHED_A_TURN = 64
"""How many sessions of a link that came back go on before everything else has a turn."""

MAX_COMPLAINTS = 100
"""How much of what goes wrong on one link is logged."""


class LinkOwner(Protocol):
    """Who knows the runners and sessions; the registry."""

    def link_up(self, link: "RunnerLink", register: Register) -> None:
        """Take a link that wants to register, and call its `go_on` or `refuse` soon.

        Raises:
            ProtocolError: it is refused.
        """

    def link_down(self, link: "RunnerLink") -> None:
        """The link is gone."""

    def program_started(self, link: "RunnerLink", message: Started) -> None:
        """A program runs."""

    def program_not_started(self, link: "RunnerLink", message: StartNotDone) -> None:
        """A program could not be started."""

    def program_exited(self, session: Session, message: Exited) -> None:
        """A program has exited; all its output is here."""


class RunnerLink:
    """One link, from its upgrade to its end.

    Attributes:
        runner_id: set by `register`.
        instance: likewise; which of those that call themselves so.
        registered: whether its sessions go on and others can be started.
        gone: whether nothing that still arrives here counts.
    """

    def __init__(self, endpoint: Endpoint, owner: LinkOwner, metrics: Metrics) -> None:
        self.runner_id = RunnerId("")
        self.instance = ""
        self.registered = False
        self.gone = False
        self._endpoint = endpoint
        self._owner = owner
        self._metrics = metrics
        self._mux: MuxReceiver[Session] = MuxReceiver(
            masked=True, max_payload_bytes=mux.MAX_LINK_PAYLOAD_BYTES
        )
        self._streams: dict[StreamId, Session] = {}
        self._touched: dict[Session, None] = {}  # whose rings have output that they have not been told of
        self._passing_on: asyncio.Handle | None = None
        self._input: dict[StreamId, InputQueue] = {}  # whose turn it is to send input, first come first
        self._controls: dict[StreamId, dict[str, Message]] = {}  # what each stream is to be told, the latest
        self._controls_timer: asyncio.TimerHandle | None = None
        self._next_stream = 1
        self._complaints = 0
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(REGISTER_S, self._not_registered)
        endpoint.handler = self
        endpoint.max_text_bytes = MAX_LINK_TEXT_BYTES
        endpoint.receive_fast = self._receive_fast

    # Receiving

    def _receive_fast(self, buf: bytearray, start: int, end: int) -> tuple[int, int]:
        before = self._mux.output_bytes
        pos, status = self._mux.receive(buf, start, end)
        touched = self._mux.take_touched()
        if self._touched or len(touched) > PASSED_ON_A_TURN:
            self._touched |= dict.fromkeys(touched)
            self._pass_on(PASSED_ON_A_TURN)
        else:
            for session in touched:
                session.on_output()
        self._metrics.output_bytes += self._mux.output_bytes - before
        if status == fastpath.OVERFLOW:
            error = ProtocolError("bad_message", "OUTPUT past the limit that was given")
            self._say_error(error)
            raise error
        return pos, status

    def _pass_on(self, n_sessions: int) -> None:
        """Tell so many sessions of the output that is in their rings already, the others soon."""
        for session in list(islice(self._touched, n_sessions)):
            del self._touched[session]
            session.on_output()
        if self._touched and self._passing_on is None:
            self._passing_on = asyncio.get_running_loop().call_soon(self._pass_on_more)

    def _pass_on_more(self) -> None:
        self._passing_on = None
        self._pass_on(PASSED_ON_A_TURN)

    def on_binary(self, data: memoryview) -> None:
        """Take a mux frame that is not OUTPUT of an open stream."""
        self._pass_on(len(self._touched))
        if self.gone:
            return
        try:
            self._take_frame(mux.unpack(data))
        except ProtocolError as error:
            self._say_error(error)
            raise

    def _take_frame(self, frame: mux.MuxFrame) -> None:
        if not self.registered:
            raise ProtocolError("bad_message", "the first message of a link has to be register")
        if frame.kind == mux.Kind.INPUT_ACK:
            session = self._streams.get(frame.stream)
            offset = mux.unpack_offset(frame.data)
            if session is not None:
                session.on_input_applied(offset)
        elif frame.kind != mux.Kind.OUTPUT:
            raise ProtocolError("bad_message", f"a runner does not send mux frames of kind {frame.kind}")

    def on_text(self, text: bytes) -> None:
        """Take a control message."""
        self._pass_on(len(self._touched))  # it may be about what came before it
        if self.gone:
            return
        try:
            message = decode_from_runner(text)
        except ProtocolError as error:
            self._say_error(error)
            if not self.registered:
                raise
            return
        try:
            self._take(message)
        except ProtocolError as error:
            self._say_error(error)
            raise

    def _take(self, message: RunnerMessage | None) -> None:
        if not self.registered:
            if self.runner_id or not isinstance(message, Register):
                raise ProtocolError("bad_message", "the first message of a link has to be register")
            self._register(message)
            return
        match message:
            case Started():
                self._owner.program_started(self, message)
            case StartNotDone():
                self._owner.program_not_started(self, message)
            case LinkGap(stream=stream, from_=start, to=stop):
                self._gap(StreamId(stream), start, stop)
            case Exited(stream=stream):
                self._exited(StreamId(stream), message)
            case Error(code=code, message=text_for_people):
                self._complain(f"{text_for_people} ({code})")

    def on_text_too_big(self, n_bytes: int) -> None:
        """Say why the connection is closed."""
        self._say(Error(code="too_large", message=f"a control message of {n_bytes} bytes"))

    def on_writable(self) -> None:
        """Send what waited."""
        self._send_controls()
        self._send_input()

    def on_closed(self, code: int, reason: str) -> None:
        """Let the sessions go on without the link."""
        self._patience.cancel()
        if self.registered:
            log.info("link of runner %s closed: %s %s", self.runner_id, code, reason)
        self._let_go()
        if not self.gone:
            self.gone = True
            if self.runner_id:
                self._owner.link_down(self)

    def _let_go(self) -> None:
        self._pass_on(len(self._touched))
        self.registered = False
        self._input.clear()
        self._controls.clear()
        if self._controls_timer is not None:
            self._controls_timer.cancel()
        streams, self._streams = self._streams, {}
        for stream in streams:
            self._mux.close(stream)
        for session in streams.values():
            session.on_link_lost(self)

    def fence(self) -> None:
        """Give way to a newer link of the same runner: nothing that still arrives here counts."""
        if not self.gone:
            self.gone = True
            self._metrics.links_replaced += 1
            self._let_go()
            self._endpoint.close(REPLACED, "a newer link of this runner has taken over")

    def _not_registered(self) -> None:
        if not self.registered:
            self._say(Error(code="timeout", message=f"no register within {REGISTER_S:.0f} s"))
            self._endpoint.close(POLICY_VIOLATION, "no register in time")

    def _register(self, message: Register) -> None:
        if not is_runner_id(message.runner_id):
            raise ProtocolError("bad_message", "a runner id is 1 to 64 characters of A-Z a-z 0-9 . _ -")
        if message.protocol != 1:
            raise ProtocolError("bad_message", f"this HQ speaks protocol 1, the runner {message.protocol}")
        self._patience.cancel()
        self.runner_id = RunnerId(message.runner_id)
        self.instance = message.instance
        self._endpoint.pause_reading()
        self._owner.link_up(self, message)

    def go_on(self, going_on: list[tuple[Session, int, int, int]]) -> None:
        """Be registered, with the sessions that go on and the runner's base, head and input of each.

        Raises:
            ProtocolError: too many gaps in the output of one are not in its log yet.
        """
        if self.gone:
            return
        resumed = [self._resume(session, base, head, applied) for session, base, head, applied in going_on]
        self.registered = True
        self._metrics.links += 1
        self._say(Registered(runner_id=self.runner_id, hq_version=agentrelay.__version__, sessions=resumed))
        self._attach([(session, each) for (session, *_), each in zip(going_on, resumed, strict=True)])

    def _attach(self, waiting: list[tuple[Session, Resumed]]) -> None:
        """Let some go on in each turn of the loop; the link is read when all do."""
        if self.gone:
            return
        for session, each in waiting[:ATTACHED_A_TURN]:
            session.resume(link=self, stream=StreamId(each.stream), acked=each.acked, limit=each.limit)
        if len(waiting) > ATTACHED_A_TURN:
            asyncio.get_running_loop().call_soon(self._attach, waiting[ATTACHED_A_TURN:])
        else:
            self._endpoint.resume_reading()

    def refuse(self, error: Exception) -> None:
        """Close the link, whose sessions cannot be taken in."""
        if isinstance(error, ProtocolError):
            self._say_error(error)
            self._endpoint.close(POLICY_VIOLATION, str(error))
        else:
            self._endpoint.close(INTERNAL_ERROR, "HQ failed; its log has the details")

    def _resume(self, session: Session, base: int, head: int, applied: int) -> Resumed:
        plan = resume.plan(held=session.head, base=base, head=head)
        if plan.gap is not None:
            self._lost(session, *plan.gap)
        session.resume_input(applied)
        limit = session.limit()
        stream = self.open_stream(session, limit=limit)
        self._mux.skip(stream, plan.skip_bytes)
        return Resumed(
            session_id=session.session_id,
            stream=stream,
            from_=plan.from_,
            acked=session.acked,
            limit=limit,
            input=session.input.sent,
        )

    def _gap(self, stream: StreamId, start: int, stop: int) -> None:
        session = self._streams.get(stream)
        if session is None:
            return
        if session.state is State.STARTING:
            raise ProtocolError("bad_message", "a gap in the output of a program that has not started")
        if start != session.head or stop < start:
            raise ProtocolError(
                "bad_message", f"a gap from {start} to {stop} in a stream that is at {session.head}"
            )
        self._lost(session, start, stop)
        self._mux.close(stream)
        self._mux.open(stream, session.writable_ring(), session)
        self._mux.set_limit(stream, session.promised)

    def _lost(self, session: Session, start: int, stop: int) -> None:
        self._metrics.gaps += 1
        self._metrics.gap_bytes += stop - start
        session.on_gap(start, stop)

    def _exited(self, stream: StreamId, message: Exited) -> None:
        session = self._streams.get(stream)
        if session is None:
            return
        if message.offset != session.head:
            self._complain(f"session {session.session_id} ended at {message.offset}, HQ has {session.head}")
        if message.offset > session.head:
            self._lost(session, session.head, message.offset)
        self.close_stream(stream)
        self._owner.program_exited(session, message)

    def _complain(self, what: str) -> None:
        """Log what is wrong with a runner, as far as anybody will read it."""
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            log.warning("runner %s: %s", self.runner_id, what)
        if self._complaints == MAX_COMPLAINTS:
            log.warning("runner %s: no more of this is logged until it connects again", self.runner_id)

    # Streams

    def open_stream(self, session: Session, *, limit: int) -> StreamId:
        """Open a stream that carries `session`, up to `limit`."""
        stream = StreamId(self._next_stream)
        self._next_stream += 1
        self._streams[stream] = session
        self._mux.open(stream, session.writable_ring(), session)
        self._mux.set_limit(stream, limit)
        return stream

    def close_stream(self, stream: StreamId) -> None:
        """Take nothing more for a stream."""
        session = self._streams.pop(stream, None)
        if session is not None:
            if session in self._touched:
                del self._touched[session]
                session.on_output()
            self._mux.close(stream)
            self._input.pop(stream, None)
            self._controls.pop(stream, None)

    def stream_of(self, session_id: SessionId) -> StreamId | None:
        """Give the stream that carries a session on this link."""
        for stream, session in self._streams.items():
            if session.session_id == session_id:
                return stream
        return None

    # Sending

    def send_start(self, message: Start) -> None:
        """Ask the runner to start a program."""
        self._say(message)

    def send_forget(self, session_id: SessionId) -> None:
        """Tell the runner that it need not hold a session any longer."""
        self._say(Forget(session_id=session_id))

    def send_error(self, code: str, message: str) -> None:
        """Tell the runner what HQ did not do."""
        self._say(Error(code=code, message=message))

    def send_input(self, stream: StreamId, queue: InputQueue) -> None:
        """Send what may be sent of a stream's input, as soon as the link takes it, a frame in its turn."""
        self._input[stream] = queue
        self._send_input()

    def _send_input(self) -> None:
        while self._input and self._endpoint.writable:
            stream = next(iter(self._input))
            queue = self._input.pop(stream)
            data = queue.next_to_send()
            if data is not None:
                self._input[stream] = queue
                self._metrics.input_bytes += len(data)
                self._endpoint.send_frame(fastpath.pack_frame(mux.Kind.INPUT, stream, data, None))

    def send_ack(self, stream: StreamId, acked: int, limit: int) -> None:
        """Send one ACK frame."""
        self._mux.set_limit(stream, limit)
        self._endpoint.send_frame(fastpath.pack_frame(mux.Kind.ACK, stream, mux.pack_ack(acked, limit), None))

    def send_resize(self, stream: StreamId, *, rows: int, cols: int) -> None:
        """Ask for another size of the PTY."""
        self._control(stream, "resize", StreamResize(stream=stream, rows=rows, cols=cols))

    def send_signal(self, stream: StreamId, name: str) -> None:
        """Ask for a signal to the foreground process group."""
        self._control(stream, name.upper(), StreamSignal(stream=stream, name=name))

    def _control(self, stream: StreamId, what: str, message: Message) -> None:
        """Send a message soon; of several that say the same only the last, and no more than the link takes.

        Without a bound a viewer could keep the runner busy with these, and the input of others waiting.
        """
        self._controls.setdefault(stream, {})[what] = message
        self._send_controls()

    def _send_controls(self) -> None:
        if not self._controls or self._controls_timer is not None or not self._endpoint.writable:
            return
        controls, self._controls = self._controls, {}
        for messages in controls.values():
            for message in messages.values():
                self._say(message)
        self._controls_timer = asyncio.get_running_loop().call_later(CONTROLS_S, self._send_more_controls)

    def _send_more_controls(self) -> None:
        self._controls_timer = None
        self._send_controls()

    def send_stop(self, stream: StreamId) -> None:
        """Ask for the end of the program."""
        self._say(StopMessage(stream=stream))

    def _say_error(self, error: ProtocolError) -> None:
        self._say(Error(code=error.code, message=str(error)))

    def _say(self, message: Message) -> None:
        self._endpoint.send_text(encode(message))
