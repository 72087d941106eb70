"""The runner as people run it: a process of its own, a fake HQ, real keepers and programs."""

import asyncio
import contextlib
import os
import re
import signal
import sys

import pytest

from agentrelay.runner.paths import KEEPER_LOCK, RUNNER_LOCK, RunnerDirectory, lock_holder
from tests.runner.conftest import StartRunner, children, kill, text_of, wait_readable
from tests.runner.fake_hq import FAR, FakeHq, FakeLink, fake_hq

# Prints numbers of 7 digits that count up: any byte that is lost, doubled or out of place shows. It is text,
# because 0xFF at the end of a read that a killed runner did not count cannot be told from the guard.
COUNTER = """
import os, sys, tty
tty.setraw(1)
for start in range(0, int(sys.argv[1]), 500):
    lines = b"".join(b"%07d\\n" % number for number in range(start, start + 500))
    while lines:
        lines = lines[os.write(1, lines):]
"""


def first_wrong(received: bytearray, total: int) -> int | None:
    """Give the offset of the first byte that is not as the counter printed it."""
    expected = b"".join(b"%07d\n" % number for number in range(total))
    if received == expected:
        return None
    pairs = enumerate(zip(received, expected, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(received), len(expected)))


def keeper_pid(directory: RunnerDirectory) -> int:
    pid = lock_holder(directory, KEEPER_LOCK)
    assert pid
    return pid


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    with contextlib.suppress(ProcessLookupError):
        watch = os.pidfd_open(pid)
        await asyncio.to_thread(wait_readable, watch)
        os.close(watch)


async def linked(hq: FakeHq, **answers: tuple[int, dict[str, int]]) -> FakeLink:
    link = await hq.link()
    await link.register(**answers)
    return link


async def test_it_registers_and_runs_programs(
    hq: FakeHq, run_runner: StartRunner, directory: RunnerDirectory
) -> None:
    await run_runner()
    link = await hq.link()
    register = await link.register()
    assert hq.tokens == ["Bearer test-token"]
    assert register["runner_id"] == "test-runner"
    assert "shell" in [preset["name"] for preset in register["presets"]]
    started = await link.start("s", 1, command=["sh", "-c", "echo hello; exit 4"], cwd="/tmp")
    assert started["cwd"] == "/tmp"
    assert (await link.exit(1))["exit_code"] == 4
    assert link.streams[1].output == b"hello\r\n"
    await link.say("forget", session_id="s")


async def test_a_login_shell_is_what_starts_without_a_command(hq: FakeHq, run_runner: StartRunner) -> None:
    await run_runner(SHELL="/bin/bash")
    link = await linked(hq)
    started = await link.start("s", 1)
    assert started["command"] == ["/bin/bash", "-l"]
    assert text_of(f"/proc/{started['pid']}/comm") == "bash\n"
    await link.type(1, b"echo $((6 * 7)); shopt login_shell; exit\r")
    assert b"login_shell    \ton" in await link.output(1, b"on\r\n")
    assert b"42\r\n" in link.streams[1].output
    await link.exit(1)


async def test_a_program_is_the_keepers_child_and_sees_no_secret(
    hq: FakeHq, run_runner: StartRunner, directory: RunnerDirectory
) -> None:
    await run_runner(AGENTRELAY_ADMIN_TOKEN="very-secret", RUNNER_TOKEN="very-secret", TMUX="/tmp/tmux")
    link = await linked(hq)
    started = await link.start("s", 1, command=["sh", "-c", "env; read x"], env={"MINE": "yes"})
    printed = (await link.output(1, b"MINE=yes")).decode()
    assert started["pid"] in children(keeper_pid(directory))
    environment = text_of(f"/proc/{started['pid']}/environ")
    for text in (printed, environment):
        assert "very-secret" not in text
        assert "AGENTRELAY" not in text
        assert "TMUX" not in text
    assert {"TERM=xterm-256color", "COLORTERM=truecolor", "MINE=yes"} <= set(environment.split("\0"))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"command": ["no-such-program"]}, "command_not_found"),
        ({"command": ["ls"], "cwd": "/no/such"}, "cwd_not_found"),
        ({"preset": "no-such-preset"}, "unknown_preset"),
    ],
)
async def test_what_does_not_start_says_why(
    hq: FakeHq, run_runner: StartRunner, fields: dict[str, object], code: str
) -> None:
    await run_runner()
    link = await linked(hq)
    await link.say("start", session_id="s", stream=1, limit=FAR, env={}, **fields)
    failed = await link.hear("start_failed", session_id="s", stream=1)
    assert failed["code"] == code
    assert failed["message"]


