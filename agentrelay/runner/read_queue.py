"""Read queue: which PTYs are read in this iteration of the loop, and which in the next.

The loop calls everybody who has something to read, one after the other, before it looks at anything else.
With hundreds of sessions that would take longer than anybody should wait who types, so an iteration reads for
a bounded time; who comes too late stands in line for the next.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

ITERATION_S: Final = 0.002
"""How long an iteration reads: about 250 KiB."""


class Reader(Protocol):
    """Somebody who has something to read."""

    def read_in_turn(self) -> None:
        """Read; called once for each `wait`."""


class ReadQueue:
    """Who waits for the next iteration, first come first served.

    Args:
        loop: the running loop.
        clock: seconds, monotonic.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self._waiting: dict[Reader, None] = {}
        self._last: Reader | None = None
        self._began_s = 0.0
        self._counting = False

    def is_late(self, reader: Reader) -> bool:
        """Tell whether this iteration has read for long enough, before `reader`."""
        if self._counting:
            return bool(self._waiting) or self._is_over()
        if reader is not self._last:  # else nobody else has anything: no iteration can grow long
            self._last = reader
            self._begin()
        return False

    def wait(self, reader: Reader) -> None:
        """Have `reader` read in a later iteration."""
        self._waiting[reader] = None

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
            reader = next(iter(self._waiting))
            del self._waiting[reader]
            reader.read_in_turn()
