"""Peers for real sockets: an HTTP server that takes WebSockets over, and a client that speaks raw bytes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from agentrelay.transport.endpoint import Endpoint
from agentrelay.transport.takeover import Refusal, UpgradeRequest, takeover
from tests.transport.fakes import Heard

Answer = Refusal | Callable[[Endpoint], None]
SECONDS = 10.0


async def say_ok(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with its method, path and body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    text = f"{scope['method']} {scope['path']} ".encode() + body
    length = (b"content-length", str(len(text)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": text})


class Listener:
    """A running server. Every WebSocket gets a handler, and can be waited for with `accepted`."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[UpgradeRequest] = []
        self.state = ServerState()
        self.prepare: Callable[[Endpoint, Heard], None] = lambda endpoint, heard: None
        self._accepted: asyncio.Queue[tuple[Endpoint, Heard]] = asyncio.Queue()

    def route(self, request: UpgradeRequest) -> Answer:
        self.requests.append(request)
        parts = request.path.split("/")
        if parts[1] == "refuse":
            return Refusal(int(parts[2]), "Refused", "because it was asked for")
        return self._accept

    def _accept(self, endpoint: Endpoint) -> None:
        heard = Heard()
        endpoint.handler = heard
        self.prepare(endpoint, heard)
        self._accepted.put_nowait((endpoint, heard))

    async def accepted(self) -> tuple[Endpoint, Heard]:
        """Wait for the next WebSocket."""
        async with asyncio.timeout(SECONDS):
            return await self._accepted.get()

    def url(self, path: str = "/ws", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def close(self) -> None:
        """Cut every connection and see its end."""
        for connection in list(self.state.connections):
            connection.transport.abort()
        for _ in range(1000):  # they are told in the next rounds of the loop
            if not self.state.connections:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"still connected: {self.state.connections}")


@contextlib.asynccontextmanager
async def listen(app: Any = say_ok, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    """Run a server on a free port, as uvicorn would."""
    listener = Listener()
    config = uvicorn.Config(
        app,
        http=takeover(listener.route),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    config.load()
    server = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=listener.state, app_state={}
        ),
        "127.0.0.1",
        0,
        ssl=tls,
    )
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        await listener.close()
        await server.wait_closed()


def upgrade(path: str = "/ws", *more: str) -> bytes:
    """Make a request for a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Make a frame as a client sends it."""
    return Frame(Opcode(opcode), data, fin).serialize(mask=True)


class RawPeer:
    """A TCP connection to a listener that says exactly what a test wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.ws = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
        self._frames: list[Frame] = []

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> str:
        """Read the head of an HTTP response."""
        async with asyncio.timeout(SECONDS):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read a whole HTTP response: status, headers, body."""
        status_line, *lines = (await self.head()).rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        async with asyncio.timeout(SECONDS):
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status_line.split()[1]), headers, body

    async def rest(self) -> bytes:
        """Read on to the end of the connection."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.read()

    async def frame(self) -> Frame | None:
        """Read the next frame; None at the end of the connection."""
        while not self._frames:
            async with asyncio.timeout(SECONDS):
                data = await self.reader.read(1 << 16)
            if not data:
                return None
            self.ws.receive_data(data)
            self._frames = [event for event in self.ws.events_received() if isinstance(event, Frame)]
        return self._frames.pop(0)

    async def close_code(self) -> int | None:
        """Read on to the end; give the code of the close frame, None without one."""
        while await self.frame() is not None:
            pass
        return self.ws.close_rcvd.code if self.ws.close_rcvd is not None else None


@contextlib.asynccontextmanager
async def raw(
    listener: Listener, first: bytes = b"", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawPeer]:
    """Open a TCP connection and send something."""
    name = "localhost" if tls is not None else None
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=tls, server_hostname=name)
    peer = RawPeer(reader, writer)
    peer.send(first)
    try:
        yield peer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(SECONDS):
                await writer.wait_closed()
