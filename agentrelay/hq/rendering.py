"""Rendering: a session's screen, made only when somebody needs it.

A screen is one more cursor into the session's output. It is fed off the loop's thread, from where it stood
the last time, so that asking again is cheap and a session that nobody looks at costs nothing.

Somebody is also the program itself: it may ask its terminal where the cursor is, or what it can do. While a
viewer controls the session, the viewer's terminal answers; else the screen does, and only what was asked
while nobody controlled (docs/protocol.md section 2.5).
"""

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from msgspec import UNSET

from agentrelay.errors import LimitReached, LogError, SessionOver
from agentrelay.hq.info import CursorInfo, ScreenInfo
from agentrelay.hq.log.keyframe import Keyframe
from agentrelay.hq.session import Session

if TYPE_CHECKING:
    from agentrelay.hq.screen import Screen

Result = TypeVar("Result")

log = logging.getLogger("agentrelay.hq")

CHUNK_BYTES = 1 << 20
"""How much is read at once: 10 ms of work."""

PATIENCE_S = 5.0
"""How long the renderer may work to catch up with one session: ten times what the most there can be of usual
output takes. Sequences that are made to take longer get an empty screen."""

REACH_BYTES = 6 << 20
"""How far back a new screen may begin at a keyframe, or at the first byte: 70 ms of work for a full-screen
program, 130 for text that scrolls."""

FROM_BYTES = 2 << 20
"""How far back it begins otherwise: more than 1,000 lines of scrollback take."""

LAG_BYTES = 36 << 20
"""A screen that is further behind than this begins anew: to feed it so much takes 0.4 s. So far back may
begin what nobody waits for."""

MODES_S = 0.03
"""How long the terminal modes are looked for that are in force where a new screen starts."""

_SEQUENCE_BYTES = 72
"""More than the longest sequence that changes modes."""

KEPT_S = 60.0
"""How long a screen is kept for the next who asks: up to 2 MB each."""

ASK_BYTES = 16 << 10
"""How much of new output is searched for queries. A program that waits for an answer has stopped writing."""

QUERY_BYTES = 256
"""More than any query has, of which the beginning may have come with earlier output."""

_MODE = re.compile(rb"\x1b\[\?([0-9;]{1,64})([hl])")
_SYNCHRONIZED_OUTPUT = b"2026"
_QUERY = re.compile(
    rb"\x1b\[[?>=]?[0-9;]*(?:\$p|[cnu])"  # device attributes, status and cursor position, modes, keyboard
    rb"|\x1b\[>[0-9;]*q"  # name and version
    rb"|\x1b\][0-9;]+\?[0-9;?]*[\x07\x1b]"  # colours; ESC is what ends it, and not the backslash behind
    rb"|\x1bP[$+]q[^\x1b]*\x1b"  # settings, capabilities
)


class Snapshot(NamedTuple):
    """Escape sequences that rebuild a screen in a fresh terminal; the output goes on at `offset`."""

    offset: int
    data: bytes