async def test_ctrl_c_leaves_the_sessions_and_says_so(
    hq: FakeHq, run_runner: StartRunner, directory: RunnerDirectory
) -> None:
    runner = await run_runner()
    link = await linked(hq)
    started = await link.start("s", 1, command=["cat"])
    runner.process.send_signal(signal.SIGINT)
    assert await link.closed() == 1001
    assert await runner.ends() == 0
    assert f"go on in keeper {keeper_pid(directory)}: 1; `agentrelay-runner --stop`" in runner.lines[-1]
    assert started["pid"] in children(keeper_pid(directory))
    await run_runner()
    link = await linked(hq, s=(3, {}))
    await link.type(3, b"still there\n")
    await link.output(3, b"still there\r\nstill there\r\n")


async def test_a_killed_runner_loses_nothing(hq: FakeHq, run_runner: StartRunner) -> None:
    """Killed in the middle of a flood, again and again; the numbers must still count up by one."""
    total = 2_000_000
    runner = await run_runner()
    link = await linked(hq)
    await link.start("s", 1, command=[sys.executable, "-c", COUNTER, str(total)], cwd="/")
    received = bytearray()
    stream = 1
    for kill_at in range(1, 13):
        wanted = kill_at * 1_000_000
        await link.output_reaches(stream, wanted)
        await runner.kill()
        await link.closed()
        received += link.streams[stream].output
        stream += 1
        runner = await run_runner()
        link = await linked(hq, s=(stream, {"from": len(received), "acked": len(received)}))
    assert (await link.exit(stream))["exit_code"] == 0
    received += link.streams[stream].output
    assert first_wrong(received, total) is None


async def test_a_broken_link_loses_nothing(hq: FakeHq, run_runner: StartRunner) -> None:
    total = 500_000
    await run_runner()
    link = await linked(hq)
    await link.start("s", 1, command=[sys.executable, "-c", COUNTER, str(total)], cwd="/")
    received = bytearray()
    for stream in range(1, 6):
        wanted = stream * 500_000
        await link.output_reaches(stream, wanted)
        link.connection.transport.abort()
        await link.closed()
        received += link.streams[stream].output
        # What HQ has not said to be safe is still there, and it may ask for it again.
        link = await linked(hq, s=(stream + 1, {"from": len(received), "acked": len(received)}))
    await link.exit(6)
    received += link.streams[6].output
    assert first_wrong(received, total) is None


async def test_a_program_that_does_not_read_disturbs_nobody(hq: FakeHq, run_runner: StartRunner) -> None:
    await run_runner()
    link = await linked(hq)
    await link.start("deaf", 1, command=["sh", "-c", "stty raw; echo ready; exec sleep 600"])
    await link.start("other", 2, command=["cat"])
    await link.output(1, b"ready")
    for _ in range(16):
        await link.type(1, bytes(65_000))
    for number in range(50):
        await link.type(2, b"line %d\n" % number)
        await link.output(2, b"line %d\r\nline %d\r\n" % (number, number))
    await link.until(lambda: link.streams[1].input_applied)
    assert link.streams[1].input_applied < 1 << 18


