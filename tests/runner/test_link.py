"""The runner's end of the link, without a socket: an endpoint that writes down what it is given."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from agentrelay import fastpath
from agentrelay.errors import ProtocolError, StartFailed
from agentrelay.protocol import mux
from agentrelay.protocol.messages import MAX_LINK_TEXT_BYTES, Preset, Start
from agentrelay.runner.link import FRAME_BYTES, INPUT_ACK_BYTES, Link, signal_by_name
from agentrelay.runner.paths import RunnerDirectory
from agentrelay.runner.pty import MAX_INPUT_BYTES, Exit, Facts, PtySession
from agentrelay.runner.read_queue import ReadQueue
from agentrelay.runner.read_turn import ReadTurn
from agentrelay.runner.registration import Identity
from agentrelay.runner.ring_memory import create_ring_memory

FAR = 1 << 60


class FakeEndpoint:
    """Takes frames apart as HQ would, in the order they were sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.writable = True
        self.sends: list[int] = []  # how many frames each packed buffer had
        self.writable_for = -1  # how many more packed buffers the socket takes

    def send_text(self, text: bytes) -> None:
        message = orjson.loads(text)
        self.sent.append((message["type"], message["payload"]))

    def send_packed(self, buffer: bytearray, start: int, end: int) -> None:
        before = len(self.sent)
        self._unpack(bytes(buffer[start:end]))
        self.sends.append(len(self.sent) - before)
        self.writable_for -= 1
        if self.writable_for == 0:
            self.writable = False

    def send_frame(self, frame: bytes) -> None:
        self._unpack(frame)

    def _unpack(self, data: bytes) -> None:
        pos = 0
        while pos < len(data):
            status, start, stop, mask = fastpath.scan_frame(data, pos, len(data), True, 65_520)
            assert status == fastpath.FAST
            payload = bytearray(data[start:stop])
            fastpath.unmask(payload, 0, len(payload), mask)
            frame = mux.unpack(memoryview(payload))
            self.sent.append((mux.Kind(frame.kind), frame.stream, bytes(frame.data)))
            pos = stop

    def take(self) -> list[tuple[Any, ...]]:
        sent, self.sent = self.sent, []
        return sent

    def output(self, stream: int) -> bytes:
        return b"".join(each[2] for each in self.sent if each[:2] == (mux.Kind.OUTPUT, stream))


class FakeSessions:
    """Sessions on PTYs that the test holds the other end of."""

    def __init__(self, directory: RunnerDirectory) -> None:
        self.held: dict[str, PtySession] = {}
        self.slaves: dict[str, int] = {}
        self.done: list[tuple[str, str]] = []
        self.may_start = asyncio.Event()
        self.fails: StartFailed | None = None
        self.command = ["program"]
        self._directory = directory

    def add(self, session_id: str) -> PtySession:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        memory = create_ring_memory(1 << 20, directory_fd=self._directory.fd)
        facts = Facts(session_id, f"epoch-{session_id}", 4711, self.command, "/work", 1 << 20)
        loop = asyncio.get_running_loop()
        session = PtySession(
            facts, master=master, memory=memory, turn=ReadTurn(), queue=ReadQueue(loop), loop=loop
        )
        self.held[session_id] = session
        self.slaves[session_id] = slave
        return session

    async def start(self, asked: Start) -> PtySession:
        await self.may_start.wait()
        if self.fails is not None:
            raise self.fails
        return self.add(asked.session_id)

    def stop(self, session: PtySession) -> None:
        self.done.append(("stop", session.facts.session_id))

    def forget(self, session_id: str) -> None:
        self.done.append(("forget", session_id))
        self.held.pop(session_id).close()

    def abandon(self, session_id: str) -> None:
        self.done.append(("abandon", session_id))
        self.held.pop(session_id).close()

    def close(self) -> None:
        for session in self.held.values():
            session.close()
        for slave in self.slaves.values():
            os.close(slave)


@pytest.fixture
async def sessions(directory: RunnerDirectory) -> AsyncIterator[FakeSessions]:
    fake = FakeSessions(directory)
    yield fake
    fake.close()


