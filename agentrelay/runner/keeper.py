"""The keeper: a small process that owns the PTYs of one runner id, so that sessions outlive the runner.

It forks the programs, holds their PTY masters and the memory of their rings, reaps them and remembers how
they ended, and hands the descriptors to whichever runner connects (docs/protocol.md section 4). It does no
I/O on them. One thread, one selector, the standard library and ptyprocess: what is not in here cannot take
it down.

It is told nothing twice: everything a runner must know after a reconnect is in `held`.
"""

import contextlib
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from agentrelay.errors import KeeperError
from agentrelay.runner.keeper_wire import LOCKED, READY, VERSION, Message, Wire
from agentrelay.runner.paths import KEEPER_LOCK, KEEPER_SOCKET, RunnerDirectory, take_lock
from agentrelay.runner.process_group import group_exists, signal_groups
from agentrelay.runner.ring_memory import create_ring_memory
from agentrelay.runner.spawn import SpawnFailed, spawn

IDLE_S: Final = 60.0
"""How long a keeper that holds no session waits for a runner before it ends."""

KILL_AFTER_S: Final = 5.0
"""How long programs have between SIGTERM and SIGKILL."""

_HELLO_S: Final = 10.0
_SPARE_DESCRIPTORS: Final = 64
_REAP_S: Final = 1.0  # how long what was killed may take to be gone
_STOP_POLL_S: Final = 0.02
_STOP_SIGNALS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)
"""The last lets a stopped program hear the others."""


class Kept:
    """One session: what `held` says about it, and its descriptors, which it owns.

    Args:
        told: the fields of `FIELDS`, as a `spawn` or `adopt` told them.
        pid: of the command itself.
        master: PTY master.
        memory: ring memory.
    """

    FIELDS = ("session_id", "epoch", "rows", "cols", "ring_bytes", "command", "cwd")

    def __init__(self, told: dict[str, Any], *, pid: int, master: int, memory: int) -> None:
        self.session_id: str = told["session_id"]
        self.pid = pid
        self.master = master
        self.memory = memory
        self.exit: dict[str, int | None] | None = None
        self.group_is_gone = False
        self.watch: int | None = None  # pidfd of an adopted program, which is not our child
        self._told = {name: told[name] for name in self.FIELDS}

    def describe(self) -> dict[str, Any]:
        """Give the payload of `held`."""
        payload = {**self._told, "pid": self.pid}
        if self.exit is not None:
            payload["exit"] = self.exit
        return payload


