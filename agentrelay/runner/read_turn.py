"""Read turn: how much of one PTY is read before all others have their turn, and how soon it is read again.

A long turn is cheap: it fills a whole frame of the link. A short one with a break is quick: an echo that
becomes readable meanwhile does not wait for what another program prints, neither here nor in HQ, which takes
what comes as it was sent, nor for a processor, of which a flood would otherwise leave nothing.
"""

from agentrelay.fastpath import MAX_LINK_PAYLOAD_BYTES, MUX_HEADER_BYTES

LONG_BYTES = MAX_LINK_PAYLOAD_BYTES - MUX_HEADER_BYTES
"""What one frame carries."""

SHORT_BYTES = 16_384
"""About 0.1 ms of a flood."""

BREAK_US = 1_000
"""The resolution of libuv's timers. With it a flood has up to 16 MB/s, more than any terminal shows."""

TYPING_US = 1_000_000
"""Who has typed a key waits for its echo, and will type another."""


class ReadTurn:
    """The turn of all sessions of a runner. Times are microseconds of any monotonic clock."""

    def __init__(self) -> None:
        self._short_until_us = 0

    def typed(self, now_us: int) -> None:
        """Learn that somebody types, into whichever session."""
        self._short_until_us = now_us + TYPING_US

    def bytes_at(self, now_us: int) -> int:
        """Give the most that is read in one turn."""
        return LONG_BYTES if now_us >= self._short_until_us else SHORT_BYTES

    def break_after(self, now_us: int, n_bytes: int) -> int:
        """Give the microseconds to leave a PTY unread after a turn of `n_bytes`."""
        return BREAK_US if n_bytes >= SHORT_BYTES and now_us < self._short_until_us else 0