class Hq:
    """HQ's end: says what a test wants to the link."""

    def __init__(self, sessions: FakeSessions) -> None:
        self.endpoint = FakeEndpoint()
        self.link = Link(sessions, Identity("box", "one"), [Preset(name="p", label="P", path="/p", note="n")])  # type: ignore[arg-type]
        self.link.open(self.endpoint)  # type: ignore[arg-type]

    def say(self, kind: str, **payload: Any) -> None:
        self.link.on_text(orjson.dumps({"type": kind, "payload": payload}))

    def registered(self, *sessions: dict[str, Any]) -> None:
        self.say("registered", runner_id="box", hq_version="0", sessions=list(sessions))

    def frame(self, kind: int, stream: int, data: bytes) -> None:
        self.link.on_binary(memoryview(bytes([kind, 0, 0, 0]) + stream.to_bytes(4) + data))

    def ack(self, stream: int, acked: int, limit: int = FAR) -> None:
        self.frame(mux.Kind.ACK, stream, mux.pack_ack(acked, limit))


@pytest.fixture
def connect(sessions: FakeSessions) -> Callable[[], Hq]:
    """Give a function that makes a link and HQ's end of it."""
    return lambda: Hq(sessions)


def goes_on(session_id: str, stream: int, **fields: int) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "stream": stream,
        "from": 0,
        "acked": 0,
        "limit": FAR,
        "input": 0,
    } | fields


