"""The runner's end of the keeper socket, on the event loop (docs/protocol.md section 4).

Finds the keeper of this runner id, or starts one, and stays with it: when the connection is lost it is made
again, with a new keeper if the old one is dead. Whoever listens hears of every session the keeper holds, each
time.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import agentrelay
from agentrelay import open_files
from agentrelay.errors import KeeperError, StartFailed
from agentrelay.runner.environment import without_secrets
from agentrelay.runner.keeper_wire import LOCKED, READY, VERSION, Message, Wire
from agentrelay.runner.launch import Launch
from agentrelay.runner.paths import KEEPER_LOG, KEEPER_SOCKET, RunnerDirectory
from agentrelay.runner.pty import Exit, Facts

log = logging.getLogger("agentrelay.runner")

ANSWER_S = 10.0
"""How long a keeper may take to start, to answer, or to come back, before this is an error."""

RETRY_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between tries to reach a keeper; the last one goes on for ever."""

_LOG_BYTES = 1 << 18
_SPAWN_TRIES = 2


class _LostError(KeeperError):
    """The connection was lost before the keeper was ready."""


class Spawned(NamedTuple):
    """A program that runs; the descriptors belong to who takes this."""

    pid: int
    master: int
    memory: int


class KeeperListener(Protocol):
    """Who hears what the keeper says."""

    def on_held(self, facts: Facts, end: Exit | None, master: int, memory: int) -> None:
        """Take over a session that the keeper holds, and its descriptors; it may be known already."""

    def on_exited(self, session_id: str, end: Exit) -> None:
        """Learn how a command ended."""

    def on_keeper_lost(self) -> None:
        """Learn that the connection is lost, and perhaps the keeper."""

    def on_keeper_ready(self) -> None:
        """Learn that the keeper has told everything it holds: what it has not told, it does not know."""


