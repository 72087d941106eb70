"""A snapshot: the escape sequences that bring a fresh terminal into a given state.

They have to mean the same to xterm.js and to libghostty-vt, so they are the plain ones, in an order in which
none disturbs the others: colours, lines, the other screen, margins, saved cursor, modes, and the cursor last.
The very last thing is the character before the cursor, printed again, if it was printed last: a combining mark
or a repetition (REP) that follows in the stream then finds it.
"""

import re
from typing import Final

from agentrelay.hq.screen.rows import link_sequence, printable, render_rows, sgr
from agentrelay.hq.screen.state import Cursor, Row, Run, ScreenState, TerminalState

MAX_TITLE_CHARS: Final = 1024
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f]")

# The bits of TerminalState.modes: (number, is private). None: not restored, or not from here.
_MODES: Final[tuple[tuple[int, bool] | None, ...]] = (
    (2, False), (4, False), (12, False), (20, False),  # keyboard lock, insert, local echo off, newline
    (1, True), None, (4, True), (5, True), (6, True), (7, True), (8, True),  # 132 columns would clear
    None, (12, True), (25, True), (40, True), (45, True),
    None, (66, True), (67, True), None,  # alternate screen; left and right margins
    None, None, None, (1004, True), None, None, (1007, True), None, None,  # the mouse
    (1035, True), (1036, True), (1039, True), (1045, True),
    None, None, None,  # alternate screen
    (2004, True), None, (2027, True), (2031, True), None, (2048, True), None,  # a held screen would stay dark
)  # fmt: skip
_INSERT, _ORIGIN, _BLINKING = 1 << 1, 1 << 8, 1 << 12
_ALTERNATE_47, _SIDE_MARGINS, _ALTERNATE_1047, _ALTERNATE_1049 = 1 << 16, 1 << 19, 1 << 33, 1 << 35
_MOUSE_EVENTS: Final = (0, 9, 1000, 1002, 1003)
_MOUSE_FORMATS: Final = (0, 1005, 1006, 1015, 1016)
_CHARSETS: Final = (b"B", b"B", b"A", b"0")  # UTF-8, ASCII, British, DEC special graphics
_SHIFTS: Final = (b"\x0f", b"\x0e", b"\x1bn", b"\x1bo")
_SINGLE_SHIFTS: Final = (b"", b"", b"", b"\x1bN", b"\x1bO")
_DEFAULT_CHARSET: Final = 2 << 10  # all UTF-8; G0 left, G2 right
_SHAPES: Final = (5, 1, 3, 1)  # as DECSCUSR counts, blinking: bar, block, underline, hollow block


def repaint(state: TerminalState, *, max_lines: int, max_bytes: int) -> bytes:
    """Give the sequences that bring a fresh terminal of the same size into this state.

    Args:
        state: iterates its history.
        max_lines: of scrollback; the newest.
        max_bytes: roughly; scrollback is left out beyond it.
    """
    out = [_colors(state), _paint(state.primary, state.rows, max_lines, max_bytes)]
    if state.alternate_active and state.alternate is not None:
        out += [_leave_primary(state), b"\x1b[H", _paint(state.alternate, state.rows, 0, 0)]
    out.append(_finish(state))
    return b"".join(out)


def _colors(state: TerminalState) -> bytes:
    out = [b"\x1b]4;%d;rgb:%02x/%02x/%02x\x1b\\" % (n, *rgb) for n, rgb in state.palette.items()]
    for number, color in zip((10, 11, 12), state.colors, strict=True):
        if color is not None:
            out.append(b"\x1b]%d;rgb:%02x/%02x/%02x\x1b\\" % (number, *color))
    return b"".join(out)


def _paint(screen: ScreenState, n_rows: int, max_lines: int, max_bytes: int) -> bytes:
    older, visible = screen.rows[:-n_rows], screen.rows[-n_rows:]
    lines = older[-max_lines:] if max_lines else []
    while len(lines) < max_lines and (page := next(screen.history, None)) is not None:
        lines = page[-(max_lines - len(lines)) :] + lines
    pieces = render_rows(lines + visible)
    if not lines:
        while pieces and pieces[-1] == b"\r\n":
            pieces.pop()
    sizes = [len(piece) for piece in pieces]
    surplus, first = sum(sizes) - max_bytes, 0
    while surplus > 0 and first < len(lines):
        surplus -= sizes[first]
        first += 1
    return b"".join(pieces[first:]).removeprefix(b"\r\n") if first else b"".join(pieces)


def _leave_primary(state: TerminalState) -> bytes:
    """Leave the cursors of the primary screen behind and go over to the alternate screen."""
    cursor, saved = state.primary.cursor, state.primary.saved
    if state.modes & _ALTERNATE_1049:
        return _place(saved or cursor, state) + b"\x1b[?1049h"
    number = 1047 if state.modes & _ALTERNATE_1047 else 47
    out = _place(saved, state) + b"\x1b7" if saved else b""
    return out + _place(cursor, state) + b"\x1b[?%dh" % number


def _finish(state: TerminalState) -> bytes:
    screen = state.active
    out = [_tab_stops(state), _margins(state)]
    if screen.saved is not None:
        out += [_place(screen.saved, state), b"\x1b7"]
    out += [_modes(state), _keyboard(state, screen), _cursor_shape(state, screen)]
    if state.title:
        title = _CONTROLS.sub("", state.title)[:MAX_TITLE_CHARS]
        out.append(b"\x1b]2;%s\x1b\\" % title.encode(errors="replace"))
    out.append(_cursor(state, screen))
    out.append(_SINGLE_SHIFTS[min(screen.cursor.charset >> 12 & 7, 4)])
    out.append(state.continuation)
    return b"".join(out)


