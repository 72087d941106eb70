"""Registry: sessions come about, are lost and found, outlive HQ, and go when they are told to."""

import asyncio
import itertools
import logging
import os
import shutil
from pathlib import Path

import pytest

from agentrelay.errors import LimitReached, RunnerAway, StartFailed, UnknownRunner, UnknownSession
from agentrelay.hq import registry as registry_module
from agentrelay.hq.changes import CHANGES_A_TURN
from agentrelay.hq.session import State
from agentrelay.hq.store import SessionRow, Store
from agentrelay.protocol.messages import Error, Forget, Start, StartSession, Stop
from tests.hq.plane import Disk, FakeRunner, Plane, Program, attached, happens, has, run_plane

MIB = 1 << 20
NOBODY = "0" * 32


def hold(runner: FakeRunner, *session_ids: str) -> None:
    """Let a runner hold sessions that HQ does not know."""
    for session_id in session_ids:
        runner.programs[session_id] = Program(runner, Start(session_id=session_id, stream=0, limit=0))


async def stored(plane: Plane) -> dict[str, SessionRow]:
    """Give the sessions of the store, as a restarted HQ would read them."""
    return {row.session_id: row for row in await plane.store.load_sessions()}


def copied(data: Path, name: str = "copy") -> Path:
    """Copy a data directory as it is now, as if HQ had been killed."""
    return Path(shutil.copytree(data, data.parent / name))


# --- starting -------------------------------------------------------------------------------------


async def test_the_title_that_a_program_sets_is_told(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"\x1b]2;what it does\x07")
    await happens(lambda: plane.session(program.session_id).describe().title == "what it does")


async def test_a_started_session_is_known_and_stored(plane: Plane, runner: FakeRunner) -> None:
    session = await plane.registry.start_session(
        "box", StartSession(command=["/bin/cat", "-n"], cwd="/srv", rows=30, cols=100)
    )

    info = session.describe()
    assert (info.state, info.pid, info.epoch, info.name) == ("running", 42, "e1", "cat")
    assert (info.command, info.cwd, info.rows, info.cols) == (["/bin/cat", "-n"], "/srv", 30, 100)
    assert plane.registry.describe_runners()[0].sessions == 1
    assert plane.registry.count_runners() == {True: 1}
    assert plane.registry.count_sessions() == {"running": 1}
    row = (await stored(plane))[session.session_id]
    assert (row.state, row.epoch, row.pid) == ("running", "e1", 42)


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        (StartSession(), "shell"),
        (StartSession(command=["/usr/bin/python3", "x.py"]), "python3"),
        (StartSession(preset="claude"), "claude"),
        (StartSession(name="my own", preset="claude", command=["x"]), "my own"),
        (StartSession(command=["/"]), "/"),
    ],
)
async def test_a_session_has_a_name_people_can_read(
    plane: Plane, runner: FakeRunner, wish: StartSession, name: str
) -> None:
    assert (await plane.registry.start_session("box", wish)).describe().name == name


@pytest.mark.usefixtures("runner")
async def test_what_nobody_knows_is_told(plane: Plane) -> None:
    with pytest.raises(UnknownRunner, match="there is no runner 'nobody'"):
        await plane.registry.start_session("nobody", StartSession())
    with pytest.raises(UnknownSession, match=f"there is no session '{NOBODY}'"):
        plane.registry.delete_session(NOBODY)


async def nothing_is_left(plane: Plane) -> None:
    assert list(plane.registry.describe_sessions()) == []
    await happens(lambda: plane.registry._changes.settled)
    assert await stored(plane) == {}


async def test_a_start_that_the_runner_refuses_leaves_nothing(plane: Plane, runner: FakeRunner) -> None:
    runner.refuse("unknown_preset", "there is no preset 'x'")

    with pytest.raises(StartFailed, match="there is no preset 'x'") as failed:
        await plane.registry.start_session("box", StartSession(preset="x"))

    assert failed.value.code == "unknown_preset"
    await nothing_is_left(plane)


async def test_a_runner_without_a_link_is_away(plane: Plane, runner: FakeRunner) -> None:
    await runner.disconnect()

    with pytest.raises(RunnerAway, match="runner box is not connected"):
        await plane.registry.start_session("box", StartSession())

    await nothing_is_left(plane)


