"""Claims: what becomes of the sessions that a runner holds, also of those that HQ does not know."""

import asyncio
from unittest.mock import Mock

import pytest

from agentrelay.errors import ProtocolError, RunnerAway
from agentrelay.hq import claims, runner_link
from agentrelay.hq.archive import LogRecorder
from agentrelay.hq.session import Session, State
from agentrelay.protocol.messages import Error, Registered, Start, StartSession
from tests.hq.plane import FakeRunner, Plane, Program, happens, has

MIB = 1 << 20


def hold(runner: FakeRunner, *session_ids: str) -> None:
    """Let a runner hold sessions that HQ does not know."""
    for session_id in session_ids:
        runner.programs[session_id] = Program(runner, Start(session_id=session_id, stream=0, limit=0))


async def test_a_runner_brings_only_so_many_sessions_and_keeps_those_it_has(
    plane: Plane,
    runner: FakeRunner,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(claims, "MAX_RUNNER_SESSIONS", 3)
    await runner.disconnect()
    hold(runner, *(f"brought{n}" for n in range(5)))
    resumed = {session.session_id for session in (await runner.connect()).sessions}

    assert "takes in no more" in (await runner.hear(Error, code="limit_reached")).message
    assert resumed == {"brought0", "brought1", program.session_id}
    assert {*plane.registry.sessions} == resumed
    assert "HQ did not know 3 of the sessions of box" in caplog.text
    program.print(b"still here")
    await has(plane, program)


async def test_sessions_that_are_lost_count_among_those_a_runner_brings(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_RUNNER_SESSIONS", 5)
    monkeypatch.setattr(claims, "MAX_BROUGHT_SESSIONS", 8)
    for runner_id in ("one", "two"):
        for turn in range(3):
            forger = FakeRunner(plane, runner_id)
            hold(forger, *(f"{runner_id}-{turn}-{n}" for n in range(4)))
            await forger.connect()
            await forger.disconnect()

    assert len([each for each in plane.registry.sessions if each.startswith("one")]) == 5
    assert len(plane.registry.sessions) == 8


async def test_sessions_that_have_ended_count_among_all_that_runners_bring(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MAX_BROUGHT_SESSIONS", 5)
    runner = FakeRunner(plane)
    for turn in range(3):
        hold(runner, *(f"brought{turn}-{n}" for n in range(2)))
        going_on = [each.session_id for each in (await runner.connect()).sessions]
        for session_id in going_on:
            runner.programs[session_id].exit()
        await runner.until(lambda: not {*going_on} & {*runner.programs})  # noqa: B023 - waited for
        await runner.disconnect()
        runner.programs.clear()

    assert len(plane.registry.sessions) == 5


async def test_a_runner_with_many_sessions_leaves_everybody_else_turns(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIMED_A_TURN", 2)
    monkeypatch.setattr(runner_link, "ATTACHED_A_TURN", 2)
    many = FakeRunner(plane, "many")
    hold(many, *(f"brought{n}" for n in range(9)))
    await many.connect()
    await many.disconnect()
    yields = 0

    async def have_a_turn(seconds: float) -> None:
        nonlocal yields
        yields += 1
        with pytest.raises(RunnerAway):
            await plane.registry.start_session("many", StartSession())

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", have_a_turn)
        assert len((await many.connect()).sessions) == 9
    assert yields == 4
    for program in many.programs.values():
        program.print(b"here")
        await has(plane, program)


@pytest.mark.parametrize("fate", ["cut", "replaced"])
async def test_a_link_that_goes_while_its_sessions_are_taken_in_costs_none_of_them(
    plane: Plane, fate: str
) -> None:
    first, second = FakeRunner(plane), FakeRunner(plane)
    hold(first, "a" * 32, "b" * 32)
    hold(second, "a" * 32, "b" * 32)
    reopen, opening, go_on = plane.archive.reopen, asyncio.Event(), asyncio.Event()

    async def wait(session: Session) -> LogRecorder:
        opening.set()
        await go_on.wait()
        return await reopen(session)

    plane.archive.reopen = wait  # type: ignore[method-assign]
    await first.dial()
    first.register()
    await opening.wait()
    if fate == "cut":
        await first.disconnect()
    connecting = asyncio.ensure_future(second.connect())
    if fate == "replaced":
        assert (await first.until_closed())[0] == 4000
    go_on.set()

    assert {each.session_id for each in (await connecting).sessions} == {"a" * 32, "b" * 32}
    for program in second.programs.values():
        program.print(b"once")
        await has(plane, program)
        assert await plane.session(program.session_id).read_output(0, MIB) == (0, b"once")


async def test_two_runners_cannot_bring_one_session_at_once(plane: Plane) -> None:
    one, two = FakeRunner(plane, "one"), FakeRunner(plane, "two")
    reopen, go_on = plane.archive.reopen, asyncio.Event()

    async def wait(session: Session) -> LogRecorder:
        await go_on.wait()
        return await reopen(session)

    plane.archive.reopen = wait  # type: ignore[method-assign]
    hold(one, "a" * 32)
    hold(two, "a" * 32)
    await one.dial()
    one.register()
    await happens(lambda: plane.registry._claims._adopting)
    assert (await two.connect()).sessions == []
    go_on.set()
    assert len((await one.hear(Registered)).sessions) == 1


async def test_sessions_that_cannot_be_taken_in_leave_the_runner_to_try_again(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = FakeRunner(plane)
    hold(runner, "a" * 32)
    with monkeypatch.context() as patch:
        patch.setattr(plane.archive, "reopen", Mock(side_effect=RuntimeError("a fault of ours")))
        await runner.dial()
        runner.register()
        assert (await runner.until_closed())[0] == 1011
    assert "a fault of ours" in caplog.text
    assert len((await runner.connect()).sessions) == 1


async def test_a_session_with_too_many_gaps_is_why_its_link_is_refused(
    plane: Plane, runner: FakeRunner, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runner.disconnect()
    program.print(bytes(100))
    program.base = 50
    session = plane.session(program.session_id)
    with monkeypatch.context() as patch:
        patch.setattr(session, "on_gap", Mock(side_effect=ProtocolError("limit_reached", "64 gaps")))
        await runner.dial()
        runner.register()
        assert (await runner.hear(Error)).code == "limit_reached"
        assert await runner.until_closed() == (1008, "64 gaps")
    assert not plane.registry.runner("box").online
    assert session.state is State.AWAY

    await runner.connect()
    await happens(lambda: session.head == 100)
