"""Programs start with what they expect and nothing else; what cannot start says why."""

import gc
import os
import re
import signal
from pathlib import Path

import pytest

from agentrelay.runner.spawn import SpawnFailed, spawn
from tests.runner.conftest import wait_readable

PATH = {"PATH": os.environ["PATH"]}


def run(*command: str, cwd: str = "/", env: dict[str, str] | None = None) -> tuple[str, int]:
    """Run a program to its end; give its output and its wait status."""
    pid, fd = spawn(command, cwd=cwd, env=PATH if env is None else env, rows=33, cols=101)
    output = b""
    while True:
        wait_readable(fd)
        try:
            output += os.read(fd, 65_536)
        except OSError:  # EIO: nobody has it open
            break
    os.close(fd)
    return output.decode(), os.waitpid(pid, 0)[1]


def test_the_pid_is_the_command_itself() -> None:
    pid, fd = spawn(["sh", "-c", "read line"], cwd="/", env=PATH, rows=24, cols=80)
    assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-c", b"read line"]
    assert os.getsid(pid) == os.getpgid(pid) == os.tcgetpgrp(fd) == pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)


def test_the_terminal_has_its_size_before_the_program_starts() -> None:
    output, _ = run("sh", "-c", "stty size; stty -a")
    assert output.startswith("33 101\r\n")
    assert "iutf8" in output.split()


def test_no_descriptor_leaks_into_a_program() -> None:
    extra = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(extra, True)
    output, _ = run("sh", "-c", "ls -l /proc/$$/fd")
    os.close(extra)
    assert re.findall(r"(\d+) -> (\S+)", output) == [(str(n), f"/dev/pts/{pts(output)}") for n in range(3)]


def pts(output: str) -> str:
    match = re.search(r"/dev/pts/(\d+)", output)
    assert match is not None
    return match[1]


def test_signals_are_as_a_login_gives_them() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT)}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        output, _ = run("cat", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for number, handler in before.items():
            signal.signal(number, handler)
    masks = [int(mask, 16) for mask in re.findall(r"Sig(?:Blk|Ign|Cgt):\s+(\w+)", output)]
    # 32 and 33 are the C library's own, which nobody can set; some parents, such as make, leave them ignored.
    own = 1 << (32 - 1) | 1 << (33 - 1)
    assert [mask & ~own for mask in masks] == [0, 0, 0]


def test_the_environment_is_the_one_given() -> None:
    output, _ = run("/usr/bin/env", env={"ONLY": "this ünd that"})
    assert output == "ONLY=this ünd that\r\n"


def test_it_starts_in_its_working_directory(tmp_path: Path) -> None:
    assert run("pwd", cwd=str(tmp_path))[0] == f"{tmp_path}\r\n"


def test_a_command_is_looked_up_in_its_own_path(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert run("greet", env={"PATH": f"/nowhere:{program.parent}"})[0] == "hello\r\n"
    assert run("greet", cwd=str(tmp_path), env={"PATH": "bin"})[0] == "hello\r\n"
    assert run("bin/greet", cwd=str(tmp_path), env={})[0] == "hello\r\n"


@pytest.mark.parametrize(
    ("command", "cwd", "code", "sentence"),
    [
        (["no-such-program"], "/", "command_not_found", "no program 'no-such-program' on the PATH"),
        (["./no-such-program"], "/", "command_not_found", "no file /./no-such-program"),
        (["/etc/passwd"], "/", "command_not_found", "/etc/passwd is not a file that you may execute"),
        (["/etc"], "/", "command_not_found", "/etc is not a file"),
        ([""], "/", "command_not_found", "no program ''"),
        ([], "/", "start_failed", "empty"),
        (["sh"], "/no/such/directory", "cwd_not_found", "/no/such/directory: No such file"),
        (["sh"], "/etc/passwd", "cwd_not_found", "/etc/passwd is not a directory"),
        (["sh", "a\0b"], "/", "start_failed", "NUL"),
        (["sh", "\ud800"], "/", "start_failed", "not text"),
    ],
)
def test_what_cannot_start_says_why(command: list[str], cwd: str, code: str, sentence: str) -> None:
    with pytest.raises(SpawnFailed, match=re.escape(sentence)) as failed:
        spawn(command, cwd=cwd, env=PATH, rows=24, cols=80)
    assert failed.value.code == code


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("#!/no/such/interpreter\n", "interpreter"), ("no program at all", "Exec format error")],
)
def test_what_the_system_will_not_execute_says_why_and_leaves_nothing_open(
    tmp_path: Path, text: str, sentence: str
) -> None:
    program = tmp_path / "program"
    program.write_text(text)
    program.chmod(0o755)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SpawnFailed, match=sentence) as failed:
        spawn([str(program)], cwd="/", env=PATH, rows=24, cols=80)
    assert failed.value.code == "start_failed"
    del failed  # its traceback holds on to what was half done
    gc.collect()
    assert os.listdir("/proc/self/fd") == before
    os.wait()


@pytest.mark.parametrize("name", ["", "A=B"])
def test_an_environment_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(SpawnFailed, match="environment variable"):
        spawn(["sh"], cwd="/", env={name: "x"}, rows=24, cols=80)
