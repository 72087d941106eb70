"""Upkeep: active sessions are looked after, a few at a time, until nothing is left to do for them."""

import asyncio
from collections.abc import Callable
from typing import Final

from agentrelay.hq.session import Session

EVERY_S: Final = 0.1
"""How often active sessions are looked after: small acks, stalled viewers, idle memory, keyframes."""

AT_ONCE: Final = 32
"""How many of them in one turn of the loop."""


class Upkeep:
    """The active sessions of an HQ.

    Args:
        look_after: does what is due for a session; tells whether nothing is left to do.
    """

    def __init__(self, look_after: Callable[[Session], bool]) -> None:
        self._look_after = look_after
        self._active: dict[Session, None] = {}
        self._next: asyncio.Handle | None = None

    @property
    def idle(self) -> bool:
        """Whether no session is active."""
        return self._next is None

    def note(self, session: Session) -> None:
        """Look after a session from now on; cheap, and may be said too often."""
        self._active[session] = None
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(EVERY_S, self.run)

    def drop(self, session: Session) -> None:
        """Look after a session no more."""
        self._active.pop(session, None)

    def run(self) -> None:
        """Look after all that are active now, and again a little later."""
        self._run_some(list(self._active))

    def _run_some(self, due: list[Session]) -> None:
        for session in due[:AT_ONCE]:
            # One that was dropped meanwhile is nobody's business any more.
            if session in self._active and self._look_after(session):
                self.drop(session)
        loop = asyncio.get_running_loop()
        if len(due) > AT_ONCE:
            self._next = loop.call_soon(self._run_some, due[AT_ONCE:])
        else:
            self._next = loop.call_later(EVERY_S, self.run) if self._active else None

    def close(self) -> None:
        """Look after nobody any more."""
        if self._next is not None:
            self._next.cancel()
