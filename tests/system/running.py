"""A whole AgentRelay as people start it: HQ, runners and their keepers, all in one private directory."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

from agentrelay.runner.paths import directory_name

ROOT = Path(__file__).parents[2]
ADMIN_TOKEN = "admin-token-of-the-system-tests"
RUNNER_TOKEN = "runner-token-of-the-system-tests"
START_S = 30.0
POLL_S = 0.02

_T = TypeVar("_T")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def until(what: str, probe: Callable[[], _T | None], seconds: float = START_S) -> _T:
    """Call `probe` until it gives something; for what no event tells of."""
    deadline_s = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"no {what} within {seconds:.0f} s")
        time.sleep(POLL_S)
    return found


def command_line(command: str) -> list[str]:
    """Give what starts `agentrelay-hq` or `agentrelay-runner` of the interpreter that runs the tests."""
    script = Path(sys.prefix) / "bin" / command
    if script.exists():
        return [str(script)]
    module = command.replace("-", ".cli.")
    return [sys.executable, "-c", f"from {module} import main; main()"]


def processes_of(directory: Path) -> dict[int, str]:
    """Give the processes, by pid, whose environment or arguments name `directory`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            if str(directory).encode() in (entry / "environ").read_bytes() + arguments:
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended, or is not ours
    return found


def resident_bytes(pid: int, kind: str = "VmRSS") -> int:
    """Give a process's resident memory, or that of a kind, such as `RssAnon`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{kind}:")[2].split()[0]) << 10


class System:
    """One HQ and its runners. `start_hq` and `start_runner` come back when the outside can use them.

    Attributes:
        directory: everything of it is in here.
        url: HQ's origin; `ws_url` is the same for WebSockets.
        link_port: the port that runners dial; a proxy can be put there before they start.
        http: a client with the admin token.
        hq: HQ's process.
        runners: the runners' processes, by id.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = self.link_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, timeout=10, trust_env=False
        )
        self.runners: dict[str, subprocess.Popen[bytes]] = {}
        self.hq: subprocess.Popen[bytes] | None = None
        self.runtime = directory / "run"
        (directory / "home").mkdir(parents=True)
        self.runtime.mkdir(mode=0o700)

    def start_hq(self) -> None:
        """Start HQ, also again after it was killed, and wait until it is healthy."""
        self.hq = self._spawn("agentrelay-hq", "--port", str(self.port))
        until("HQ", lambda: self._alive(self.hq) and self.healthy())

    def start_runner(self, runner_id: str = "r1", *, wait: bool = True) -> None:
        """Start a runner, also again after it was killed, and wait until HQ has it online."""
        runner = self.runners[runner_id] = self._spawn("agentrelay-runner", "--runner-id", runner_id)
        if wait:
            until(f"runner {runner_id}", lambda: self._alive(runner) and self.online(runner_id))

    def kill_hq(self) -> None:
        """Kill HQ and see it dead."""
        assert self.hq is not None
        self.hq.kill()
        self.hq.wait()

    def kill_runner(self, runner_id: str = "r1") -> None:
        """Kill a runner's daemon, not its keeper, and see it dead."""
        self.runners[runner_id].kill()
        self.runners[runner_id].wait()

    def healthy(self) -> bool:
        """Tell whether HQ says that it is up."""
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def online(self, runner_id: str) -> bool:
        """Tell whether HQ has a link to a runner."""
        answer = self.http.get(f"/api/runners/{runner_id}")
        return answer.status_code == 200 and bool(answer.json()["online"])

    def keeper_pid(self, runner_id: str = "r1") -> int:
        """Give the pid of a runner's keeper."""
        lock = self.runtime / "agentrelay" / directory_name(runner_id) / "keeper.lock"
        return int(lock.read_text())

    def session(self, session_id: str) -> dict[str, Any]:
        """Give what HQ tells of a session."""
        answer = self.http.get(f"/api/sessions/{session_id}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def post_session(self, *command: str, runner_id: str = "r1", **more: object) -> dict[str, Any]:
        """Start a session that nobody is attached to."""
        body = {"runner_id": runner_id, "command": list(command), **more}
        answer = self.http.post("/api/sessions", json=body)
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def signal(self, session_id: str, name: str) -> None:
        """Send a signal to a session's program, past its input."""
        answer = self.http.post(f"/api/sessions/{session_id}/signal", json={"name": name})
        assert answer.status_code == 204, answer.text

    def output(self, session_id: str, start: int = 0) -> bytes:
        """Page through what HQ has kept of a session's output from `start` to the end."""
        pages = b""
        while page := self.http.get(f"/api/sessions/{session_id}/output?from={start + len(pages)}").content:
            pages += page
        return pages

    def stop(self) -> None:
        """End everything, and see that nothing is left; raises AssertionError if something was."""
        try:
            for runner_id, runner in self.runners.items():
                stopping = self._spawn("agentrelay-runner", "--runner-id", runner_id, "--stop")
                assert stopping.wait(START_S) == 0, self.logs()
                runner.wait(START_S)
            if self.hq is not None and self.hq.poll() is None:
                self.hq.terminate()
                assert self.hq.wait(START_S) == 0, self.logs()
            left = processes_of(self.directory)
            assert not left, f"still there: {left}\n{self.logs()}"
        finally:
            self.http.close()
            for pid in processes_of(self.directory):
                os.kill(pid, signal.SIGKILL)
            for process in (*self.runners.values(), *([self.hq] if self.hq else [])):
                process.wait()

    def logs(self) -> str:
        """Give what HQ and the runners printed, for the report of a failure."""
        return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in self.directory.glob("*.log"))

    def _alive(self, process: subprocess.Popen[bytes] | None) -> bool:
        assert process is not None
        assert process.poll() is None, f"it ended with {process.returncode}\n{self.logs()}"
        return True

    def _spawn(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory / "home"),
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "AGENTRELAY_DATA_DIR": str(self.directory / "data"),
            "AGENTRELAY_ADMIN_TOKEN": ADMIN_TOKEN,
            "RUNNER_TOKEN": RUNNER_TOKEN,
            "HQ_URL": f"ws://127.0.0.1:{self.link_port}/ws/runner",
        }
        with (self.directory / f"{command}.log").open("ab") as log:
            return subprocess.Popen(
                [*command_line(command), *arguments],
                env=environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
