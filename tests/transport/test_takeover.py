"""Take-over: one port speaks HTTP and WebSocket, and nothing that belongs to the one is lost to the other."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import Mock

import httpx
import orjson
import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentrelay import fastpath
from agentrelay.transport import takeover as takeover_module
from agentrelay.transport.endpoint import Endpoint
from agentrelay.transport.takeover import (
    UNREAD_ANSWER_S,
    TakeoverProtocol,
    UpgradeRequest,
    UpgradeRouter,
    takeover,
)
from tests.transport.fakes import FakeLoop, Heard
from tests.transport.peers import SECONDS, Listener, frame, listen, raw, say_ok, upgrade

TEXT, BINARY, CLOSE = 1, 2, 8
GET = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
UNREAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"


# --- bytes that come with the request -------------------------------------------------------------


def echo(endpoint: Endpoint, heard: Heard) -> None:
    """Answer at once, in the middle of the take-over."""

    def answer(event: tuple[str, Any]) -> None:
        if event[0] == "text":
            endpoint.send_text(b"answer to " + event[1])
        elif event[0] == "binary":
            endpoint.send_frame(fastpath.frame_header(len(event[1])) + event[1])

    heard.on_event = answer


async def test_frames_in_the_segment_of_the_request_are_not_lost(listener: Listener) -> None:
    listener.prepare = echo
    sent = upgrade() + frame(TEXT, b"first") + frame(BINARY, b"second") + frame(BINARY, b"cut")[:-1]
    async with raw(listener, sent) as peer:
        head = await peer.head()
        first, second = await peer.frame(), await peer.frame()
        _, heard = await listener.accepted()

        assert head.startswith("HTTP/1.1 101 ")
        assert first is not None
        assert second is not None
        assert (first.data, second.data) == (b"answer to first", b"second")
        assert heard.events == [("text", b"first"), ("binary", b"second")]


@pytest.mark.parametrize("cut", [1, 30, -1, 0, 1000])
async def test_a_request_cut_anywhere_is_the_same_request(listener: Listener, cut: int) -> None:
    request = upgrade()
    sent = request + frame(BINARY, b"x" * 2000)
    at = cut if 0 < cut < len(request) else len(request) + cut
    async with raw(listener, sent[:at]) as peer, raw(listener, GET) as other:
        # What was sent has been read: the other, who came later, has its answer.
        assert (await other.response())[0] == 200
        peer.send(sent[at:])
        await peer.head()
        _, heard = await listener.accepted()
        await heard.more_than(0)

        assert heard.events == [("binary", b"x" * 2000)]


async def test_a_megabyte_behind_the_request_arrives(listener: Listener) -> None:
    frames = [frame(BINARY, bytes([number]) * 100_000) for number in range(20)]
    async with raw(listener, upgrade() + b"".join(frames)) as peer:
        await peer.head()
        _, heard = await listener.accepted()
        await heard.until(lambda heard: len(heard.events) == 20)

        assert [what[:1] for _, what in heard.events] == [bytes([number]) for number in range(20)]


async def test_an_owner_that_pauses_in_the_take_over_stays_paused(listener: Listener) -> None:
    def prepare(endpoint: Endpoint, heard: Heard) -> None:
        heard.on_event = lambda event: endpoint.pause_reading()

    listener.prepare = prepare
    async with raw(listener, upgrade() + frame(TEXT, b"first")) as peer, raw(listener) as other:
        await peer.head()
        endpoint, heard = await listener.accepted()
        peer.send(frame(BINARY, b"later"))
        for _ in range(3):
            other.send(GET)
            await other.response()
        assert heard.events == [("text", b"first")]

        heard.on_event = lambda event: None
        endpoint.resume_reading()
        await heard.more_than(1)
        assert heard.events == [("text", b"first"), ("binary", b"later")]


# --- the request ----------------------------------------------------------------------------------


async def test_the_route_sees_the_request_as_it_came(listener: Listener) -> None:
    async with raw(listener, upgrade("/ws/a%20b%2Fc?token=x", "X-Twice: 1", "x-twice: 2")) as peer:
        await peer.head()

    (request,) = listener.requests
    assert isinstance(request, UpgradeRequest)
    assert request.path == "/ws/a b/c"
    assert [value for name, value in request.headers if name == b"x-twice"] == [b"1", b"2"]
    assert request.client == "127.0.0.1"
    assert not request.secure


@pytest.mark.parametrize(
    "more",
    [("Cookie: " + "c" * 60_000,), tuple(f"X-Proxy-{number}: x" for number in range(400))],
    ids=["a long one", "many"],
)
async def test_headers_that_a_proxy_or_a_cookie_jar_adds_do_not_spoil_an_upgrade(
    listener: Listener, more: tuple[str, ...]
) -> None:
    async with raw(listener, upgrade("/ws/" + "a" * 3_000, *more)) as peer:
        assert (await peer.head()).startswith("HTTP/1.1 101")


async def test_no_extension_and_no_subprotocol_is_ever_negotiated(listener: Listener) -> None:
    more = (
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Protocol: chat",
    )
    async with raw(listener, upgrade("/ws", *more)) as peer:
        head = (await peer.head()).lower()

    assert "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert "sec-websocket-extensions" not in head
    assert "sec-websocket-protocol" not in head


async def test_a_browser_that_offers_compression_is_served_without(listener: Listener) -> None:
    async with connect(listener.url(), compression="deflate", proxy=None) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_is_plain_http_with_a_problem(listener: Listener, status: int) -> None:
    async with raw(listener, upgrade(f"/refuse/{status}")) as peer:
        answered, headers, body = await peer.response()
        rest = await peer.rest()

    assert answered == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert orjson.loads(body) == {
        "type": "about:blank",
        "title": "Refused",
        "status": status,
        "detail": "because it was asked for",
    }
    assert rest == b""


async def test_the_library_understands_a_refusal(listener: Listener) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(listener.url("/refuse/403"), proxy=None)

    assert refused.value.response.status_code == 403


async def test_what_follows_a_refused_request_is_not_heard(listener: Listener) -> None:
    async with raw(listener, upgrade("/refuse/401") + upgrade() + frame(TEXT, b"x")) as peer:
        assert (await peer.response())[0] == 401
        assert await peer.rest() == b""

    assert len(listener.requests) == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (upgrade().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
        (upgrade().replace(b"Version: 13", b"Version: 8"), 400),
        (upgrade().replace(b"GET", b"POST"), 405),
        (upgrade("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    ],
    ids=["a short key", "an old version", "POST", "two keys"],
)
async def test_a_wrong_handshake_is_refused(listener: Listener, request_bytes: bytes, status: int) -> None:
    async with raw(listener, request_bytes) as peer:
        assert (await peer.head()).startswith(f"HTTP/1.1 {status} ")
        await peer.rest()


async def test_an_upgrade_to_something_else_is_an_ordinary_request(listener: Listener) -> None:
    h2c = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    async with raw(listener, h2c) as peer:
        assert (await peer.response())[2] == b"GET /hello "
        peer.send(GET)
        assert (await peer.response())[2] == b"GET /hello "


# --- HTTP goes on as before -----------------------------------------------------------------------


async def test_a_connection_serves_many_requests(listener: Listener) -> None:
    async with raw(listener) as peer:
        for _ in range(5):
            peer.send(GET)
            assert (await peer.response())[2] == b"GET /hello "


async def test_pipelined_requests_are_answered_in_order(listener: Listener) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(5))
    async with raw(listener, requests) as peer:
        bodies = [(await peer.response())[2] for _ in range(5)]

    assert bodies == [b"GET /%d " % number for number in range(5)]


async def test_a_websocket_may_follow_a_request_on_its_connection(listener: Listener) -> None:
    listener.prepare = echo
    async with raw(listener, GET) as peer:
        assert (await peer.response())[0] == 200
        peer.send(upgrade() + frame(TEXT, b"x"))
        assert (await peer.head()).startswith("HTTP/1.1 101 ")
        answer = await peer.frame()

    assert answer is not None
    assert answer.data == b"answer to x"


async def test_a_websocket_behind_an_unanswered_request_is_not_mixed_with_its_answer() -> None:
    answering = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await answering.wait()
        await say_ok(scope, receive, send)

    async with listen(wait) as listener, raw(listener, GET + upgrade() + frame(TEXT, b"x")) as peer:
        async with raw(listener, b"garbage\r\n\r\n") as other:
            assert (await other.response())[0] == 400, "the other came later, so the first has been read"
        answering.set()
        status, headers, body = await peer.response()
        rest = await peer.rest()

    assert (status, headers["connection"], body, rest) == (200, "close", b"GET /hello ", b"")
    assert listener.requests == []


async def test_a_large_body_arrives_whole(listener: Listener) -> None:
    body = bytes(range(256)) * 2000
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{listener.port}/post", content=body)

    assert answer.content == b"POST /post " + body


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answer without a look at the body."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def test_a_body_that_nobody_reads_is_not_taken_for_headers() -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n"
    async with listen(refuse) as listener, raw(listener, head) as peer:
        assert (await peer.response())[0] == 401
        peer.send(bytes(100_000))
        async with raw(listener, head) as other:
            await other.response()
        peer.send(bytes(100_000) + head)

        assert (await peer.response())[0] == 401


@pytest.mark.parametrize(
    "garbage",
    [b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0"],
)
async def test_what_is_no_http_is_answered_with_400(listener: Listener, garbage: bytes) -> None:
    async with raw(listener, garbage) as peer:
        status, headers, _ = await peer.response()
        rest = await peer.rest()

    assert (status, headers["connection"], rest) == (400, "close", b"")


# --- limits on headers ----------------------------------------------------------------------------


@pytest.mark.parametrize("opening", [GET, upgrade()], ids=["a request", "a websocket"])
async def test_headers_over_64_kib_are_refused(listener: Listener, opening: bytes) -> None:
    large = opening[:-2] + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(66)) + b"\r\n"
    async with raw(listener, large) as peer:
        status, headers, body = await peer.response()
        rest = await peer.rest()

    assert status == 431
    assert headers["content-type"] == "application/problem+json"
    assert orjson.loads(body)["detail"] == "a request has at most 65536 bytes of headers"
    assert rest == b""
    assert listener.requests == []


async def test_headers_that_never_end_are_refused(listener: Listener) -> None:
    async with raw(listener, b"GET / HTTP/1.1\r\nX: ") as peer:
        for _ in range(9):
            peer.send(b"a" * 8000)
        assert (await peer.response())[0] == 431


async def test_a_url_that_never_ends_is_refused(listener: Listener) -> None:
    async with raw(listener, b"GET /" + b"a" * 70_000) as peer:
        assert (await peer.response())[0] == 431


async def test_headers_of_60_kib_are_taken(listener: Listener) -> None:
    large = GET[:-2] + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(60)) + b"\r\n"
    async with raw(listener, large) as peer:
        assert (await peer.response())[0] == 200
        # The next request has its own 64 KiB.
        peer.send(large)
        assert (await peer.response())[0] == 200


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for headers, and for a body that nobody reads, as long as a test can."""
    monkeypatch.setattr(takeover_module, "HEADERS_S", 0.05)
    monkeypatch.setattr(takeover_module, "UNREAD_BODY_S", 0.05)
    monkeypatch.setattr(takeover_module, "UNREAD_ANSWER_S", 0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
async def test_headers_that_come_too_slowly_are_refused(listener: Listener, before: bytes) -> None:
    async with raw(listener, before) as peer:
        if before:
            assert (await peer.response())[0] == 200
        peer.send(b"GET / HTTP/1.1\r\nHost: local")
        status, headers, _ = await peer.response()

        assert status == 408
        assert headers["content-type"] == "application/problem+json"
        assert await peer.rest() == b""


@pytest.mark.usefixtures("impatient")
async def test_slow_headers_behind_a_body_that_nobody_read_are_refused() -> None:
    async with listen(refuse) as listener, raw(listener, UNREAD + b"hello" + b"GET / HT") as peer:
        assert (await peer.response())[0] == 401
        peer.send(b"TP/1.1\r\nHost")

        assert (await peer.response())[0] == 408


async def test_endless_headers_behind_a_body_that_came_after_its_answer_are_refused() -> None:
    async with listen(refuse) as listener, raw(listener, UNREAD) as peer:
        assert (await peer.response())[0] == 401
        peer.send(b"hello" + b"GET / HTTP/1.1\r\nX: " + b"a" * 300_000)

        assert (await peer.response())[0] == 431


@pytest.mark.parametrize(
    "endless", [b"0\r\nX: ", b"5;", b"5\r\nhello\r\n0"], ids=["trailer", "extension", "size"]
)
async def test_a_chunked_body_whose_framing_never_ends_is_refused(listener: Listener, endless: bytes) -> None:
    opening = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with raw(listener, opening + endless + b"0" * 300_000) as peer:
        assert (await peer.response())[0] == 431


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "rest", [b"", b"hell", b"hello", b"helloGET / HT"], ids=["none", "some", "all", "more"]
)
async def test_a_connection_that_stops_in_or_behind_a_body_that_nobody_reads_is_closed(rest: bytes) -> None:
    async with listen(refuse) as listener, raw(listener, UNREAD) as peer:
        assert (await peer.response())[0] == 401
        peer.send(rest)

        assert await peer.rest() == b""


