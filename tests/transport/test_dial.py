"""Dial: a runner gets its WebSocket, or is told in a sentence why not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from agentrelay.errors import ConfigError
from agentrelay.transport import dial as dial_module
from agentrelay.transport.dial import DialError, dial
from tests.transport.fakes import Heard
from tests.transport.peers import SECONDS, Listener

Answer = Callable[[bytes], bytes]


def switching_protocols(request: bytes, *more: str) -> bytes:
    """Accept a request for a WebSocket as any server would."""
    ws = ServerProtocol()
    ws.receive_data(request)
    (asked,) = ws.events_received()
    response = ws.accept(asked)  # type: ignore[arg-type]
    for header in more:
        name, _, value = header.partition(": ")
        response.headers[name] = value
    ws.send_response(response)
    return b"".join(ws.data_to_send())


class Server:
    """Answers the first request on each connection with prepared bytes."""

    def __init__(self) -> None:
        self.port = 0
        self.answer: Answer = switching_protocols
        self.piece_bytes = 1 << 20
        self.closes = False
        self.requests: list[bytes] = []
        self.ended = asyncio.Event()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/runner?a=b"

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            answer = self.answer(request)
            for start in range(0, len(answer), self.piece_bytes):
                writer.write(answer[start : start + self.piece_bytes])
                await writer.drain()
                await asyncio.sleep(0)
            while not self.closes and await reader.read(1 << 16):
                pass
        writer.close()
        self.ended.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.take, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


async def refused(server: Server, heard: Heard) -> DialError:
    with pytest.raises(DialError) as error:
        await asyncio.wait_for(dial(server.url, token="secret", handler=heard), SECONDS)
    # Whatever happened, the connection is not left behind.
    await asyncio.wait_for(server.ended.wait(), SECONDS)
    assert heard.events == []
    return error.value


async def test_the_request_carries_the_token_and_asks_for_no_extension(server: Server, heard: Heard) -> None:
    endpoint = await dial(server.url, token="secret", handler=heard)

    request = server.requests[0].decode()
    assert request.startswith("GET /ws/runner?a=b HTTP/1.1\r\n")
    assert "\r\nAuthorization: Bearer secret\r\n" in request
    assert f"\r\nHost: 127.0.0.1:{server.port}\r\n" in request
    assert "secret" not in request.split("\r\n")[0]
    assert "Sec-WebSocket-Extensions" not in request
    assert endpoint.open
    endpoint.abort()
    await heard.until_closed()


async def test_hq_lets_a_runner_in(listener: Listener, heard: Heard) -> None:
    endpoint = await dial(listener.url("/ws/runner"), token="secret", handler=heard)

    (request,) = listener.requests
    assert (request.path, request.secure) == ("/ws/runner", False)
    assert (b"authorization", b"Bearer secret") in request.headers
    assert endpoint.open


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_of_hq_is_told_with_its_status(listener: Listener, heard: Heard, status: int) -> None:
    with pytest.raises(DialError, match=f"the server answered {status}") as error:
        await dial(listener.url(f"/refuse/{status}"), token="wrong", handler=heard)

    assert error.value.status == status


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nonly a part",
        b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope",
        b"HTTP/1.1 401 Unauthorized\r\n\r\nto the end",
        b"HTTP/1.0 401\r\n\r\n",
    ],
    ids=["cut", "chunked", "to the end", "old"],
)
async def test_the_body_of_a_refusal_does_not_matter(server: Server, heard: Heard, answer: bytes) -> None:
    server.answer = lambda request: answer

    assert (await refused(server, heard)).status == 401


async def test_a_server_that_is_not_there(heard: Heard) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DialError, match=f"127.0.0.1:{port} cannot be reached: ") as error:
            await dial(f"ws://127.0.0.1:{port}/", token="t", handler=heard)

    assert error.value.status is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP|does not speak WebSocket"),
        (b"x" * (65 << 10), "not HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not speak WebSocket"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoZSBhbnN3ZXI=\r\n\r\n",
            "does not speak WebSocket",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "the server answered 200"),
    ],
    ids=["ssh", "endless", "101 without more", "the answer to another key", "a web page"],
)
async def test_what_is_no_websocket_is_told(server: Server, heard: Heard, answer: bytes, words: str) -> None:
    server.answer = lambda request: answer

    error = await refused(server, heard)
    with pytest.raises(DialError, match=words):
        raise error


async def test_an_extension_that_nobody_asked_for_is_refused(server: Server, heard: Heard) -> None:
    server.answer = lambda request: switching_protocols(
        request, "Sec-WebSocket-Extensions: permessage-deflate"
    )

    assert "does not speak WebSocket" in str(await refused(server, heard))


async def test_a_server_that_hangs_up_in_the_handshake(server: Server, heard: Heard) -> None:
    server.answer = lambda request: b"HTTP/1.1 101 Switching"
    server.closes = True

    assert "the connection broke" in str(await refused(server, heard))


async def test_a_server_that_never_answers(
    server: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial_module, "CONNECT_S", 0.05)
    server.answer = lambda request: b""

    assert str(await refused(server, heard)) == f"127.0.0.1:{server.port} does not answer"


async def test_whoever_stops_waiting_leaves_no_connection_behind(server: Server, heard: Heard) -> None:
    asked = asyncio.Event()

    def answer(request: bytes) -> bytes:
        asked.set()
        return b""

    server.answer = answer
    dialing = asyncio.ensure_future(dial(server.url, token="t", handler=heard))
    await asyncio.wait_for(asked.wait(), SECONDS)
    dialing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialing

    await asyncio.wait_for(server.ended.wait(), SECONDS)


@pytest.mark.parametrize("url", ["http://hq.example/", "hq.example:8080", "ws://", ""])
async def test_what_is_no_websocket_url_is_told(heard: Heard, url: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a WebSocket URL such as ws://"):
        await dial(url, token="t", handler=heard)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
async def test_bytes_that_come_with_the_response_are_not_lost(
    server: Server, heard: Heard, piece_bytes: int
) -> None:
    def answer(request: bytes) -> bytes:
        text = Frame(Opcode.TEXT, b"registered").serialize(mask=False)
        return switching_protocols(request) + text + Frame(Opcode.BINARY, b"x" * 300).serialize(mask=False)

    server.answer = answer
    server.piece_bytes = piece_bytes
    endpoint = await dial(server.url, token="t", handler=heard)
    # The owner has its endpoint before it is told anything.
    assert heard.events == []
    await heard.until(lambda heard: len(heard.events) == 2)

    assert heard.events == [("text", b"registered"), ("binary", b"x" * 300)]
    assert endpoint.open
    endpoint.abort()
    await heard.until_closed()


async def test_a_name_with_several_addresses_is_dialled(listener: Listener, heard: Heard) -> None:
    endpoint = await dial(f"ws://localhost:{listener.port}/ws", token="t", handler=heard)

    assert endpoint.open
