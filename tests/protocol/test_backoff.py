"""Backoff: docs/protocol.md section 3.5, every delay between its bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.protocol.backoff import HEALTHY_S, MOST_S, Backoff


def lowest(low: float, high: float) -> float:
    return min(low, high)


def highest(low: float, high: float) -> float:
    return max(low, high)


def test_the_shortest_delays_are_three_quick_ones_and_then_half_a_second() -> None:
    backoff = Backoff(lowest)

    assert [backoff.delay_s(0.0) for _ in range(6)] == [0.1, 0.1, 0.1, 0.5, 0.5, 0.5]


def test_the_longest_delays_double_up_to_fifteen_seconds() -> None:
    backoff = Backoff(highest)

    delays = [backoff.delay_s(0.0) for _ in range(12)]

    assert delays == pytest.approx([0.2, 0.3, 0.3, 1, 2, 4, 8, 15, 15, 15, 15, 15])


def test_a_runner_that_tries_for_weeks_still_waits_fifteen_seconds_at_most() -> None:
    backoff = Backoff(highest)

    assert max(backoff.delay_s(0.0) for _ in range(100_000)) == MOST_S


@given(seed=st.integers(), tries=st.integers(1, 60))
def test_every_delay_is_within_its_bounds(seed: int, tries: int) -> None:
    backoff = Backoff(random.Random(seed).uniform)

    delays = [backoff.delay_s(0.0) for _ in range(tries)]

    assert 0.1 <= delays[0] <= 0.2
    assert all(0.1 <= delay <= 0.3 for delay in delays[1:3])
    for more, delay in enumerate(delays[3:], start=1):
        assert 0.5 <= delay <= min(15.0, 0.5 * 2**more)


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

    # The link breaks after an hour; the tries that follow, much later, are counted on.
    delays = [backoff.delay_s(3600.0 + 60 * n) for n in range(4)]

    assert delays == pytest.approx([0.2, 0.3, 0.3, 1])
