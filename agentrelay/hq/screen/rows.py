"""Rows of a screen as escape sequences that print them again."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from agentrelay.hq.screen.state import NO_STYLE, Link, Row

_FLAGS: Final = ((1, b"1"), (2, b"3"), (4, b"2"), (8, b"5"), (16, b"7"), (32, b"8"), (64, b"9"), (128, b"53"))
_UNDERLINES: Final = (b"", b";4", b";4:2", b";4:3", b";4:4", b";4:5", b"", b"")
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f]")
_LINK_CONTROLS = re.compile(rb"[\0-\x1f\x7f]")
RESET: Final = b"\x1b[m"


@lru_cache(maxsize=4096)
def sgr(style: bytes) -> bytes:
    """Give the sequence that sets exactly this style.

    Args:
        style: three colours of 4 bytes, foreground, background and underline (kind 0 none, 1 palette, 2 RGB,
            then the index or the components), and 16 little-endian bits: bold, italic, faint, blink, inverse,
            invisible, strikethrough, overline, 3 bits of underline.
    """
    if style == NO_STYLE:
        return RESET
    bits = style[12] | style[13] << 8
    codes = b"".join(b";" + code for bit, code in _FLAGS if bits & bit)
    codes += _UNDERLINES[bits >> 8 & 7]
    codes += _color(style[0:4], 30) + _color(style[4:8], 40)
    sequence = b"\x1b[0" + codes + b"m"
    kind, *parts = style[8:12]
    # Apart, since terminals take only so many parameters at once.
    if kind == 1:
        sequence += b"\x1b[58:5:%dm" % parts[0]
    elif kind == 2:
        sequence += b"\x1b[58:2::%d:%d:%dm" % tuple(parts)
    return sequence


def _color(color: bytes, base: int) -> bytes:
    kind, first, second, third = color
    if kind == 0:
        return b""
    if kind == 2:
        return b";%d;2;%d;%d;%d" % (base + 8, first, second, third)
    if first < 8:
        return b";%d" % (base + first)
    if first < 16:
        return b";%d" % (base + 60 + first - 8)
    return b";%d;5;%d" % (base + 8, first)


def link_sequence(link: Link | None) -> bytes:
    """Give the sequence that begins a hyperlink, or ends one."""
    if link is None:
        return b"\x1b]8;;\x1b\\"
    link_id = _LINK_CONTROLS.sub(b"", link.link_id).replace(b";", b"").replace(b":", b"")
    return b"\x1b]8;%s;%s\x1b\\" % (b"id=" + link_id if link_id else b"", _LINK_CONTROLS.sub(b"", link.uri))


def printable(text: str) -> bytes:
    """Encode text of cells; control characters, which a cell should not have, become spaces."""
    return _CONTROLS.sub(" ", text).encode(errors="replace")


def render_row(row: Row, *, is_wrapped: bool) -> bytes:
    """Print a row on an empty line, from its first column, with the pen plain before and after.

    Args:
        row: what to print.
        is_wrapped: the row above is full and its last column was printed just before, so that the first
            character wraps. The row must begin with one.
    """
    out: list[bytes] = []
    style, link, protected = NO_STYLE, None, False
    if is_wrapped and row.runs and row.runs[0].style[4]:
        # A wrap that scrolls fills the line with the pen's background: do it with a plain pen, then go back.
        out.append(printable((row.runs[0].text or "")[:1]) + b"\r")
    last = len(row.runs) - 1
    for n, run in enumerate(row.runs):
        if run.style != style:
            style = run.style
            out.append(sgr(style))
        if run.link != link:
            link = run.link
            out.append(link_sequence(link))
        if run.protected != protected:
            protected = run.protected
            out.append(b'\x1b[1"q' if protected else b'\x1b[0"q')
        if run.text is not None:
            out.append(printable(run.text))
        else:
            if style != NO_STYLE:
                out.append(b"\x1b[%dX" % run.cols)
            if n < last:
                out.append(b"\x1b[%dC" % run.cols)
    if link is not None:
        out.append(link_sequence(None))
    if protected:
        out.append(b'\x1b[0"q')
    if style != NO_STYLE:
        out.append(RESET)
    return b"".join(out)


def _continues(above: Row, row: Row) -> bool:
    """Tell whether printing the first character of `row` behind `above` wraps."""
    if not row.runs or row.runs[0].text is None:
        return False
    cells = row.runs[0].cells
    return above.wraps or (above.is_short and cells is not None and cells[1:2] == [""])


def render_rows(rows: Iterable[Row]) -> list[bytes]:
    """Print rows below each other; each but the first brings what leads to it."""
    out: list[bytes] = []
    above: Row | None = None
    for row in rows:
        is_wrapped = above is not None and _continues(above, row)
        lead = b"" if above is None or is_wrapped else b"\r\n"
        out.append(lead + render_row(row, is_wrapped=is_wrapped))
        above = row
    return out
