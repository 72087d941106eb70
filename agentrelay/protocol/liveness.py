"""Liveness: a silent peer is asked, and one that stays silent is dead.

docs/protocol.md section 1. The clock runs on bytes received, never on a ping's answer: a ping waits behind
whatever is queued before it.
"""

from enum import Enum

PING_AFTER_S = 5.0
DEAD_AFTER_S = 10.0


class Verdict(Enum):
    """What to do about a peer now."""

    ALIVE = "alive"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """Watches the silence of one peer. Times are seconds of a monotonic clock, given by the caller.

    Attributes:
        heard_s: when bytes last came, or until when reading was paused on purpose; the caller sets it.
    """

    def __init__(self, now_s: float) -> None:
        self.heard_s = now_s
        self._asked_after_s = -1.0  # what was heard when it was asked

    def check(self, now_s: float) -> tuple[Verdict, float]:
        """Give the verdict and the seconds after which to ask again."""
        silence_s = now_s - self.heard_s
        if silence_s >= DEAD_AFTER_S:
            return Verdict.DEAD, 0.0
        if silence_s >= PING_AFTER_S:
            verdict = Verdict.ALIVE if self._asked_after_s == self.heard_s else Verdict.PING
            self._asked_after_s = self.heard_s
            return verdict, DEAD_AFTER_S - silence_s
        return Verdict.ALIVE, PING_AFTER_S - silence_s
