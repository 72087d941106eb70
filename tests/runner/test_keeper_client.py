"""The runner's end of the keeper socket, with real keepers behind it."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable

import pytest

from agentrelay.errors import KeeperError, StartFailed
from agentrelay.runner import keeper_client as module
from agentrelay.runner.keeper_client import KeeperClient
from agentrelay.runner.launch import Launch
from agentrelay.runner.paths import (
    KEEPER_LOCK,
    KEEPER_LOG,
    KEEPER_SOCKET,
    RunnerDirectory,
    lock_holder,
    take_lock,
)
from agentrelay.runner.pty import Exit, Facts
from tests.runner.conftest import RUNNER_ID, children, kill, text_of

PATH = {"PATH": os.environ["PATH"]}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []
        self._changed = asyncio.Event()

    def on_held(self, facts: Facts, end: Exit | None, master: int, memory: int) -> None:
        os.close(master)
        os.close(memory)
        self._note("held", facts, end)

    def on_exited(self, session_id: str, end: Exit) -> None:
        self._note("exited", session_id, end)

    def on_keeper_lost(self) -> None:
        self._note("lost")

    def on_keeper_ready(self) -> None:
        self._note("ready")

    def _note(self, *event: object) -> None:
        self.events.append(event)
        self._changed.set()

    async def until(self, event: tuple[object, ...]) -> None:
        async with asyncio.timeout(15):
            while event not in self.events:
                self._changed.clear()
                await self._changed.wait()


Connect = Callable[..., tuple[KeeperClient, Heard]]


@pytest.fixture
async def client(directory: RunnerDirectory) -> AsyncIterator[Connect]:
    """Give a function that makes a client and its listener."""
    clients: list[KeeperClient] = []

    def make() -> tuple[KeeperClient, Heard]:
        heard = Heard()
        clients.append(KeeperClient(directory, RUNNER_ID, heard))
        return clients[-1], heard

    yield make
    for each in clients:
        each.close()


async def spawn(client: KeeperClient, session_id: str, *command: str, cwd: str = "/") -> int:
    spawned = await client.spawn(
        session_id, "e", Launch(list(command), cwd, PATH), rows=24, cols=80, ring_bytes=131_072
    )
    os.close(spawned.master)
    os.close(spawned.memory)
    return spawned.pid


async def test_it_starts_a_keeper_and_finds_it_again(client: Connect, directory: RunnerDirectory) -> None:
    first, heard = client()
    await first.connect()
    assert heard.events == [("ready",)]
    pid = await spawn(first, "s", "sleep", "600")
    first.close()
    second, heard = client()
    await second.connect()
    assert second.pid == first.pid == lock_holder(directory, KEEPER_LOCK)
    assert heard.events == [("held", Facts("s", "e", pid, ["sleep", "600"], "/", 131_072), None), ("ready",)]


async def test_a_keeper_is_nobodys_child_and_knows_no_secret(
    client: Connect, directory: RunnerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_TOKEN", "very-secret")
    monkeypatch.setenv("AGENTRELAY_ADMIN_TOKEN", "very-secret")
    connected, _ = client()
    await connected.connect()
    assert connected.pid not in children(os.getpid())
    assert "very-secret" not in text_of(f"/proc/{connected.pid}/environ")
    log = f"{directory.path}/{KEEPER_LOG}"
    assert stat.S_IMODE(os.stat(log).st_mode) == 0o600
    assert text_of(log) == ""


async def test_exits_are_told_when_they_happen_and_when_they_were_missed(client: Connect) -> None:
    connected, heard = client()
    await connected.connect()
    await spawn(connected, "s", "sh", "-c", "exit 5")
    await heard.until(("exited", "s", Exit(5, None)))
    connected.close()
    connected, heard = client()
    await connected.connect()
    assert heard.events[0][2] == Exit(5, None)
    connected.forget("s")
    connected.close()
    connected, heard = client()
    await connected.connect()
    assert heard.events == [("ready",)]


async def test_what_does_not_start_is_told_to_who_asked(client: Connect) -> None:
    connected, _ = client()
    await connected.connect()
    with pytest.raises(StartFailed, match="no program") as failed:
        await spawn(connected, "s", "no-such-program")
    assert failed.value.code == "command_not_found"


async def test_a_signal_reaches_the_program(client: Connect) -> None:
    connected, heard = client()
    assert not connected.signal("s", 15), "there is no keeper yet"
    await connected.connect()
    await spawn(connected, "s", "sleep", "600")
    assert connected.signal("s", 15)
    await heard.until(("exited", "s", Exit(None, 15)))


async def test_a_keeper_that_dies_is_replaced_at_once(client: Connect, programs: list[int]) -> None:
    connected, heard = client()
    await connected.connect()
    programs.append(await spawn(connected, "s", "sleep", "600"))
    first = connected.pid
    heard.events.clear()
    kill(first)
    await heard.until(("lost",))
    # Who asks in between waits for the new one.
    programs.append(await spawn(connected, "t", "sleep", "600"))
    assert connected.pid != first
    assert heard.events == [("lost",), ("ready",)]


async def test_what_a_keeper_died_over_is_started_by_the_next_one(client: Connect) -> None:
    connected, heard = client()
    await connected.connect()
    os.kill(connected.pid, 19)  # SIGSTOP: it will never answer
    starting = asyncio.create_task(spawn(connected, "s", "sleep", "600"))
    await asyncio.sleep(0)
    kill(connected.pid)
    await starting
    assert heard.events == [("ready",), ("lost",), ("ready",)]


async def test_without_a_keeper_nothing_starts(client: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    connected, _ = client()
    with pytest.raises(StartFailed, match="no keeper"):
        await spawn(connected, "s", "true")


async def test_a_keeper_that_does_not_answer_is_an_error(
    client: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected, _ = client()
    await connected.connect()
    os.kill(connected.pid, 19)
    connected.close()
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    again, _ = client()
    with pytest.raises(KeeperError, match="does not answer"):
        await again.connect()


async def test_a_keeper_that_cannot_start_says_why(
    client: Connect, directory: RunnerDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = take_lock(directory, KEEPER_LOCK)
    assert lock is not None
    monkeypatch.setattr(module, "ANSWER_S", 0.5)
    connected, _ = client()
    with pytest.raises(KeeperError, match="holds the lock"):
        await connected.connect()
    lock.release()
    await connected.connect()


async def test_stop_ends_the_keeper_for_good(client: Connect, directory: RunnerDirectory) -> None:
    connected, heard = client()
    await connected.connect()
    await spawn(connected, "s", "sleep", "600")
    connected.stop()
    await heard.until(("lost",))
    assert heard.events[1][:2] == ("exited", "s")
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nobody sees to another"


async def test_a_keeper_that_ends_just_when_it_is_needed_is_replaced(
    client: Connect, directory: RunnerDirectory
) -> None:
    with socket.socket(socket.AF_UNIX) as ending:
        ending.bind(directory.address(KEEPER_SOCKET))
        ending.listen()
        connected, heard = client()
        connecting = asyncio.create_task(connected.connect())
        taken, _ = await asyncio.to_thread(ending.accept)
        taken.close()
    await connecting
    assert connected.pid == lock_holder(directory, KEEPER_LOCK)
    assert heard.events == [("ready",)]
