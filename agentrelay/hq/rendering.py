"""Rendering: a session's screen, made only when somebody needs it.

A screen is one more cursor into the session's output. It is fed off the loop's thread, from where it stood
the last time, so that asking again is cheap and a session that nobody looks at costs nothing.
"""

import asyncio
from typing import NamedTuple
from weakref import WeakKeyDictionary

from agentrelay.hq.info import CursorInfo, ScreenInfo
from agentrelay.hq.screen import Screen
from agentrelay.hq.session import Session

CHUNK_BYTES = 1 << 20
"""How much is read and fed at once: 10 ms of work."""

FROM_BYTES = 32 << 20
"""How far back a new screen starts at most: about a third of a second of work."""


class Snapshot(NamedTuple):
    """Escape sequences that rebuild a screen in a fresh terminal; the output goes on at `offset`."""

    offset: int
    data: bytes


class _Rendering:
    """The screen of one session and how far it has come."""

    def __init__(self, session: Session) -> None:
        self.screen = Screen(rows=session.rows, cols=session.cols)
        self.offset = max(session.base, session.head - FROM_BYTES)
        self.turn = asyncio.Lock()

    async def catch_up(self, session: Session) -> None:
        """Feed what is new, up to where the session is now."""
        head = session.head
        if head - self.offset > FROM_BYTES:
            self.screen = Screen(rows=session.rows, cols=session.cols)
            self.offset = max(session.base, head - FROM_BYTES)
        if (self.screen.rows, self.screen.cols) != (session.rows, session.cols):
            self.screen.resize(rows=session.rows, cols=session.cols)
        while self.offset < head:
            offset, data = await session.read_output(self.offset, min(CHUNK_BYTES, head - self.offset))
            if not data:
                self.offset = head
                return
            await asyncio.to_thread(self.screen.feed, data)
            self.offset = offset + len(data)


_renderings: WeakKeyDictionary[Session, _Rendering] = WeakKeyDictionary()


async def _render(session: Session) -> _Rendering:
    rendering = _renderings.get(session)
    if rendering is None:
        rendering = _renderings[session] = _Rendering(session)
    return rendering


async def snapshot(session: Session) -> Snapshot:
    """Render a session as it is now, for a viewer that has nothing or fell too far behind.

    Raises:
        LogError: the output log cannot be read.
    """
    rendering = await _render(session)
    async with rendering.turn:
        await rendering.catch_up(session)
        return Snapshot(rendering.offset, await asyncio.to_thread(rendering.screen.snapshot))


async def describe(session: Session) -> ScreenInfo:
    """Give the screen of a session as text.

    Raises:
        LogError: the output log cannot be read.
    """
    rendering = await _render(session)
    async with rendering.turn:
        await rendering.catch_up(session)
        screen = rendering.screen
        cursor = screen.cursor
        return ScreenInfo(
            rows=screen.rows,
            cols=screen.cols,
            cursor=CursorInfo(row=cursor.row, col=cursor.col, visible=cursor.visible),
            title=screen.title,
            text=screen.text(),
            offset=rendering.offset,
            alternate=screen.alternate,
        )
