"""Keyframes: which sessions have a picture of their screen kept, and when.

A screen is what all output of its session has drawn, and rendering starts a few MiB before its end at most. A
full-screen program that runs for days draws much of its screen only once. So a session has its screen kept
every now and then, as a film has whole pictures between those that only tell what changed.

Floods go without: the last few MiB of one show all there is to see of it, and it does not pay for rendering.
But a program that floods may have set up its terminal first, so how that was is kept once.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from agentrelay.errors import LogError
from agentrelay.hq.session import Session

log = logging.getLogger("agentrelay.hq")

EVERY_BYTES: Final = 2 << 20
"""Output between two keyframes of a session: 20 ms of rendering for whoever wants its screen."""

BEGINNING_BYTES: Final = 256 << 10
"""In so much a program sets up its terminal: 3 ms of rendering, once for a session that floods."""

SLOW_S: Final = 4.0
"""Who puts out as much in less time floods."""

REST: Final = 50
"""How many times as long as a keyframe took the next one is waited for: rendering has 2 % of a processor."""


class Keyframes:
    """The keyframes of all sessions of an HQ, made one at a time.

    Args:
        keep: keeps a session's screen as it is now, or as it was at an offset if none is kept yet; tells
            whether to ask it again for this session.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        keep: Callable[[Session, int | None], Awaitable[bool]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = keep
        self._clock = clock
        self._marks: WeakKeyDictionary[Session, tuple[int, float]] = WeakKeyDictionary()
        self._hopeless: WeakSet[Session] = WeakSet()
        self._begun: WeakSet[Session] = WeakSet()
        self._due: dict[Session, int | None] = {}
        self._making: asyncio.Task[None] | None = None

    def look_at(self, session: Session) -> None:
        """See whether a session that has output has come to its next keyframe."""
        now_s = self._clock()
        offset, since_s = self._marks.setdefault(session, (session.head, now_s))
        if session.head - offset < EVERY_BYTES:
            return
        self._marks[session] = session.head, now_s
        if not session.recording or session in self._hopeless:
            return
        if now_s - since_s >= SLOW_S:
            self._due[session] = None
        elif session not in self._begun and session.base == 0:
            self._due[session] = BEGINNING_BYTES
        self._begun.add(session)
        if self._due and self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make())

    async def _make(self) -> None:
        while self._due:
            session = next(iter(self._due))
            head = self._due.pop(session)
            began_s = self._clock()
            try:
                if not await self._keep(session, head):
                    self._hopeless.add(session)
            except LogError as error:
                log.warning("session %s: no keyframe: %s", session.session_id, error)
            except Exception:
                log.exception("session %s: no keyframe", session.session_id)
            await asyncio.sleep(REST * (self._clock() - began_s))
        self._making = None

    def close(self) -> None:
        """Make no more."""
        self._due.clear()
        if self._making is not None:
            self._making.cancel()
            self._making = None