async def test_flooding_sessions_leave_room_for_the_others(hq: FakeHq, run_runner: StartRunner) -> None:
    await run_runner()
    link = await linked(hq)
    for stream in (1, 2, 3):
        await link.start(f"flood{stream}", stream, command=["yes", "flood" * 20])
    await link.start("quiet", 4, command=["cat"])
    for number in range(20):
        await link.type(4, b"line %d\n" % number)
        await link.output(4, b"line %d\r\nline %d\r\n" % (number, number))


async def test_a_limit_holds_a_program_back_until_it_moves(hq: FakeHq, run_runner: StartRunner) -> None:
    await run_runner()
    link = await linked(hq)
    link.auto_ack = False
    await link.start("s", 1, limit=10_000, command=["head", "-c", "50000", "/dev/zero"])
    await link.until(lambda: link.streams[1].head == 10_000)
    await link.start("t", 2, command=["echo", "meanwhile"])
    await link.exit(2)
    assert link.streams[1].head == 10_000
    await link.ack(1, 10_000, 50_000)
    await link.exit(1)


async def test_a_resize_and_a_signal_reach_the_program(hq: FakeHq, run_runner: StartRunner) -> None:
    await run_runner()
    link = await linked(hq)
    script = "trap 'stty size' WINCH; trap 'echo int' INT; echo ready; while :; do read -t 0.1 x; done"
    await link.start("s", 1, command=["bash", "-c", script], rows=30, cols=100)
    await link.output(1, b"ready")
    await link.say("resize", stream=1, rows=41, cols=133)
    await link.output(1, b"41 133\r\n")
    await link.say("signal", stream=1, name="INT")
    await link.output(1, b"int\r\n")
    await link.say("stop", stream=1)
    assert (await link.exit(1))["signal"] in (signal.SIGHUP, signal.SIGTERM)


async def test_sessions_outlive_their_keeper(
    hq: FakeHq, run_runner: StartRunner, directory: RunnerDirectory, programs: list[int]
) -> None:
    runner = await run_runner()
    link = await linked(hq)
    old = await link.start("old", 1, command=["cat"])
    programs.append(old["pid"])
    first = keeper_pid(directory)
    kill(first)
    await link.type(1, b"hello\n")
    await link.output(1, b"hello\r\nhello\r\n")
    await link.start("new", 2, command=["sh", "-c", "exit 6"])
    assert (await link.exit(2))["exit_code"] == 6
    assert keeper_pid(directory) != first
    await runner.kill()
    await run_runner()
    link = await linked(hq, old=(7, {}))
    await link.type(7, b"again\n\x04")
    assert await link.exit(7) | {"stream": 0} == {
        "stream": 0,
        "offset": link.streams[7].head,
        "exit_code": None,
        "signal": None,
    }
    assert link.streams[7].output.endswith(b"again\r\nagain\r\n")


async def test_hq_may_go_and_come_back(run_runner: StartRunner, hq: FakeHq) -> None:
    """One line says that it is away, however often it is tried, and one that it is back."""
    async with fake_hq() as first:
        runner = await run_runner("--hq-url", first.url)
        link = await linked(first)
        await link.start("s", 1, command=["cat"])
        await runner.prints("connected to HQ")
    await runner.prints("link to HQ was closed (1001")
    await runner.prints("cannot be reached")
    async with fake_hq(first.port) as second:
        link = await linked(second, s=(1, {}))
        await link.type(1, b"back\n")
        await link.output(1, b"back\r\nback\r\n")
        await runner.prints("connected to HQ")
    assert sum("cannot be reached" in line for line in runner.lines) == 1


async def test_a_token_that_is_refused_at_first_ends_it(run_runner: StartRunner, hq: FakeHq) -> None:
    hq.refuse_with = 401
    runner = await run_runner()
    assert await runner.ends() == 2
    assert runner.lines[-1].startswith("agentrelay-runner: HQ at ws://127.0.0.1")
    assert "refuses the token: set RUNNER_TOKEN" in runner.lines[-1]