@pytest.mark.parametrize("how", ["cut", "replaced"])
async def test_a_link_that_is_lost_over_a_start_fails_it_at_once(
    plane: Plane, runner: FakeRunner, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    starting = asyncio.ensure_future(plane.registry.start_session("box", StartSession()))
    await runner.until(lambda: asked)
    if how == "cut":
        runner.endpoint.abort()
    else:
        await FakeRunner(plane).connect()

    with pytest.raises(RunnerAway):
        await asyncio.wait_for(starting, 10)
    await nothing_is_left(plane)
    assert "never retrieved" not in caplog.text


async def test_a_program_whose_start_went_down_with_its_link_is_recorded(
    plane: Plane, runner: FakeRunner, data: Path
) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    starting = asyncio.ensure_future(plane.registry.start_session("box", StartSession()))
    await runner.until(lambda: asked)
    newer = FakeRunner(plane)
    program = newer.programs[asked[0].session_id] = Program(newer, asked[0])
    await newer.connect()
    with pytest.raises(RunnerAway):
        await starting
    program.print(b"it runs")
    await newer.until(lambda: program.acked == 7)

    async with run_plane(copied(data)) as other:
        assert await other.session(program.session_id).read_output(0, MIB) == (0, b"it runs")


async def test_a_link_that_is_lost_before_the_runner_is_asked_fails_the_start(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = plane.store.save_session
    saving, go_on = asyncio.Event(), asyncio.Event()

    async def wait(row: SessionRow) -> None:
        saving.set()
        await go_on.wait()
        await save(row)

    monkeypatch.setattr(plane.store, "save_session", wait)
    starting = asyncio.ensure_future(plane.registry.start_session("box", StartSession()))
    await saving.wait()
    await runner.disconnect()
    go_on.set()

    with pytest.raises(RunnerAway):
        await asyncio.wait_for(starting, 10)
    await nothing_is_left(plane)
    del starting
    assert "never retrieved" not in caplog.text


async def test_a_runner_that_does_not_answer_is_not_waited_for(
    plane: Plane, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "START_S", 0.03)
    asked: list[Start] = []
    runner.on_start = asked.append

    with pytest.raises(StartFailed, match="did not answer") as failed:
        await plane.registry.start_session("box", StartSession())

    assert failed.value.code == "start_failed"
    await nothing_is_left(plane)
    assert (await runner.hear(Stop)).stream == asked[0].stream
    # It runs after all, and says so; nobody waits for it any more.
    runner.start(asked[0])
    runner.programs[asked[0].session_id].print(b"hello")
    await runner.round_trip()
    assert list(plane.registry.describe_sessions()) == []


async def test_a_start_that_nobody_waits_for_any_more_is_taken_back(plane: Plane, runner: FakeRunner) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    starting = asyncio.ensure_future(plane.registry.start_session("box", StartSession()))
    await runner.until(lambda: asked)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    await nothing_is_left(plane)
    await runner.hear(Stop)


async def test_a_program_that_ends_at_once_is_still_a_session(plane: Plane, runner: FakeRunner) -> None:
    def start(asked: Start) -> None:
        runner.start(asked)
        program = runner.programs[asked.session_id]
        program.print(b"done\n")
        program.exit(0)

    runner.on_start = start
    session = await plane.registry.start_session("box", StartSession())
    await happens(lambda: session.state is State.ENDED)

    assert await session.read_output(0, MIB) == (0, b"done\n")


# --- found and lost -------------------------------------------------------------------------------


async def test_a_session_that_hq_does_not_know_is_taken_in(plane: Plane, runner: FakeRunner) -> None:
    await runner.disconnect()
    program = runner.programs["a" * 32] = Program(runner, Start(session_id="a" * 32, stream=0, limit=0))
    program.output = bytearray(b"0123456789")
    program.base = 4

    registered = await runner.connect()

    assert [each.from_ for each in registered.sessions] == [4]
    await has(plane, program)
    info = plane.session("a" * 32).describe()
    assert (info.state, info.name, info.recording, info.epoch) == ("running", "sh", True, "e1")
    assert await plane.session("a" * 32).read_output(0, MIB) == (4, b"456789")
    await runner.until(lambda: program.acked == 10)
    assert (await stored(plane))["a" * 32].state == "running"


async def test_a_session_whose_log_is_still_there_is_taken_in_where_it_ends(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"0123456789")
    await has(plane, program)
    await plane.logged(program.session_id)
    # HQ has lost its database, but not the logs.
    without = copied(data)
    for file in without.glob("hq.db*"):
        file.unlink()
    async with run_plane(without) as other:
        runner.plane = other
        program.base = 5
        await runner.connect()
        program.print(b"more")
        await has(other, program)
        await runner.until(lambda: program.acked == 14)

        session = other.session(program.session_id)
        assert session.recording
        assert await session.read_output(5, MIB) == (5, b"56789more")


async def test_for_a_runner_too_many_the_one_that_has_been_away_longest_is_forgotten(
    plane: Plane, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MAX_RUNNERS", 3)
    for name in ("first", "second"):
        runner = FakeRunner(plane, name)
        await runner.connect()
        await runner.disconnect()
    third = FakeRunner(plane, "third")
    await third.connect()
    assert set(plane.registry.runners) == {"box", "second", "third"}

    fourth = FakeRunner(plane, "fourth")
    await fourth.connect()
    assert set(plane.registry.runners) == {"box", "third", "fourth"}
    await plane.registry.close()
    assert {row.runner_id for row in await plane.store.load_runners()} == {"box", "third", "fourth"}


async def test_a_runner_too_many_is_refused_where_none_can_be_forgotten(
    plane: Plane, runner: FakeRunner, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MAX_RUNNERS", 1)
    await runner.disconnect()  # but it has a session
    other = FakeRunner(plane, "other")
    await other.dial()
    other.register()
    assert (await other.hear(Error)).code == "limit_reached"
    assert (await other.until_closed())[0] == 1008

    await runner.connect()
    assert set(plane.registry.runners) == {"box"}


async def test_a_runner_has_only_so_many_sessions(
    plane: Plane, runner: FakeRunner, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "MAX_RUNNER_SESSIONS", 1)
    with pytest.raises(LimitReached, match="runner box has 1 sessions already"):
        await runner.start_program()

    assert [*plane.registry.sessions] == [program.session_id]


async def test_a_session_that_the_runner_does_not_bring_back_is_lost_until_it_does(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    program.print(b"before ")
    await has(plane, program)
    await runner.disconnect()
    held = runner.programs
    runner.programs = {}
    await runner.connect()
    session = plane.session(program.session_id)
    assert session.describe().state == "lost"
    assert plane.registry.describe_runners()[0].sessions == 0

    await runner.disconnect()
    runner.programs = held
    await runner.connect()
    program.print(b"after")
    await has(plane, program)

    assert session.describe().state == "running"
    assert await session.read_output(0, MIB) == (0, b"before after")


async def test_a_session_that_comes_back_as_another_life_is_lost(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    await runner.disconnect()
    program.epoch = "another"

    assert (await runner.connect()).sessions == [], "the runner is to end it"
    assert plane.session(program.session_id).describe().state == "lost"


async def test_what_has_ended_is_not_taken_back(plane: Plane, runner: FakeRunner, program: Program) -> None:
    program.exit(3)
    await runner.hear(Forget)
    await runner.disconnect()
    runner.programs[program.session_id] = program

    assert (await runner.connect()).sessions == []
    assert plane.session(program.session_id).describe().exit_code == 3


async def test_runners_keep_their_sessions_apart(plane: Plane, runner: FakeRunner, program: Program) -> None:
    other = FakeRunner(plane, "other")
    await other.connect()
    other_program = await other.start_program()
    await runner.disconnect()

    assert plane.session(program.session_id).describe().state == "away"
    assert plane.session(other_program.session_id).describe().state == "running"
    assert {info.runner_id: info.online for info in plane.registry.describe_runners()} == {
        "box": False,
        "other": True,
    }


# --- forgetting -----------------------------------------------------------------------------------


async def test_the_runner_forgets_when_log_and_store_have_everything(
    plane: Plane, runner: FakeRunner, program: Program, disk: Disk
) -> None:
    disk.answers.clear()
    program.print(b"last words")
    program.exit(3)
    await happens(lambda: plane.session(program.session_id).over)
    # Whatever else HQ does meanwhile, it does not say forget.
    for _ in range(3):
        await runner.start_program()
    assert not any(isinstance(message, Forget) for message in runner.heard)
    assert program.session_id in runner.programs
    disk.answers.set()

    await runner.hear(Forget, session_id=program.session_id)
    row = (await stored(plane))[program.session_id]
    assert (row.state, row.exit_code) == ("ended", 3)


async def test_an_hq_that_is_killed_right_after_forget_knows_the_end(
    plane: Plane, runner: FakeRunner, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = await runner.start_program()
    await happens(lambda: plane.registry._changes.settled)
    write_rows = Store._write_rows
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write(store: Store) -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        write_rows(store)

    monkeypatch.setattr(Store, "_write_rows", write)
    program.exit(3)
    await happens(lambda: plane.session(program.session_id).over)
    for _ in range(20):
        plane.registry._upkeep.run()
    await runner.round_trip()
    assert not any(isinstance(message, Forget) for message in runner.heard), "the store does not know it yet"
    release.set()

    await runner.hear(Forget, session_id=program.session_id)
    async with run_plane(copied(data)) as other:
        assert other.session(program.session_id).describe().exit_code == 3


async def test_an_end_that_only_the_log_knows_is_the_end(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"last words")
    await has(plane, program)
    await plane.logged(program.session_id)
    before = (await stored(plane))[program.session_id]
    program.exit(None, signal=9)
    await runner.hear(Forget, session_id=program.session_id)
    # HQ was killed after it had written the end to the log and before it had told the store.
    killed = copied(data)
    store = await Store.open(killed / "hq.db")
    await store.save_session(before)
    await store.close()
    async with run_plane(killed) as other:
        info = other.session(program.session_id).describe()
        assert (info.state, info.exit_code, info.signal) == ("ended", None, 9)
        assert info.ended_at is not None
        runner.plane = other
        runner.programs[program.session_id] = program

        assert (await runner.connect()).sessions == [], "the runner may forget it"
        assert other.session(program.session_id).describe() == info


# --- deleting -------------------------------------------------------------------------------------


async def test_deleting_what_runs_stops_it_and_then_removes_it(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"x" * 1000)
    await has(plane, program)
    assert plane.registry.delete_session(program.session_id) == "stopping"
    assert (await runner.hear(Stop)).stream == program.stream
    program.exit(None, signal=15)
    await runner.hear(Forget)
    assert (data / "sessions" / program.session_id).exists()

    assert plane.registry.delete_session(program.session_id) == "deleted"
    with pytest.raises(UnknownSession):
        plane.registry.session(program.session_id)
    await happens(lambda: not (data / "sessions" / program.session_id).exists())
    await nothing_is_left(plane)


async def test_deleting_what_has_just_ended_leaves_no_files_behind_a_slow_disk(
    plane: Plane, runner: FakeRunner, program: Program, data: Path, disk: Disk
) -> None:
    program.print(b"in the log")
    await runner.until(lambda: program.acked == 10)
    disk.answers.clear()
    program.print(b"not in the log")
    program.exit(0)
    await happens(lambda: plane.session(program.session_id).over)
    assert plane.registry.delete_session(program.session_id) == "deleted"
    disk.answers.set()
    other = await runner.start_program()
    other.print(b"y")
    await runner.until(lambda: other.acked == 1)

    await happens(lambda: not (data / "sessions" / program.session_id).exists())
    await happens(lambda: plane.registry._changes.settled)
    assert [path.name for path in (data / "sessions").iterdir()] == [other.session_id]


async def test_deleting_a_lost_session_removes_it(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"x")
    await has(plane, program)
    await runner.disconnect()
    runner.programs = {}
    await runner.connect()

    assert plane.registry.delete_session(program.session_id) == "deleted"
    await happens(lambda: not (data / "sessions" / program.session_id).exists())
    await nothing_is_left(plane)


async def test_what_is_deleted_while_its_runner_is_away_is_ended_when_it_is_back(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    await runner.disconnect()
    assert plane.registry.delete_session(program.session_id) == "stopping"
    (resumed,) = (await runner.connect()).sessions

    assert (await runner.hear(Stop)).stream == resumed.stream


async def test_a_session_deleted_twice_while_its_runner_is_away_is_removed_and_ended_later(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"x")
    await has(plane, program)
    await runner.disconnect()
    async with attached(plane, program.session_id) as viewer:
        assert plane.registry.delete_session(program.session_id) == "stopping"
        assert plane.registry.delete_session(program.session_id) == "deleted"
        assert (await viewer.hear("error"))["code"] == "session_over"
        assert (await viewer.hear("session_ended"))["exit_code"] is None
    with pytest.raises(UnknownSession):
        plane.registry.session(program.session_id)
    await happens(lambda: not (data / "sessions" / program.session_id).exists())
    await nothing_is_left(plane)

    assert (await runner.connect()).sessions == [], "what is not listed is ended and forgotten"
    assert plane.registry.sessions == {}


@pytest.mark.parametrize("times", [1, 2])
async def test_what_is_deleted_while_its_runner_is_away_is_ended_also_by_a_restarted_hq(
    data: Path, times: int
) -> None:
    async with run_plane(data) as plane:
        runner = FakeRunner(plane)
        await runner.connect()
        program = await runner.start_program()
        await runner.disconnect()
        for _ in range(times):
            plane.registry.delete_session(program.session_id)
    async with run_plane(data) as plane:
        runner.plane = plane
        sessions = (await runner.connect()).sessions
        if times == 1:
            assert (await runner.hear(Stop)).stream == sessions[0].stream
        else:
            assert sessions == []
            assert plane.registry.sessions == {}


async def test_a_runner_that_has_let_go_of_what_was_deleted_is_asked_no_more(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    await runner.disconnect()
    plane.registry.delete_session(program.session_id)
    plane.registry.delete_session(program.session_id)
    await runner.connect()
    await runner.disconnect()
    await happens(lambda: plane.registry._changes.settled)
    assert await plane.store.load_endings() == {program.session_id: "box"}

    runner.programs = {}
    await runner.connect()
    await happens(lambda: plane.registry._changes.settled)
    assert await plane.store.load_endings() == {}


async def test_whoever_still_reads_what_is_deleted_comes_to_an_end(
    plane: Plane, runner: FakeRunner, program: Program
) -> None:
    async with attached(plane, program.session_id, slow=True) as viewer:
        while len(program.output) < 8 * MIB:
            program.print(os.urandom(MIB))
            await has(plane, program)
        program.exit(0)
        await runner.hear(Forget)
        plane.registry.delete_session(program.session_id)
        ended = await viewer.hear("session_ended")

        assert ended["exit_code"] == 0
        for start, stop in viewer.gaps:
            program.output[start:stop] = bytes(stop - start)
        assert viewer.shown == program.output


# --- HQ restarts ----------------------------------------------------------------------------------


async def test_a_restarted_hq_knows_every_session_where_its_log_ends(
    plane: Plane, runner: FakeRunner, data: Path
) -> None:
    running = await runner.start_program(name="runs")
    ended = await runner.start_program()
    running.print(b"0123456789")
    ended.print(b"abc")
    ended.exit(7)
    await runner.hear(Forget)
    await runner.until(lambda: running.acked == 10)
    async with run_plane(copied(data)) as other:
        info = other.session(running.session_id).describe()
        assert (info.state, info.offset, info.epoch, info.name) == ("away", 10, "e1", "runs")
        info = other.session(ended.session_id).describe()
        assert (info.state, info.offset, info.exit_code) == ("ended", 3, 7)
        assert not other.registry.describe_runners()[0].online
        async with attached(other, ended.session_id) as viewer:
            await viewer.hear("session_ended")
            assert viewer.output == b"abc"


async def test_what_was_recorded_before_a_disk_was_full_is_there_after_a_restart(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"0123456789")
    await runner.until(lambda: program.acked == 10)
    session = plane.session(program.session_id)
    session.on_recording_failed("the disk is full")
    await happens(lambda: plane.registry._changes.settled)
    async with run_plane(copied(data)) as other:
        info = other.session(program.session_id).describe()
        assert (info.recording, info.offset, info.base_offset) == (True, 10, 0)
        runner.plane = other
        await runner.connect()
        program.print(b"and more")
        await runner.until(lambda: program.acked == 18)


async def test_viewers_attach_while_the_runner_is_not_back_and_go_on_when_it_is(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    program.print(b"in the log ")
    await runner.until(lambda: program.acked == 11)
    killed = copied(data)
    # The first HQ has shown this to a viewer, and died before it was in the log.
    program.print(b"shown and not logged ")
    async with run_plane(killed) as other:
        runner.plane = other
        async with (
            attached(other, program.session_id) as fresh,
            attached(other, program.session_id, from_=5, epoch="e1") as behind,
            attached(other, program.session_id, from_=32, epoch="e1", viewer="phone") as ahead,
        ):
            assert fresh.answer["epoch"] == "e1"
            await fresh.read_to(11)
            await behind.read_to(11)
            assert (ahead.answer["offset"], ahead.answer["replay"]["bytes"]) == (32, 0)
            await runner.connect()
            program.print(b"after")
            for viewer in (fresh, behind, ahead):
                await viewer.read_to(37)

            assert fresh.output == b"in the log shown and not logged after"
            assert behind.output == b"e log shown and not logged after"
            assert ahead.output == b"after"


async def test_input_for_a_restarted_hq_goes_on_where_the_program_is(
    plane: Plane, runner: FakeRunner, program: Program, data: Path
) -> None:
    plane.session(program.session_id).send_input(b"before ")
    await runner.until(lambda: program.typed == b"before ")
    async with run_plane(copied(data)) as other:
        runner.plane = other
        async with attached(other, program.session_id) as viewer:
            await viewer.type(b"while away ")
            await happens(lambda: other.session(program.session_id).input.taken == 11)
            await runner.connect()
            await viewer.type(b"and after")
            await runner.until(lambda: program.typed == b"before while away and after")


@pytest.mark.parametrize("lost_bytes", [1, 7, 100])
async def test_a_log_that_was_cut_by_a_crash_is_filled_again_by_the_runner(
    plane: Plane, runner: FakeRunner, program: Program, data: Path, lost_bytes: int
) -> None:
    for _ in range(20):
        program.print(os.urandom(1000))
        await has(plane, program)
        await plane.logged(program.session_id)
    killed = copied(data)
    (segment,) = (killed / "sessions" / program.session_id).glob("*.seg")
    os.truncate(segment, segment.stat().st_size - lost_bytes)
    async with run_plane(killed) as other:
        head = other.session(program.session_id).head
        assert 0 < head < 20_000
        runner.plane = other
        await runner.connect()
        await has(other, program)
        await other.logged(program.session_id)

        async with attached(other, program.session_id) as viewer:
            await viewer.read_to(20_000)
            assert viewer.output == program.output


async def test_a_session_without_a_log_goes_on_where_the_runner_is(
    plane: Plane, runner: FakeRunner, data: Path
) -> None:
    program = await runner.start_program(recording=False)
    program.print(b"0123456789")
    await runner.until(lambda: program.acked == 10)
    program.base = 10
    async with run_plane(copied(data)) as other:
        runner.plane = other
        info = other.session(program.session_id).describe()
        assert (info.state, info.recording) == ("away", False)
        await runner.connect()
        program.print(b"more")
        await has(other, program)

        assert await other.session(program.session_id).read_output(0, MIB) == (10, b"more")


async def test_one_log_that_cannot_be_read_does_not_keep_hq_from_starting(
    plane: Plane, runner: FakeRunner, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, whole = await runner.start_program(), await runner.start_program()
    for program in (broken, whole):
        program.print(b"0123456789")
    await runner.until(lambda: broken.acked == whole.acked == 10)
    killed = copied(data)
    shutil.rmtree(killed / "sessions" / broken.session_id)
    (killed / "sessions" / broken.session_id).write_text("not a directory")
    async with run_plane(killed) as other:
        assert broken.session_id in caplog.text
        assert other.session(whole.session_id).head == 10
        runner.plane = other
        broken.base = 10
        await runner.connect()
        broken.print(b"more")
        await has(other, broken)

        assert not other.session(broken.session_id).describe().recording
        assert await other.session(broken.session_id).read_output(0, MIB) == (10, b"more")


async def test_a_session_that_was_being_started_when_hq_died_is_found_or_lost(
    plane: Plane, runner: FakeRunner, data: Path
) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    starting = [asyncio.ensure_future(plane.registry.start_session("box", StartSession())) for _ in range(2)]
    await runner.until(lambda: len(asked) == 2)
    killed = copied(data)
    runner.start(asked[0])
    await starting[0]
    starting[1].cancel()
    program = runner.programs[asked[0].session_id]
    async with run_plane(killed) as other:
        runner.plane = other
        await runner.connect()
        program.print(b"it runs")
        await has(other, program)

        assert other.session(asked[0].session_id).describe().state == "running"
        assert other.session(asked[0].session_id).describe().epoch == "e1"
        assert other.session(asked[1].session_id).describe().state == "lost"
        async with attached(other, asked[0].session_id) as viewer:
            await viewer.read_to(7)
            assert viewer.output == b"it runs"


async def test_a_session_that_was_being_started_when_hq_died_is_recorded(
    plane: Plane, runner: FakeRunner, data: Path
) -> None:
    asked: list[Start] = []
    runner.on_start = asked.append
    starting = asyncio.ensure_future(plane.registry.start_session("box", StartSession()))
    await runner.until(lambda: asked)
    killed = copied(data)
    runner.start(asked[0])
    await starting
    program = runner.programs[asked[0].session_id]
    async with run_plane(killed) as other:
        runner.plane = other
        await runner.connect()
        program.print(b"it runs")
        await runner.until(lambda: program.acked == 7)
    async with run_plane(killed) as third:
        assert await third.session(program.session_id).read_output(0, MIB) == (0, b"it runs")


async def test_hq_starts_and_stops_without_a_word(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with run_plane(data) as plane:
        runner = FakeRunner(plane)
        await runner.connect()
        program = await runner.start_program()
        program.print(b"x" * 100_000)
        await has(plane, program)
    async with run_plane(data) as plane:
        assert plane.session(program.session_id).head == 100_000

    assert caplog.text == ""


# --- looking after sessions -----------------------------------------------------------------------


async def test_memory_of_a_quiet_session_is_given_back(
    plane: Plane, runner: FakeRunner, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentrelay.hq.session.QUIET_S", 0.05)
    program.print(os.urandom(MIB))
    await has(plane, program)
    session = plane.session(program.session_id)

    await happens(lambda: session.ring_base == MIB)
    await happens(lambda: plane.registry._upkeep.idle)


async def test_a_link_that_is_lost_with_many_sessions_leaves_everybody_else_a_turn(
    plane: Plane, runner: FakeRunner
) -> None:
    n_sessions = 3 * CHANGES_A_TURN
    for _ in range(n_sessions):
        await runner.start_program()
    published = [plane.events._published]

    going = asyncio.ensure_future(runner.disconnect())
    while published[-1] - published[0] <= n_sessions:  # each of them, and the runner
        await asyncio.sleep(0)
        published.append(plane.events._published)

    await going
    steps = [after - before for before, after in itertools.pairwise(published)]
    assert max(steps) <= CHANGES_A_TURN + 1
    assert {session.state for session in plane.registry.sessions.values()} == {State.AWAY}


@pytest.mark.parametrize("record_input", [True, False])
async def test_what_is_typed_is_recorded_where_that_is_switched_on(
    plane: Plane, runner: FakeRunner, record_input: bool
) -> None:
    plane.archive._record_input = record_input
    program = await runner.start_program()
    plane.session(program.session_id).send_input(b"my password")
    program.print(b"output")
    program.exit()
    await runner.until(lambda: program.session_id not in runner.programs)
    lines = list(plane.registry.export_session(program.session_id, 3))
    assert any(b"output" in line for line in lines)
    assert any(b"my password" in line for line in lines) == record_input
