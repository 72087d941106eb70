"""Read queue: which PTYs are read in this iteration of the loop, and which in the next.

The loop calls everybody who has something to read, one after the other, before it looks at anything else.
With hundreds of sessions that would take longer than anybody should wait who types, so an iteration reads for
a bounded time; who comes too late stands in line for the next.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

ITERATION_S: Final = 0.002
"""How long an iteration reads: about 250 KiB."""

Read = Callable[[], None]


class ReadQueue:
    """Who waits for the next iteration, first come first served.

    Args:
        loop: the running loop.
        clock: seconds, monotonic.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._waiting: dict[Read, None] = {}
        self._last: Read | None = None
        self._began_s = 0.0
        self._counting = False

    def defer(self, read: Read) -> bool:
        """Tell whether it is too late to read in this iteration; then `read` is called in a later one."""
        if not self._counting:
            if read == self._last:  # nobody else has anything: no iteration can grow long
                return False
            self._last = read
            self._begin()
        elif self._waiting or self._is_over():
            self._waiting[read] = None
            return True
        return False

    def _begin(self) -> None:
        self._counting = True
        self._began_s = self._clock()
        self._loop.call_soon(self._go_on)

    def _is_over(self) -> bool:
        return self._clock() - self._began_s >= ITERATION_S

    def _go_on(self) -> None:
        """Read, in the next iteration, for those who wait."""
        self._counting = False
        if self._waiting:
            self._begin()
        while self._waiting and not self._is_over():
            read = next(iter(self._waiting))
            del self._waiting[read]
            read()
