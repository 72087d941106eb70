"""A snapshot: the escape sequences that bring a fresh terminal into a given state.

They have to mean the same to xterm.js and to libghostty-vt, so they are the plain ones, in an order in which
none disturbs the others: colours, lines, the other screen, saved cursor, margins, modes, and the cursor last.
"""

import re
from typing import Final

from agentrelay.hq.screen.cursor import ORIGIN, place, plain_pen, settle
from agentrelay.hq.screen.rows import render_rows
from agentrelay.hq.screen.state import ScreenState, TerminalState

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
_BLINKING, _GRAPHEMES = 1 << 12, 1 << 38
_ALTERNATE_47, _SIDE_MARGINS, _ALTERNATE_1049 = 1 << 16, 1 << 19, 1 << 35
_MOUSE_EVENTS: Final = (0, 9, 1000, 1002, 1003)
_MOUSE_FORMATS: Final = (0, 1005, 1006, 1015, 1016)
_SINGLE_SHIFTS: Final = (b"", b"", b"", b"\x1bN", b"\x1bO")
_SHAPES: Final = (5, 1, 3, 1)  # as DECSCUSR counts, blinking: bar, block, underline, hollow block


def repaint(state: TerminalState, *, max_lines: int, max_bytes: int) -> bytes:
    """Give the sequences that bring a fresh terminal of the same size into this state.

    Args:
        state: iterates its history.
        max_lines: of scrollback; the newest.
        max_bytes: roughly; scrollback is left out beyond it.
    """
    out = [_colors(state), _before_painting(state), _paint(state.primary, state.rows, max_lines, max_bytes)]
    if state.alternate_active and state.alternate is not None:
        out += [
            _leave_primary(state),
            plain_pen(state),
            b"\x1b[?6l\x1b[H",
            _paint(state.alternate, state.rows, 0, 0),
        ]
    out.append(_finish(state))
    return b"".join(out)


def _colors(state: TerminalState) -> bytes:
    out = [b"\x1b]4;%d;rgb:%02x/%02x/%02x\x1b\\" % (n, *rgb) for n, rgb in state.palette.items()]
    for number, color in zip((10, 11, 12), state.colors, strict=True):
        if color is not None:
            out.append(b"\x1b]%d;rgb:%02x/%02x/%02x\x1b\\" % (number, *color))
    return b"".join(out)


def _before_painting(state: TerminalState) -> bytes:
    return b"\x1b[?2027h" if state.modes & _GRAPHEMES else b""  # decides which code points share a cell


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
    keyboard = _keyboard(state.primary)
    if state.modes & _ALTERNATE_1049 and saved is not None:
        return keyboard + place(saved, state.primary, state) + b"\x1b[?1049h"
    number = 47 if state.modes & _ALTERNATE_47 else 1047
    out = keyboard + (place(saved, state.primary, state) + b"\x1b7" if saved else b"")
    return out + place(cursor, state.primary, state) + b"\x1b[?%dh" % number


def _finish(state: TerminalState) -> bytes:
    screen = state.active
    out = [_tab_stops(state)]
    if screen.saved is not None:  # before the margins: it may have been saved outside of them
        out += [place(screen.saved, screen, state), b"\x1b7"]
    out += [_margins(state), _modes(state), _keyboard(screen), _cursor_shape(state, screen)]
    if state.title:
        title = _CONTROLS.sub("", state.title)[:MAX_TITLE_CHARS]
        out.append(b"\x1b]2;%s\x1b\\" % title.encode(errors="replace"))
    out.append(settle(screen, state))
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


def _modes(state: TerminalState) -> bytes:
    out = []
    changed = state.modes ^ state.default_modes
    for bit, mode in enumerate(_MODES):
        if mode is not None and changed >> bit & 1:
            number, is_private = mode
            end = b"h" if state.modes >> bit & 1 else b"l"
            out.append(b"\x1b[%s%d%s" % (b"?" if is_private else b"", number, end))
    if not state.modes & ORIGIN and state.active.saved is not None and state.active.saved.origin:
        out.append(b"\x1b[?6l")
    if state.mouse_event:
        out.append(b"\x1b[?%dh" % _MOUSE_EVENTS[state.mouse_event])
    if state.mouse_format:
        out.append(b"\x1b[?%dh" % _MOUSE_FORMATS[state.mouse_format])
    if state.modify_other_keys:
        out.append(b"\x1b[>4;2m")
    return b"".join(out)


def _keyboard(screen: ScreenState) -> bytes:
    base, *pushed = screen.keyboard_flags
    out = b"\x1b[=%du" % base if base else b""
    return out + b"".join(b"\x1b[>%du" % flags for flags in pushed)


def _cursor_shape(state: TerminalState, screen: ScreenState) -> bytes:
    if state.cursor_shape_is_default:
        return b""
    return b"\x1b[%d q" % (_SHAPES[screen.cursor_shape] + (0 if state.modes & _BLINKING else 1))
