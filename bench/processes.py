"""Processes under measurement: started, looked at from outside, and ended whatever happens."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

MARK = "XDG_RUNTIME_DIR"
"""Environment variable with the directory of a run: by it all it has started is found, daemons included."""

END_S = 5.0


class Memory(NamedTuple):
    """What a process holds, in bytes.

    Attributes:
        rss: resident set, as the system counts it: memory that is mapped twice counts twice.
        pss: proportional set: each page once over all its mappings.
    """

    rss: int
    pss: int


def cpu_s(pid: int) -> float:
    """Give the CPU seconds of a process, all its threads ever, to the nanosecond (clock_getcpuclockid(3)).

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime((~pid << 3) | 2)


def memory(pid: int) -> Memory:
    """Look at the memory of a process."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, amount, *_ = line.split()
        found[name] = int(amount) * 1024
    return Memory(found["Rss:"], found["Pss:"])


class Processes:
    """Everything one run starts; a context manager, which ends all of it.

    Attributes:
        directory: for what they write; the output of each is in `<name>.out` there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            # Told to end, a run still ends what it has started.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def subdirectory(self) -> Path:
        """Make a directory for the processes of one part of the run."""
        path = self.directory / f"part-{time.monotonic_ns()}"
        path.mkdir()
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """Give an environment with the mark, and nothing in it that would send a process elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AGENTRELAY_")}
        return {**kept, MARK: str(self.directory), **more}

    def start(
        self, name: str, *command: str, pipes: bool = False, env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process.

        Args:
            name: of its output file, for whoever looks into a failure.
            command: program and arguments; `python` is this one.
            pipes: whether its standard input and output are the caller's.
            env: more of its environment.
        """
        words = [sys.executable if word == "python" else word for word in command]
        # The process inherits it; here it is only needed to be handed on.
        with (self.directory / f"{name}.out").open("ab") as output:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                env=self.environment(**(env or {})),
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def find(self, part: str) -> int:
        """Give the pid of a process that was started indirectly, by a part of its command line.

        Raises:
            RuntimeError: there is none.
        """
        own = {process.pid for process in self._running}
        for pid in self._marked():
            if pid not in own and part.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise RuntimeError(f"no process was started whose command has {part!r} in it")

    def end_one(self, process: subprocess.Popen[bytes]) -> None:
        """End one process that `start` gave."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if process in self._running:
            self._running.remove(process)

    def end(self) -> None:
        """End what `start` gave and what that has started, as far as it carries the mark."""
        for process in reversed(list(self._running)):
            self.end_one(process)
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline_s = time.monotonic() + END_S
            left = list(self._marked())
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while left and time.monotonic() < deadline_s:
                time.sleep(0.05)
                left = list(self._marked())

    def _marked(self) -> Iterator[int]:
        wanted = f"{MARK}={self.directory}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if wanted in path.read_bytes().split(b"\0"):
                    yield int(path.parent.name)
            except OSError:
                continue  # gone, or somebody else's


def read_port(output: IO[bytes] | None) -> int:
    """Read the port that a process prints first.

    Raises:
        RuntimeError: it printed none.
    """
    line = output.readline() if output is not None else b""
    if not line.strip().isdigit():
        raise RuntimeError(f"a process did not print its port but {line!r}")
    return int(line)