async def test_a_token_that_is_refused_later_does_not(run_runner: StartRunner, hq: FakeHq) -> None:
    runner = await run_runner()
    link = await linked(hq)
    hq.refuse_with = 401
    await link.connection.close(1012)
    await runner.prints("answered 401")
    hq.refuse_with = None
    await linked(hq)


async def test_a_link_that_hq_closes_instead_of_registering_is_dialled_again(
    run_runner: StartRunner, hq: FakeHq
) -> None:
    runner = await run_runner()
    link = await hq.link()
    instance = (await link.hear("register"))["instance"]
    await link.say("error", code="runner_id_in_use", message="another has this name")
    await link.connection.close(1008, "another has this name")
    await runner.prints("closed the link before it was registered: another has this name (1008); trying on")
    link = await hq.link()
    await link.say("error", code="runner_id_in_use", message="another has this name")
    await link.connection.close(1008, "another has this name")
    link = await hq.link()
    await link.say("error", code="limit_reached", message="not all of them")
    assert (await link.register())["instance"] == instance
    await runner.prints("HQ says: not all of them (limit_reached)")
    assert "".join(runner.lines).count("another has this name") == 1


async def test_there_is_one_for_a_runner_id(
    run_runner: StartRunner, hq: FakeHq, directory: RunnerDirectory
) -> None:
    runner = await run_runner()
    await linked(hq)
    second = await run_runner()
    assert await second.ends() == 2
    assert second.lines == [
        "agentrelay-runner: a runner with the id test-runner runs already "
        f"(process {runner.pid}): end it, or choose another --runner-id\n"
    ]
    other = await run_runner("--runner-id", "other")
    assert (await (await hq.link()).register())["runner_id"] == "other"
    assert other.process.returncode is None


async def test_stop_ends_everything_and_hq_hears_it(
    run_runner: StartRunner, hq: FakeHq, directory: RunnerDirectory
) -> None:
    runner = await run_runner()
    link = await linked(hq)
    started = await link.start("s", 1, command=["cat"])
    keeper = keeper_pid(directory)
    stopping = await run_runner("--stop")
    assert (await link.exit(1))["signal"] in (signal.SIGHUP, signal.SIGTERM)
    assert await link.closed() == 1001
    assert await runner.ends() == 0
    assert await stopping.ends() == 0
    assert stopping.process.stdout is not None
    said = (await stopping.process.stdout.read()).decode()
    assert f"Ended runner daemon {runner.pid} and its sessions.\n" in said
    await gone(keeper)
    await gone(started["pid"])
    assert lock_holder(directory, RUNNER_LOCK) is None


async def test_stop_without_a_runner_ends_what_it_left(
    run_runner: StartRunner, hq: FakeHq, directory: RunnerDirectory
) -> None:
    runner = await run_runner()
    link = await linked(hq)
    started = await link.start("s", 1, command=["cat"])
    keeper = keeper_pid(directory)
    await runner.kill()
    stopping = await run_runner("--stop")
    assert await stopping.ends() == 0
    assert stopping.process.stdout is not None
    assert (await stopping.process.stdout.read()).decode() == f"Ended keeper {keeper} and its sessions: 1.\n"
    await gone(started["pid"])


async def test_a_keeper_that_cannot_start_is_one_line(
    run_runner: StartRunner, hq: FakeHq, directory: RunnerDirectory
) -> None:
    os.mkdir(f"{directory.path}/keeper.sock")
    runner = await run_runner()
    assert await runner.ends(30) == 2
    assert "no keeper can be started: cannot listen" in runner.lines[-1]


async def test_it_is_small(run_runner: StartRunner, hq: FakeHq) -> None:
    runner = await run_runner()
    await linked(hq)
    status = text_of(f"/proc/{runner.pid}/status")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    assert int(match[1]) < 36 * 1024
    # What HQ needs and a runner does not: nothing of it is loaded.
    loaded = text_of(f"/proc/{runner.pid}/maps")
    for library in ("pydantic", "httptools", "ghostty", "sqlalchemy", "xxhash", "argon2"):
        assert library not in loaded
