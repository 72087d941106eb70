"""What is wrong is refused clearly, and disturbs nobody."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.system.running import ADMIN_TOKEN, RUNNER_TOKEN, System
from tests.system.test_bytes import ECHO
from tests.system.viewing import BEARER, Viewer, opened, python, started

SIZES = ["sh", "-c", "stty -echo; echo ready; while read -r line; do stty size; done"]


@asynccontextmanager
async def undisturbed(system: System) -> AsyncIterator[None]:
    """Whatever is done within, HQ and another session go on."""
    async with started(system, python(ECHO, 11)) as other:
        await other.sees(b"ready")
        await other.echoes(b"before")
        yield
        assert system.http.get("/health").status_code == 200
        await other.echoes(b"after")
        assert await other.ends() == (0, None)


async def size(viewer: Viewer) -> bytes:
    """Give what the program of `SIZES` says its size is."""
    seen = len(viewer.output)
    await viewer.type(b"\n")
    await viewer.until("a size", lambda: b"\n" in viewer.output[seen:])
    return bytes(viewer.output[seen:])


async def test_the_program_has_the_size_of_the_viewer(system: System) -> None:
    async with started(system, SIZES, rows=30, cols=100) as viewer:
        await viewer.sees(b"ready\r\n")
        assert await size(viewer) == b"30 100\r\n"
        await viewer.say("resize", rows=51, cols=203)
        assert await viewer.hears("resized") == {"rows": 51, "cols": 203}
        assert await size(viewer) == b"51 203\r\n"
        await viewer.type(b"\x04")
        await viewer.ends()


@pytest.mark.parametrize(
    "message",
    [
        {"type": "resize", "payload": {"rows": 0, "cols": 80}},
        {"type": "resize", "payload": {"rows": 24, "cols": 1001}},
        {"type": "resize", "payload": {"rows": "24", "cols": 80}},
        {"type": "resize", "payload": {"rows": 24}},
        {"type": "resize", "payload": [24, 80]},
        {"type": "resize"},
        {"type": "ack", "payload": {"offset": -1}},
        {"type": "signal", "payload": {"name": 9}},
        {"type": "attach", "payload": {}},
        {"type": 7, "payload": {}},
        ["resize"],
        None,
        "not JSON",
    ],
    ids=str,
)
async def test_a_wrong_message_is_answered_and_ignored(system: System, message: object) -> None:
    text = "{" if message == "not JSON" else json.dumps(message)
    async with started(system, SIZES) as viewer:
        await viewer.sees(b"ready\r\n")
        await viewer.socket.send(text)
        error = await viewer.hears("error")
        assert error["code"] == "bad_message"
        assert error["message"]
        assert await size(viewer) == b"24 80\r\n"


async def test_what_is_not_known_is_ignored(system: System) -> None:
    async with started(system, SIZES, a_field_of_next_year=1) as viewer:
        await viewer.sees(b"ready\r\n")
        await viewer.say("of_next_year", rows=1)
        await viewer.say("resize", rows=10, cols=20, why="because")
        assert await size(viewer) == b"10 20\r\n"
        assert [kind for kind, _ in viewer.seen if kind == "error"] == []


@pytest.mark.parametrize(
    "first",
    [
        "",
        "{",
        "[]",
        b"bytes",
        {"type": "attach", "payload": {}},
        {"type": "start_session"},
        {"type": "start_session", "payload": {"command": []}},
        {"type": "start_session", "payload": {"command": "sh"}},
        {"type": "start_session", "payload": {"command": ["sh\0"]}},
        {"type": "start_session", "payload": {"command": ["sh"], "rows": 0}},
        {"type": "start_session", "payload": {"command": ["sh"], "env": {"A=": "1"}}},
        {"type": "start_session", "payload": {"command": ["sh"], "cols": 1e300}},
    ],
    ids=str,
)
async def test_a_wrong_first_message_ends_the_connection(system: System, first: Any) -> None:
    async with opened(system, "/ws/terminal/r1") as viewer:
        await viewer.socket.send(json.dumps(first) if isinstance(first, dict) else first)
        assert (await viewer.hears("error"))["code"] == "bad_message"
        assert await viewer.is_closed() == 1008


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_text_of_a_megabyte_is_refused(system: System, is_first: bool) -> None:
    async with undisturbed(system), opened(system, "/ws/terminal/r1") as viewer:
        if not is_first:
            await viewer.say("start_session", command=["sleep", "1000"])
            await viewer.hears("session_started")
        await viewer.say("resize", rows=1, cols=1, why="x" * 1_000_000)
        assert (await viewer.hears("error"))["code"] == "too_large"
        assert await viewer.is_closed() == 1009
        if not is_first:
            assert system.session(viewer.session_id)["state"] == "running"
            system.signal(viewer.session_id, "KILL")


async def test_a_message_beyond_every_bound_is_refused(system: System) -> None:
    async with undisturbed(system), started(system, ["sleep", "1000"]) as viewer:
        await viewer.type(b"x" * 1_200_000)
        assert await viewer.is_closed() == 1009
        assert system.session(viewer.session_id)["state"] == "running"
        system.signal(viewer.session_id, "KILL")


async def status_of(system: System, path: str, headers: dict[str, str] | None = None) -> int:
    """Give the status that a WebSocket's upgrade is answered with."""
    try:
        async with opened(system, path, additional_headers=headers or {}):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_upgrades_need_credentials_of_the_right_kind(system: System) -> None:
    viewers = ["/ws/terminal/r1", "/ws/terminal/none", "/ws/session/none"]
    for path in [*viewers, "/ws/runner"]:
        assert await status_of(system, path) == 401
        for wrong in ("", "wrong", ADMIN_TOKEN + "x"):
            assert await status_of(system, path, bearer(wrong)) == 401
    for path in viewers:
        assert await status_of(system, path, bearer(RUNNER_TOKEN)) == 401
    assert await status_of(system, "/ws/runner", BEARER) == 401
    assert await status_of(system, "/ws/runner", bearer(RUNNER_TOKEN)) == 101
    assert await status_of(system, "/ws/terminal/r1", BEARER) == 101


async def test_what_does_not_exist_is_said_before_the_upgrade(system: System) -> None:
    for path in ("/ws/terminal/none", "/ws/session/none", "/ws/none"):
        assert await status_of(system, path, BEARER) == 404
    assert system.http.get("/api/sessions/none").status_code == 404
    answer = system.http.post("/api/sessions", json={"runner_id": "none", "command": ["sh"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_runner")


async def test_a_cookie_is_good_from_hqs_own_pages_only(system: System) -> None:
    answer = system.http.post("/api/login", json={"token": ADMIN_TOKEN}, headers={"Origin": system.url})
    assert answer.is_success
    cookie = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    system.http.cookies.clear()
    path = "/ws/terminal/r1"
    assert await status_of(system, path, cookie | {"Origin": system.url}) == 101
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{system.port + 1}"):
        assert await status_of(system, path, cookie | {"Origin": origin}) == 403
    assert await status_of(system, path, cookie) == 403
    assert await status_of(system, path, {"Cookie": cookie["Cookie"] + "x", "Origin": system.url}) == 401
