"""Pace: how far ahead a runner may send (docs/protocol.md section 3.1).

Two questions, two numbers. What may the runner forget? What is in the log. How far may it run? As far as the
fastest viewer that moves, plus a window; never past what HQ's ring holds beside what is not yet in the log.
"""

WINDOW_BYTES = 1 << 20
"""How far output may run ahead of the fastest viewer: a terminal shows 1 MiB in 50 to 100 ms, so what a
person sees stops within 300 ms of Ctrl-C, and a link of 1 Gbit/s and 8 ms is still kept full."""

STALL_S = 1.0
"""A viewer that has not moved for this long although there is output for it does not set the pace."""

SLOWEST_BYTES = 16 << 10
"""Nor does one that has taken less than this in that time, and not all there was."""

GRANT_BYTES = 256 << 10
"""How far a limit has to move before it is worth a frame to the runner: a quarter of the window."""


def limit(*, pace: int, kept: int, ring_bytes: int, window_bytes: int = WINDOW_BYTES) -> int:
    """Give the offset before which the runner may send.

    Args:
        pace: offset of whoever sets the pace: the fastest viewer that moves, else the log.
        kept: offset from which HQ's ring has to keep bytes, because they are not in the log yet.
        ring_bytes: capacity of HQ's ring.
        window_bytes: how far to run ahead of `pace`.
    """
    return min(pace + window_bytes, kept + ring_bytes)
