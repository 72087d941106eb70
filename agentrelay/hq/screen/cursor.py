"""Puts a cursor back: where it was, what it would print, and what it had just printed.

A cursor that has printed in the last column waits for the next character to wrap. Nothing but printing brings
that about, so the character there is printed again. The same is done with the character before any other
cursor, if it was printed last, so that a combining mark or a repetition (REP) that follows finds it.
"""

from typing import Final, NamedTuple

from agentrelay.hq.screen.rows import RESET, link_sequence, printable, sgr
from agentrelay.hq.screen.state import Cursor, Link, Row, ScreenState, TerminalState

ORIGIN: Final = 1 << 8
"""In `TerminalState.modes`, as `_INSERT`."""

_INSERT: Final = 1 << 1
_CHARSETS: Final = (b"B", b"B", b"A", b"0")  # UTF-8, ASCII, British, DEC special graphics
_SHIFTS: Final = (b"\x0f", b"\x0e", b"\x1bn", b"\x1bo")


class _Character(NamedTuple):
    """A character on the screen: its first column and those it takes."""

    text: str
    col: int
    cols: int
    style: bytes
    link: Link | None
    protected: bool


def place(cursor: Cursor, screen: ScreenState, state: TerminalState) -> bytes:
    """Put a cursor where it is ready to be saved, while no margins are set."""
    out = b"\x1b[?6h" if cursor.origin else b"\x1b[?6l"
    at_end = _last_column(cursor, screen, state)
    if at_end is None:
        out += _position(cursor.row, cursor.col)
    else:
        out += _reprint(at_end, cursor.row, 0, 0, state)
    return out + sgr(cursor.pen) + _protection(cursor.protected, state) + _charset(cursor.charset, state)


def settle(screen: ScreenState, state: TerminalState) -> bytes:
    """Put the cursor where it is; nothing may move it after this."""
    cursor = screen.cursor
    top, _, left, _ = state.margins if state.modes & ORIGIN else (0, 0, 0, 0)
    pen = sgr(cursor.pen) + _protection(cursor.protected, state)
    link = link_sequence(screen.link) if screen.link else b""
    charset = _charset(cursor.charset, state)
    at_end = _last_column(cursor, screen, state)
    before = at_end or _character(screen.rows[cursor.row - state.rows], cursor.col - 1)
    is_last_printed = (
        before is not None
        and before.col + before.cols == cursor.col + (1 if at_end else 0)  # else in the middle of a wide one
        and before.text[-1:] == state.last_printed
        and (before.style, before.link, before.protected) == (cursor.pen, screen.link, cursor.protected)
        and _left_is_plain(cursor.charset)  # else it may become a line
        and (at_end is not None or not state.modes & _INSERT)
    )
    if before is not None and is_last_printed:
        return pen + link + charset + _position(cursor.row - top, before.col - left) + printable(before.text)
    if at_end is not None:
        return _reprint(at_end, cursor.row, top, left, state) + pen + link + charset
    return _position(cursor.row - top, cursor.col - left) + pen + link + charset


def plain_pen(state: TerminalState) -> bytes:
    """Have the next character printed as it is, whatever cursors were placed before."""
    return RESET + _protection(False, state) + _charset(0, state)


def _last_column(cursor: Cursor, screen: ScreenState, state: TerminalState) -> _Character | None:
    """Give what is to be printed again so that the cursor waits to wrap; None if it does not wait."""
    return _character(screen.rows[cursor.row - state.rows], cursor.col) if cursor.pending_wrap else None


def _reprint(character: _Character, row: int, top: int, left: int, state: TerminalState) -> bytes:
    look = _charset(0, state) + sgr(character.style) + _protection(character.protected, state)
    link = link_sequence(character.link) if character.link else b""
    end = (link_sequence(None) if character.link else b"") + (b'\x1b[0"q' if character.protected else b"")
    position = _position(row - top, character.col - left)
    return look + link + position + printable(character.text) + end


def _position(row: int, col: int) -> bytes:
    return b"\x1b[%d;%dH" % (max(0, row) + 1, max(0, col) + 1)


def _cursors(state: TerminalState) -> list[Cursor]:
    screens = [screen for screen in (state.primary, state.alternate) if screen is not None]
    return [cursor for screen in screens for cursor in (screen.cursor, screen.saved) if cursor is not None]


def _protection(protected: bool, state: TerminalState) -> bytes:
    if not protected and not any(cursor.protected for cursor in _cursors(state)):
        return b""
    return b'\x1b[1"q' if protected else b'\x1b[0"q'


def _charset(charset: int, state: TerminalState) -> bytes:
    """Choose character sets: 2 bits each for G0 to G3, 2 bits left slot, 2 bits right slot."""
    if all(_designate(each.charset) == _designate(0) for each in _cursors(state)):
        return b""
    return _designate(charset)


def _designate(charset: int) -> bytes:
    chosen = (_CHARSETS[charset >> 2 * slot & 3] for slot in range(4))
    designated = b"".join(b"\x1b" + b"()*+"[slot : slot + 1] + final for slot, final in enumerate(chosen))
    # The right half is left alone: with UTF-8 it means nothing, and xterm.js takes it for the left one.
    return designated + _SHIFTS[charset >> 8 & 3]


def _left_is_plain(charset: int) -> bool:
    return _CHARSETS[charset >> 2 * (charset >> 8 & 3) & 3] == b"B"


def _character(row: Row, col: int) -> _Character | None:
    """Give the character that covers a column; None if there is none."""
    start = 0
    for run in row.runs:
        if start <= col < start + run.cols:
            if run.text is None:
                return None
            at = col - start
            if run.cells is None:
                return _Character(run.text[at], col, 1, run.style, run.link, run.protected)
            while not run.cells[at]:
                at -= 1
            cols = 2 if at + 1 < run.cols and not run.cells[at + 1] else 1
            return _Character(run.cells[at], start + at, cols, run.style, run.link, run.protected)
        start += run.cols
    return None
