"""An HQ that only knows links: it takes runners on a free port and says what a test tells it to say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agentrelay.protocol import mux

FAR = 1 << 60


class FakeStream:
    """HQ's view of one stream: its output by offset, and what was said of it."""

    def __init__(self, number: int, start: int) -> None:
        self.number = number
        self.start = start
        self.output = bytearray()
        self.input_applied = 0
        self.exited: dict[str, Any] | None = None

    @property
    def head(self) -> int:
        return self.start + len(self.output)


class FakeLink:
    """One link as HQ sees it. Every wait is for a condition over what has been received so far."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.streams: dict[int, FakeStream] = {}
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.auto_ack = True
        self.close_code: int | None = None
        self._changed = asyncio.Condition()

    async def receive(self) -> None:
        """Take everything the runner sends until the link is gone."""
        try:
            async for message in self.connection:
                if isinstance(message, str):
                    self._take_text(message)
                else:
                    await self._take_frame(message)
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        self.close_code = self.connection.close_code
        async with self._changed:
            self._changed.notify_all()

    def _take_text(self, text: str) -> None:
        message = orjson.loads(text)
        kind, payload = message["type"], message["payload"]
        if kind == "exited":
            self.streams[payload["stream"]].exited = payload
        self.said.append((kind, payload))

    async def _take_frame(self, data: bytes) -> None:
        frame = mux.unpack(memoryview(data))
        stream = self.streams[frame.stream]
        if frame.kind == mux.Kind.OUTPUT:
            stream.output += frame.data
            if self.auto_ack:
                await self.ack(stream.number, stream.head, FAR)
        elif frame.kind == mux.Kind.INPUT_ACK:
            stream.input_applied = mux.unpack_offset(frame.data)

    async def until(self, condition: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait until `condition` gives something true, and give that."""
        async with asyncio.timeout(seconds), self._changed:
            while not (result := condition()):
                await self._changed.wait()
        return result

    async def hear(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Wait for a control message with these fields; it is taken off the list."""

        def find() -> dict[str, Any] | None:
            for at, (said, payload) in enumerate(self.said):
                if said == kind and fields.items() <= payload.items():
                    del self.said[at]
                    return payload
            return None

        payload: dict[str, Any] = await self.until(find)
        return payload

    async def say(self, kind: str, **payload: Any) -> None:
        await self.connection.send(orjson.dumps({"type": kind, "payload": payload}).decode())

    async def register(self, **answers: tuple[int, dict[str, int]]) -> dict[str, Any]:
        """Hear `register` and answer it; `answers` is, by session id, a stream and fields of its answer."""
        told = await self.hear("register")
        sessions = []
        for held in told["sessions"]:
            if held["session_id"] in answers:
                stream, fields = answers[held["session_id"]]
                answer = {"from": held["base"], "acked": held["base"], "limit": FAR, "input": held["input"]}
                answer |= fields
                sessions.append({"session_id": held["session_id"], "stream": stream, **answer})
                self.streams[stream] = FakeStream(stream, answer["from"])
        await self.say("registered", runner_id=told["runner_id"], hq_version="0", sessions=sessions)
        return told

    async def start(self, session_id: str, stream: int, *, limit: int = FAR, **fields: Any) -> dict[str, Any]:
        """Start a session and hear that it has been started."""
        self.streams[stream] = FakeStream(stream, 0)
        await self.say("start", session_id=session_id, stream=stream, limit=limit, **fields)
        return await self.hear("started", session_id=session_id)

    async def ack(self, stream: int, acked: int, limit: int) -> None:
        await self._frame(mux.Kind.ACK, stream, mux.pack_ack(acked, limit))

    async def type(self, stream: int, data: bytes) -> None:
        await self._frame(mux.Kind.INPUT, stream, data)

    async def _frame(self, kind: int, stream: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(bytes([kind, 0, 0, 0]) + stream.to_bytes(4) + data)

    async def output(self, stream: int, wanted: bytes) -> bytes:
        """Wait until `wanted` has been printed; give all output so far."""
        await self.until(lambda: wanted in self.streams[stream].output)
        return bytes(self.streams[stream].output)

    async def output_reaches(self, stream: int, offset: int) -> None:
        """Wait until the bytes of a stream before `offset` are here."""
        await self.until(lambda: self.streams[stream].head >= offset)

    async def exit(self, stream: int) -> dict[str, Any]:
        """Wait for the exit of a stream; every byte before it has arrived."""
        exited: dict[str, Any] = await self.until(lambda: self.streams[stream].exited)
        assert exited["offset"] == self.streams[stream].head
        return exited

    async def closed(self) -> int:
        """Wait until the link is gone; give the close code."""
        code: int = await self.until(lambda: self.close_code)
        return code


class FakeHq:
    """Takes links.

    Args:
        refuse_with: an HTTP status to refuse every link with, or None.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.tokens: list[str | None] = []
        self.refuse_with: int | None = None
        self._links: asyncio.Queue[FakeLink] = asyncio.Queue()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/runner"

    async def link(self, seconds: float = 15.0) -> FakeLink:
        """Wait for the next link."""
        async with asyncio.timeout(seconds):
            return await self._links.get()

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization"))
        if self.refuse_with is not None:
            return connection.respond(self.refuse_with, "no")
        return None

    async def take(self, connection: ServerConnection) -> None:
        link = FakeLink(connection)
        self._links.put_nowait(link)
        await link.receive()


@contextlib.asynccontextmanager
async def fake_hq(port: int = 0) -> AsyncIterator[FakeHq]:
    """Run a fake HQ."""
    hq = FakeHq(port)
    server: Server = await serve(
        hq.take,
        "127.0.0.1",
        port,
        process_request=hq.check,
        compression=None,
        max_size=None,
        ping_interval=None,
    )
    async with server:
        hq.port = next(iter(server.sockets)).getsockname()[1]
        yield hq
