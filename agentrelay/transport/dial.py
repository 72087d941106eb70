"""Dial: open a WebSocket to HQ and hand it over as an `Endpoint`."""

import asyncio
import re
import ssl
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidURI
from websockets.protocol import State
from websockets.uri import parse_uri

from agentrelay.errors import ConfigError
from agentrelay.protocol.messages import MAX_LINK_TEXT_BYTES
from agentrelay.transport.endpoint import MAX_MESSAGE_BYTES, Endpoint, EndpointHandler

CONNECT_S = 10.0
MAX_RESPONSE_BYTES = 64 << 10

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)\b")


class DialError(Exception):
    """No connection came about; the message says why.

    Attributes:
        status: the HTTP status of a server that refused, else None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


async def dial(url: str, *, token: str, handler: EndpointHandler) -> Endpoint:
    """Open a WebSocket and give its endpoint, with `handler` as its owner.

    Args:
        url: `ws://` or `wss://`.
        token: sent as `Authorization: Bearer`, never as part of the URL.
        handler: told everything from the first frame on.

    Raises:
        ConfigError: `url` is no WebSocket URL.
        DialError: nobody answers within 10 s, or the answer is a refusal.
    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        raise ConfigError(f"{url!r} is not a WebSocket URL such as ws://hq.example:8080/ws/runner") from error
    ws = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES)
    request = ws.connect()
    request.headers["Authorization"] = f"Bearer {token}"
    request.headers["User-Agent"] = "agentrelay"
    ws.send_request(request)
    loop = asyncio.get_running_loop()
    shaking: asyncio.Future[Endpoint] = loop.create_future()
    try:
        async with asyncio.timeout(CONNECT_S):
            transport, _ = await loop.create_connection(
                lambda: _Handshake(ws, handler, shaking),
                uri.host,
                uri.port,
                ssl=ssl.create_default_context() if uri.secure else None,
            )
            try:
                return await shaking
            except BaseException:
                transport.abort()
                raise
    except TimeoutError:
        raise DialError(f"{uri.host}:{uri.port} does not answer") from None
    except OSError as error:
        raise DialError(f"{uri.host}:{uri.port} cannot be reached: {error.strerror or error}") from error


class _Handshake(asyncio.Protocol):
    """Sends the request, reads the response up to its empty line, and gives the transport to an endpoint."""

    def __init__(
        self, ws: ClientProtocol, handler: EndpointHandler, shaking: "asyncio.Future[Endpoint]"
    ) -> None:
        self._ws = ws
        self._handler = handler
        self._shaking = shaking
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"".join(self._ws.data_to_send()))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, empty_line, rest = self._received.partition(b"\r\n\r\n")
        if not empty_line:
            if len(self._received) > MAX_RESPONSE_BYTES:
                self._refuse(DialError("the answer is not HTTP"))
            return
        status = _STATUS.match(head)
        if status is not None and status[1] != b"101":
            # The library would read the body first, which is of no use here.
            self._refuse(DialError(f"the server answered {status[1].decode()}", int(status[1])))
            return
        self._ws.receive_data(head + empty_line)
        if self._ws.state is State.OPEN and not self._shaking.done():
            self._hand_over(rest)
        else:
            self._refuse(DialError(f"the server does not speak WebSocket: {self._ws.handshake_exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._shaking.done():
            why = exc or "closed by the other side"
            self._shaking.set_exception(DialError(f"the connection broke: {why}"))

    def _hand_over(self, rest: bytes) -> None:
        self._ws.events_received()
        endpoint = Endpoint(self._ws, masked=False)
        endpoint.max_text_bytes = MAX_LINK_TEXT_BYTES
        endpoint.handler = self._handler
        # uvloop picks its read callback when reading starts: start again, for a buffered protocol.
        self._transport.pause_reading()
        self._transport.set_protocol(endpoint)
        endpoint.connection_made(self._transport)
        self._shaking.set_result(endpoint)
        # What came with the response waits for the owner to have its endpoint.
        asyncio.get_running_loop().call_soon(endpoint.start, rest)

    def _refuse(self, error: DialError) -> None:
        if not self._shaking.done():
            self._shaking.set_exception(error)
        self._transport.abort()
