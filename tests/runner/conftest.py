"""Real keepers, real PTYs, real runners, each in a private directory; all of it is ended afterwards."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agentrelay.runner.keeper_wire import Message, Wire
from agentrelay.runner.paths import (
    KEEPER_LOCK,
    KEEPER_SOCKET,
    RunnerDirectory,
    lock_holder,
    open_runner_directory,
)
from tests.runner.fake_hq import FakeHq, fake_hq

ROOT = Path(__file__).parents[2]
RUNNER_ID = "test-runner"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory for this test alone; whatever runs below it afterwards is killed."""
    path = tmp_path / "runtime"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("RUNNER_TOKEN", "RUNNER_ID", "HQ_URL"):
        monkeypatch.delenv(name, raising=False)
    yield path
    for lock in path.glob(f"agentrelay/*/{KEEPER_LOCK}"):
        directory = RunnerDirectory(os.open(lock.parent, os.O_RDONLY), str(lock.parent))
        pid = lock_holder(directory, KEEPER_LOCK)
        directory.close()
        if pid:
            for child in children(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
            kill(pid)


def text_of(path: str) -> str:
    """Give the text of a file."""
    return Path(path).read_text(errors="replace")


def children(pid: int) -> list[int]:
    """Give the children of a process."""
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(pid: int) -> None:
    """Kill a process that need not be a child, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        wait_readable(watch)
        os.close(watch)


def wait_readable(fd: int, seconds: float = 15.0) -> None:
    """Wait until a descriptor has something to say; a pidfd says that its process has ended."""
    assert select.select([fd], [], [], seconds)[0], f"nothing happened within {seconds} s"


@pytest.fixture
def programs() -> Iterator[list[int]]:
    """Programs whose keeper the test kills; put their pids in here."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def directory(runtime: Path) -> Iterator[RunnerDirectory]:
    """The private directory of the test's runner id."""
    opened = open_runner_directory(RUNNER_ID)
    assert opened is not None
    yield opened
    opened.close()


class KeeperTalk:
    """A runner's end of the keeper socket, blocking."""

    def __init__(self, directory: RunnerDirectory) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(directory.address(KEEPER_SOCKET))
        self.wire = Wire(sock)
        self._messages: list[Message] = []

    def say(self, kind: str, fds: tuple[int, ...] = (), **payload: object) -> None:
        self.wire.send(kind, payload, fds)

    def hear(self) -> Message | None:
        """Give the next message; None when the keeper has closed the connection."""
        while not self._messages:
            wait_readable(self.wire.fileno())
            messages = self.wire.receive()
            if messages is None:
                return None
            self._messages = messages
        return self._messages.pop(0)

    def expect(self, kind: str) -> Message:
        """Give the next message, which has to be of this type."""
        message = self.hear()
        assert message is not None, f"the keeper closed the connection instead of saying {kind}"
        assert message.type == kind, message
        return message

    def hello(self) -> list[Message]:
        """Greet; gives what is held."""
        self.say("hello", version=1)
        self.expect("hello")
        held = []
        while (message := self.hear()) is not None and message.type == "held":
            held.append(message)
        assert message is not None
        assert message.type == "ready"
        return held

    def spawn(self, session_id: str, *command: str, **fields: object) -> Message:
        """Start a program and give the answer."""
        payload: dict[str, object] = {
            "session_id": session_id,
            "epoch": "e",
            "command": list(command),
            "cwd": "/",
            "env": {"PATH": os.environ["PATH"]},
            "rows": 24,
            "cols": 80,
            "ring_bytes": 131_072,
        }
        self.wire.send("spawn", payload | fields)
        message = self.hear()
        assert message is not None
        return message

    def close(self) -> None:
        self.wire.close()


@pytest.fixture
def start_keeper(directory: RunnerDirectory) -> Iterator[Callable[..., None]]:
    """Give a function that starts a keeper; its arguments set constants of the keeper's module."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**constants: float) -> None:
        settings = "".join(f"keeper.{name} = {value}; " for name, value in constants.items())
        program = f"from agentrelay.runner import keeper; {settings}keeper.main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(directory.fd), RUNNER_ID],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=(directory.fd,),
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.wait()

    yield start
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


@pytest.fixture
def talk(directory: RunnerDirectory, start_keeper: Callable[..., None]) -> Iterator[Callable[[], KeeperTalk]]:
    """Give a function that connects to the test's keeper."""
    talks: list[KeeperTalk] = []

    def connect() -> KeeperTalk:
        talks.append(KeeperTalk(directory))
        return talks[-1]

    yield connect
    for each in talks:
        each.close()


@pytest.fixture
async def hq() -> AsyncIterator[FakeHq]:
    """An HQ that only knows links."""
    async with fake_hq() as running:
        yield running


class RunnerProcess:
    """A runner daemon as people start it, and what it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        return self.process.pid

    async def prints(self, text: str, seconds: float = 15.0) -> str:
        """Wait for a line with this text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(seconds):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
                if text in line:
                    return line
        raise AssertionError(f"it ended without printing {text!r}: {self.lines}")

    async def ends(self, seconds: float = 15.0) -> int:
        """Wait for its end; gives the exit status, and `lines` has everything it printed."""
        assert self.process.stderr is not None
        async with asyncio.timeout(seconds):
            while line := (await self.process.stderr.readline()).decode():
                self.lines.append(line)
            return await self.process.wait()

    async def kill(self) -> None:
        self.process.kill()
        await self.ends()


StartRunner = Callable[..., Awaitable[RunnerProcess]]


@pytest.fixture
async def run_runner(hq: FakeHq) -> AsyncIterator[StartRunner]:
    """Give a function that starts a runner for the fake HQ; its arguments are more of the command line."""
    started: list[RunnerProcess] = []

    async def run(*arguments: str, **env: str) -> RunnerProcess:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agentrelay.cli.runner",
            *arguments,
            env={**os.environ, "HQ_URL": hq.url, "RUNNER_ID": RUNNER_ID, "RUNNER_TOKEN": "test-token", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(RunnerProcess(process))
        return started[-1]

    yield run
    for runner in started:
        if runner.process.returncode is None:
            runner.process.kill()
        await runner.ends()
        # The transports of its pipes are closed by the loop, not by `wait`.
        await asyncio.sleep(0)
