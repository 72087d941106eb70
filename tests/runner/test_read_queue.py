"""Read queue: an iteration of the loop reads for a bounded time, and everybody has his turn."""

import asyncio

import pytest

from agentrelay.runner.read_queue import ITERATION_S, ReadQueue


class Clock:
    """A time that goes on only when somebody reads."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def queue(clock: Clock) -> ReadQueue:
    return ReadQueue(asyncio.get_running_loop(), clock)


class Reader:
    """Something to be read, each time for `seconds`."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.reads = 0
        self._clock = clock
        self._seconds = seconds

    def read_in_turn(self) -> None:
        self.reads += 1
        self._clock.now_s += self._seconds


def poll(queue: ReadQueue, readers: list[Reader]) -> None:
    """Do what the loop does: call everybody who has something to read, in the same order every time."""
    for reader in readers:
        if queue.is_late(reader):
            queue.wait(reader)
        else:
            reader.read_in_turn()


async def test_one_alone_never_waits(clock: Clock, queue: ReadQueue) -> None:
    reader = Reader(clock, 10 * ITERATION_S)
    for _ in range(5):
        poll(queue, [reader])
        await asyncio.sleep(0)
    assert reader.reads == 5


async def test_an_iteration_reads_for_a_bounded_time(clock: Clock, queue: ReadQueue) -> None:
    readers = [Reader(clock, ITERATION_S / 4) for _ in range(20)]
    began_s = clock.now_s
    poll(queue, readers)
    assert clock.now_s - began_s == pytest.approx(ITERATION_S)
    assert [reader.reads for reader in readers] == [1] * 4 + [0] * 16


async def test_who_waits_is_read_in_later_iterations(clock: Clock, queue: ReadQueue) -> None:
    readers = [Reader(clock, ITERATION_S / 4) for _ in range(20)]
    poll(queue, readers)
    for n_read in (8, 12, 16, 20):
        await asyncio.sleep(0)
        assert sum(reader.reads for reader in readers) == n_read
    assert all(reader.reads == 1 for reader in readers)


async def test_all_have_as_many_turns_whatever_the_order_of_the_loop(clock: Clock, queue: ReadQueue) -> None:
    readers = [Reader(clock, ITERATION_S / 4) for _ in range(50)]
    for _ in range(200):
        poll(queue, readers)
        await asyncio.sleep(0)
    reads = [reader.reads for reader in readers]
    assert sum(reads) > 500
    assert max(reads) - min(reads) <= 2


async def test_a_slow_read_does_not_keep_the_others_waiting_for_ever(clock: Clock, queue: ReadQueue) -> None:
    readers = [Reader(clock, 10 * ITERATION_S) for _ in range(3)]
    for _ in range(10):
        poll(queue, readers)
        await asyncio.sleep(0)
    assert min(reader.reads for reader in readers) >= 3


async def test_nobody_is_read_twice_for_one_time_in_the_line(clock: Clock, queue: ReadQueue) -> None:
    readers = [Reader(clock, ITERATION_S) for _ in range(3)]
    poll(queue, [readers[0], *readers[1:] * 3])
    for _ in range(4):
        await asyncio.sleep(0)
    assert [reader.reads for reader in readers] == [1, 1, 1]