@pytest.mark.usefixtures("impatient")
async def test_a_connection_that_says_nothing_is_closed(listener: Listener) -> None:
    async with raw(listener) as peer:
        assert await peer.rest() == b""


@pytest.mark.usefixtures("impatient")
async def test_the_clock_stops_with_the_headers() -> None:
    waited = asyncio.Event()

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        # Longer than the headers may take: another connection has been refused meanwhile.
        await waited.wait()
        await say_ok(scope, receive, send)

    async with listen(wait) as listener, raw(listener, GET) as peer, raw(listener, upgrade()) as taken:
        await taken.head()
        endpoint, _ = await listener.accepted()
        async with raw(listener, b"GET /") as slow:
            assert (await slow.response())[0] == 408
        waited.set()

        assert (await peer.response())[0] == 200
        assert endpoint.open


# --- answers that nobody reads --------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("pieces", [1, 64], ids=["in_one", "in_pieces"])
async def test_a_peer_that_does_not_read_its_answer_is_cut_off(pieces: int) -> None:
    done = asyncio.Event()

    async def say_much(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for left in range(pieces, 0, -1):
            body = bytes((16 << 20) // pieces)
            await send({"type": "http.response.body", "body": body, "more_body": left > 1})
        done.set()

    async with listen(say_much) as listener, raw(listener, GET), raw(listener, upgrade()) as other:
        await other.head()
        async with asyncio.timeout(SECONDS):
            await done.wait()
        for _ in range(1000):
            if len(listener.state.connections) == 1:
                break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("it is still connected")


def test_a_peer_that_reads_its_answer_slowly_is_kept() -> None:
    config = uvicorn.Config(say_ok, http=takeover(Listener().route), ws="none", loop="none", lifespan="off")
    config.load()
    loop = FakeLoop()
    protocol: TakeoverProtocol = config.http_protocol_class(  # type: ignore[assignment, call-arg]
        config=config, server_state=ServerState(), app_state={}, _loop=loop
    )
    protocol.transport = transport = Mock()
    transport.get_write_buffer_size.return_value = 1000
    protocol.flow = Mock()

    protocol.pause_writing()
    for unread_bytes in range(999, 900, -1):
        transport.get_write_buffer_size.return_value = unread_bytes
        loop.advance(UNREAD_ANSWER_S)
    transport.abort.assert_not_called()
    protocol.resume_writing()
    loop.advance(10 * UNREAD_ANSWER_S)
    transport.abort.assert_not_called()
    protocol.pause_writing()
    loop.advance(UNREAD_ANSWER_S)

    transport.abort.assert_called_once_with()


# --- shutdown -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def uvicorn_server(route: UpgradeRouter) -> AsyncIterator[tuple[uvicorn.Server, str]]:
    """Run uvicorn itself; gives the server and its address."""
    config = uvicorn.Config(
        say_ok,
        http=takeover(route),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=30,
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server._serve([listening]))
    try:
        yield server, f"127.0.0.1:{listening.getsockname()[1]}"
        await asyncio.wait_for(serving, SECONDS)
    finally:
        server.should_exit = server.force_exit = True
        await serving


async def test_a_server_that_stops_closes_websockets_with_1001(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    taken: list[Heard] = []

    def accept(endpoint: Endpoint) -> None:
        taken.append(Heard())
        endpoint.handler = taken[-1]

    async with uvicorn_server(lambda request: accept) as (server, address):
        url = f"ws://{address}/ws"
        async with connect(url, proxy=None) as first, connect(url, proxy=None) as second:
            server.should_exit = True
            for client in (first, second):
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(client.recv(), SECONDS)
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "going away")

    assert [heard.closed for heard in taken] == [[(1001, "going away")]] * 2
    assert caplog.text == "", "nothing had to be cut off"


def test_the_loop_of_production_can_be_used_without_a_test_around_it() -> None:
    """The other tests run on loops that pytest made; `uvloop.run` is what HQ does."""

    async def exchange() -> bytes:
        async with listen() as listener:
            listener.prepare = echo
            async with raw(listener, upgrade() + frame(TEXT, b"x")) as peer:
                await peer.head()
                answer = await peer.frame()
                assert answer is not None
                return bytes(answer.data)

    assert uvloop.run(exchange()) == b"answer to x"
