"""Ends what runs for a runner id: the daemon, its sessions, their keeper. For the command line; it waits."""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

from agentrelay.errors import KeeperError
from agentrelay.runner.keeper_wire import VERSION, Message, Wire
from agentrelay.runner.paths import (
    KEEPER_LOCK,
    KEEPER_SOCKET,
    RUNNER_LOCK,
    RunnerDirectory,
    lock_holder,
    open_runner_directory,
)

STOP_S = 12.0
"""How long a daemon or a keeper may take to end; programs alone are given 5 s."""

_POLL_S = 0.02


def stop(runner_id: str, say: Callable[[str], None]) -> None:
    """End the daemon and the keeper of `runner_id` and every session, saying what is done.

    Raises:
        ConfigError: the private directory cannot be trusted.
        KeeperError: something did not end.
    """
    directory = open_runner_directory(runner_id, create=False)
    if directory is None:
        say(f"Nothing runs for runner id {runner_id}.")
        return
    ended = _stop_daemon(directory, say)
    ended = _stop_keeper(directory, say) or ended
    if not ended:
        say(f"Nothing runs for runner id {runner_id} (looked in {directory.path}).")
    directory.close()


def _stop_daemon(directory: RunnerDirectory, say: Callable[[str], None]) -> bool:
    """Ask the daemon to end everything, so that HQ still hears how each session ended."""
    pid = lock_holder(directory, RUNNER_LOCK)
    if pid is None:
        return False
    if pid == 0:
        raise KeeperError("a runner daemon is just starting; try again")
    _kill(pid, signal.SIGUSR1)
    if not _wait_free(directory, RUNNER_LOCK):
        _kill(pid, signal.SIGKILL)
        say(f"Killed runner daemon {pid}, which did not end.")
        return _wait_free(directory, RUNNER_LOCK)
    say(f"Ended runner daemon {pid} and its sessions.")
    return True


def _stop_keeper(directory: RunnerDirectory, say: Callable[[str], None]) -> bool:
    """Let the keeper end every session that is left, and itself."""
    pid = lock_holder(directory, KEEPER_LOCK)
    if pid is None:
        return False
    try:
        n_sessions = _ask_keeper(directory)
    except (KeeperError, OSError) as error:
        _kill(pid, signal.SIGKILL)
        _wait_free(directory, KEEPER_LOCK)
        say(f"Killed keeper {pid}, which did not answer ({error}); its sessions lose their terminals.")
        return True
    if not _wait_free(directory, KEEPER_LOCK):
        raise KeeperError(f"keeper {pid} does not end")
    say(f"Ended keeper {pid} and its sessions: {n_sessions}.")
    return True


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        os.kill(pid, number)


def _ask_keeper(directory: RunnerDirectory) -> int:
    """Tell the keeper to stop; gives how many sessions it held."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(directory.address(KEEPER_SOCKET))
        wire = Wire(sock)
    except OSError:
        sock.close()
        raise
    try:
        wire.send("hello", {"version": VERSION})
        n_sessions = 0
        for message in _messages(wire, time.monotonic() + STOP_S):
            for fd in message.fds:
                os.close(fd)
            if message.type == "held" and "exit" not in message.payload:
                n_sessions += 1
            if message.type == "ready":
                wire.send("stop", {})
        return n_sessions
    finally:
        wire.close()


def _messages(wire: Wire, deadline_s: float) -> Iterator[Message]:
    """Give what the keeper says until it closes the connection."""
    while True:
        if wire.pending:
            raise KeeperError("it does not read")
        if not select.select([wire], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise KeeperError("it says nothing")
        messages = wire.receive()
        if messages is None:
            return
        yield from messages


def _wait_free(directory: RunnerDirectory, lock: str) -> bool:
    """Wait until nobody holds a lock; false if somebody still does after `STOP_S`."""
    deadline_s = time.monotonic() + STOP_S
    while lock_holder(directory, lock) is not None:
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True