def _tab_stops(state: TerminalState) -> bytes:
    if state.tab_stops == list(range(8, state.cols, 8)):
        return b""
    return b"\x1b[3g" + b"".join(b"\x1b[%dG\x1bH" % (col + 1) for col in state.tab_stops)


def _margins(state: TerminalState) -> bytes:
    top, bottom, left, right = state.margins
    out = b""
    if (top, bottom) != (0, state.rows - 1):
        out += b"\x1b[%d;%dr" % (top + 1, bottom + 1)
    if state.modes & _SIDE_MARGINS:
        out += b"\x1b[?69h\x1b[%d;%ds" % (left + 1, right + 1)
    return out


def _place(cursor: Cursor, state: TerminalState) -> bytes:
    """Move the cursor there with its pen and character sets, ready to be saved."""
    return b"".join(
        [
            b"\x1b[?6h" if cursor.origin else b"\x1b[?6l",
            _position(cursor.row, cursor.col, state, origin=cursor.origin),
            sgr(cursor.pen),
            _charset(cursor.charset) if _uses_charsets(state) else b"",
        ]
    )


def _position(row: int, col: int, state: TerminalState, *, origin: bool) -> bytes:
    top, _, left, _ = state.margins if origin else (0, 0, 0, 0)
    return b"\x1b[%d;%dH" % (max(1, row - top + 1), max(1, col - left + 1))


def _uses_charsets(state: TerminalState) -> bool:
    screens = [screen for screen in (state.primary, state.alternate) if screen is not None]
    cursors = [cursor for screen in screens for cursor in (screen.cursor, screen.saved) if cursor is not None]
    return any(_charset(cursor.charset) != _charset(0) for cursor in cursors)


def _charset(charset: int) -> bytes:
    """Choose character sets: 2 bits each for G0 to G3, 2 bits left slot, 2 bits right slot."""
    chosen = (_CHARSETS[charset >> 2 * slot & 3] for slot in range(4))
    designated = b"".join(b"\x1b" + b"()*+"[slot : slot + 1] + final for slot, final in enumerate(chosen))
    # The right half is left alone: with UTF-8 it means nothing, and xterm.js takes it for the left one.
    return designated + _SHIFTS[charset >> 8 & 3]


def _left_is_plain(charset: int) -> bool:
    return _CHARSETS[charset >> 2 * (charset >> 8 & 3) & 3] == b"B"


def _modes(state: TerminalState) -> bytes:
    out = []
    changed = state.modes ^ state.default_modes
    for bit, mode in enumerate(_MODES):
        if mode is not None and changed >> bit & 1:
            number, is_private = mode
            end = b"h" if state.modes >> bit & 1 else b"l"
            out.append(b"\x1b[%s%d%s" % (b"?" if is_private else b"", number, end))
    if not state.modes & _ORIGIN and state.active.saved is not None and state.active.saved.origin:
        out.append(b"\x1b[?6l")
    if state.mouse_event:
        out.append(b"\x1b[?%dh" % _MOUSE_EVENTS[state.mouse_event])
    if state.mouse_format:
        out.append(b"\x1b[?%dh" % _MOUSE_FORMATS[state.mouse_format])
    return b"".join(out)


def _keyboard(state: TerminalState, screen: ScreenState) -> bytes:
    base, *pushed = screen.keyboard_flags
    out = b"\x1b[=%du" % base if base else b""
    out += b"".join(b"\x1b[>%du" % flags for flags in pushed)
    return out + (b"\x1b[>4;2m" if state.modify_other_keys else b"")


def _cursor_shape(state: TerminalState, screen: ScreenState) -> bytes:
    if state.cursor_shape_is_default:
        return b""
    return b"\x1b[%d q" % (_SHAPES[screen.cursor_shape] + (0 if state.modes & _BLINKING else 1))


def _cursor(state: TerminalState, screen: ScreenState) -> bytes:
    cursor = screen.cursor
    origin = bool(state.modes & _ORIGIN)
    pen = sgr(cursor.pen) + (b'\x1b[1"q' if cursor.protected else b"")
    link = link_sequence(screen.link) if screen.link else b""
    charset = _charset(cursor.charset) if _uses_charsets(state) else b""
    before = _character(
        screen.rows[cursor.row - state.rows], cursor.col if cursor.pending_wrap else cursor.col - 1
    )
    if before is not None:
        col, shown = before
        text = shown.text or ""
        reprint = _position(cursor.row, col, state, origin=origin) + printable(text)
        # Letters stand for lines while such a character set is chosen.
        is_itself = not text[:1].isascii() or _left_is_plain(cursor.charset)
        is_same = shown.style == cursor.pen and shown.link == screen.link and text[-1:] == state.last_printed
        shifts = bool(state.modes & _INSERT) and not cursor.pending_wrap
        if is_same and is_itself and not shifts:
            return pen + link + charset + reprint
        if cursor.pending_wrap:  # which nothing but printing the last column brings about
            plain = _charset(0) if charset else b""
            open_link = link_sequence(shown.link) if shown.link else b""
            close_link = link_sequence(None) if shown.link else b""
            return plain + sgr(shown.style) + open_link + reprint + close_link + pen + link + charset
    return _position(cursor.row, cursor.col, state, origin=origin) + pen + link + charset


def _character(row: Row, col: int) -> tuple[int, Run] | None:
    """Give the character that covers a column: where it begins and what it is; None if there is none."""
    start = 0
    for run in row.runs:
        if start <= col < start + run.cols:
            if run.text is None:
                return None
            at = col - start
            if run.cells is None:
                return col, run._replace(text=run.text[at], cols=1)
            while not run.cells[at]:
                at -= 1
            return start + at, run._replace(text=run.cells[at], cells=None)
        start += run.cols
    return None
