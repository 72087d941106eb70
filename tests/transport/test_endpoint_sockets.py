"""Endpoint on real sockets: both sides, with the `websockets` library or raw bytes at the other end."""

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agentrelay import fastpath
from agentrelay.protocol import liveness
from agentrelay.transport import endpoint as endpoint_module
from agentrelay.transport.dial import dial
from agentrelay.transport.endpoint import MAX_MESSAGE_BYTES, MAX_QUEUED_BYTES, Endpoint
from tests.transport.certificates import make_certificate
from tests.transport.fakes import Heard
from tests.transport.peers import SECONDS, Listener, RawPeer, frame, listen, raw, upgrade

TEXT, BINARY, PING, PONG, CLOSE = 1, 2, 9, 10, 8
BULK_BYTES = 8 << 20


def connect_to(listener: Listener, path: str = "/ws", tls: ssl.SSLContext | None = None) -> connect:
    """Open a WebSocket with the library."""
    url = listener.url(path, "wss" if tls else "ws")
    return connect(url, ssl=tls, max_size=None, ping_interval=None, proxy=None)


@pytest.fixture
async def client(listener: Listener) -> AsyncIterator[ClientConnection]:
    """A WebSocket of the library at a listener."""
    async with connect_to(listener) as connection:
        yield connection


@pytest.fixture
async def peers() -> AsyncIterator[asyncio.Queue[ServerConnection]]:
    """The connections that a server of the library has taken."""
    taken: asyncio.Queue[ServerConnection] = asyncio.Queue()

    async def take(connection: ServerConnection) -> None:
        taken.put_nowait(connection)
        await connection.wait_closed()

    server: Server
    async with serve(take, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        taken.port = next(iter(server.sockets)).getsockname()[1]  # type: ignore[attr-defined]
        yield taken


async def dial_to(
    peers: "asyncio.Queue[ServerConnection]", heard: Heard
) -> tuple[Endpoint, ServerConnection]:
    port = peers.port  # type: ignore[attr-defined]
    endpoint = await dial(f"ws://127.0.0.1:{port}/", token="t", handler=heard)
    async with asyncio.timeout(SECONDS):
        return endpoint, await peers.get()


# --- both sides against the library ---------------------------------------------------------------


async def converse(endpoint: Endpoint, heard: Heard, peer: ClientConnection | ServerConnection) -> None:
    """Say everything there is to say in both directions, then let the peer leave."""
    large = os.urandom(MAX_MESSAGE_BYTES)
    await peer.send("from the peer")
    await peer.send(b"bytes")
    await peer.send(["frag", "ments"])
    await peer.send([b"", b"a", b"b"])
    await peer.send(large)
    pong = await peer.ping(b"ping")
    masks = fastpath.MaskSource()
    endpoint.send_text(b"to the peer")
    masked = isinstance(peer, ServerConnection)
    endpoint.send_frame(
        fastpath.pack_frame(2, 1, b"frame", masks) if masked else fastpath.frame_header(5) + b"frame"
    )
    async with asyncio.timeout(SECONDS):
        await pong
        assert await peer.recv() == "to the peer"
        assert (await peer.recv())[-5:] == b"frame"
        await peer.close(1000, "good bye")
        assert await heard.until_closed() == (1000, "good bye")

    assert heard.messages == [
        ("text", b"from the peer"),
        ("binary", b"bytes"),
        ("text", b"fragments"),
        ("binary", b"ab"),
        ("binary", large),
    ]


async def test_hq_talks_with_the_library(listener: Listener, client: ClientConnection) -> None:
    endpoint, heard = await listener.accepted()

    await converse(endpoint, heard, client)


async def test_a_runner_talks_with_the_library(
    peers: "asyncio.Queue[ServerConnection]", heard: Heard
) -> None:
    endpoint, peer = await dial_to(peers, heard)

    await converse(endpoint, heard, peer)


async def test_hq_closes_and_the_peer_reads_why(listener: Listener, client: ClientConnection) -> None:
    endpoint, heard = await listener.accepted()

    endpoint.close(4000, "a newer link has taken over")
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(client.recv(), SECONDS)

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "a newer link has taken over")
    assert await heard.until_closed() == (4000, "a newer link has taken over")


async def test_a_runner_closes_and_hq_reads_why(listener: Listener, heard: Heard) -> None:
    endpoint = await dial(listener.url(), token="t", handler=heard)
    _, at_hq = await listener.accepted()

    endpoint.close(1001, "going away")

    assert await at_hq.until_closed() == (1001, "going away")
    assert await heard.until_closed() == (1001, "going away")


async def test_abort_cuts_the_connection(listener: Listener, client: ClientConnection) -> None:
    endpoint, heard = await listener.accepted()

    endpoint.abort()
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(client.recv(), SECONDS)

    assert closed.value.rcvd is None
    assert (await heard.until_closed())[0] == 1006
    assert not endpoint.open