async def until(condition: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def look() -> None:
        if not done.done():
            if condition():
                done.set_result(None)
            else:
                loop.call_later(0.001, look)

    look()
    await asyncio.wait_for(done, 15)


# --- register and resume --------------------------------------------------------------------------


async def test_register_says_who_and_what_is_held(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    session = sessions.add("s")
    session.resize(rows=30, cols=99)
    os.write(sessions.slaves["s"], b"hello")
    session.write_input(b"xyz")
    await until(lambda: session.ring.head == 5)
    ((kind, payload),) = connect().endpoint.take()
    assert kind == "register"
    assert payload["protocol"] == 1
    assert payload["runner_id"] == "box"
    assert payload["presets"] == [{"name": "p", "label": "P", "path": "/p", "note": "n"}]
    assert payload["sessions"] == [
        {
            "session_id": "s",
            "epoch": "epoch-s",
            "pid": 4711,
            "base": 0,
            "head": 5,
            "input": 3,
            "rows": 30,
            "cols": 99,
            "command": ["program"],
            "cwd": "/work",
        }
    ]


async def test_register_fits_whatever_the_commands_are(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.command = ["claude", "-p", "do this " * 8000]
    for number in range(1000):
        sessions.add(f"session-{number:032}")
    hq = connect()
    ((_, payload),) = hq.endpoint.take()
    assert len(payload["sessions"]) == 1000
    assert len(orjson.dumps(payload)) < MAX_LINK_TEXT_BYTES
    assert payload["sessions"][0]["command"][0] == "claude"


async def test_a_terminal_of_an_impossible_size_does_not_spoil_register(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("s").resize(rows=0, cols=60_000)
    ((_, payload),) = connect().endpoint.take()
    assert (payload["sessions"][0]["rows"], payload["sessions"][0]["cols"]) == (1, 1000)


async def test_a_stream_goes_on_from_where_hq_has_it(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    os.write(sessions.slaves["s"], b"0123456789")
    await until(lambda: session.ring.head == 10)
    hq = connect()
    hq.endpoint.take()
    hq.registered(goes_on("s", 7, **{"from": 4}, acked=4, limit=8))
    assert hq.endpoint.take() == [(mux.Kind.OUTPUT, 7, b"4567")]
    hq.ack(7, 4, 100)
    await asyncio.sleep(0)
    assert hq.endpoint.take() == [(mux.Kind.OUTPUT, 7, b"89")]
    assert hq.link.registered.is_set()


async def test_a_flood_is_sent_in_sends_of_four_full_frames(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 7))
    hq.endpoint.take()
    n_bytes = 4 * 65_512 + 1000
    writing = asyncio.create_task(asyncio.to_thread(write_all, sessions.slaves["s"], bytes(n_bytes)))
    await until(lambda: len(hq.endpoint.output(7)) == n_bytes)
    await writing
    # A program slower than its reader gives less at once; whatever it gives is sent.
    assert max(hq.endpoint.sends) <= 4


async def test_what_a_flood_has_gathered_is_sent_when_nothing_follows(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 7))
    hq.endpoint.take()
    stream = hq.link._streams[7]
    session.ring.append(bytes(65_512))
    stream.on_output(65_512, more=True)
    assert hq.endpoint.sent == []
    await until(lambda: len(hq.endpoint.output(7)) == 65_512)
    session.ring.append(bytes(3 * 65_512))
    stream.on_output(3 * 65_512, more=True)
    assert len(hq.endpoint.output(7)) == 65_512
    session.ring.append(bytes(65_512))
    stream.on_output(65_512, more=True)
    assert len(hq.endpoint.output(7)) == 5 * 65_512


async def test_many_floods_gather_for_one_send(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    names = [f"s{number}" for number in range(60)]
    rings = [sessions.add(name).ring for name in names]
    hq = connect()
    hq.registered(*[goes_on(name, number) for number, name in enumerate(names)])
    hq.endpoint.take()
    for number, ring in enumerate(rings):
        ring.append(bytes(4096))
        hq.link._streams[number].on_output(4096, more=True)
    assert hq.endpoint.sends == []
    await until(lambda: all(hq.endpoint.output(number) == bytes(4096) for number in range(60)))
    assert hq.endpoint.sends == [48, 12], "a send's worth, in which a full frame might still have to fit"


async def test_who_has_little_does_not_wait_for_those_who_gather(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    flood, typed = sessions.add("flood").ring, sessions.add("typed").ring
    hq = connect()
    hq.registered(goes_on("flood", 1), goes_on("typed", 2))
    hq.endpoint.take()
    flood.append(bytes(4096))
    hq.link._streams[1].on_output(4096, more=True)
    typed.append(b"a")
    hq.link._streams[2].on_output(1, more=False)
    assert hq.endpoint.take() == [(mux.Kind.OUTPUT, 2, b"a")]
    await until(lambda: hq.endpoint.output(1) == bytes(4096))


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def test_bytes_that_are_gone_are_told_as_a_gap(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    session.ring.restart(1000)
    session.ring.append(b"newest")
    hq = connect()
    hq.endpoint.take()
    hq.registered(goes_on("s", 7, **{"from": 400}))
    assert hq.endpoint.take() == [
        ("gap", {"stream": 7, "from": 400, "to": 1000}),
        (mux.Kind.OUTPUT, 7, b"newest"),
    ]


async def test_sessions_hq_does_not_know_are_abandoned(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("known")
    sessions.add("unknown")
    hq = connect()
    hq.registered(goes_on("known", 1), goes_on("never heard of", 2))
    assert sessions.done == [("abandon", "unknown")]


async def test_a_broken_link_lets_sessions_go_on_and_the_next_one_resumes(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1, limit=3))
    os.write(sessions.slaves["s"], b"0123456789")
    await until(lambda: hq.endpoint.output(1) == b"012")
    hq.link.on_closed(1006, "cut")
    assert hq.link.closed.result() == (1006, "cut")
    await until(lambda: session.ring.head == 10)
    hq = connect()
    ((_, register),) = hq.endpoint.take()
    assert register["sessions"][0]["head"] == 10
    hq.registered(goes_on("s", 2, **{"from": 3}))
    assert hq.endpoint.output(2) == b"3456789"


# --- sending --------------------------------------------------------------------------------------


async def test_output_is_sent_as_it_comes(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1))
    os.write(sessions.slaves["s"], b"one")
    await until(lambda: hq.endpoint.output(1) == b"one")
    os.write(sessions.slaves["s"], b"two")
    await until(lambda: hq.endpoint.output(1) == b"onetwo")


async def test_every_session_has_its_turn(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    for session_id in ("a", "b", "c"):
        sessions.add(session_id).ring.append(session_id.encode() * 300_000)
    hq = connect()
    hq.endpoint.writable = False
    hq.registered(goes_on("a", 1), goes_on("b", 2), goes_on("c", 3))
    hq.endpoint.take()
    hq.endpoint.writable = True
    hq.link.on_writable()
    turns = [stream for _, stream, _ in hq.endpoint.sent]
    assert turns == [1, 2, 3] * 5
    assert {len(data) for _, _, data in hq.endpoint.sent[:12]} == {FRAME_BYTES}
    for stream, letter in ((1, b"a"), (2, b"b"), (3, b"c")):
        assert hq.endpoint.output(stream) == letter * 300_000


async def test_nothing_is_packed_while_the_socket_takes_no_more(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    session.ring.append(b"x" * 900_000)
    hq = connect()
    hq.endpoint.take()
    hq.endpoint.writable_for = 1
    hq.registered(goes_on("s", 1))
    sent = len(hq.endpoint.output(1))
    assert FRAME_BYTES <= sent <= 256 << 10
    hq.ack(1, 0)
    assert len(hq.endpoint.output(1)) == sent
    hq.endpoint.writable = True
    hq.link.on_writable()
    assert hq.endpoint.output(1) == b"x" * 900_000


async def test_the_exit_is_told_once_and_after_the_last_byte(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1, limit=4))
    hq.endpoint.take()
    os.write(sessions.slaves["s"], b"last words")
    await until(lambda: session.ring.head == 4)
    session.take_exit(Exit(None, 9))
    await until(lambda: session.over)
    assert session.ring.head == 10
    hq.ack(1, 0, 4)
    await asyncio.sleep(0)
    assert len(hq.endpoint.sent) == 1, "neither more output nor the exit"
    hq.ack(1, 0, 10)
    await asyncio.sleep(0)
    assert hq.endpoint.take() == [
        (mux.Kind.OUTPUT, 1, b"last"),
        (mux.Kind.OUTPUT, 1, b" words"),
        ("exited", {"stream": 1, "offset": 10, "exit_code": None, "signal": 9}),
    ]


async def test_the_exit_is_told_again_on_the_next_link(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    session = sessions.add("s")
    session.ring.append(b"all")
    session.take_exit(Exit(3, None))
    await asyncio.wait_for(session.wait_over(), 15)
    for stream, start in ((1, 0), (2, 3)):
        hq = connect()
        hq.endpoint.take()
        hq.registered(goes_on("s", stream, **{"from": start}))
        *output, exited = hq.endpoint.take()
        assert output == ([(mux.Kind.OUTPUT, 1, b"all")] if start == 0 else [])
        assert exited == ("exited", {"stream": stream, "offset": 3, "exit_code": 3, "signal": None})
        hq.link.on_closed(1006, "")


# --- input ----------------------------------------------------------------------------------------


async def test_input_is_written_and_acknowledged(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1))
    hq.endpoint.take()
    for key in (b"l", b"s", b"\r"):
        hq.frame(mux.Kind.INPUT, 1, key)
    typed = b""
    while len(typed) < 3:
        typed += os.read(sessions.slaves["s"], 100)
    assert typed == b"ls\r"
    await until(lambda: hq.endpoint.sent)
    assert hq.endpoint.take() == [(mux.Kind.INPUT_ACK, 1, mux.pack_offset(3))], "once for all three"


async def test_a_paste_is_acknowledged_while_it_is_taken(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1))
    hq.endpoint.take()
    paste = os.urandom(200_000)
    for start in range(0, len(paste), 65_512):
        hq.frame(mux.Kind.INPUT, 1, paste[start : start + 65_512])
    loop = asyncio.get_running_loop()
    received = bytearray()
    slave = sessions.slaves["s"]
    loop.add_reader(slave, lambda: received.extend(os.read(slave, 65_536)))
    await until(lambda: received == paste)
    await until(lambda: hq.endpoint.sent and hq.endpoint.sent[-1][2] == mux.pack_offset(len(paste)))
    loop.remove_reader(slave)
    acknowledged = [mux.unpack_offset(memoryview(data)) for _, _, data in hq.endpoint.sent]
    assert acknowledged == sorted(set(acknowledged))
    assert len(acknowledged) >= len(paste) // (4 * INPUT_ACK_BYTES)


async def test_more_input_than_the_window_breaks_the_link(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1))

    def flood() -> None:
        for _ in range(MAX_INPUT_BYTES // 60_000 + 2):
            hq.frame(mux.Kind.INPUT, 1, bytes(60_000))

    with pytest.raises(ProtocolError, match="window"):
        flood()


async def test_frames_for_a_stream_that_is_not_open_are_late(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    hq = connect()
    hq.frame(mux.Kind.INPUT, 9, b"x")
    hq.ack(9, 1)


# --- starting and ending --------------------------------------------------------------------------


async def test_a_start_is_answered_and_its_output_follows(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    hq = connect()
    hq.registered()
    hq.endpoint.take()
    hq.say("start", session_id="s", stream=5, limit=FAR, env={}, rows=20, cols=70)
    sessions.may_start.set()
    await until(lambda: hq.endpoint.sent)
    os.write(sessions.slaves["s"], b"$ ")
    await until(lambda: hq.endpoint.output(5) == b"$ ")
    assert hq.endpoint.sent[0] == (
        "started",
        {
            "session_id": "s",
            "stream": 5,
            "epoch": "epoch-s",
            "pid": 4711,
            "rows": 20,
            "cols": 70,
            "command": ["program"],
            "cwd": "/work",
        },
    )


async def test_a_start_that_fails_is_told(sessions: FakeSessions, connect: Callable[[], Hq]) -> None:
    sessions.fails = StartFailed("cwd_not_found", "cannot work in /x")
    sessions.may_start.set()
    hq = connect()
    hq.endpoint.take()
    hq.say("start", session_id="s", stream=5, limit=0, env={})
    await until(lambda: hq.endpoint.sent)
    failed = {"session_id": "s", "stream": 5, "code": "cwd_not_found", "message": "cannot work in /x"}
    assert hq.endpoint.take() == [("start_failed", failed)]


async def test_what_is_asked_of_a_starting_session_is_done_when_it_has_started(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    hq = connect()
    hq.endpoint.take()
    hq.say("start", session_id="s", stream=5, limit=0, env={})
    hq.say("resize", stream=5, rows=50, cols=150)
    hq.say("stop", stream=5)
    assert sessions.done == []
    sessions.may_start.set()
    await until(lambda: sessions.done)
    assert sessions.done == [("stop", "s")]
    assert sessions.held["s"].size == (50, 150)


async def test_a_session_that_started_when_its_link_was_gone_is_registered_by_the_next(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    hq = connect()
    hq.say("start", session_id="s", stream=5, limit=0, env={})
    hq.link.on_closed(1006, "")
    hq.endpoint.take()
    sessions.may_start.set()
    await until(lambda: sessions.held)
    await asyncio.sleep(0)
    assert hq.endpoint.take() == []
    ((_, register),) = connect().endpoint.take()
    assert [held["session_id"] for held in register["sessions"]] == ["s"]


async def test_stop_resize_and_forget_reach_their_session(
    sessions: FakeSessions, connect: Callable[[], Hq]
) -> None:
    sessions.add("a")
    other = sessions.add("b")
    hq = connect()
    hq.registered(goes_on("a", 1), goes_on("b", 2))
    hq.say("stop", stream=1)
    hq.say("resize", stream=2, rows=11, cols=22)
    hq.say("stop", stream=99)
    hq.say("forget", session_id="a")
    assert sessions.done == [("stop", "a"), ("forget", "a")]
    assert other.size == (11, 22)
    hq.frame(mux.Kind.INPUT, 1, b"late")


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        (b"{", "bad_message", "JSON"),
        (b'{"type": "resize", "payload": {"stream": 1, "rows": 0, "cols": 80}}', "bad_message", "rows"),
        (b'{"type": "signal", "payload": {"stream": 1, "name": "NONSENSE"}}', "bad_message", "NONSENSE"),
    ],
)
async def test_a_wrong_message_is_answered_and_changes_nothing(
    sessions: FakeSessions, connect: Callable[[], Hq], text: bytes, code: str, sentence: str
) -> None:
    sessions.add("s")
    hq = connect()
    hq.registered(goes_on("s", 1))
    hq.endpoint.take()
    hq.link.on_text(text)
    ((kind, payload),) = hq.endpoint.take()
    assert (kind, payload["code"]) == ("error", code)
    assert sentence in payload["message"]


async def test_an_unknown_message_is_ignored(connect: Callable[[], Hq]) -> None:
    hq = connect()
    hq.endpoint.take()
    hq.say("something newer", at=1)
    assert hq.endpoint.take() == []


@pytest.mark.parametrize("name", ["INT", "SIGINT", "int", "sigint"])
def test_signals_have_names(name: str) -> None:
    assert signal_by_name(name) == 2