class KeeperClient:
    """The connection to the keeper.

    Args:
        directory: the private directory of the runner id.
        runner_id: for people who read `ps`.
        listener: hears everything.

    Attributes:
        pid: of the keeper that answered last.
    """

    def __init__(self, directory: RunnerDirectory, runner_id: str, listener: KeeperListener) -> None:
        self.pid = 0
        self._directory = directory
        self._runner_id = runner_id
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._writing = False
        self._ready: asyncio.Future[None] | None = None
        self._spawning: dict[str, asyncio.Future[Spawned | None]] = {}  # None: the keeper was lost
        self._again: asyncio.Task[None] | None = None
        self._up = asyncio.Event()
        self._closed = False

    # --- what a runner wants ----------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach the keeper, starting one if there is none; the listener has heard everything by the end.

        Raises:
            KeeperError: there is no keeper and none can be started, or it does not answer.
        """
        try:
            await self._greet()
        except _LostError:
            await self._greet()  # it was just about to end, because nobody needed it

    async def _greet(self) -> None:
        sock = await self._open()
        self._wire = Wire(sock)
        self._ready = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._receive)
        self._send("hello", {"version": VERSION})
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._ready
        except TimeoutError:
            self._disconnect()
            raise KeeperError(f"the keeper does not answer (see {self._log_path})") from None
        except KeeperError:
            self._disconnect()
            raise
        self._up.set()
        self._listener.on_keeper_ready()

    async def spawn(
        self, session_id: str, epoch: str, launch: Launch, *, rows: int, cols: int, ring_bytes: int
    ) -> Spawned:
        """Start a program; if the keeper dies over it, with the next one.

        Raises:
            StartFailed: it did not start.
        """
        payload = {
            "session_id": session_id,
            "epoch": epoch,
            "command": launch.command,
            "cwd": launch.cwd,
            "env": launch.env,
            "rows": rows,
            "cols": cols,
            "ring_bytes": ring_bytes,
            "open_files": open_files.USUAL,
        }
        for _ in range(_SPAWN_TRIES):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._up.wait()
            except TimeoutError:
                break
            answer: asyncio.Future[Spawned | None] = self._loop.create_future()
            self._spawning[session_id] = answer
            self._send("spawn", payload)
            if (spawned := await answer) is not None:
                return spawned
            # The keeper is lost; a program it had just forked has lost its terminal with it.
        raise StartFailed("start_failed", f"the runner has no keeper (see {self._log_path})")

    def signal(self, session_id: str, number: int) -> bool:
        """Signal the whole process group of a session; False if there is no keeper to do it."""
        return self._send("signal", {"session_id": session_id, "signal": number})

    def forget(self, session_id: str) -> None:
        """Let the keeper close the descriptors of a session and drop its status."""
        self._send("forget", {"session_id": session_id})

    def adopt(self, facts: Facts, *, size: tuple[int, int], master: int, memory: int) -> None:
        """Give the keeper a session it does not know; the descriptors stay the caller's."""
        rows, cols = size
        self._send("adopt", {**facts._asdict(), "rows": rows, "cols": cols}, (master, memory))

    def stop(self) -> None:
        """Let the keeper end every program and then itself; the listener hears of the exits."""
        self._closed = True  # its end is what was asked for, not a loss
        self._send("stop", {})

    def close(self) -> None:
        """Leave the keeper alone, with everything it holds."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        self._disconnect()

    # --- the connection ---------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the keeper is there and has told what it holds."""
        return self._up.is_set()

    @property
    def _log_path(self) -> str:
        return os.path.join(self._directory.path, KEEPER_LOG)

    async def _open(self) -> socket.socket:
        """Connect to the socket, with a new keeper behind it if there is none."""
        sock = _connect(self._directory)
        deadline = self._loop.time() + ANSWER_S
        while sock is None:
            answer = await start_keeper(self._directory, self._runner_id)
            sock = _connect(self._directory)
            if sock is None:
                if answer not in (READY, LOCKED) or self._loop.time() > deadline:
                    raise KeeperError(f"no keeper can be started: {answer} (see {self._log_path})")
                # One that is just starting, or just ending, holds the lock.
                await asyncio.sleep(RETRY_S[1])
        return sock

    def _send(self, kind: str, payload: dict[str, Any], fds: tuple[int, ...] = ()) -> bool:
        if self._wire is None:
            return False
        try:
            self._wire.send(kind, payload, fds)
        except (KeeperError, OSError) as error:
            self._lose(str(error))
            return False
        self._watch_writable()
        return True

    def _watch_writable(self) -> None:
        if self._wire is not None and self._wire.pending != self._writing:
            self._writing = self._wire.pending
            if self._writing:
                self._loop.add_writer(self._wire.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._wire.fileno())

    def _flush(self) -> None:
        if self._wire is not None:
            try:
                self._wire.flush()
            except OSError as error:
                self._lose(str(error))
            else:
                self._watch_writable()

    def _receive(self) -> None:
        if self._wire is None:
            return
        try:
            messages = self._wire.receive()
            if messages is None:
                self._lose("it closed the connection")
                return
            for message in messages:
                self._take(message)
        except (KeeperError, OSError, KeyError, TypeError, ValueError) as error:
            self._lose(f"{type(error).__name__}: {error}")

    def _take(self, message: Message) -> None:
        told = message.payload
        if message.type == "hello":
            self.pid = int(told["pid"])
            if min(VERSION, int(told["version"])) < VERSION:
                raise KeeperError(
                    f"the keeper speaks version {told['version']}, which is older than any known"
                )
        elif message.type == "held":
            end = told.get("exit")
            facts = Facts(**{name: told[name] for name in Facts._fields})
            self._listener.on_held(facts, Exit(**end) if end else None, *message.fds)
        elif message.type == "ready":
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif message.type == "spawned":
            self._answer_spawn(told["session_id"], Spawned(told["pid"], *message.fds))
        elif message.type == "spawn_failed":
            self._answer_spawn(told["session_id"], StartFailed(told["code"], told["message"]))
        elif message.type == "exited":
            self._listener.on_exited(told["session_id"], Exit(told["exit_code"], told["signal"]))

    def _answer_spawn(self, session_id: str, answer: Spawned | StartFailed) -> None:
        asked = self._spawning.pop(session_id, None)
        if asked is None or asked.done():
            if isinstance(answer, Spawned):
                os.close(answer.master)
                os.close(answer.memory)
        elif isinstance(answer, Spawned):
            asked.set_result(answer)
        else:
            asked.set_exception(answer)

    # --- loss -------------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        self._up.clear()
        if self._wire is not None:
            self._loop.remove_reader(self._wire.fileno())
            if self._writing:
                self._loop.remove_writer(self._wire.fileno())
                self._writing = False
            self._wire.close()
            self._wire = None

    def _lose(self, why: str) -> None:
        """Drop the connection, tell everybody, and see to another."""
        self._disconnect()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(_LostError(f"the connection to the keeper was lost: {why}"))
            return  # `connect` deals with it
        spawning, self._spawning = self._spawning, {}
        for asked in spawning.values():
            if not asked.done():
                asked.set_result(None)
        self._listener.on_keeper_lost()
        if not self._closed:
            log.warning("the connection to keeper %d was lost (%s); sessions go on", self.pid, why)
            self._again = self._loop.create_task(self._connect_again())

    async def _connect_again(self) -> None:
        tries = 0
        while not self._closed:
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1
            try:
                await self.connect()
            except (KeeperError, OSError) as error:
                if tries == 1:
                    log.error("%s; trying on", error)  # noqa: TRY400 - expected, and said in a sentence
            else:
                log.info("connected to keeper %d", self.pid)
                return


