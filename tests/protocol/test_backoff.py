"""Backoff: docs/protocol.md section 3.5, every delay between its bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.protocol.backoff import HEALTHY_S, SOON_FOR_S, Backoff


def lowest(low: float, high: float) -> float:
    return min(low, high)


def highest(low: float, high: float) -> float:
    return max(low, high)


def test_the_shortest_delays_are_three_quick_ones_and_then_half_a_second() -> None:
    backoff = Backoff(lowest)

    assert [backoff.delay_s(0.0) for _ in range(6)] == [0.1, 0.1, 0.1, 0.5, 0.5, 0.5]


def test_within_the_first_minute_nobody_waits_longer_than_a_restart_may_be_noticed() -> None:
    backoff = Backoff(highest)

    delays = [backoff.delay_s(float(now)) for now in range(12)]

    assert delays == pytest.approx([0.2, 0.3, 0.3] + 9 * [1.5])


def test_after_a_minute_the_longest_delay_is_fifteen_seconds() -> None:
    backoff = Backoff(highest)
    for _ in range(10):
        backoff.delay_s(0.0)

    assert backoff.delay_s(SOON_FOR_S) == 15.0
    assert backoff.delay_s(10_000_000.0) == 15.0


@given(seed=st.integers(), moments=st.lists(st.floats(0, 1e6), min_size=4, max_size=60).map(sorted))
def test_every_delay_is_within_its_bounds(seed: int, moments: list[float]) -> None:
    backoff = Backoff(random.Random(seed).uniform)

    delays = [backoff.delay_s(now) for now in moments]

    assert 0.1 <= delays[0] <= 0.2
    assert all(0.1 <= delay <= 0.3 for delay in delays[1:3])
    for now, delay in zip(moments[3:], delays[3:], strict=True):
        assert 0.5 <= delay <= (1.5 if now - moments[0] < SOON_FOR_S else 15.0)


def test_two_runners_that_lost_the_same_hq_do_not_come_back_together() -> None:
    first, second = Backoff(), Backoff()

    assert [first.delay_s(0.0) for _ in range(8)] != [second.delay_s(0.0) for _ in range(8)]


def test_ten_seconds_of_health_start_it_over() -> None:
    backoff = Backoff(highest)
    for _ in range(7):
        backoff.delay_s(0.0)
    backoff.connected(100.0)

    assert backoff.delay_s(100.0 + HEALTHY_S) == pytest.approx(0.2)


def test_a_shorter_connection_does_not_start_it_over() -> None:
    backoff = Backoff(highest)
    for _ in range(7):
        backoff.delay_s(0.0)
    backoff.connected(100.0)

    assert backoff.delay_s(100.0 + HEALTHY_S - 0.01) == pytest.approx(15.0)


def test_health_counts_once_and_not_for_the_tries_after_it() -> None:
    backoff = Backoff(highest)
    backoff.connected(0.0)

    # The link breaks after an hour; the tries that follow are counted on.
    delays = [backoff.delay_s(3600.0 + n) for n in range(4)]

    assert delays == pytest.approx([0.2, 0.3, 0.3, 1.5])
