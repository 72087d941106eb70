"""Endpoint: one established WebSocket, on either side.

Two parsers share the bytes. A whole, final, unfragmented binary frame is taken by the compiled scanner
where it lies in the receive buffer; every other frame (text, control, fragmented, malformed, oversized)
goes, whole, to `websockets`' sans-IO protocol, so that conformance to RFC 6455 is the library's.

Writing goes straight to the socket while nothing is queued, and through the transport for what the kernel
did not take. With TLS there is no direct path: the same code, through the transport.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from enum import IntFlag
from time import monotonic
from typing import Protocol, cast
from weakref import WeakKeyDictionary

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol as WsProtocol
from websockets.protocol import State

from agentrelay import fastpath
from agentrelay.errors import ProtocolError
from agentrelay.protocol.liveness import Liveness, Verdict
from agentrelay.protocol.messages import MAX_TEXT_BYTES
from agentrelay.transport.reachability import silence_s

log = logging.getLogger("agentrelay.transport")

MAX_MESSAGE_BYTES = (1 << 20) + (1 << 16)
"""Largest message taken at all, in one frame or in fragments: a 1 MiB paste and room to spare."""

MAX_FAST_BYTES = 128 << 10
"""Largest payload the fast path takes; a receive buffer of twice that always has room to read into."""

TURN_COST = 512
"""What of one peer is handled before everybody else has a turn: so many small binary messages, which take two
to four milliseconds."""

SLOW_COST = 64
"""How many of those a frame counts that the library takes: a text message decoded, handled and answered, or
the end of a session told to its viewers."""

FULL_READS = 2
"""How often in a row a peer can fill the receive buffer, likewise. The loop by itself reads on 32 times."""

ITERATION_S = 0.0015
"""How long the loop may have been going around until it is only once: so long it takes to copy a buffer to
20 viewers."""

HIGH_WATER_BYTES = 2 << 20
"""A peer that leaves more than this unread is not read either: what is queued is what it asked for. More than
any snapshot, so that a slow viewer can still type while it gets one."""

MAX_QUEUED_BYTES = 2 * HIGH_WATER_BYTES
"""A peer that leaves more than this unread is cut off: only what nobody asked for can come to so much."""

CLOSE_S = 5.0
"""How long a peer may take over the closing handshake."""

DEPARTURES_A_TURN = 20
"""How many of those that leave are let go before everybody else has a turn: it takes some 25 us over each."""

MAX_REASON_BYTES = 120
"""What is said of a reason for closing; a close frame has room for 123 bytes."""

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
TOO_BIG = 1009
INTERNAL_ERROR = 1011
REPLACED = 4000
"""The same runner or viewer has a newer connection."""
LOGGED_OUT = 4401
"""The login that opened the connection has ended."""


class Departures:
    """Those who have ended their side, and are let go in turns: hundreds may do so at once."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Transport] = deque()

    def add(self, transport: asyncio.Transport) -> None:
        """Close a transport soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._let_go_some)
        self._waiting.append(transport)

    def _let_go_some(self) -> None:
        for _ in range(min(DEPARTURES_A_TURN, len(self._waiting))):
            self._waiting.popleft().close()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._let_go_some)


_departures: WeakKeyDictionary[asyncio.AbstractEventLoop, Departures] = WeakKeyDictionary()
"""Of each loop."""

_scratch = bytearray(2 * MAX_FAST_BYTES)
"""The receive buffer of every endpoint: the loop asks for a buffer, reads and hands it over without running
anything in between, so one is enough, and an idle connection costs no buffer. What is left of an unfinished
frame is kept by its endpoint and put back before the next read."""
_scratch_view = memoryview(_scratch)

ReceiveFast = Callable[[bytearray, int, int], tuple[int, int]]
"""Takes frames out of `buf[start:end]`; gives how far it came and why it stopped."""


class Pause(IntFlag):
    """Why nothing is read from a peer."""

    OWNER = 1
    """The owner takes no more for now."""
    TURN = 2
    """What has arrived already waits for the next turn."""
    UNREAD = 4
    """The peer does not read what it is sent."""


class EndpointHandler(Protocol):
    """What an endpoint tells its owner."""

    def on_text(self, text: bytes) -> None:
        """Take one text message; it is valid UTF-8 and has at most 65,536 bytes."""

    def on_text_too_big(self, n_bytes: int) -> None:
        """Learn of a text message that was too large; the connection is closed with 1009 after this."""

    def on_binary(self, data: memoryview) -> None:
        """Take one binary message. `data` is valid only during the call."""

    def on_writable(self) -> None:
        """Learn that the kernel took everything that was queued."""

    def on_closed(self, code: int, reason: str) -> None:
        """Learn, once, that the connection is gone. 1006 means it broke."""


class Endpoint(asyncio.BufferedProtocol):
    """One established WebSocket.

    Args:
        ws: the library's state machine, after the handshake.
        masked: whether frames that arrive have to be masked: True on the server's side.
        on_lost: called last when the connection is gone, for whoever keeps a list.

    Attributes:
        handler: set by the owner before any byte arrives.
        receive_fast: set by an owner that takes binary frames in bulk instead of one by one.
        max_text_bytes: largest text message; an owner whose text is not control messages sets its own.
        fd: the socket, for writes that go past the transport; -1 where there is no such path (TLS).
        open: whether messages can still be sent, and are heard. Only the endpoint sets it.
    """

    handler: EndpointHandler

    def __init__(
        self, ws: WsProtocol, *, masked: bool, on_lost: Callable[["Endpoint"], None] | None = None
    ) -> None:
        self._ws = ws
        self._masked = masked
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._now_s = self._loop.time
        self._liveness = Liveness(self._now_s())
        self._tail = b""
        self._pos = 0  # in the receive buffer: what lies before it is taken
        self._slow_left = 0
        self._fragments: list[bytes] = []
        self._fragmented: Opcode | None = None
        self._turn = 0
        self._full_reads = 0
        self._paused_writing = False
        self._paused_reading = Pause(0)
        self._unread_bytes = 0  # of what we have queued, when that was last looked at
        self._closed = False
        self._aborted = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._liveness_timer: asyncio.TimerHandle | None = None
        self.receive_fast: ReceiveFast | None = None
        self.max_text_bytes = MAX_TEXT_BYTES
        self.transport: asyncio.Transport
        self.fd = -1
        self.open = True

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start on a transport whose handshake is over."""
        self.transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object") is not None
        if not tls:
            self.fd = transport.get_extra_info("socket").fileno()
        # Paused means "the transport holds bytes of ours": whenever it does not, writes go past it. It pauses
        # above `high`, with TLS from there on.
        self.transport.set_write_buffer_limits(high=1 if tls else 0, low=0)
        self._check_liveness()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, once."""
        if self._closed:
            return
        self._closed = True
        self.open = False
        self.fd = -1
        for timer in (self._close_timer, self._liveness_timer):
            if timer is not None:
                timer.cancel()
        close = self._ws.close_rcvd
        try:
            if close is not None:
                self.handler.on_closed(int(close.code), close.reason)
            else:
                self.handler.on_closed(1006, str(exc) if exc else "the connection broke")
        finally:
            if self._on_lost is not None:
                self._on_lost(self)

    def _look_at_state(self) -> None:
        """See whether the library, or who called it, has begun to close."""
        self.open = self._ws.state is State.OPEN and not self._aborted and not self._closed

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Start the closing handshake; a peer that does not take part is cut off after 5 s.

        Nothing that arrives from now on is told to the owner, but `on_closed`.
        """
        if not self.open:
            return
        self._ws.send_close(code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
        self._look_at_state()
        self._send_pending()
        self._expect_close()

    def abort(self) -> None:
        """Cut the connection now; `on_closed` follows."""
        if not self._closed:
            self._aborted = True
            self.open = False
            self.transport.abort()

    def shutdown(self) -> None:
        """Close because this process ends; the HTTP server calls it on every connection it still has."""
        self.close(GOING_AWAY, "going away")

    def _expect_close(self) -> None:
        if self._close_timer is None and not self._closed:
            self._close_timer = self._loop.call_later(CLOSE_S, self.abort)
            self._resume(Pause.OWNER | Pause.UNREAD)  # else the peer's answer would not be read

    def _check_liveness(self) -> None:
        now_s = self._loop.time()
        self._liveness.heard_s = max(self._liveness.heard_s, self._last_sign_s(now_s))
        verdict, again_s = self._liveness.check(now_s)
        if verdict is Verdict.DEAD:
            log.info("a peer has left, or said nothing for 10 s; its connection is cut")
            self.abort()
            return
        if verdict is Verdict.PING and self.open:
            self._ws.send_ping(b"")
            self._send_pending()
        self._liveness_timer = self._loop.call_later(max(again_s, 0.01), self._check_liveness)

    def _last_sign_s(self, now_s: float) -> float:
        """Tell when a peer that we do not read was last alive, as far as can be known; else -inf."""
        if self._paused_reading & Pause.UNREAD:
            before_bytes, self._unread_bytes = self._unread_bytes, self.transport.get_write_buffer_size()
            return now_s if self._unread_bytes < before_bytes else -math.inf
        if self._paused_reading & Pause.OWNER:
            # It may have left long ago. What it sent last stays unread then: nobody waits for an answer.
            return now_s - silence_s(self.transport.get_extra_info("socket").fileno())
        return now_s if self._paused_reading else -math.inf

    # Receiving

    def get_buffer(self, sizehint: int) -> memoryview:
        """Give the loop the shared buffer behind what is left of an unfinished frame; it is never empty."""
        del sizehint
        if not self._tail:
            return _scratch_view
        tail_bytes = len(self._tail)
        _scratch_view[:tail_bytes] = self._tail
        return _scratch_view[tail_bytes:]

    def buffer_updated(self, nbytes: int) -> None:
        """Take `nbytes` bytes that the loop has put into the buffer."""
        self._liveness.heard_s = self._now_s()
        end = len(self._tail) + nbytes
        self._full_reads = self._full_reads + 1 if end == len(_scratch) else 0
        self._take(end)
        if self._turn <= 0 or (self._full_reads and self._has_had_its_turn()):
            self._full_reads = 0
            self._pause(Pause.TURN)
            self._loop.call_soon(self._go_on)

    def _has_had_its_turn(self) -> bool:
        # The loop's clock stands still while it goes around.
        return self._full_reads == FULL_READS or monotonic() - self._now_s() >= ITERATION_S

    def _take(self, end: int) -> None:
        """Take what is in the buffer up to `end`, as far as one turn goes; the rest becomes the tail."""
        self._pos = 0
        self._turn = TURN_COST
        try:
            self._receive(end)
        except ProtocolError as error:
            log.info("a peer broke the protocol: %s", error)
            self.close(POLICY_VIOLATION, str(error))
            self._receive(end)  # what follows only serves the closing handshake
        except Exception:
            log.exception("a fault while handling a peer's message; its connection is closed")
            self.close(INTERNAL_ERROR, "internal error")
            self._receive(end)
        self._tail = bytes(_scratch_view[self._pos : end]) if self._pos < end else b""

    def _go_on(self) -> None:
        """Take, in a turn of its own, what arrived earlier; read on when that is done."""
        if self._closed:
            return
        waiting = self._tail
        end = min(len(waiting), len(_scratch))
        _scratch_view[:end] = waiting[:end]
        self._take(end)
        self._tail += waiting[end:]
        if self._turn <= 0 or end < len(waiting):
            self._loop.call_soon(self._go_on)
        else:
            self._resume(Pause.TURN)

    def start(self, rest: bytes) -> None:
        """Take the bytes that arrived together with the handshake, then let the transport read on.

        Whoever hands the transport over has stopped its reading.
        """
        self._tail = rest
        self._paused_reading = Pause.TURN
        self._go_on()

    def eof_received(self) -> bool:
        """End with the peer: the transport is closed, and `connection_lost` follows."""
        self.open = False
        if self.fd < 0:  # TLS knows no connection of which one half has ended
            return False
        _departures.setdefault(self._loop, Departures()).add(self.transport)
        return True

    def pause_reading(self) -> None:
        """Take nothing more from this peer for now; frames already in the buffer still arrive."""
        if self.open:
            self._pause(Pause.OWNER)

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._resume(Pause.OWNER)

    def _pause(self, why: Pause) -> None:
        if not self._paused_reading and not self._closed:
            self.transport.pause_reading()
        self._paused_reading |= why

    def _resume(self, why: Pause) -> None:
        if self._paused_reading & why:
            self._paused_reading &= ~why
            self._liveness.heard_s = self._now_s()
            if not self._paused_reading and not self._closed and not self.transport.is_closing():
                self.transport.resume_reading()

    def _receive(self, end: int) -> None:
        """Take everything up to `end` but the beginning of a frame, or a turn's worth; moves `_pos`."""
        while self._pos < end and self._turn > 0:
            if self._slow_left:
                self._feed_library(end)
                continue
            if self.open and self._fragmented is None:
                if self.receive_fast is not None:
                    self._pos, status = self.receive_fast(_scratch, self._pos, end)
                    if status == fastpath.MORE:
                        return
                status, start, stop, mask = fastpath.scan_frame(
                    _scratch, self._pos, end, self._masked, MAX_FAST_BYTES
                )
                if status == fastpath.MORE:
                    return
                if status == fastpath.FAST:
                    if mask:
                        fastpath.unmask(_scratch, start, stop, mask)
                    self._pos = stop
                    self._turn -= 1
                    self.handler.on_binary(_scratch_view[start:stop])
                    continue
            extent = fastpath.frame_extent(_scratch, self._pos, end)
            if extent == 0:
                return
            if (
                self._fragmented is not None
                and fastpath.frame_opening(_scratch, self._pos)[1] == Opcode.CLOSE
            ):
                # RFC 6455 section 5.4 lets a peer close between fragments; the library calls that its fault.
                self._fragmented = None
                self._ws.current_size = None
            # A header that is no header: everything from here on is the library's to refuse.
            self._slow_left = extent if extent > 0 else end - self._pos

    def _feed_library(self, end: int) -> None:
        start = self._pos
        self._pos = min(end, start + self._slow_left)
        self._slow_left -= self._pos - start
        self._turn -= 0 if self._slow_left else SLOW_COST
        self._ws.receive_data(bytes(_scratch_view[start : self._pos]))
        self._look_at_state()
        for event in self._ws.events_received():
            if isinstance(event, Frame):
                self._on_frame(event)
        self._look_at_state()
        self._send_pending()
        if self._ws.close_sent is not None:
            self._expect_close()

    def _on_frame(self, frame: Frame) -> None:
        if not self.open:
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            if frame.fin:
                self._on_message(frame.opcode, bytes(frame.data))
            else:
                self._fragmented = frame.opcode
                self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._fragmented is not None:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                opcode, self._fragmented = self._fragmented, None
                message, self._fragments = b"".join(self._fragments), []
                self._on_message(opcode, message)

    def _on_message(self, opcode: Opcode, data: bytes) -> None:
        if opcode is Opcode.BINARY:
            self.handler.on_binary(memoryview(data))
            return
        try:
            data.decode()
        except UnicodeDecodeError:
            self._ws.fail(1007, "text that is not UTF-8")
            return
        if len(data) > self.max_text_bytes:
            self.handler.on_text_too_big(len(data))
            self._ws.fail(TOO_BIG, f"a control message has at most {self.max_text_bytes} bytes")
            return
        self.handler.on_text(data)

    # Sending

    @property
    def writable(self) -> bool:
        """Whether messages can be sent, and nothing of ours waits: a write goes straight to the kernel."""
        return not self._paused_writing and self.open

    def pause_writing(self) -> None:
        """Learn that the transport holds bytes of ours."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """Learn that it holds none any more."""
        self._paused_writing = False
        self._resume(Pause.UNREAD)
        if not self._closed:
            self.handler.on_writable()

    def send_text(self, text: bytes) -> None:
        """Send one text message; ignored when the connection is closing."""
        if self.open:
            self._ws.send_text(text)
            self._send_pending()

    def send_frame(self, frame: bytes) -> None:
        """Send a ready-made WebSocket frame; ignored when the connection is closing."""
        if self.open:
            self._write(frame)

    def send_packed(self, buf: bytearray, start: int, end: int) -> None:
        """Send ready-made WebSocket frames that lie in `buf[start:end]`, which may be reused right after."""
        if self.open:
            self._write(memoryview(buf)[start:end])

    def send_rest(self, rest: bytes) -> None:
        """Queue the rest of a frame of which the caller wrote the beginning to `fd` itself."""
        if not self._closed:
            self._queue(rest)

    def _send_pending(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self._write(data)
            elif not self._aborted and not self._closed:
                self._end()

    def _end(self) -> None:
        # A connection that is closed while its peer still sends is reset, and the peer may never read why.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        self._expect_close()

    def _write(self, data: bytes | memoryview) -> None:
        if self._closed or self._aborted:
            return
        sent = 0
        if self.fd >= 0 and not self._paused_writing:
            try:
                sent = max(fastpath.write_fd(self.fd, data, 0, len(data)), 0)
            except OSError as error:
                log.debug("a peer is gone: %s", error)
                self.abort()
                return
            if sent == len(data):
                return
        # The transport keeps what it is given, so it gets a copy.
        self._queue(bytes(memoryview(data)[sent:]))

    def _queue(self, data: bytes) -> None:
        self.transport.write(data)
        if not self.open:
            return
        queued_bytes = self.transport.get_write_buffer_size()
        if queued_bytes > MAX_QUEUED_BYTES:
            log.warning("a peer leaves %d bytes unread; its connection is cut", queued_bytes)
            self.abort()
        elif queued_bytes > HIGH_WATER_BYTES:
            self._unread_bytes = queued_bytes
            self._pause(Pause.UNREAD)


__all__ = ["MAX_MESSAGE_BYTES", "Endpoint", "EndpointHandler", "ReceiveFast"]
