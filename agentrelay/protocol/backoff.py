"""Backoff: when to dial again (docs/protocol.md section 3.5)."""

import random
from collections.abc import Callable

QUICK_TRIES = 3
QUICK_S = 0.2
FIRST_S = 0.5
MOST_S = 15.0
HEALTHY_S = 10.0


class Backoff:
    """Delays between tries: three quick ones, then exponential with full jitter; good health starts over.

    Args:
        uniform: gives a random number between its two arguments; a test gives its own.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._tries = 0
        self._up_since_s: float | None = None

    def connected(self, now_s: float) -> None:
        """Tell that a connection stands, at `now_s` seconds of a monotonic clock."""
        self._up_since_s = now_s

    def delay_s(self, now_s: float) -> float:
        """Give the seconds to wait before the next try; call it once for each connection lost or refused."""
        if self._up_since_s is not None and now_s - self._up_since_s >= HEALTHY_S:
            self._tries = 0
        self._up_since_s = None
        self._tries += 1
        if self._tries == 1:
            return self._uniform(QUICK_S / 2, QUICK_S)
        if self._tries <= QUICK_TRIES:
            return self._uniform(QUICK_S / 2, QUICK_S * 1.5)
        exponent = min(self._tries - QUICK_TRIES, 16)
        return max(FIRST_S, self._uniform(0.0, min(MOST_S, FIRST_S * 2.0**exponent)))