class Keeper:
    """The process's state and its loop.

    Args:
        listener: a listening unix socket.
        directory: the private directory; owned by the caller.
    """

    def __init__(self, listener: socket.socket, directory: RunnerDirectory) -> None:
        self._directory = directory
        self._listener = listener
        self._sessions: dict[str, Kept] = {}
        self._runner: Wire | None = None
        self._greeting: dict[Wire, float] = {}  # who has not said hello yet, and until when they may
        self._idle_since = time.monotonic()
        self._kill_at: float | None = None
        self._groups: set[int] = set()  # process groups that are being stopped
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler nothing would write to the pipe
        self._selector.register(wake_read, selectors.EVENT_READ, lambda: self._reap(wake_read))

    def run(self) -> None:
        """Serve until there is nothing left to serve."""
        while not self._done():
            for key, _ in self._selector.select(self._timeout_s()):
                key.data()
            self._drop_silent()
        self._selector.close()

    # --- when to wake, when to end ----------------------------------------------------------------

    def _done(self) -> bool:
        now = time.monotonic()
        if self._kill_at is not None:
            self._groups = {group for group in self._groups if group_exists(group)}
            if now >= self._kill_at:
                signal_groups(self._groups, signal.SIGKILL, _log)
            if not self._groups and all(kept.exit for kept in self._sessions.values()):
                return True
            return now >= self._kill_at + _REAP_S
        if self._runner is not None or self._sessions:
            self._idle_since = now
        return now - self._idle_since >= IDLE_S

    def _timeout_s(self) -> float | None:
        now = time.monotonic()
        if self._kill_at is not None:
            # Nothing tells that a group has become empty: look, for the few seconds that this can last.
            return _STOP_POLL_S
        deadlines = list(self._greeting.values())
        if self._runner is None and not self._sessions:
            deadlines.append(self._idle_since + IDLE_S)
        return max(0.0, min(deadlines) - now) if deadlines else None

    # --- connections ------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            _log(f"accept: {error}")
            return
        wire = Wire(sock)
        self._greeting[wire] = time.monotonic() + _HELLO_S
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._serve(wire))

    def _drop_silent(self) -> None:
        now = time.monotonic()
        for wire in [wire for wire, until in self._greeting.items() if now >= until]:
            self._drop(wire)

    def _serve(self, wire: Wire) -> None:
        """Do what a connection is ready for."""
        try:
            if wire.pending:
                wire.flush()
            messages = wire.receive()
            if messages is None:
                self._drop(wire)
                return
            for message in messages:
                self._take(wire, message)
        except (KeeperError, OSError, KeyError, TypeError, ValueError) as error:
            _log(f"connection dropped: {type(error).__name__}: {error}")
            self._drop(wire)
        else:
            self._watch(wire)

    def _watch(self, wire: Wire) -> None:
        """Wait for the socket to become writable exactly while something is to be sent."""
        if wire.fileno() >= 0:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if wire.pending else 0)
            key = self._selector.get_key(wire.fileno())
            if key.events != wanted:
                self._selector.modify(wire.fileno(), wanted, key.data)

    def _drop(self, wire: Wire) -> None:
        self._greeting.pop(wire, None)
        if self._runner is wire:
            self._runner = None
            self._idle_since = time.monotonic()
        if wire.fileno() >= 0:
            self._selector.unregister(wire.fileno())
            wire.close()

    def _tell(self, kind: str, payload: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Tell the runner, if there is one; one that comes later learns it from `held`."""
        wire = self._runner
        if wire is None:
            return
        try:
            wire.send(kind, payload, fds)
        except (KeeperError, OSError) as error:
            _log(f"connection dropped: {error}")
            self._drop(wire)
        else:
            self._watch(wire)

    # --- what a runner says -----------------------------------------------------------------------

    def _take(self, wire: Wire, message: Message) -> None:
        if message.type == "hello":
            self._hello(wire)
        elif wire is not self._runner:
            # A runner that was replaced, or one that skipped its hello.
            _close(message.fds)
        elif message.type == "spawn":
            self._spawn(message.payload)
        elif message.type == "adopt":
            self._adopt(message.payload, message.fds)
        elif message.type == "signal":
            self._signal(message.payload["session_id"], message.payload["signal"])
        elif message.type == "forget":
            self._forget(message.payload["session_id"])
        elif message.type == "stop":
            self._stop()

    def _hello(self, wire: Wire) -> None:
        """Greet a runner and hand it everything. Version 1 is the only one, so the lower of both is 1."""
        self._greeting.pop(wire, None)
        if self._runner is not None and self._runner is not wire:
            self._drop(self._runner)
        self._runner = wire
        self._tell("hello", {"version": VERSION, "pid": os.getpid()})
        for kept in self._sessions.values():
            self._tell("held", kept.describe(), (kept.master, kept.memory))
        self._tell("ready", {})

    def _spawn(self, asked: dict[str, Any]) -> None:
        session_id = asked["session_id"]
        try:
            kept = self._start(asked)
        except SpawnFailed as error:
            self._tell("spawn_failed", {"session_id": session_id, "code": error.code, "message": str(error)})
        else:
            self._sessions[session_id] = kept
            self._tell("spawned", {"session_id": session_id, "pid": kept.pid}, (kept.master, kept.memory))

    def _start(self, asked: dict[str, Any]) -> Kept:
        if asked["session_id"] in self._sessions:
            raise SpawnFailed("start_failed", f"session {asked['session_id']} has been started already")
        if self._kill_at is not None:
            raise SpawnFailed("start_failed", "the runner's sessions are being ended")
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 2 * len(self._sessions) + _SPARE_DESCRIPTORS > most:
            full = f"{len(self._sessions)} sessions are open, which is all that `ulimit -n` leaves room for"
            raise SpawnFailed("start_failed", full)
        try:
            memory = create_ring_memory(asked["ring_bytes"], directory_fd=self._directory.fd)
        except OSError as error:
            raise SpawnFailed("start_failed", f"no memory for the session: {error.strerror}") from None
        try:
            pid, master = spawn(
                asked["command"],
                cwd=asked["cwd"],
                env=asked["env"],
                rows=asked["rows"],
                cols=asked["cols"],
                open_files=asked.get("open_files"),
            )
        except BaseException:
            os.close(memory)
            raise
        return Kept(asked, pid=pid, master=master, memory=memory)

    def _adopt(self, told: dict[str, Any], fds: list[int]) -> None:
        """Take over a session whose keeper died. Its program is not our child: its status is never known."""
        master, memory = fds
        if told["session_id"] in self._sessions:
            _close(fds)
            return
        kept = Kept(told, pid=told["pid"], master=master, memory=memory)
        self._sessions[kept.session_id] = kept
        try:
            kept.watch = os.pidfd_open(kept.pid)
            # Every program we start leads a process session: one that does not has got an old number.
            alive = os.getsid(kept.pid) == kept.pid
        except ProcessLookupError:
            alive = False
        except (AttributeError, OSError) as error:
            _log(f"cannot watch adopted process {kept.pid}, its runner will see its PTY close: {error}")
            return
        if kept.watch is not None:
            self._selector.register(kept.watch, selectors.EVENT_READ, lambda: self._exited(kept, None, None))
        if not alive:
            self._exited(kept, None, None)

    def _signal(self, session_id: str, number: int) -> None:
        kept = self._sessions.get(session_id)
        if kept is not None and not kept.group_is_gone:
            signal_groups(_groups(kept), number, _log)

    def _forget(self, session_id: str) -> None:
        kept = self._sessions.pop(session_id, None)
        if kept is not None:
            self._unwatch(kept)
            _close([kept.master, kept.memory])

    def _stop(self) -> None:
        if self._kill_at is None:
            for kept in self._sessions.values():
                if not kept.group_is_gone:
                    self._groups |= _groups(kept)
            for number in _STOP_SIGNALS:
                signal_groups(self._groups, number, _log)
            self._kill_at = time.monotonic() + KILL_AFTER_S

    # --- what programs do -------------------------------------------------------------------------

    def _reap(self, wake_read: int) -> None:
        os.read(wake_read, 4096)
        by_pid = {kept.pid: kept for kept in self._sessions.values() if kept.watch is None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            kept = by_pid.get(pid)
            if kept is not None:  # else what is left of a program that was not started, or was forgotten
                code = os.waitstatus_to_exitcode(status)
                self._exited(kept, code if code >= 0 else None, -code if code < 0 else None)

    def _exited(self, kept: Kept, exit_code: int | None, number: int | None) -> None:
        self._unwatch(kept)
        kept.group_is_gone = not group_exists(kept.pid)  # from here on its number may come to name another
        kept.exit = {"exit_code": exit_code, "signal": number}
        self._tell("exited", {"session_id": kept.session_id, **kept.exit})

    def _unwatch(self, kept: Kept) -> None:
        if kept.watch is not None:
            self._selector.unregister(kept.watch)
            os.close(kept.watch)
            kept.watch = None


def _groups(kept: Kept) -> set[int]:
    """Give the process groups of a session: its leader's, and the one in the foreground of its terminal.

    A program that runs under an interactive shell is in the second only.
    """
    groups = {kept.pid}
    with contextlib.suppress(OSError):  # the terminal has no foreground any more
        groups.add(os.tcgetpgrp(kept.master))
    return {group for group in groups if group > 1}


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr, flush=True)


def main() -> None:
    """Run a keeper: `python -m agentrelay.runner.keeper <directory descriptor> <runner id>`.

    The runner id is there for people who read `ps`. Standard output is how it answers who started it: one
    line, `READY` or what is wrong. After that it keeps nothing it was started with but its log, on standard
    error.
    """
    if os.fork():
        os._exit(0)  # nobody's child: who started it need not reap it, and may end first
    directory = RunnerDirectory(int(sys.argv[1]), "")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        lock = take_lock(directory, KEEPER_LOCK)
        if lock is None:
            _answer(LOCKED)
            return
        listener = _listen(directory)
    except OSError as error:
        _answer(f"cannot listen: {error}")
        return
    _answer(READY)
    try:
        Keeper(listener, directory).run()
    finally:
        os.unlink(KEEPER_SOCKET, dir_fd=directory.fd)


def _listen(directory: RunnerDirectory) -> socket.socket:
    """Listen on the socket; the lock is ours, so one that lies there is a dead keeper's."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(KEEPER_SOCKET, dir_fd=directory.fd)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(directory.address(KEEPER_SOCKET))
    listener.listen(8)
    return listener


def _answer(text: str) -> None:
    asker = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.write(asker, text.encode() + b"\n")
    os.close(asker)


if __name__ == "__main__":
    main()
