"""The keeper process, driven over its socket as docs/protocol.md section 4 has it."""

import os
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from agentrelay.runner.paths import KEEPER_LOCK, KEEPER_SOCKET, RunnerDirectory, lock_holder
from agentrelay.runner.ring_memory import create_ring_memory
from agentrelay.runner.spawn import spawn
from tests.runner.conftest import KeeperTalk, kill, wait_readable

Connect = Callable[[], KeeperTalk]
Start = Callable[..., None]


def read_all(fd: int) -> bytes:
    output = b""
    while True:
        wait_readable(fd)
        try:
            output += os.read(fd, 65_536)
        except OSError:
            return output


def read_until(fd: int, wanted: bytes) -> None:
    output = b""
    while wanted not in output:
        wait_readable(fd)
        output += os.read(fd, 65_536)


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def keeper_pid(directory: RunnerDirectory) -> int:
    pid = lock_holder(directory, KEEPER_LOCK)
    assert pid
    return pid


def keeper_ends(directory: RunnerDirectory) -> bool:
    """Whether the keeper has ended and left no socket behind; waits for it."""
    pid = lock_holder(directory, KEEPER_LOCK)
    if pid:
        try:
            watch = os.pidfd_open(pid)
        except ProcessLookupError:
            pass
        else:
            wait_readable(watch)
            os.close(watch)
    return not Path(directory.path, KEEPER_SOCKET).exists()


