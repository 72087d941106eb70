"""Pace: how far a runner may run ahead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrelay.protocol import pace

RING = 4 << 20
OFFSETS = st.integers(0, 2**62)


@pytest.mark.parametrize(
    ("viewer", "logged", "expected"),
    [
        (0, 0, 1 << 20),
        (5_000_000, 5_000_000, 5_000_000 + (1 << 20)),
        (5_000_000, 0, RING),  # a fast viewer, and a disk that has not answered yet
        (0, 5_000_000, 1 << 20),  # a viewer that is still reading the history
    ],
)
def test_the_limit_follows_the_viewer_up_to_what_the_ring_holds(
    viewer: int, logged: int, expected: int
) -> None:
    assert pace.limit(pace=viewer, kept=logged, ring_bytes=RING) == expected


@given(first=OFFSETS, second=OFFSETS, kept=OFFSETS, ring_bytes=st.integers(1, 2**30))
def test_the_limit_never_passes_the_ring_and_never_goes_back(
    first: int, second: int, kept: int, ring_bytes: int
) -> None:
    slower, faster = sorted((first, second))
    low = pace.limit(pace=slower, kept=kept, ring_bytes=ring_bytes)
    high = pace.limit(pace=faster, kept=kept, ring_bytes=ring_bytes)

    assert low <= high <= kept + ring_bytes
    assert low <= slower + pace.WINDOW_BYTES


def test_a_grant_is_worth_a_frame_before_the_window_is_used_up() -> None:
    assert 0 < pace.GRANT_BYTES <= pace.WINDOW_BYTES // 2
