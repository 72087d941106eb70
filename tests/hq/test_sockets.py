"""Sockets: who gets which WebSocket, and what becomes of a viewer's first words."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agentrelay.hq import rendering, sockets
from agentrelay.hq.input_queue import WINDOW_BYTES as INPUT_WINDOW_BYTES
from agentrelay.hq.session import State
from agentrelay.hq.store import SessionRow
from agentrelay.protocol.messages import Start
from tests.hq.fakes import answered
from tests.hq.plane import (
    ADMIN,
    RUNNER,
    FakeRunner,
    Plane,
    Program,
    ViewerClient,
    attached,
    happens,
    started,
    viewing,
)
from tests.transport.peers import RawPeer, frame, upgrade

TEXT, BINARY = 1, 2
NOBODY = "0" * 32


# --- logins ---------------------------------------------------------------------------------------


async def test_a_terminal_ends_with_the_login_that_opened_it(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "CHECK_LOGINS_S", 0.01)
    login, other = await plane.store.create_login(), await plane.store.create_login()
    url = plane.url(f"/ws/session/{program.session_id}")

    def connecting(cookie: str) -> Any:
        headers = {"Cookie": f"agentrelay_login={cookie}", "Origin": f"http://127.0.0.1:{plane.port}"}
        return connect(url, additional_headers=headers, compression=None)

    async with connecting(login) as ended, connecting(other) as stays:
        for viewer in (ended, stays):
            await viewer.send('{"type": "attach", "payload": {}}')
            assert orjson.loads(await viewer.recv())["type"] == "attached"
        await plane.store.revoke(login)
        await ended.wait_closed()
        assert (ended.close_code, ended.close_reason) == (4401, "the login has ended")
        program.print(b"more")
        while isinstance(heard := await stays.recv(), str):
            pass  # who controls now
        assert heard == b"more"


# --- before the upgrade ---------------------------------------------------------------------------


async def refusal(plane: Plane, path: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connect(plane.url(path), additional_headers=headers, proxy=None)
    response = refused.value.response
    assert response.headers["Content-Type"] == "application/problem+json"
    assert orjson.loads(response.body or b"")["status"] == response.status_code
    return response.status_code


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize("path", ["/ws/runner", "/ws/terminal/box", f"/ws/session/{NOBODY}", "/ws/x", "/"])
async def test_without_a_credential_everything_is_401_whether_it_exists_or_not(
    plane: Plane, path: str
) -> None:
    assert await refusal(plane, path) == 401
    assert await refusal(plane, path, Authorization="Bearer wrong") == 401


async def test_no_token_opens_what_belongs_to_the_other(plane: Plane, program: Program) -> None:
    assert await refusal(plane, "/ws/runner", Authorization=f"Bearer {ADMIN}") == 401
    for path in ("/ws/terminal/box", f"/ws/session/{program.session_id}"):
        assert await refusal(plane, path, Authorization=f"Bearer {RUNNER}") == 401


@pytest.mark.parametrize(
    "path",
    [
        "/ws/terminal/nobody",
        "/ws/terminal/",
        f"/ws/session/{NOBODY}",
        "/ws/session/",
        "/ws/session/a/b",
        "/ws/terminal/%00",
        "/ws/nothing",
        "/",
    ],
)
async def test_what_is_not_there_is_404(plane: Plane, path: str) -> None:
    assert await refusal(plane, path, Authorization=f"Bearer {ADMIN}") == 404


async def test_a_foreign_host_name_is_403(plane: Plane) -> None:
    async with raw_peer(plane, upgrade("/ws/runner").replace(b"localhost", b"evil.example")) as peer:
        assert (await peer.response())[0] == 403


# --- the first message ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def viewer_of(plane: Plane, program: Program, path: str) -> AsyncIterator[ViewerClient]:
    async with viewing(plane, path.replace("SESSION", program.session_id)) as viewer:
        yield viewer


ATTACH, START = "/ws/session/SESSION", "/ws/terminal/box"


@pytest.mark.parametrize(
    ("path", "first", "code", "close_code"),
    [
        (ATTACH, b"bytes", "bad_message", 1008),
        (ATTACH, '{"type":"start_session","payload":{}}', "bad_message", 1008),
        (ATTACH, '{"type":"resize","payload":{"rows":1,"cols":1}}', "bad_message", 1008),
        (ATTACH, '{"type":"from the future","payload":{}}', "bad_message", 1008),
        (ATTACH, '{"type":"attach","payload":{"from":-1}}', "bad_message", 1008),
        (ATTACH, "hello", "bad_message", 1008),
        (ATTACH, " " * 65_537, "too_large", 1009),
        (START, b"bytes", "bad_message", 1008),
        (START, '{"type":"attach","payload":{}}', "bad_message", 1008),
        (START, '{"type":"start_session","payload":{"command":[]}}', "bad_message", 1008),
    ],
)
async def test_a_wrong_beginning_is_told_and_the_end(
    plane: Plane, program: Program, path: str, first: str | bytes, code: str, close_code: int
) -> None:
    async with viewer_of(plane, program, path) as viewer:
        await viewer.connection.send(first)
        error = await viewer.hear("error")

        assert error["code"] == code
        assert error["message"]
        assert (await viewer.until_closed())[0] == close_code
    assert plane.session(program.session_id).describe().viewers == 0


@pytest.mark.parametrize("path", [ATTACH, START])
async def test_who_says_nothing_is_sent_away(
    plane: Plane, program: Program, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "FIRST_MESSAGE_S", 0.03)
    async with viewer_of(plane, program, path) as viewer:
        assert (await viewer.hear("error"))["code"] == "timeout"
        assert (await viewer.until_closed())[0] == 1008


async def test_the_clock_stops_with_the_first_message(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "FIRST_MESSAGE_S", 0.03)
    asked: list[Start] = []
    runner.on_start = asked.append
    async with viewing(plane, "/ws/terminal/box") as slow, viewing(plane, "/ws/terminal/box") as silent:
        await slow.say("start_session")
        # The program takes longer to start than a viewer may take to speak.
        await silent.until_closed()
        runner.start(asked[0])

        await slow.hear("session_started")


# --- what comes right behind it -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def raw_peer(plane: Plane, first: bytes) -> AsyncIterator[RawPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    peer = RawPeer(reader, writer)
    peer.send(first)
    yield peer
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def text(kind: str, **payload: Any) -> bytes:
    return frame(TEXT, orjson.dumps({"type": kind, "payload": payload}))


@pytest.mark.parametrize("first", ["attach", "start_session"])
async def test_everything_may_come_in_one_segment_with_the_request(
    plane: Plane, runner: FakeRunner, program: Program, first: str
) -> None:
    path = f"/ws/session/{program.session_id}" if first == "attach" else "/ws/terminal/box"
    sent = (
        upgrade(path, f"Authorization: Bearer {ADMIN}")
        + text(first)
        + frame(BINARY, b"ec")
        + text("resize", rows=30, cols=100)
        + frame(BINARY, b"ho ")
        + text("no such thing")
        + frame(BINARY, b"hi\n")
    )
    async with raw_peer(plane, sent) as peer:
        assert (await peer.head()).startswith("HTTP/1.1 101 ")
        heard = [orjson.loads(answer.data) for answer in [await peer.frame(), await peer.frame()] if answer]

        assert [message["type"] for message in heard][1] == "resized"
        session_id = heard[0]["payload"]["session_id"]
        await runner.until(lambda: runner.programs[session_id].typed == b"echo hi\n")
        assert plane.session(session_id).rows == 30


async def test_input_typed_before_the_program_runs_reaches_it(plane: Plane, runner: FakeRunner) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session")
        await viewer.type(b"typed early")
        await runner.until(lambda: asked)
        runner.start(asked[0])
        await viewer.hear("session_started")
        await runner.until(lambda: runner.programs[asked[0].session_id].typed == b"typed early")


async def test_a_flood_before_the_program_runs_waits_in_the_kernel(plane: Plane, runner: FakeRunner) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    async with viewing(plane, "/ws/terminal/box") as viewer, viewing(plane, "/ws/terminal/box") as other:
        await viewer.say("start_session")
        await runner.until(lambda: asked)
        pieces = [os.urandom(1 << 20) for _ in range(16)]

        async def flood() -> None:
            for piece in pieces:
                await viewer.type(piece)

        flooding = asyncio.ensure_future(flood())
        await other.say("start_session")
        await runner.until(lambda: len(asked) == 2)
        runner.start(asked[1])
        await other.hear("session_started")
        (endpoint,) = plane.paused
        assert isinstance(endpoint.handler, sockets.ViewerSocket)
        held_bytes = len(endpoint.handler._early)
        assert held_bytes <= 1, "only what was read together with the first message is held"

        runner.start(asked[0])
        await runner.until(lambda: len(runner.programs[asked[0].session_id].typed) == 16 << 20)
        await flooding
        assert runner.programs[asked[0].session_id].typed == b"".join(pieces)


async def test_early_input_that_fills_the_queue_pauses_the_viewer(plane: Plane, runner: FakeRunner) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    sent = upgrade("/ws/terminal/box", f"Authorization: Bearer {ADMIN}") + text("start_session")
    paste = frame(BINARY, bytes(INPUT_WINDOW_BYTES))
    async with raw_peer(plane, sent) as peer:
        await runner.until(lambda: asked)
        peer.send(paste + paste + paste)
        runner.start(asked[0])
        runner.programs[asked[0].session_id].reads = False
        session = plane.session(asked[0].session_id)
        await happens(lambda: session.input.full)
        await peer.head()
        await happens(lambda: plane.paused)

        assert session.input.taken <= 2 * INPUT_WINDOW_BYTES


# --- starting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("command_not_found", "there is no program called 'nope'"),
        ("cwd_not_found", "there is no directory " + "é" * 300),
    ],
)
async def test_a_start_that_fails_is_told_as_the_runner_told_it(
    plane: Plane, runner: FakeRunner, code: str, message: str
) -> None:
    runner.refuse(code, message)
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session", command=["nope"])

        assert await viewer.hear("error") == {"code": code, "message": message}
        close_code, reason = await viewer.until_closed()
        assert close_code == 1008
        assert message.startswith(reason)
    assert list(plane.registry.describe_sessions()) == []


async def test_a_runner_that_is_away_is_told(plane: Plane, runner: FakeRunner) -> None:
    await runner.disconnect()
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session")

        assert (await viewer.hear("error"))["code"] == "runner_away"
        assert (await viewer.until_closed())[0] == 1008


async def test_a_start_that_would_break_the_link_is_refused(plane: Plane, runner: FakeRunner) -> None:
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session", command=["echo", "x" * 65_400])

        assert (await viewer.hear("error"))["code"] == "too_large"
    assert runner.closed is None
    assert list(plane.registry.describe_sessions()) == []


@pytest.mark.parametrize("stays", [True, False])
async def test_what_a_program_asks_before_its_viewer_is_told_is_answered_once(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    save = plane.store.save_session
    stored = asyncio.Event()

    async def wait(row: SessionRow) -> None:
        if row.epoch:
            await stored.wait()
        await save(row)

    monkeypatch.setattr(plane.store, "save_session", wait)

    def start(asked: Start) -> None:
        runner.start(asked)
        runner.programs[asked.session_id].print(b"\x1b[6n")

    runner.on_start = start
    await rendering.prepare()
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session")
        await happens(lambda: [session for session in plane.registry.sessions.values() if session.head])
        await answered()
        (program,) = runner.programs.values()
        if stays:
            stored.set()
            await viewer.hear("session_started")
            await viewer.type(b"\x1b[9;9R")
            await runner.until(lambda: b"9R" in program.typed)
            assert program.typed == b"\x1b[9;9R"
        else:
            assert program.typed == b""
            (endpoint,) = plane.paused
            endpoint.abort()
            stored.set()
            await runner.until(lambda: program.typed)
            assert program.typed == b"\x1b[1;1R"


@pytest.mark.parametrize("field", ["command", "env", "cwd", "name"])
async def test_the_largest_starts_reach_the_runner(plane: Plane, runner: FakeRunner, field: str) -> None:
    text_ = "\x01" * 10_000 if field != "name" else "n" * 200
    wishes: dict[str, Any] = {"command": ["x", text_], "env": {"A": text_}, "cwd": text_, "name": text_}
    async with started(plane, runner, **{field: wishes[field]}) as (_, program):
        assert program.session_id in runner.programs
    assert runner.closed is None


async def test_who_leaves_before_the_program_runs_leaves_it_running(plane: Plane, runner: FakeRunner) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    async with viewing(plane, "/ws/terminal/box") as viewer:
        await viewer.say("start_session")
        await runner.until(lambda: asked)
    runner.start(asked[0])
    session = plane.session(asked[0].session_id)
    await happens(lambda: session.state is State.RUNNING and len(plane.state.connections) == 1)

    assert session.describe().viewers == 0
    async with attached(plane, session.session_id) as back:
        assert back.answer["control"]


async def test_a_fault_of_hq_is_told_and_closes_with_1011(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(session: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(rendering, "snapshot", fail)
    program.print(bytes((1 << 20) + 1))
    await happens(lambda: plane.session(program.session_id).head > 1 << 20)
    async with viewing(plane, f"/ws/session/{program.session_id}") as viewer:
        await viewer.say("attach")

        assert (await viewer.hear("error"))["code"] == "internal"
        assert await viewer.until_closed() == (1011, "internal error")
    assert "a bug" in caplog.text
    assert plane.session(program.session_id).describe().viewers == 0
