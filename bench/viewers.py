"""Viewers: what `viewer.c` does, from Python."""

import json
import subprocess
import time
from typing import Any, NamedTuple

from bench.corpus import corpus
from bench.native import program
from bench.processes import Processes

TIMEOUT_S = 90


class Connection(NamedTuple):
    """One viewer's connection.

    Attributes:
        path: of its WebSocket, `@` for the session that the first connection has started; unused for `raw`.
        first: its first message.
        flags: `g`: it starts the program and ends it; `s`: it stalls; `-`.
    """

    path: str
    first: str
    flags: str = "-"


class ViewerError(Exception):
    """A viewer saw something wrong; the message is what it said."""


class Viewers:
    """One `viewer` process: connected and waiting once made, until `go`.

    Args:
        processes: starts and ends it.
        command: `drain` with the bytes to expect or `echo` with count and gap, as for viewer.c.
        mode: `ws` or `raw`.
        port: where to connect.
        token: bearer token.
        connections: what to connect.
    """

    def __init__(
        self,
        processes: Processes,
        command: list[str],
        *,
        mode: str,
        port: int,
        token: str,
        connections: list[Connection],
    ) -> None:
        self._processes = processes
        how, *rest = command
        arguments = [how, mode, str(port), token or "-", str(TIMEOUT_S), *rest]
        self._log = processes.directory / f"viewer-{time.monotonic_ns()}.out"
        self._process = processes.start(self._log.stem, program("viewer"), *arguments, pipes=True)
        self._write("".join(f"{each.flags} {each.path}\t{each.first}\n" for each in connections) + "\n")
        self._read("ready")
        self.started_s = 0.0

    def go(self) -> None:
        """Begin."""
        self.started_s = time.monotonic()
        self._write("go\n")

    def stop(self) -> None:
        """End a drain without an end; `result` gives what it has seen."""
        self._write("stop\n")

    def result(self) -> Any:
        """Wait for the result; the connections stay open until `close`.

        Raises:
            ViewerError: what arrived was wrong, or did not arrive in 90 s.
        """
        return json.loads(self._read("{"))

    def close(self) -> None:
        """End the programs and the connections."""
        try:
            self._write("bye\n")
            self._process.wait(10)
        except (ViewerError, subprocess.TimeoutExpired):
            pass
        self._processes.end_one(self._process)

    def _write(self, text: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ViewerError(self._why()) from None

    def _read(self, beginning: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line.startswith(beginning):
            self._process.wait(10)
            raise ViewerError(self._why())
        return line

    def _why(self) -> str:
        return self._log.read_text().strip() or f"a viewer ended with {self._process.poll()}, or nothing came"


def draining(n_bytes: int) -> list[str]:
    """Give the command that takes `n_bytes` bytes on each connection; 0: until it is stopped."""
    return ["drain", str(corpus()), str(n_bytes)]


def echoing(count: int, gap_us: int) -> list[str]:
    """Give the command that types `count` keys, `gap_us` to twice that after the echo of the last."""
    return ["echo", str(count), str(gap_us)]
