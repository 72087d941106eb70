"""How a session ends: the last byte first, then the truth about how; and how one does not begin."""

import asyncio
import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.system.running import System, until
from tests.system.viewing import opened, python, started, stream

TIMES = 10
LAST_BYTES = 200_000

LAST_WORDS = """
import hashlib, os, sys, tty
tty.setraw(1)
data = hashlib.shake_256(sys.argv[1].encode()).digest(200_000)
while data:
    data = data[os.write(1, data):]
os._exit(int(sys.argv[2]))
"""

WITH_GRANDCHILD = (
    """
import signal, subprocess
signal.signal(signal.SIGHUP, signal.SIG_IGN)
left = subprocess.Popen(["/bin/sleep", "1000"])
open(__import__("sys").argv[3], "w").write(str(left.pid))
"""
    + LAST_WORDS
)

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print("pids", os.getpid(), child, flush=True)
while True:
    time.sleep(100)
"""


def exists(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def has_ended(system: System, session_id: str) -> bool:
    """Tell whether HQ knows that a session has ended."""
    return bool(system.session(session_id)["state"] == "ended")


async def test_the_last_bytes_always_arrive(system: System) -> None:
    for time in range(TIMES):
        async with started(system, python(LAST_WORDS, time, 3 + time)) as viewer:
            assert await viewer.ends() == (3 + time, None)
        assert viewer.output == stream(time, LAST_BYTES)


async def test_the_last_bytes_arrive_also_when_the_viewer_reads_late(system: System) -> None:
    for time in range(TIMES):
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", system.port))
        options = {"sock": small, "max_queue": 1}
        async with started(system, python(LAST_WORDS, time, 3), options=options) as viewer:
            ended = partial(has_ended, system, viewer.session_id)
            await asyncio.to_thread(until, "end", ended)
            assert await viewer.ends() == (3, None)
        assert viewer.output == stream(time, LAST_BYTES)


async def test_the_last_bytes_arrive_also_when_the_viewer_reads_slowly(system: System) -> None:
    async with started(system, python(LAST_WORDS, "slow", 3), options={"max_queue": 1}) as viewer:
        while len(viewer.output) < LAST_BYTES:
            await asyncio.sleep(0.005)  # between two frames; it is not for anything to happen meanwhile
            assert await viewer.receive()
        assert await viewer.ends() == (3, None)
    assert viewer.output == stream("slow", LAST_BYTES)


async def test_the_last_bytes_arrive_also_when_something_keeps_the_terminal(
    system: System, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    for time in range(TIMES):
        async with started(system, python(WITH_GRANDCHILD, time, 4, note)) as viewer:
            try:
                assert await viewer.ends() == (4, None)
                assert exists(int(note.read_text()))
            finally:
                os.kill(int(note.read_text()), signal.SIGKILL)
        assert viewer.output == stream(time, LAST_BYTES)


@pytest.mark.parametrize("name", ["SIGKILL", "TERM"])
async def test_a_signal_ends_it_and_is_told(system: System, name: str) -> None:
    async with started(system, ["/bin/sh", "-c", "echo ready; exec sleep 1000"]) as viewer:
        await viewer.sees(b"ready")
        await viewer.say("signal", name=name)
        number = signal.Signals["SIG" + name.removeprefix("SIG")]
        assert await viewer.ends() == (None, number)
        told = system.session(viewer.session_id)
        assert (told["state"], told["exit_code"], told["signal"]) == ("ended", None, number)


@pytest.mark.parametrize("code", [0, 1, 255])
async def test_the_exit_code_is_told(system: System, code: int) -> None:
    async with started(system, ["/bin/sh", "-c", f"exit {code}"]) as viewer:
        assert await viewer.ends() == (code, None)


@pytest.mark.parametrize(
    ("wish", "code", "named"),
    [
        ({"command": ["no-such-program-here"]}, "command_not_found", "no-such-program-here"),
        ({"command": ["/no/such/program"]}, "command_not_found", "/no/such/program"),
        ({"command": ["sh"], "cwd": "/no/such/directory"}, "cwd_not_found", "/no/such/directory"),
        ({"preset": "no-such-preset"}, "unknown_preset", "no-such-preset"),
    ],
)
async def test_what_cannot_start_says_why(
    system: System, wish: dict[str, object], code: str, named: str
) -> None:
    known = len(system.http.get("/api/sessions").json()["sessions"])
    async with opened(system, "/ws/terminal/r1") as viewer:
        await viewer.say("start_session", **wish)
        error = await viewer.hears("error")
        assert error["code"] == code
        assert named in error["message"]
        assert await viewer.is_closed() == 1008
    answer = system.http.post("/api/sessions", json={"runner_id": "r1", **wish})
    assert answer.status_code == 422
    assert (answer.headers["content-type"], answer.json()["code"]) == ("application/problem+json", code)
    assert len(system.http.get("/api/sessions").json()["sessions"]) == known


async def test_delete_ends_the_whole_group_and_then_removes_it(system: System) -> None:
    async with started(system, python(STUBBORN)) as viewer:
        await viewer.sees(b"\r\n")
        pids = [int(word) for word in viewer.output.split()[1:]]
        assert pids[0] == viewer.pid
        path = f"/api/sessions/{viewer.session_id}"
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        assert system.http.delete(path).status_code == 202
        assert await viewer.ends() == (None, signal.SIGKILL)
        assert 4.9 < loop.time() - asked_s < 8
    until("end of the child", lambda: not any(map(exists, pids)), 1)
    assert system.http.delete(path).status_code == 204
    assert system.http.get(path).status_code == 404
    assert system.http.delete(path).status_code == 404
