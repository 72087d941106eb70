"""Backoff: when to dial again (docs/protocol.md section 3.5).

Three phases, each for what has probably happened: a cut connection is back at once, a restarted HQ within a
minute, and everything else may take hours, where many runners must not come back at the same moment.
"""

import random
from collections.abc import Callable

QUICK_TRIES = 3
QUICK_S = 0.2
SOON_FOR_S = 60.0
SOON_LEAST_S = 0.5
SOON_MOST_S = 1.5
MOST_S = 15.0
HEALTHY_S = 10.0


class Backoff:
    """Delays between tries; 10 s of a healthy connection start it over.

    Args:
        uniform: gives a random number between its two arguments; a test gives its own.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._tries = 0
        self._lost_s = 0.0
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
            self._lost_s = now_s
            return self._uniform(QUICK_S / 2, QUICK_S)
        if self._tries <= QUICK_TRIES:
            return self._uniform(QUICK_S / 2, QUICK_S * 1.5)
        if now_s - self._lost_s < SOON_FOR_S:
            return self._uniform(SOON_LEAST_S, SOON_MOST_S)
        return max(SOON_LEAST_S, self._uniform(0.0, MOST_S))
