"""Garbage: collected without a pause that anybody could notice.

Python's full collection looks at every object of a process, which takes tens of milliseconds in an HQ, and
more with every session. So what one leaves is put out of the sight of the next, which looks only at what is
new, and they come so often that this is little. What becomes garbage later all the same is found by a sweep,
which looks at everything, in a quiet moment.
"""

import asyncio
import gc
from collections.abc import Callable
from typing import Final

THRESHOLDS: Final = (700, 3, 1)
"""New objects before the youngest are looked at, and after how many such rounds the older and all are: some
5,600 new objects at most."""

SWEEP_S: Final = 3600.0
QUIET_S: Final = 10.0
MOST_WAITS: Final = 24 * 360
"""After how many noisy moments, a day of them, everything is looked at without waiting for a quiet one."""


class Garbage:
    """The garbage of this process.

    Args:
        work: gives a number that grows with what the process does; a moment in which it does not is quiet.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self._work = work
        self._waits = 0
        self._thresholds = gc.get_threshold()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, once everything is loaded; needs the running loop."""
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(_keep_out_of_sight)
        self._sweep()

    def close(self) -> None:
        """Leave collecting to Python again."""
        if self._timer is not None:
            self._timer.cancel()
            gc.callbacks.remove(_keep_out_of_sight)
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()

    def _sweep(self) -> None:
        self._waits = 0
        gc.unfreeze()
        gc.collect()
        gc.collect()  # of nothing: Python puts off the next until there is a quarter more than this has left
        self._look_later(SWEEP_S)

    def _look_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look, self._work())

    def _look(self, work_before: int) -> None:
        if self._work() != work_before and self._waits < MOST_WAITS:
            self._waits += 1
            self._look_later(QUIET_S)
        else:
            self._sweep()


def _keep_out_of_sight(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
