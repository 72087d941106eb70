"""Keyframes: sessions that put out slowly have their screens kept, floods do not, and nobody waits."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentrelay.hq import keyframes
from agentrelay.hq.keyframes import BEGINNING_BYTES, SLOW_S, Keyframes
from agentrelay.hq.session import Session
from tests.hq.fakes import Clock, Rig

EVERY = 1000
SLOWLY = SLOW_S + 1.0


class Keeper:
    """Keeps nothing, as slowly as it is told to, and says of whom it was asked to."""

    def __init__(self, clock: Clock) -> None:
        self.asked: list[Session] = []
        self.beginnings: list[Session] = []
        self.error: Exception | None = None
        self.hopeful = True
        self.seconds = 0.0
        self._clock = clock

    async def keep(self, session: Session, head: int | None) -> bool:
        if head is not None:
            assert head == BEGINNING_BYTES
            self.beginnings.append(session)
            return self.hopeful
        self.asked.append(session)
        self._clock.advance(self.seconds)
        if self.error is not None:
            raise self.error
        return self.hopeful


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(keyframes, "EVERY_BYTES", EVERY)
    return Clock()


@pytest.fixture
def keeper(clock: Clock) -> Keeper:
    return Keeper(clock)


@pytest.fixture
async def made(clock: Clock, keeper: Keeper) -> AsyncIterator[Keyframes]:
    made = Keyframes(keeper.keep, clock=clock)
    yield made
    made.close()


def put_out(made: Keyframes, rig: Rig, clock: Clock, *, seconds: float) -> None:
    """Let a session have a keyframe's worth of output in this time."""
    for _ in range(10):
        rig.output(bytes(EVERY // 10))
        clock.advance(seconds / 10)
        made.look_at(rig.session)


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_slow_output_is_kept_every_so_often(made: Keyframes, keeper: Keeper, clock: Clock) -> None:
    rig = Rig()
    made.look_at(rig.session)
    for number in range(1, 4):
        put_out(made, rig, clock, seconds=SLOWLY)
        await turns()
        assert keeper.asked == [rig.session] * number


async def test_a_flood_is_not_kept_but_what_is_slow_after_it(
    made: Keyframes, keeper: Keeper, clock: Clock
) -> None:
    rig = Rig()
    made.look_at(rig.session)
    for _ in range(20):
        put_out(made, rig, clock, seconds=SLOW_S / 2)
    await turns()
    assert keeper.asked == []
    assert keeper.beginnings == [rig.session], "how it set up its terminal, once"
    put_out(made, rig, clock, seconds=2 * SLOWLY)
    await turns()
    assert keeper.asked == [rig.session]
    assert keeper.beginnings == [rig.session]


async def test_little_output_is_not_kept_however_long_it_takes(
    made: Keyframes, keeper: Keeper, clock: Clock
) -> None:
    rig = Rig()
    for _ in range(9):
        rig.output(bytes(EVERY // 10))
        clock.advance(3600)
        made.look_at(rig.session)
    await turns()
    assert keeper.asked == []


async def test_one_is_made_at_a_time_with_a_rest_between(
    made: Keyframes, keeper: Keeper, clock: Clock
) -> None:
    keeper.seconds = 3600.0  # so that the rest is not over in this test
    rigs = [Rig(), Rig()]
    for rig in rigs:
        made.look_at(rig.session)
        put_out(made, rig, clock, seconds=SLOWLY)
    await turns()
    assert keeper.asked == [rigs[0].session]


async def test_one_that_fails_does_not_end_the_others(
    made: Keyframes, keeper: Keeper, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.error = RuntimeError("no screen today")
    rig = Rig()
    made.look_at(rig.session)
    for _ in range(2):
        put_out(made, rig, clock, seconds=SLOWLY)
        await turns()
    assert len(keeper.asked) == 2
    assert "no screen today" in caplog.text


async def test_what_is_not_recorded_is_not_kept(made: Keyframes, keeper: Keeper, clock: Clock) -> None:
    rig = Rig(recording=False)
    made.look_at(rig.session)
    put_out(made, rig, clock, seconds=SLOWLY)
    await turns()
    assert keeper.asked == []


async def test_what_cannot_be_rendered_is_not_tried_again(
    made: Keyframes, keeper: Keeper, clock: Clock
) -> None:
    keeper.hopeful = False
    hopeless, other = Rig(), Rig()
    for rig in (hopeless, other, hopeless):
        made.look_at(rig.session)
        put_out(made, rig, clock, seconds=SLOWLY)
        await turns()
    assert keeper.asked == [hopeless.session, other.session]
