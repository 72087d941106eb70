"""Take-over: HTTP and WebSocket on one port.

uvicorn parses HTTP with httptools; when a request asks for a WebSocket, this protocol takes the connection
over. Whether it may is decided before the upgrade and refused as plain HTTP. It also holds the limits that
uvicorn leaves to a proxy: request headers complete within 10 s and of at most 64 KiB, answers that are read.

The class it derives from is internal to uvicorn, which is therefore pinned; tests/transport/test_takeover.py
drives what could break: bytes that come with the upgrade request, refusals, shutdown, TLS.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from websockets.http11 import Request
from websockets.server import ServerProtocol

from agentrelay.transport.endpoint import MAX_MESSAGE_BYTES, Endpoint

log = logging.getLogger("agentrelay.transport")

_HANDSHAKE_HEADERS = frozenset({b"host", b"upgrade", b"connection"})

HEADERS_S = 10.0
HEADERS_BYTES = 64 << 10
UNREAD_BODY_S = 30.0
"""How long the rest of a body may take whose request has been answered without it: 16 MiB at 5 Mbit/s."""
UNREAD_ANSWER_S = 30.0
"""How long a peer may leave all of an answer unread, over and over."""


class UpgradeRequest(NamedTuple):
    """A request for a WebSocket, before anything has been decided.

    Attributes:
        path: decoded path without the query.
        headers: names in lower case, in the order they came, duplicates kept.
        client: address of the peer, or "".
        secure: whether the connection is TLS.
    """

    path: str
    headers: list[tuple[bytes, bytes]]
    client: str
    secure: bool


class Refusal(NamedTuple):
    """An upgrade that is not allowed: an HTTP status and a problem for the person (RFC 9457)."""

    status: int
    title: str
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


HEADERS_TOO_LARGE = Refusal(
    431, "Headers too large", f"a request has at most {HEADERS_BYTES} bytes of headers"
)


class UpgradeRouter(Protocol):
    """Decides what becomes of requests for a WebSocket."""

    def __call__(self, request: UpgradeRequest) -> Refusal | Callable[[Endpoint], None]:
        """Refuse, or give the function that sets the `handler` of the new endpoint."""


class TakeoverProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits on headers and with our own WebSockets.

    Use `takeover(router)` for a class that can be given to uvicorn as `http=`.
    """

    router: UpgradeRouter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0  # since the last headers, body or end of a request
        self._in_body = False
        self._timer: asyncio.TimerHandle | None = None  # of headers, or of a body that nobody reads
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the first request's headers 10 s."""
        super().connection_made(transport)
        # Paused means that something is unread, be it little: it would keep the connection as well.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the timers."""
        self._drop_timer()
        self._drop_unread_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the peer to read, but not for ever."""
        super().pause_writing()
        self._await_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Go on; the peer has read everything."""
        self._drop_unread_timer()
        super().resume_writing()

    def _await_reading(self, unread_bytes: int) -> None:
        self._unread_timer = self.loop.call_later(UNREAD_ANSWER_S, self._look_at_unread, unread_bytes)

    def _look_at_unread(self, before_bytes: int) -> None:
        unread_bytes = self.transport.get_write_buffer_size()
        if unread_bytes < before_bytes:
            self._await_reading(unread_bytes)
        else:
            log.info(
                "a peer has read nothing of an answer for %.0f s; its connection is cut", UNREAD_ANSWER_S
            )
            self.transport.abort()

    def _drop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it leaves behind an upgrade request belongs to the WebSocket."""
        self._unset_keepalive_if_required()
        if self._timer is None and not self._in_body and self._is_answered():
            self._await_head()
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._drop_timer()
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._drop_timer()
            if not self.transport.is_closing():
                self._refuse(Refusal(400, "Bad request", "this is not an HTTP/1.1 request"))
        else:
            if self._head_bytes > HEADERS_BYTES:
                self._refuse(HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Stop the clock and go on."""
        self._drop_timer()
        self._in_body = True
        self._head_bytes = 0
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > HEADERS_BYTES:
            self._refuse(HEADERS_TOO_LARGE)
            raise ConnectionAbortedError  # ends the parser's work on what follows
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Go on; a part of the body has arrived, so what came before it is no endless trailer."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Go on; what follows is the head of another request, also where nobody read the body."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()
        if self._timer is not None:
            self._drop_timer()
            self._await_head()

    def on_response_complete(self) -> None:
        """Go on; give what is left of a body that nobody read a while to arrive."""
        super().on_response_complete()
        if self._in_body and self._is_answered() and not self.transport.is_closing():
            self._timer = self.loop.call_later(UNREAD_BODY_S, self.transport.close)

    def _is_answered(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._timer = self.loop.call_later(HEADERS_S, self._head_too_slow)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_too_slow(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(Refusal(408, "Request timeout", f"headers have to arrive within {HEADERS_S:.0f} s"))
        else:
            self.transport.close()

    def _should_upgrade(self) -> bool:
        return bool(self._get_upgrade() == b"websocket")

    def _refuse(self, refusal: Refusal) -> None:
        status = refusal.status
        problem = {"type": "about:blank", "title": refusal.title, "status": status, "detail": refusal.detail}
        body = orjson.dumps(problem)
        head = [STATUS_LINE[status]]
        for name, value in (
            *self.server_state.default_headers,
            *refusal.headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ):
            head += [name, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*head, b"\r\n", body]))
        self.transport.close()

    def _upgrade(self, rest: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._take_over(rest)
        else:
            # The answer to the request before would come among our frames: it is the last on this connection.
            self.cycle.keep_alive = False

    def _take_over(self, rest: bytes) -> None:
        path, _, _ = self.url.partition(b"?")
        request = UpgradeRequest(
            path=unquote(path.decode("ascii", "replace")),
            headers=self.headers,
            client=self.client[0] if self.client else "",
            secure=self.scheme == "https",
        )
        answer = self.router(request)
        if isinstance(answer, Refusal):
            self._refuse(answer)
            return
        ws = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
        ws.receive_data(self._handshake())
        for event in ws.events_received():
            if isinstance(event, Request):
                ws.send_response(ws.accept(event))
        reply = b"".join(ws.data_to_send())
        self.transport.write(reply)
        if ws.handshake_exc is not None:
            self.transport.close()
            return
        self._drop_unread_timer()
        endpoint = Endpoint(ws, masked=True, on_lost=self.connections.discard)
        answer(endpoint)
        self.connections.discard(self)
        # uvicorn only ever calls `shutdown()` on these.
        self.connections.add(cast(Any, endpoint))
        # uvloop picks its read callback when reading starts: start again, for a buffered protocol.
        self.transport.pause_reading()
        self.transport.set_protocol(endpoint)
        endpoint.connection_made(self.transport)
        endpoint.start(rest)

    def _handshake(self) -> bytes:
        """Give the request as far as the library has to see it, which has limits of its own on the rest."""
        lines = [self.scope["method"].encode(), b" / HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name in _HANDSHAKE_HEADERS or name.startswith(b"sec-websocket-"):
                lines += [name, b": ", value, b"\r\n"]
        return b"".join([*lines, b"\r\n"])


def takeover(route: UpgradeRouter) -> type[TakeoverProtocol]:
    """Make the protocol class that uvicorn is to use, with `route` to decide on upgrades."""
    return type("RoutedTakeover", (TakeoverProtocol,), {"router": staticmethod(route)})
