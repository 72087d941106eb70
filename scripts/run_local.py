"""Run HQ and one runner on this machine until Ctrl-C, and print a link that logs the browser in: `make run`.

Both run in sessions of their own, so that Ctrl-C reaches only this program, which stops them in order: first
the programs and their keeper (HQ still records how they ended), then the runner, then HQ. What they write
goes to files.
"""

import asyncio
import ctypes
import errno
import json
import os
import secrets
import signal
import socket
import sys
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts import local_system

START_S = 60.0
"""HQ reads its logs before it answers, and a cold disk is slow; longer than this is a fault."""
STOP_S = 30.0
"""`agentrelay-runner --stop` gives the daemon 12 s before it kills it, and then the keeper 12 s."""
POLL_S = 0.05
MOST_FAILURES = 3
TAIL_LINES = 20
PR_SET_PDEATHSIG = 1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# make's own and ours: no business of the programs that run in sessions. A PORT would even be taken by some.
NOT_PASSED_ON = {"MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MAKE_TERMERR", "MAKE_TERMOUT", "MFLAGS", "PORT"}


class LocalRunError(Exception):
    """The run cannot start or go on; the message is for the person at the terminal."""


@dataclass
class Part:
    """HQ or the runner: a command, the process that runs it now, and the file that has its output."""

    name: str
    command: tuple[str, ...]
    log_path: Path
    process: Process
    is_ready: Callable[[], bool]

    def last_lines(self) -> str:
        """Say what it wrote last."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n  ".join(["Its last lines:", *lines])


def say(line: str) -> None:
    """Print a line; a terminal that has gone away is no reason to leave processes behind."""
    try:
        print(line, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def port_of(text: str) -> int:
    """Give the port that PORT names.

    Raises:
        LocalRunError: it is not a port number.
    """
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise LocalRunError(f"PORT={text} is not a port: choose a number from 1 to 65535.")
    return int(text)


def check_port_is_free(port: int) -> None:
    """Raise LocalRunError if nothing can listen on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise LocalRunError(
                    f"Port {port} is taken by another program. Choose another: PORT=9000 make run"
                ) from None
            raise LocalRunError(f"Port {port} cannot be used: {error.strerror}.") from None


def die_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends without having stopped it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class LocalRun:
    """HQ and a runner on one port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.runner_id = local_system.runner_id(port)
        self._log_dir = Path(".run", str(port))
        self._parts: list[Part] = []
        self._env = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}

    async def run(self) -> None:
        """Start HQ, then the runner, say how to log in, and keep both running.

        Raises:
            LocalRunError: one of them did not become ready. `stop` still has to be called.
        """
        self._log_dir.mkdir(parents=True, exist_ok=True)
        hq = await self._start(
            "HQ",
            *(local_system.command("agentrelay-hq"), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--data-dir", str(local_system.data_dir(self.port))),
            is_ready=lambda: self._runners() is not None,
        )
        say(f"HQ      http://127.0.0.1:{self.port} (its output: {hq.log_path})")

        runner = await self._start(
            "The runner",
            *(local_system.command("agentrelay-runner"), "--runner-id", self.runner_id),
            *("--hq-url", f"ws://127.0.0.1:{self.port}/ws/runner"),
            is_ready=lambda: bool(self._runners()),
        )
        say(f"runner  {self.runner_id} (its output: {runner.log_path})")

        try:
            link = await asyncio.to_thread(local_system.make_login_link, self.port)
        except local_system.NoLoginLink as error:
            raise LocalRunError(f"HQ made no login link: {error}") from None
        say(f"\nOpen this to log in; it works once:\n\n  {link}\n\nCtrl-C stops everything.")
        await asyncio.gather(*(self._keep_running(part) for part in self._parts))

    async def stop(self) -> None:
        """End the sessions and everything that was started."""
        if len(self._parts) > 1:
            say("Ending the sessions")
            await self._stop_keeper()
        for part in reversed(self._parts):
            if part.process.returncode is None:
                part.process.terminate()
                await self._ended(part.process)
        say("Stopped")

    async def _start(self, name: str, *command: str, is_ready: Callable[[], bool]) -> Part:
        log_path = self._log_dir / f"{Path(command[0]).name}.log"
        log_path.unlink(missing_ok=True)
        part = Part(name, command, log_path, await self._launch(command, log_path), is_ready)
        self._parts.append(part)
        await self._ready(part, needed=self._parts)
        return part

    async def _launch(self, command: tuple[str, ...], log_path: Path) -> Process:
        with log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                env=self._env,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def _keep_running(self, part: Part) -> None:
        """Start a part again when it ends, as whatever runs it for real would: its sessions go on.

        Raises:
            LocalRunError: it did not become ready again, several times in a row.
        """
        failures = 0
        while True:
            await part.process.wait()
            say(f"{part.name} ended by itself and is started again (its output: {part.log_path})")
            part.process = await self._launch(part.command, part.log_path)
            try:
                await self._ready(part, needed=[part])
                failures = 0
            except LocalRunError:
                failures += 1
                if failures == MOST_FAILURES:
                    raise

    async def _ready(self, part: Part, *, needed: list[Part]) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not await asyncio.to_thread(part.is_ready):
                    for each in needed:
                        if each.process.returncode is not None:
                            raise LocalRunError(f"{each.name} ended by itself. {each.last_lines()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise LocalRunError(
                f"{part.name} is not ready after {START_S:.0f} s. {part.last_lines()}"
            ) from None

    def _runners(self) -> int | None:
        """How many runners are online, None while HQ is not ready to say."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                runners: int = json.load(answer)["runners"]
                return runners
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    async def _stop_keeper(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(local_system.command("agentrelay-runner"), "--stop", "--runner-id", self.runner_id),
            stdin=DEVNULL,
            stdout=DEVNULL,
            env=self._env,
            start_new_session=True,
        )
        if await self._ended(process) != 0:
            say("The keeper may still run, see above.")

    async def _ended(self, process: Process) -> int:
        """Wait for a process that was told to end, and kill it if it takes too long."""
        try:
            async with asyncio.timeout(STOP_S):
                return await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()


async def main() -> int:
    """Run until a signal or a failure; gives the exit status."""
    try:
        port = port_of(os.environ.get("PORT") or str(local_system.DEFAULT_PORT))
        check_port_is_free(port)
    except LocalRunError as error:
        say(str(error))
        return 1

    # In the environment, as every user of a machine can see arguments.
    os.environ["RUNNER_TOKEN"] = secrets.token_urlsafe(32)
    local = LocalRun(port)
    running = asyncio.create_task(local.run())
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    failure = None
    try:
        await running
    except asyncio.CancelledError:
        say("")
    except LocalRunError as error:
        failure = error
    finally:
        # A closed terminal sends SIGHUP twice. Nothing may interrupt what follows, nor the program that ends
        # the sessions, which inherits this.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        await local.stop()
    if failure is not None:
        say(str(failure))
    return 0 if failure is None else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