def _connect(directory: RunnerDirectory) -> socket.socket | None:
    """Connect to the keeper of `directory`; None if there is none."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(directory.address(KEEPER_SOCKET))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except OSError:
        sock.close()
        raise
    return sock


async def start_keeper(
    directory: RunnerDirectory, runner_id: str, environ: Mapping[str, str] = os.environ
) -> str:
    """Start a keeper and wait for its word.

    Returns:
        `READY`, or its reason for not being so.

    Raises:
        KeeperError: it said nothing for 10 s.
    """
    loop = asyncio.get_running_loop()
    process = _start_process(directory, runner_id, environ)
    stdout = process.stdout
    assert stdout is not None
    spoke: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        loop.remove_reader(stdout.fileno())
        if not spoke.done():
            spoke.set_result(os.read(stdout.fileno(), 4096))

    loop.add_reader(stdout.fileno(), read)
    try:
        async with asyncio.timeout(ANSWER_S):
            word = await spoke
    except TimeoutError:
        process.kill()
        raise KeeperError(f"the keeper did not start within {ANSWER_S:.0f} s") from None
    finally:
        loop.remove_reader(stdout.fileno())
        stdout.close()
        # The process we started ends as soon as the keeper proper is forked.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    return word.decode(errors="replace").strip() or "it ended at once"


def _start_process(
    directory: RunnerDirectory, runner_id: str, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    env = without_secrets(environ)
    # From wherever this process got the package; programs get an environment of their own.
    root = str(Path(agentrelay.__file__).parent.parent)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, env.get("PYTHONPATH")]))
    log_fd = directory.open(KEEPER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        if os.fstat(log_fd).st_size > _LOG_BYTES:
            os.ftruncate(log_fd, 0)
        return subprocess.Popen(  # noqa: S603 - this interpreter and our own module
            [sys.executable, "-P", "-m", "agentrelay.runner.keeper", str(directory.fd), runner_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log_fd,
            pass_fds=(directory.fd,),
            start_new_session=True,
            cwd="/",
            env=env,
        )
    finally:
        os.close(log_fd)