class _Rendering:
    """The screen of one session and how far it has come; one task at a time, in its `turn`."""

    def __init__(self, session: Session) -> None:
        self.turn = asyncio.Lock()
        self.used_s = 0.0
        self.watched = False
        self.incomplete = False  # it began empty, so it is no replay of what was before
        self.questions: deque[tuple[int, int]] = deque()  # output, from and to, in which the program asks us
        self.answering: asyncio.Task[None] | None = None
        self.offset = 0
        self.reach_bytes = REACH_BYTES
        self.size = (session.rows, session.cols)
        self._earlier_sizes: list[tuple[int, int, int]] = []  # of an earlier HQ's life
        self._screen: Screen | None = None
        self._lost_before = False

    async def catch_up(self, session: Session, head: int | None = None) -> "Screen":
        """Feed what is new up to `head`, or up to now, answer what is to be answered, and give the screen."""
        head = session.head if head is None else head
        worked_s = 0.0
        screen = self._screen
        if screen is None or screen.lost or await self._is_overtaken(session, head):
            screen = self._screen = await self._begin(session, head)
        while self.offset < head:
            stop = await self._next_stop(session, head)
            start, data = await session.read_output(self.offset, stop - self.offset)
            if not data:
                self.offset = stop
                continue
            answer = bool(self.questions) and self.questions[0][0] <= start < self.questions[0][1]
            self.offset = start
            while self.offset < start + len(data):
                rest = memoryview(data)[self.offset - start :]
                taken_bytes, reply, seconds = await _rendered(partial(_feed, screen, rest, answer=answer))
                if screen.lost and not screen.to_blame and not self._lost_before:
                    self._lost_before = True
                    return await self.catch_up(session, head)  # the renderer is another one
                self.offset += taken_bytes
                worked_s += seconds
                if reply:
                    with contextlib.suppress(SessionOver, LimitReached):
                        session.send_input(reply)
                if worked_s > PATIENCE_S and self.offset < head:
                    log.warning("session %s: its output takes too long to render", session.session_id)
                    return await self._give_up(session)
        self._lost_before = False
        self._leave_behind_questions()
        if head == session.head:
            await self._resize(screen, (session.rows, session.cols))
        return screen

    def _leave_behind_questions(self) -> None:
        while self.questions and self.questions[0][1] <= self.offset:
            self.questions.popleft()

    async def _next_stop(self, session: Session, head: int) -> int:
        """Give the offset up to which output can be fed in one go, having done what is due at this one."""
        stops = [head, self.offset + CHUNK_BYTES]
        size = None
        for offset, rows, cols in (*self._earlier_sizes, *session.sizes):
            if offset > self.offset:
                stops.append(offset)
                break
            size = rows, cols  # only the last counts: what an earlier one cuts off is lost
        if size is not None and self._screen is not None:
            await self._resize(self._screen, size)
        self._leave_behind_questions()
        if self.questions:
            asks_from, asks_to = self.questions[0]
            stops.append(asks_from if asks_from > self.offset else asks_to)
        return min(stops)

    async def _resize(self, screen: "Screen", size: tuple[int, int]) -> None:
        if size != self.size:
            self.size = size
            await _rendered(partial(screen.resize, rows=size[0], cols=size[1]))

    async def _give_up(self, session: Session) -> "Screen":
        """Go on with an empty screen, behind what there is."""
        if self._screen is not None:
            await _rendered(self._screen.close)
        self.incomplete = True
        self.size = (session.rows, session.cols)
        self._screen = await _rendered(partial(_new_screen, *self.size))
        self.offset = session.head
        self._leave_behind_questions()
        return self._screen

    async def _begin(self, session: Session, head: int) -> "Screen":
        """Make a screen that starts a little before `head`, with what is known of how things are there.

        What a keyframe from long ago says holds unless it was changed, such as the title.
        """
        if self._screen is not None and self._screen.to_blame:
            # Its output ended the renderer. The same bytes would do so again.
            return await self._give_up(session)
        before, self._screen = self._screen, None
        self.incomplete = False
        if before is not None:
            await _rendered(before.close)
        keyframe = await self._keyframe(session, head)
        if keyframe is not None and self._is_near(session, keyframe, head):
            self.offset = keyframe.offset
        elif head - session.base <= self.reach_bytes:
            self.offset, keyframe = session.base, None
        else:
            self.offset = head - FROM_BYTES
        await self._learn_sizes(session)
        size_there = self.size
        if keyframe is not None:
            self.size = keyframe.rows, keyframe.cols
        screen = await _rendered(partial(_new_screen, *self.size))
        if keyframe is not None:
            await _rendered(partial(screen.feed, keyframe.data))
            if self.offset == keyframe.offset:
                return screen
        await self._resize(screen, size_there)
        if self.offset > session.base:
            known_from = session.base if keyframe is None else max(session.base, keyframe.offset)
            modes = await _modes_at(session, self.offset, known_from)
            await _rendered(partial(screen.feed, _set_modes(modes.items())))
            # Begin with a whole line: here may be the middle of a sequence or a character.
            offset, data = await session.read_output(self.offset, CHUNK_BYTES)
            self.offset = offset + data.find(b"\n") + 1
        return screen

    async def _is_overtaken(self, session: Session, head: int) -> bool:
        """Tell whether to begin anew is better than to go on."""
        behind_bytes = head - self.offset
        if not REACH_BYTES < behind_bytes <= LAG_BYTES:
            return behind_bytes > LAG_BYTES
        keyframe = await self._keyframe(session, head)
        return (
            keyframe is not None and keyframe.offset > self.offset and self._is_near(session, keyframe, head)
        )

    async def _keyframe(self, session: Session, head: int) -> Keyframe | None:
        keyframe = None if session.recorder is None else await session.recorder.keyframe()
        return keyframe if keyframe is not None and keyframe.offset <= head else None

    def _is_near(self, session: Session, keyframe: Keyframe, head: int) -> bool:
        """Tell whether all output behind a keyframe can be read, and is not much."""
        return session.base <= keyframe.offset and head - keyframe.offset <= self.reach_bytes

    async def _learn_sizes(self, session: Session) -> None:
        """Learn the size at `offset`, and those that came later in an earlier HQ's life."""
        life_begins = session.sizes[0][0] if session.sizes else 0
        self._earlier_sizes = []
        if session.recorder is not None and self.offset < life_begins:
            self._earlier_sizes = await session.recorder.sizes(self.offset, life_begins)
        sizes = [*self._earlier_sizes, *session.sizes]
        self.size = sizes[0][1:] if sizes else (session.rows, session.cols)