def test_it_starts_a_program_and_tells_how_it_ended(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    assert runner.hello() == []
    spawned = runner.spawn("s", "sh", "-c", "echo hello; exit 3")
    assert spawned.type == "spawned"
    master, memory = spawned.fds
    assert read_all(master) == b"hello\r\n"
    assert runner.expect("exited").payload == {"session_id": "s", "exit_code": 3, "signal": None}
    assert struct.unpack("=QQQQQ", os.pread(memory, 40, 0))[1:] == (131_072, 0, 0, 0), "it does no I/O on it"
    close(master, memory)


def test_a_program_that_is_killed_has_a_signal_and_no_exit_code(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    spawned = runner.spawn("s", "sh", "-c", "kill -9 $$")
    assert runner.expect("exited").payload == {"session_id": "s", "exit_code": None, "signal": 9}
    close(*spawned.fds)


def test_what_does_not_start_says_why(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    failed = runner.spawn("s", "no-such-program")
    assert (failed.type, failed.payload["code"]) == ("spawn_failed", "command_not_found")
    failed = runner.spawn("s", "sh", cwd="/no/such")
    assert (failed.type, failed.payload["code"]) == ("spawn_failed", "cwd_not_found")
    spawned = runner.spawn("s", "sh")
    again = runner.spawn("s", "sh")
    assert (again.type, again.payload["code"]) == ("spawn_failed", "start_failed")
    close(*spawned.fds)


def test_sessions_and_exits_outlive_their_runner(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    asked = {"epoch": "e1", "rows": 30, "cols": 90, "cwd": "/tmp"}
    running = runner.spawn("running", "cat", **asked)
    ended = runner.spawn("ended", "sh", "-c", "read line; echo $line; exit 7")
    os.write(ended.fds[0], b"last words\n")
    close(*running.fds, *ended.fds)
    runner.close()

    runner = talk()
    held = {message.payload["session_id"]: message for message in runner.hello()}
    assert held["running"].payload == {
        "session_id": "running",
        "epoch": "e1",
        "pid": running.payload["pid"],
        "rows": 30,
        "cols": 90,
        "ring_bytes": 131_072,
        "command": ["cat"],
        "cwd": "/tmp",
    }
    assert b"last words\r\nlast words\r\n" in read_all(held["ended"].fds[0])
    if "exit" not in held["ended"].payload:
        assert runner.expect("exited").payload["exit_code"] == 7
    os.write(held["running"].fds[0], b"still here\n")
    read_until(held["running"].fds[0], b"still here\r\nstill here\r\n")
    runner.close()

    again = {message.payload["session_id"]: message for message in talk().hello()}
    assert again["ended"].payload["exit"] == {"exit_code": 7, "signal": None}
    for message in (*held.values(), *again.values()):
        close(*message.fds)


def test_what_is_forgotten_is_not_held_any_more(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    spawned = runner.spawn("s", "true")
    runner.expect("exited")
    runner.say("forget", session_id="s")
    assert talk().hello() == []
    close(*spawned.fds)


def test_a_new_connection_replaces_the_old_one(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    old = talk()
    old.hello()
    new = talk()
    new.hello()
    assert old.hear() is None
    spawned = new.spawn("s", "true")
    assert spawned.type == "spawned"
    close(*spawned.fds)


def test_a_connection_that_says_nothing_sensible_is_dropped_and_nothing_else(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    for nonsense in (b"\xff\xff\xff\xff", b"\0\0\0\x02{]"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(directory.address(KEEPER_SOCKET))
            stranger.sendall(nonsense)
            stranger.settimeout(15)
            assert stranger.recv(1) == b""
    silent = talk()
    silent.say("spawn", session_id="s")  # without a hello
    spawned = runner.spawn("s", "true")
    assert spawned.type == "spawned"
    close(*spawned.fds)


def test_a_newer_version_is_answered_with_its_own(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.say("hello", version=7)
    assert runner.expect("hello").payload["version"] == 1
    runner.expect("ready")


def test_it_has_a_process_session_of_its_own_and_no_terminal(
    start_keeper: Start, directory: RunnerDirectory
) -> None:
    start_keeper()
    pid = keeper_pid(directory)
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    terminal = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4])
    assert terminal == 0
    assert os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    talk = KeeperTalk(directory)
    talk.hello()
    talk.close()


def test_it_is_small(start_keeper: Start, directory: RunnerDirectory) -> None:
    start_keeper()
    status = Path(f"/proc/{keeper_pid(directory)}/status").read_text()
    rss_kb = int(status.partition("VmRSS:")[2].split()[0])
    assert rss_kb <= 15 * 1024


def test_there_is_one_for_a_runner_id(start_keeper: Start, directory: RunnerDirectory) -> None:
    start_keeper()
    first = keeper_pid(directory)
    with pytest.raises(AssertionError):
        start_keeper()
    assert keeper_pid(directory) == first


def test_it_takes_the_place_of_one_that_was_killed(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper()
    kill(keeper_pid(directory))
    start_keeper()
    assert talk().hello() == []


def test_a_signal_reaches_the_foreground_of_a_shell_too(start_keeper: Start, talk: Connect) -> None:
    start_keeper()
    runner = talk()
    runner.hello()
    # With job control the program in the foreground is in a process group of its own.
    spawned = runner.spawn("s", "bash", "--norc", "-ic", "sh -c 'echo ready; exec sleep 600'; echo status $?")
    read_until(spawned.fds[0], b"ready")
    assert os.tcgetpgrp(spawned.fds[0]) != spawned.payload["pid"]
    runner.say("signal", session_id="s", signal=int(signal.SIGTERM))  # which an interactive shell ignores
    assert runner.expect("exited").payload["exit_code"] == 0
    assert b"status 143" in read_all(spawned.fds[0])
    close(*spawned.fds)


def test_stop_ends_the_willing_at_once(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper(KILL_AFTER_S=600)
    runner = talk()
    runner.hello()
    spawned = runner.spawn("s", "sleep", "600")
    runner.say("stop")
    assert runner.expect("exited").payload["signal"] in (signal.SIGHUP, signal.SIGTERM)
    assert runner.hear() is None
    assert keeper_ends(directory)
    close(*spawned.fds)


def test_stop_kills_the_stubborn_with_their_whole_group(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper(KILL_AFTER_S=0.3)
    runner = talk()
    runner.hello()
    # The command goes at SIGTERM, what it left in its group ignores it.
    script = "(trap '' HUP TERM; echo $BASHPID; while :; do sleep 600; done) & read line"
    spawned = runner.spawn("s", "bash", "-c", script)
    output = b""
    while not output.endswith(b"\r\n"):
        wait_readable(spawned.fds[0])
        output += os.read(spawned.fds[0], 100)
    stubborn = os.pidfd_open(int(output))
    runner.say("stop")
    runner.expect("exited")
    wait_readable(stubborn)
    assert keeper_ends(directory)
    close(stubborn, *spawned.fds)


def test_it_ends_by_itself_when_nobody_needs_it(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper(IDLE_S=0.05)
    assert keeper_ends(directory)


def test_it_stays_for_a_session_that_nobody_has_asked_for(
    start_keeper: Start, talk: Connect, directory: RunnerDirectory
) -> None:
    start_keeper(IDLE_S=0.05)
    runner = talk()
    runner.hello()
    spawned = runner.spawn("s", "true")
    runner.expect("exited")
    runner.close()
    runner = talk()
    held = runner.hello()
    assert [message.payload["session_id"] for message in held] == ["s"]
    runner.say("forget", session_id="s")
    runner.close()
    assert keeper_ends(directory)
    close(*spawned.fds, *held[0].fds)


@pytest.fixture
def orphan(directory: RunnerDirectory, programs: list[int]) -> tuple[int, int, int]:
    """A program with its PTY and memory that some other keeper has started."""
    pid, master = spawn(["cat"], cwd="/", env={"PATH": os.environ["PATH"]}, rows=24, cols=80)
    programs.append(pid)
    return pid, master, create_ring_memory(131_072, directory_fd=directory.fd)


def adopt(runner: KeeperTalk, pid: int, *fds: int) -> None:
    told = {"session_id": "s", "epoch": "e", "pid": pid, "rows": 24, "cols": 80}
    runner.say("adopt", fds, ring_bytes=131_072, command=["cat"], cwd="/", **told)


def test_an_adopted_program_is_held_and_watched(
    start_keeper: Start, talk: Connect, orphan: tuple[int, int, int]
) -> None:
    start_keeper()
    pid, master, memory = orphan
    runner = talk()
    runner.hello()
    adopt(runner, pid, master, memory)
    runner.close()
    runner = talk()
    (held,) = runner.hello()
    assert held.payload["pid"] == pid
    os.write(held.fds[0], b"hello\n")
    read_until(master, b"hello\r\nhello\r\n")
    os.kill(pid, signal.SIGKILL)
    assert runner.expect("exited").payload == {"session_id": "s", "exit_code": None, "signal": None}
    os.waitpid(pid, 0)
    close(master, memory, *held.fds)


def test_a_program_that_ended_before_it_was_adopted_has_exited(
    start_keeper: Start, talk: Connect, orphan: tuple[int, int, int]
) -> None:
    start_keeper()
    pid, master, memory = orphan
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    runner = talk()
    runner.hello()
    adopt(runner, pid, master, memory)
    assert runner.expect("exited").payload == {"session_id": "s", "exit_code": None, "signal": None}
    close(master, memory)


def test_a_process_that_has_only_the_number_is_not_taken_for_the_program(
    start_keeper: Start, talk: Connect, orphan: tuple[int, int, int]
) -> None:
    start_keeper()
    pid, master, memory = orphan
    impostor = os.fork()
    if impostor == 0:
        signal.pause()
        os._exit(0)
    runner = talk()
    runner.hello()
    adopt(runner, impostor, master, memory)
    assert runner.expect("exited").payload["session_id"] == "s"
    runner.say("signal", session_id="s", signal=int(signal.SIGKILL))
    runner.say("forget", session_id="s")
    assert talk().hello() == []
    assert os.waitpid(impostor, os.WNOHANG) == (0, 0), "it has been left alone"
    os.kill(impostor, signal.SIGKILL)
    os.waitpid(impostor, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    close(master, memory)
