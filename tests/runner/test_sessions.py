"""Sessions with real keepers: starting, ending, forgetting, and the death of the keeper."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agentrelay.errors import StartFailed
from agentrelay.protocol.messages import Start
from agentrelay.runner import sessions as module
from agentrelay.runner.paths import KEEPER_LOCK, RunnerDirectory, lock_holder
from agentrelay.runner.presets import load_presets
from agentrelay.runner.pty import Exit, PtySession
from agentrelay.runner.sessions import Sessions
from tests.runner.conftest import RUNNER_ID, KeeperTalk, children, kill, wait_readable

PRESETS = load_presets(Path("/no/such/file"))
ENDED = {Exit(None, signal.SIGHUP), Exit(None, signal.SIGTERM)}
"""A program that is sent both has been ended by either."""

Make = Callable[[], Awaitable[Sessions]]


@pytest.fixture
async def make(directory: RunnerDirectory) -> AsyncIterator[Make]:
    """Give a function that makes the sessions of a runner; making them again is a restart."""
    made: list[Sessions] = []

    async def start() -> Sessions:
        if made:
            made[-1].close()
        made.append(Sessions(directory, RUNNER_ID, PRESETS, ring_bytes=131_072))
        await made[-1].keeper.connect()
        return made[-1]

    yield start
    if made:
        made[-1].close()


async def start(sessions: Sessions, session_id: str, script: str) -> PtySession:
    return await sessions.start(
        Start(session_id=session_id, stream=1, limit=0, command=["sh", "-c", script], cwd="/")
    )


def output(session: PtySession) -> bytes:
    return bytes(session.ring.view(session.ring.base, session.ring.head))


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until something is so."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def look() -> None:
        if done.done():
            return
        if condition():
            done.set_result(None)
        else:
            loop.call_later(0.001, look)

    look()
    await asyncio.wait_for(done, 15)


async def over(session: PtySession) -> Exit | None:
    await asyncio.wait_for(session.wait_over(), 15)
    return session.exit


async def test_a_session_from_its_start_to_its_end(make: Make) -> None:
    sessions = await make()
    session = await start(sessions, "s", "tty; exit 4")
    assert sessions.held == {"s": session}
    assert await over(session) == Exit(4, None)
    assert output(session).startswith(b"/dev/pts/")
    sessions.forget("s")
    assert sessions.held == {}
    assert (await make()).held == {}


async def test_a_program_that_is_over_in_no_time_is_not_missed(make: Make) -> None:
    sessions = await make()
    started = [await start(sessions, f"s{number}", f"exit {number}") for number in range(20)]
    assert [await over(session) for session in started] == [Exit(number, None) for number in range(20)]


async def test_an_id_is_started_once(make: Make) -> None:
    sessions = await make()
    first, second = await asyncio.gather(
        start(sessions, "s", "read x"), start(sessions, "s", "read x"), return_exceptions=True
    )
    assert isinstance(first, PtySession)
    assert isinstance(second, StartFailed)
    with pytest.raises(StartFailed, match="already"):
        await start(sessions, "s", "read x")


async def test_a_restarted_runner_goes_on_where_the_last_one_was(make: Make) -> None:
    sessions = await make()
    session = await start(sessions, "s", "echo one; read x; echo $x; read y")
    await until(lambda: output(session) == b"one\r\n")
    before = session.facts
    sessions = await make()
    session = sessions.held["s"]
    assert session.facts == before
    assert output(session) == b"one\r\n"
    session.write_input(b"two\n")
    await until(lambda: output(session) == b"one\r\ntwo\r\ntwo\r\n")


async def test_stop_ends_a_program(make: Make) -> None:
    sessions = await make()
    session = await start(sessions, "s", "read x")
    sessions.stop(session)
    assert await over(session) in ENDED


async def test_stop_kills_what_does_not_go(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER_S", 0.2)
    sessions = await make()
    session = await start(sessions, "s", "trap '' HUP TERM; echo ready; while :; do read x; done")
    await until(lambda: output(session) == b"ready\r\n")
    sessions.stop(session)
    assert await over(session) == Exit(None, signal.SIGKILL)


async def test_what_a_stopped_command_leaves_behind_is_killed_even_if_it_is_forgotten(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KILL_AFTER_S", 0.3)
    sessions = await make()
    session = await start(sessions, "s", "(trap '' HUP TERM; echo ready; exec sleep 600) & read x")
    await until(lambda: b"ready" in output(session))
    (behind,) = children(session.facts.pid)
    watch = os.pidfd_open(behind)
    sessions.stop(session)
    await over(session)
    sessions.forget("s")
    await asyncio.to_thread(wait_readable, watch)
    os.close(watch)
    assert (await make()).held == {}


async def test_a_session_that_nobody_wants_is_ended_and_forgotten(make: Make) -> None:
    sessions = await make()
    flooding = await start(sessions, "flooding", "while :; do echo flood; done")
    await until(lambda: flooding.ring.room_bytes == 0)
    finished = await start(sessions, "finished", "echo done")
    await over(finished)
    sessions.abandon("flooding")
    sessions.abandon("finished")
    assert sessions.held == {}
    await over(flooding)
    assert (await make()).held == {}


async def test_a_live_session_that_is_forgotten_is_ended(make: Make) -> None:
    sessions = await make()
    session = await start(sessions, "s", "read x")
    sessions.forget("s")
    assert await over(session) in ENDED


async def test_sessions_survive_their_keeper_and_new_ones_start(make: Make, programs: list[int]) -> None:
    sessions = await make()
    old = await start(sessions, "old", "echo before; read x; echo $x; exit 3")
    programs.append(old.facts.pid)
    await until(lambda: output(old) == b"before\r\n")
    kill(sessions.keeper.pid)
    new = await start(sessions, "new", "exit 2")
    assert await over(new) == Exit(2, None)
    old.write_input(b"after\n")
    assert await over(old) == Exit(None, None)
    assert output(old) == b"before\r\nafter\r\nafter\r\n"


async def test_the_next_runner_gets_adopted_sessions_from_the_new_keeper(
    make: Make, programs: list[int]
) -> None:
    sessions = await make()
    session = await start(sessions, "s", "echo before; read x; echo $x; read y")
    programs.append(session.facts.pid)
    await until(lambda: output(session) == b"before\r\n")
    first = sessions.keeper.pid
    kill(first)
    await until(lambda: sessions.keeper.connected and sessions.keeper.pid != first)
    sessions = await make()
    session = sessions.held["s"]
    session.write_input(b"after\n")
    await until(lambda: output(session) == b"before\r\nafter\r\nafter\r\n")
    sessions.stop(session)
    assert await over(session) == Exit(None, None), "its keeper is not its parent"


async def test_without_a_keeper_a_program_can_still_be_stopped(
    make: Make, programs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await make()
    session = await start(sessions, "s", "read x")
    programs.append(session.facts.pid)
    monkeypatch.setattr(sessions.keeper, "connect", lambda: asyncio.sleep(3600))
    kill(sessions.keeper.pid)
    await until(lambda: not sessions.keeper.signal("s", 0))
    sessions.stop(session)
    watch = os.pidfd_open(session.facts.pid)
    await asyncio.to_thread(wait_readable, watch)
    os.close(watch)


async def test_stop_all_ends_everything(make: Make, directory: RunnerDirectory) -> None:
    sessions = await make()
    started = [await start(sessions, f"s{number}", "echo hello; read x") for number in range(3)]
    await asyncio.wait_for(sessions.stop_all(), 15)
    assert {session.exit for session in started} <= ENDED
    await until(lambda: lock_holder(directory, KEEPER_LOCK) is None)


async def test_stop_all_kills_what_does_not_go_and_still_hears_of_it(
    make: Make, start_keeper: Callable[..., None]
) -> None:
    start_keeper(KILL_AFTER_S=0.2)
    sessions = await make()
    session = await start(sessions, "s", "trap '' HUP TERM; echo ready; while :; do read x; done")
    await until(lambda: output(session) == b"ready\r\n")
    await asyncio.wait_for(sessions.stop_all(), 15)
    assert session.exit == Exit(None, signal.SIGKILL)


async def test_a_lost_connection_to_a_living_keeper_loses_nothing(
    make: Make, talk: Callable[[], KeeperTalk]
) -> None:
    sessions = await make()
    session = await start(sessions, "s", "read x; exit 3")
    keeper = sessions.keeper.pid
    intruder = talk()
    intruder.say("hello", version=1)  # takes the place of the runner, which takes it back
    while await asyncio.to_thread(intruder.hear) is not None:
        pass  # until the runner has taken its place again
    await until(lambda: sessions.keeper.connected)
    assert sessions.keeper.pid == keeper
    session.write_input(b"\n")
    assert await over(session) == Exit(3, None)