_THREAD = ThreadPoolExecutor(1, thread_name_prefix="rendering")
"""Talks to the renderer, for one session after the other: each has one thing done and stands in line again.
Not the pool that reads logs, all of whose threads would otherwise wait here."""


async def _rendered(do: Callable[[], Result]) -> Result:
    """Have one thing done by the thread that talks to the renderer."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, do)


def _feed(screen: "Screen", data: memoryview, *, answer: bool) -> tuple[int, bytes, float]:
    """Feed a slice; gives how much was taken, the reply, and the seconds it took."""
    began_s = time.monotonic()
    taken_bytes, reply = screen.feed_slice(data, answer=answer)
    return taken_bytes, reply, time.monotonic() - began_s


def _new_screen(rows: int, cols: int) -> "Screen":
    # Imported when needed: what HQ starts without, it starts sooner.
    from agentrelay.hq.screen import Screen

    return Screen(rows=rows, cols=cols)


def _start_renderer() -> None:
    from agentrelay.hq.screen import RENDERER

    RENDERER.start()


async def prepare() -> None:
    """Start the process that renders, so that the first viewer does not wait for it."""
    await _rendered(_start_renderer)


async def _modes_at(session: Session, start: int, known_from: int) -> dict[bytes, bytes]:
    """Give the private modes at `start`, each with how it was last changed, in the order of that change.

    Looks back to `known_from`. When that takes too long, what is in between is left out: programs
    change their modes when they begin.
    """
    modes: dict[bytes, bytes] = {}
    began_s = time.monotonic()
    while start > known_from:
        stop, start = start, max(known_from, start - CHUNK_BYTES)
        if time.monotonic() - began_s > MODES_S:
            stop, start = min(stop, known_from + CHUNK_BYTES), known_from
        earlier: dict[bytes, bytes] = {}
        offset, stop = start, stop + _SEQUENCE_BYTES
        while offset < stop:
            offset, data = await session.read_output(offset, stop - offset)
            if not data:
                break
            await _rendered(partial(_change_modes, earlier, data))
            offset += len(data)
        modes = {mode: change for mode, change in earlier.items() if mode not in modes} | modes
    return modes


def _change_modes(modes: dict[bytes, bytes], data: bytes) -> None:
    """Change `modes` as `data` does."""
    at = -1
    while (at := data.find(b"?", at + 1)) >= 0:  # many times as fast as the expression by itself
        if found := _MODE.match(data, at - 2):
            for mode in found[1].split(b";"):
                if mode and mode != _SYNCHRONIZED_OUTPUT:
                    modes.pop(mode, None)
                    modes[mode] = found[2]


def _set_modes(modes: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"\x1b[?" + mode + change for mode, change in modes)


_renderings: WeakKeyDictionary[Session, _Rendering] = WeakKeyDictionary()


def _rendering(session: Session) -> _Rendering:
    rendering = _renderings.get(session)
    if rendering is None:
        rendering = _renderings[session] = _Rendering(session)
    loop = asyncio.get_running_loop()
    rendering.used_s = loop.time()
    if not rendering.watched:
        rendering.watched = True
        loop.call_later(KEPT_S, _drop_if_idle, session)
    return rendering


def _drop_if_idle(session: Session) -> None:
    """Give a screen's memory back when nobody has asked for it in a while."""
    rendering = _renderings.get(session)
    if rendering is None:
        return
    loop = asyncio.get_running_loop()
    idle_s = loop.time() - rendering.used_s
    if idle_s >= KEPT_S and not rendering.turn.locked():
        del _renderings[session]
    else:
        loop.call_later(max(KEPT_S - idle_s, 1.0), _drop_if_idle, session)


