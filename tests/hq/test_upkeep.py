"""Upkeep: active sessions are looked after until nothing is left to do, and never all in one turn."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentrelay.hq import upkeep as module
from agentrelay.hq.session import Session
from agentrelay.hq.upkeep import AT_ONCE, Upkeep
from tests.hq.fakes import Rig


class Owner:
    """Looks after each session as often as there is something to do for it."""

    def __init__(self) -> None:
        self.left: dict[Session, int] = {}
        self.looked: list[Session] = []
        self.upkeep = Upkeep(self._look_after)

    def add(self, times: int = 1) -> Session:
        session = Rig().session
        self.left[session] = times
        self.upkeep.note(session)
        return session

    def _look_after(self, session: Session) -> bool:
        self.looked.append(session)
        self.left[session] -= 1
        return self.left[session] <= 0


@pytest.fixture
async def owner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Owner]:
    monkeypatch.setattr(module, "EVERY_S", 3600.0)  # a test says when
    owner = Owner()
    yield owner
    owner.upkeep.close()


async def test_a_session_is_looked_after_until_nothing_is_left_to_do(owner: Owner) -> None:
    session = owner.add(times=3)
    for number in range(1, 6):
        owner.upkeep.run()
        assert owner.looked == [session] * min(number, 3)
    assert owner.upkeep.idle


async def test_many_are_looked_after_over_several_turns_of_the_loop(owner: Owner) -> None:
    sessions = [owner.add() for _ in range(2 * AT_ONCE + 1)]
    owner.upkeep.run()
    for n_looked in (AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 1):
        assert owner.looked == sessions[:n_looked]
        assert owner.upkeep.idle == (n_looked == len(sessions))
        await asyncio.sleep(0)


async def test_one_that_is_dropped_between_the_turns_is_left_alone(owner: Owner) -> None:
    sessions = [owner.add() for _ in range(AT_ONCE + 2)]
    owner.upkeep.run()
    owner.upkeep.drop(sessions[-1])
    await asyncio.sleep(0)
    assert owner.looked == sessions[:-1]
    assert owner.upkeep.idle
