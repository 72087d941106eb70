"""Garbage: what is there is looked at once, what is new soon, and all of it when nothing else happens."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from agentrelay import garbage as module
from agentrelay.garbage import MOST_WAITS, QUIET_S, SWEEP_S, THRESHOLDS, Garbage
from tests.transport.fakes import FakeLoop, running


class Cycle:
    """Garbage as soon as nobody has it, which only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


class Process:
    """A process that does something whenever it is told to."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.done = 0
        self.busy = False
        self.garbage = Garbage(self._work)
        with running(self.loop):
            self.garbage.start()

    def _work(self) -> int:
        self.done += self.busy
        return self.done

    def advance(self, seconds: float) -> None:
        with running(self.loop):
            self.loop.advance(seconds)


@pytest.fixture
def process() -> Iterator[Process]:
    thresholds = gc.get_threshold()
    process = Process()
    yield process
    process.garbage.close()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
    assert module._keep_out_of_sight not in gc.callbacks


def old_garbage() -> "weakref.ref[Cycle]":
    """Make garbage of something that a full collection has seen alive."""
    cycle = Cycle()
    gc.collect()
    return weakref.ref(cycle)


def test_what_is_there_at_the_start_is_out_of_sight(process: Process) -> None:
    assert gc.get_threshold() == THRESHOLDS
    frozen = gc.get_freeze_count()
    assert frozen > 10_000
    assert len(gc.get_objects()) < frozen / 10


def test_new_garbage_is_found_without_anybody_asking(process: Process) -> None:
    last = weakref.ref(Cycle())
    kept: list[list[None]] = [[] for _ in range(THRESHOLDS[0] * (THRESHOLDS[1] + 1) * (THRESHOLDS[2] + 1))]
    assert last() is None
    assert kept


def test_what_a_full_collection_leaves_is_not_looked_at_again(process: Process) -> None:
    garbage = old_garbage()
    assert len(gc.get_objects()) < 1000
    gc.collect()
    assert garbage() is not None


def test_everything_is_looked_at_in_a_quiet_moment(process: Process) -> None:
    garbage = old_garbage()
    process.busy = True
    process.advance(SWEEP_S + 100 * QUIET_S)
    assert garbage() is not None
    process.busy = False
    process.advance(2 * QUIET_S)
    assert garbage() is None

    later = old_garbage()
    process.advance(SWEEP_S - 2 * QUIET_S)
    assert later() is not None
    process.advance(2 * QUIET_S)
    assert later() is None


def test_a_quiet_moment_is_not_waited_for_longer_than_a_day(process: Process) -> None:
    garbage = old_garbage()
    process.busy = True
    process.advance(SWEEP_S + MOST_WAITS * QUIET_S - 1)
    assert garbage() is not None
    process.advance(1)
    assert garbage() is None