async def snapshot(session: Session) -> Snapshot | None:
    """Render a session as it is now, for a viewer that has nothing or fell too far behind.

    Returns:
        None where there is no snapshot: in the middle of a picture of more than 1 MiB, or after output that
        the renderer did not survive. Raw output is the better replay then.

    Raises:
        LogError: the output log cannot be read.
    """
    rendering = _rendering(session)
    async with rendering.turn:
        screen = await rendering.catch_up(session)
        data = None if rendering.incomplete else await _rendered(screen.snapshot)
        return None if data is None else Snapshot(rendering.offset, data)


async def keep_keyframe(session: Session, head: int | None = None) -> bool:
    """Keep the screen of a session as it is now, for renderings that begin later; see `snapshot`.

    Args:
        session: a recorded one.
        head: offset of the screen to keep, near the first byte; where there is a keyframe already that stays.

    Returns:
        Whether to try again later: not after output that takes too long to render or ended the renderer.

    Raises:
        LogError: the output log cannot be read or written.
    """
    if head is not None and session.recorder is not None and await session.recorder.keyframe() is not None:
        return True
    is_extra = session not in _renderings
    rendering = _rendering(session)
    if is_extra:
        rendering.reach_bytes = LAG_BYTES
    used_s = rendering.used_s
    async with rendering.turn:
        screen = await rendering.catch_up(session, head)
        data = None if rendering.incomplete else await _rendered(screen.snapshot)
        keyframe = Keyframe(rendering.offset, *rendering.size, data or b"")
    if is_extra and rendering.used_s == used_s and not rendering.turn.locked():
        _renderings.pop(session, None)  # nobody has asked for it: it is 2 MB
    if data is not None and session.recorder is not None and session.recording:
        await session.recorder.keep(keyframe)
    return not rendering.incomplete


async def describe(session: Session, *, cells: bool = False) -> ScreenInfo:
    """Give the screen of a session as text, and as runs of cells where they are wanted.

    Raises:
        LogError: the output log cannot be read.
    """
    rendering = _rendering(session)
    async with rendering.turn:
        screen = await rendering.catch_up(session)
        shown = await _rendered(partial(screen.text, cells=cells))
        return ScreenInfo(
            rows=shown.rows,
            cols=shown.cols,
            cursor=CursorInfo(row=shown.cursor_row, col=shown.cursor_col, visible=shown.cursor_visible),
            title=shown.title,
            text=shown.text,
            offset=rendering.offset,
            alternate=shown.alternate,
            cells=UNSET if shown.cells is None else shown.cells,
        )


def answer_queries(session: Session, start: int) -> None:
    """Look at output from `start` on that came while nobody controlled, and answer what the program asks."""
    if session.ring is None:
        return
    begin = max(start - QUERY_BYTES, session.head - ASK_BYTES, session.ring.base)
    with session.ring.view(begin, session.head) as output:
        if not any(begin + query.end() > start for query in _QUERY.finditer(output)):
            return
    rendering = _rendering(session)
    if rendering.questions and rendering.questions[-1][1] == start:
        start, _ = rendering.questions.pop()
    rendering.questions.append((start, session.head))
    if rendering.answering is None:
        rendering.answering = asyncio.get_running_loop().create_task(_answer(session, rendering))


async def _answer(session: Session, rendering: _Rendering) -> None:
    """Answer until nothing is asked any more; who wants the screen meanwhile has a turn after each answer."""
    try:
        while rendering.questions:
            async with rendering.turn:
                await rendering.catch_up(session)
    except LogError as error:
        log.warning("session %s: its program's questions stay open: %s", session.session_id, error)
        rendering.questions.clear()
    finally:
        rendering.answering = None
