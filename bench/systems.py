"""What is compared: AgentRelay, the same relay on `websockets`, and the floor of C and kernel."""

import contextlib
import json
import subprocess
import time
from typing import Any, Protocol

from bench.native import program
from bench.processes import Processes, read_port
from bench.rest import Rest
from bench.viewers import Connection, Viewers

START_S = 15.0
ADMIN_TOKEN = "bench-admin"
RUNNER_TOKEN = "bench-runner"
RUNNER_ID = "bench"
Parts = dict[str, list[str]]
PLAIN: Parts = {"hq": ["-m", "agentrelay.cli.hq"], "runner": ["-m", "agentrelay.cli.runner"]}
PROBED: Parts = {"hq": ["-m", "bench.probe", "hq"], "runner": ["-m", "bench.probe", "runner"]}
"""What runs the parts, as arguments of Python: as they are, and with a heartbeat."""


class System(Protocol):
    """Something that relays a program's terminal.

    Attributes:
        name: in results.
        mode: of its viewers, `ws` or `raw`.
        port: where viewers connect.
        token: what lets them in.
        pids: its processes by their part: `hq` relays, `runner` reads the PTY, `keeper` holds it.
    """

    name: str
    mode: str
    port: int
    token: str
    pids: dict[str, int]

    def starting(self, command: list[str], *, recording: bool = False) -> Connection:
        """Give a connection that starts a program and controls it."""

    def attaching(self) -> Connection:
        """Give a connection to what the first connection has started."""


def view(processes: Processes, system: System, command: list[str], connections: list[Connection]) -> Viewers:
    """Connect viewers to a system."""
    return Viewers(
        processes, command, mode=system.mode, port=system.port, token=system.token, connections=connections
    )


class Product:
    """AgentRelay: a real HQ, and a real runner with its keeper unless `runner` is False.

    Args:
        parts: what runs HQ and the runner.
    """

    name = "agentrelay"
    mode = "ws"
    token = ADMIN_TOKEN

    def __init__(self, processes: Processes, *, runner: bool = True, parts: Parts = PLAIN) -> None:
        self._parts = parts
        number = len(list(processes.directory.glob("data-*")))
        data_dir = processes.directory / f"data-{number}"
        self._process = processes.start(
            f"hq-{number}", "python", *parts["hq"], "--port", "0", "--data-dir", str(data_dir),
            env={"AGENTRELAY_ADMIN_TOKEN": ADMIN_TOKEN, "RUNNER_TOKEN": RUNNER_TOKEN},
        )  # fmt: skip
        self.pids = {"hq": self._process.pid}
        self._runner: subprocess.Popen[bytes] | None = None
        self._output = processes.directory / f"hq-{number}.out"
        self.port = 0
        # Holding the lock, HQ writes its address into it.
        deadline_s = time.monotonic() + START_S
        while not self.port:
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(self._output.read_text() or "HQ did not start")
            time.sleep(0.02)
            lock = data_dir / "hq.lock"
            address = lock.read_text() if lock.exists() else ""
            self.port = int(address.rpartition(":")[2] or 0)
        self._await_health()
        if runner:
            self._start_runner(processes)

    def _await_health(self) -> None:
        healthy = False
        while not healthy:
            time.sleep(0.02)
            with contextlib.suppress(OSError), self.rest() as rest:
                healthy = rest.call("GET", "/health") is not None

    def _start_runner(self, processes: Processes) -> None:
        url = f"ws://127.0.0.1:{self.port}/ws/runner"
        process = processes.start(
            "runner", "python", *self._parts["runner"], "--hq-url", url, "--runner-id", RUNNER_ID,
            env={"RUNNER_TOKEN": RUNNER_TOKEN},
        )  # fmt: skip
        self._runner = process
        self.await_runners(1)
        self.pids["runner"] = process.pid
        self.pids["keeper"] = processes.find("keeper")

    def stop(self, processes: Processes) -> dict[str, Any]:
        """End runner and HQ; gives what each printed last, as a document."""
        found = {}
        for part, process in (("runner", self._runner), ("hq", self._process)):
            assert process is not None
            processes.end_one(process)
            output = self._output if part == "hq" else processes.directory / "runner.out"
            found[part] = json.loads(output.read_text().splitlines()[-1])
        return found

    def await_runners(self, n_runners: int) -> None:
        """Wait until so many runners are connected.

        Raises:
            RuntimeError: they are not within 15 s.
        """
        deadline_s = time.monotonic() + START_S
        with self.rest() as rest:
            while time.monotonic() < deadline_s:
                if (
                    sum(runner["online"] for runner in rest.call("GET", "/api/runners")["runners"])
                    >= n_runners
                ):
                    return
                time.sleep(0.05)
        raise RuntimeError(f"{n_runners} runners did not connect to HQ")

    def rest(self) -> Rest:
        """Give a connection to its REST interface."""
        return Rest(self.port, self.token)

    def starting(
        self, command: list[str], *, recording: bool = False, runner_id: str = RUNNER_ID
    ) -> Connection:
        """Give a connection that starts a program and controls it."""
        payload = {"command": command, "recording": recording}
        first = json.dumps({"type": "start_session", "payload": payload})
        return Connection(f"/ws/terminal/{runner_id}", first, "g")

    def attaching(self) -> Connection:
        """Give a connection to what the first connection has started, from its first byte."""
        return Connection("/ws/session/@", json.dumps({"type": "attach", "payload": {"from": 0}}))


class Baseline:
    """The same relay, on `websockets`."""

    name = "websockets"
    mode = "ws"
    token = ""

    def __init__(self, processes: Processes, *, runner: bool = True) -> None:
        hq = processes.start("baseline-hq", "python", "-m", "bench.baseline.hq", pipes=True)
        self.port = read_port(hq.stdout)
        self.pids = {"hq": hq.pid}
        if runner:
            process = processes.start(
                "baseline-runner", "python", "-m", "bench.baseline.runner", str(self.port)
            )
            self.pids["runner"] = process.pid
            time.sleep(1.0)

    def starting(self, command: list[str], *, recording: bool = False) -> Connection:
        """Give a connection that starts a program."""
        del recording
        return Connection("/start", json.dumps(command), "g")

    def attaching(self) -> Connection:
        """Give a connection to what the first connection has started."""
        return Connection("/session/@", "{}")


class Floor:
    """A PTY reader in C and, with two hops, a relay in C before it.

    Args:
        hops: how many loopback connections are between program and viewer, 1 or 2.
        hold_us: how long the PTY reader waits after every read.
        source: port of something else than the PTY reader to connect to.
    """

    mode = "raw"
    token = ""

    def __init__(
        self, processes: Processes, *, hops: int = 2, hold_us: int = 0, source: int | None = None
    ) -> None:
        self.name = ("floor" if hops == 2 else "floor-1") + ("-held" if hold_us else "")
        self.pids = {}
        if source is None:
            pty = processes.start(f"{self.name}-pty", program("floor"), "pty", str(hold_us), pipes=True)
            self.pids["runner"] = pty.pid
            source = read_port(pty.stdout)
        self.port = source
        if hops == 2:
            hop = processes.start(f"{self.name}-hop", program("floor"), "hop", str(source), pipes=True)
            self.pids["hq"] = hop.pid
            self.port = read_port(hop.stdout)

    def starting(self, command: list[str], *, recording: bool = False) -> Connection:
        """Give a connection that starts a program."""
        del recording
        return Connection("-", "\x1f".join(command), "g")

    def attaching(self) -> Connection:
        """Fail: it has no sessions."""
        raise NotImplementedError
