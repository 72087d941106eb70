"""The hold policy, on a clock that the tests turn."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

LONGEST = 4_000


class Pty:
    """Drains a policy's PTY and keeps the time: after a hold the next drain comes when it is over."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.now_us = 1_000_000
        self.held_us = 0

    def drain(self, n_bytes: int, *, after_us: int = 1_000) -> int:
        self.now_us += self.held_us or after_us
        self.held_us = self.policy.drained(self.now_us, n_bytes)
        return self.held_us

    def run(self, n_bytes: int = 40) -> int:
        """Start a run of small drains; give the hold that it ends in."""
        for _ in range(3):
            assert self.drain(n_bytes) == 0
        return self.drain(n_bytes)


@pytest.fixture
def pty(fastpath: ModuleType) -> Pty:
    return Pty(fastpath.HoldPolicy())


def test_the_fourth_small_drain_in_a_row_is_held(pty: Pty) -> None:
    assert [pty.drain(40) for _ in range(4)] == [0, 0, 0, LONGEST]


def test_output_after_idle_goes_at_once(pty: Pty) -> None:
    assert pty.run() == LONGEST
    pty.held_us = 0
    # The hold ended at 4 ms; nothing came for 6 ms after it.
    assert pty.drain(40, after_us=LONGEST + 6_000) == 0
    assert [pty.drain(40) for _ in range(3)] == [0, 0, LONGEST]


def test_a_run_goes_on_through_a_hold_and_a_late_timer(pty: Pty) -> None:
    assert pty.run() == LONGEST
    pty.held_us = 0
    assert pty.drain(40, after_us=LONGEST + 5_999) == LONGEST


@pytest.mark.parametrize(("gap_us", "held"), [(5_999, True), (6_000, False)])
def test_drains_in_a_row_are_less_than_6_ms_apart(pty: Pty, gap_us: int, held: bool) -> None:
    holds = [pty.drain(40, after_us=gap_us) for _ in range(4)]
    assert (holds[-1] > 0) == held


@pytest.mark.parametrize(("n_bytes", "held"), [(4095, True), (4096, False), (65_536, False)])
def test_large_reads_are_never_held(pty: Pty, n_bytes: int, held: bool) -> None:
    holds = [pty.drain(n_bytes) for _ in range(4)]
    assert (holds[-1] > 0) == held


def test_a_large_read_ends_the_run(pty: Pty) -> None:
    assert [pty.drain(n) for n in (40, 40, 40, 5_000, 40, 40, 40)] == [0] * 7
    assert pty.drain(40) == LONGEST


def test_a_stream_of_small_writes_is_held_again_and_again(pty: Pty) -> None:
    assert pty.run() == LONGEST
    assert [pty.drain(160) for _ in range(10)] == [LONGEST] * 10
    assert [pty.drain(3_000) for _ in range(10)] == [LONGEST] * 10
    assert [pty.drain(8_191) for _ in range(10)] == [LONGEST] * 10


def test_much_after_a_hold_halves_it(pty: Pty) -> None:
    assert pty.run() == LONGEST
    assert pty.drain(8_192) == 0
    assert pty.run(3_000) == 2_000
    assert pty.drain(8_192) == 0
    assert pty.run(3_000) == 1_000


def test_little_after_a_hold_doubles_it(pty: Pty) -> None:
    pty.run()
    pty.drain(8_192)
    pty.run(3_000)
    pty.drain(8_192)
    assert pty.run(3_000) == 1_000
    assert [pty.drain(n) for n in (2_048, 2_047, 2_047, 2_047)] == [1_000, 2_000, LONGEST, LONGEST]


def test_much_after_the_shortest_hold_switches_holding_off_for_50_ms(pty: Pty) -> None:
    for expected in (4_000, 2_000, 1_000):
        assert pty.run(3_000) == expected
        assert pty.drain(8_192) == 0
    assert [pty.drain(40) for _ in range(49)] == [0] * 49
    assert pty.drain(3_000) == 1_000


def test_input_starts_it_from_the_beginning(pty: Pty) -> None:
    pty.run()
    pty.drain(8_192)
    assert pty.run(3_000) == 2_000
    pty.policy.input(pty.now_us + 100)
    pty.held_us = 0
    assert pty.run(3_000) == LONGEST
    for expected in (4_000, 2_000, 1_000):
        assert pty.held_us == expected
        pty.drain(8_192)
        if expected > 1_000:
            pty.run(3_000)
    pty.policy.input(pty.now_us)
    assert pty.run() == LONGEST


def test_an_empty_drain_ends_the_run(pty: Pty) -> None:
    assert [pty.drain(n) for n in (40, 40, 40, 0, 40, 40, 40, 40)] == [0] * 7 + [LONGEST]


def test_a_flood_is_never_held(pty: Pty) -> None:
    assert [pty.drain(65_536, after_us=300) for _ in range(1_000)] == [0] * 1_000


steps = st.lists(
    st.tuples(
        st.sampled_from([1, 40, 2_047, 2_048, 4_095, 4_096, 8_191, 8_192, 65_536]) | st.integers(0, 70_000),
        st.integers(0, 10_000) | st.integers(0, 100_000),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps=steps)
def test_both_implementations_agree(steps: list[tuple[int, int, bool]]) -> None:
    from agentrelay import _fastpath, _fastpath_py

    policies = (_fastpath.HoldPolicy(), _fastpath_py.HoldPolicy())
    now_us = 0
    for n_bytes, gap_us, typed in steps:
        now_us += gap_us
        if typed:
            for policy in policies:
                policy.input(now_us)
        compiled, python = (policy.drained(now_us, n_bytes) for policy in policies)
        assert compiled == python
        assert compiled == 0 or 1_000 <= compiled <= LONGEST
        assert n_bytes < 8_192 or compiled == 0