async def test_a_peer_that_is_reset_is_told_as_1006(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        _, heard = await listener.accepted()
        peer.writer.transport.abort()

        assert (await heard.until_closed())[0] == 1006


async def test_all_are_told_when_many_peers_leave_at_once() -> None:
    async with listen() as listener:
        heard = []
        async with AsyncExitStack() as peers:
            for _ in range(60):
                peer = await peers.enter_async_context(raw(listener, upgrade()))
                await peer.head()
                heard.append((await listener.accepted())[1])
        assert [(await each.until_closed())[0] for each in heard] == [1006] * 60


# --- faults, seen from the other end --------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x82\x01x", 1002),
        (b"\xc2\x80\0\0\0\0", 1002),
        (frame(BINARY, b"a", fin=False) + frame(BINARY, b"b"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"a" * 65_537), 1009),
    ],
    ids=["unmasked", "RSV1", "binary inside a message", "not UTF-8", "text too long"],
)
async def test_a_peer_learns_what_it_did_wrong(listener: Listener, sent: bytes, code: int) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        peer.send(sent)

        assert await peer.close_code() == code


async def test_a_peer_in_the_middle_of_sending_too_much_learns_why(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        peer.send(frame(BINARY, bytes(MAX_MESSAGE_BYTES + 1)) + frame(BINARY, bytes(4 << 20)))

        assert await peer.close_code() == 1009
        _, heard = await listener.accepted()
        assert heard.messages == []


# --- slow readers ---------------------------------------------------------------------------------


async def send_bulk(endpoint: Endpoint, heard: Heard, full: asyncio.Event) -> str:
    """Send frames and texts as fast as the peer takes them; gives their hash, sets `full` when it waits."""
    # A kernel that takes little makes a peer slow at once.
    endpoint.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    digest = hashlib.sha256()
    buffer = bytearray(70_000)
    n_bytes = number = waits = 0
    while n_bytes < BULK_BYTES:
        number += 1
        data = os.urandom(1 + number * 997 % 65_536)
        digest.update(data)
        n_bytes += len(data)
        made = fastpath.frame_header(len(data)) + data
        if number % 3:
            endpoint.send_frame(made)
        else:
            buffer[: len(made)] = made
            endpoint.send_packed(buffer, 0, len(made))
        if number % 10 == 0:
            text = b'{"n":%d}' % number
            digest.update(text)
            endpoint.send_text(text)
        while not endpoint.writable:
            waits += 1
            full.set()
            await heard.more_than(len(heard.events))
    assert waits > 3, "the peer was never slow"
    endpoint.close()
    return digest.hexdigest()


async def receive_bulk(peer: RawPeer) -> str:
    digest = hashlib.sha256()
    while (received := await peer.frame()) is not None:
        if received.opcode in (TEXT, BINARY):
            digest.update(received.data)
        elif received.opcode == CLOSE:
            peer.send(frame(CLOSE, bytes(received.data)))
    return digest.hexdigest()


async def test_a_slow_reader_gets_every_byte_in_order(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        endpoint, heard = await listener.accepted()
        full = asyncio.Event()
        sending = asyncio.ensure_future(send_bulk(endpoint, heard, full))
        await asyncio.wait_for(full.wait(), SECONDS)

        assert await receive_bulk(peer) == await sending
        peer.writer.close()
        assert (await heard.until_closed())[0] == 1000


async def test_a_stalled_peer_costs_one_write_and_nobody_else_anything(listener: Listener) -> None:
    async with raw(listener, upgrade()) as stalled, raw(listener, upgrade()) as reading:
        await stalled.head()
        await reading.head()
        to_stalled, _ = await listener.accepted()
        to_reading, _ = await listener.accepted()
        data = fastpath.frame_header(60_000) + bytes(60_000)
        while to_stalled.writable:
            to_stalled.send_frame(data)
        for _ in range(100):
            to_reading.send_frame(data)
            received = await reading.frame()
            assert received is not None
            assert len(received.data) == 60_000

        assert not to_stalled.writable
        assert to_stalled.transport.get_write_buffer_size() <= len(data)


# --- pausing --------------------------------------------------------------------------------------


async def test_a_paused_peer_is_not_read_until_it_may_go_on(listener: Listener) -> None:
    async with raw(listener, upgrade()) as paused, raw(listener, upgrade()) as other:
        await paused.head()
        await other.head()
        endpoint, heard = await listener.accepted()
        _, other_heard = await listener.accepted()
        endpoint.pause_reading()
        for number in range(20):
            paused.send(frame(BINARY, b"%d" % number))
            # What the other says is heard, so the loop has looked at all sockets since.
            other.send(frame(BINARY, b"%d" % number))
            await other_heard.more_than(number)
        assert heard.events == []

        endpoint.resume_reading()
        await heard.until(lambda heard: len(heard.events) == 20)
        assert heard.events == other_heard.events


# --- silence, on a real clock ---------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count in hundredths of seconds."""
    monkeypatch.setattr(liveness, "PING_AFTER_S", 0.03)
    monkeypatch.setattr(liveness, "DEAD_AFTER_S", 0.15)
    monkeypatch.setattr(endpoint_module, "CLOSE_S", 0.03)


@pytest.mark.usefixtures("impatient")
async def test_a_silent_peer_is_asked_and_then_cut_off(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        _, heard = await listener.accepted()
        asked = await peer.frame()
        assert asked is not None
        assert asked.opcode == PING

        assert await peer.frame() is None
        assert (await heard.until_closed())[0] == 1006


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_only_answers_pings_stays(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        endpoint, _ = await listener.accepted()
        for _ in range(3):
            asked = await peer.frame()
            assert asked is not None
            assert asked.opcode == PING
            peer.send(frame(PONG))

        assert endpoint.open


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_is_not_read_stays_while_it_is_there(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        endpoint, heard = await listener.accepted()
        endpoint.pause_reading()
        peer.send(frame(TEXT, b"waits"))
        for _ in range(10):
            asked = await peer.frame()
            assert asked is not None
            assert asked.opcode == PING
        assert endpoint.open
        endpoint.resume_reading()
        await heard.until(lambda heard: heard.messages == [("text", b"waits")])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_peer_that_is_not_read_can_leave(listener: Listener, how: str) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        endpoint, heard = await listener.accepted()
        endpoint.pause_reading()
        peer.send(frame(TEXT, b"nobody reads this"))
        getattr(peer.writer.transport, how)()

        assert (await heard.until_closed())[0] == 1006
        assert heard.messages == []


@pytest.mark.usefixtures("impatient")
async def test_a_dead_hq_is_noticed_by_the_runner(heard: Heard) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(switching_protocols(head))
        while await reader.read(1 << 16):
            pass  # it is there, and says nothing
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await dial(f"ws://127.0.0.1:{port}/", token="t", handler=heard)

        assert (await heard.until_closed())[0] == 1006


@pytest.mark.usefixtures("impatient")
async def test_a_peer_that_ignores_close_is_cut_off(listener: Listener) -> None:
    async with raw(listener, upgrade()) as peer:
        await peer.head()
        endpoint, heard = await listener.accepted()
        endpoint.close(1000, "bye")

        assert await peer.close_code() == 1000
        assert (await heard.until_closed())[0] == 1006


def switching_protocols(request: bytes) -> bytes:
    """Answer a request for a WebSocket as any server would."""
    from websockets.server import ServerProtocol

    ws = ServerProtocol()
    ws.receive_data(request)
    for event in ws.events_received():
        ws.send_response(ws.accept(event))  # type: ignore[arg-type]
    return b"".join(ws.data_to_send())


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate, and the context of a server that has it."""
    return make_certificate(tmp_path)


async def test_bulk_goes_both_ways_through_tls(
    certificate: tuple[Path, ssl.SSLContext], heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    async with listen(tls=certificate[1]) as listener:
        endpoint = await dial(listener.url(scheme="wss"), token="t", handler=heard)
        at_hq, hq_heard = await listener.accepted()
        assert listener.requests[0].secure
        assert endpoint.fd == at_hq.fd == -1, "nothing may go past TLS"
        masks = fastpath.MaskSource()
        data = os.urandom(60_000)
        wanted = MAX_QUEUED_BYTES // 2 // len(data)  # nobody reads meanwhile, and the kernel may take little
        for number in range(wanted):
            endpoint.send_frame(fastpath.pack_frame(1, number, data, masks))
            at_hq.send_frame(fastpath.frame_header(len(data)) + data)
            endpoint.send_text(b"{}")
        await heard.until(lambda heard: len(heard.messages) == wanted)
        await hq_heard.until(lambda heard: len(heard.messages) == 2 * wanted)
        assert all(event == ("binary", data) for event in heard.messages)
        assert all(what[8:] == data for kind, what in hq_heard.messages if kind == "binary")

        endpoint.close(1001, "going away")
        assert await hq_heard.until_closed() == (1001, "going away")
        assert await heard.until_closed() == (1001, "going away")


async def test_a_slow_reader_gets_every_byte_through_tls(certificate: tuple[Path, ssl.SSLContext]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with listen(tls=certificate[1]) as listener, raw(listener, upgrade(), trusting) as peer:
        await peer.head()
        endpoint, heard = await listener.accepted()
        full = asyncio.Event()
        sending = asyncio.ensure_future(send_bulk(endpoint, heard, full))
        await asyncio.wait_for(full.wait(), SECONDS)

        assert await receive_bulk(peer) == await sending


async def test_a_runner_closes_through_tls_after_a_fault(certificate: tuple[Path, ssl.SSLContext]) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with listen(tls=certificate[1]) as listener, raw(listener, upgrade(), trusting) as peer:
        await peer.head()
        peer.send(frame(TEXT, b"\xff"))

        assert await peer.close_code() == 1007


async def test_a_server_nobody_trusts_is_refused(
    certificate: tuple[Path, ssl.SSLContext], heard: Heard
) -> None:
    from agentrelay.transport.dial import DialError

    async with listen(tls=certificate[1]) as listener:
        with pytest.raises(DialError, match="certificate"):
            await dial(listener.url(scheme="wss"), token="t", handler=heard)
        assert listener.requests == []
