"""Decodes libghostty-vt's snapshot format, version 1, into a `TerminalState`.

The format is described by `src/terminal/snapshot/snapshot.ksy` in Ghostty's source. It makes no promise to
stay, which is why pyghostty is pinned.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from agentrelay.hq.screen.cells import Looks, decode_row
from agentrelay.hq.screen.state import NO_STYLE, Cursor, Link, Row, ScreenState, TerminalState

_ENVELOPE: Final = b"GHOSTSNP\x01\x00"
_RECORD = struct.Struct("<HII")
_TERMINAL = struct.Struct("<HHIIHHHHBHHIBBBBBBBBBBQQQ")
_COLOR = struct.Struct("<B3sB3s")
_LIMITS_BYTES: Final = 16
_SCREEN = struct.Struct("<HHQHHBB16sIHBB8sBBB")
_SAVED_CURSOR = struct.Struct("<HH16sBH")
_HISTORY = struct.Struct("<HI")
_PAGE = struct.Struct("<HHHHHHII")
_STYLE = struct.Struct("<H16s")
_ROW = struct.Struct("<BH")
_GRAPHEME = struct.Struct("<HHH")

_TERMINAL_TAG, _SCREEN_TAG, _PAGE_TAG, _HISTORY_TAG, _CONTINUATION_TAG = 1, 2, 3, 4, 7
_NO_CODEPOINT: Final = 0xFFFFFFFF
_ALTERNATE: Final = 1


class _Fields:
    """Takes fields off a payload."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def unpack(self, fields: struct.Struct) -> tuple[Any, ...]:
        values = fields.unpack_from(self.data, self.at)
        self.at += fields.size
        return values

    def take(self, n_bytes: int) -> bytes:
        self.at += n_bytes
        return self.data[self.at - n_bytes : self.at]

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def counted(self) -> bytes:
        return self.take(self.u32())

    def link(self) -> Link | None:
        kind = self.byte()
        if kind == 0:
            return None
        # An implicit id tells links of one URI apart; what follows on the screen shows that as well.
        link_id = self.counted() if kind == 2 else self.take(4) and b""
        return Link(link_id, self.counted())


def decode(data: bytes, *, visible_only: bool = False) -> TerminalState:
    """Decode a snapshot.

    Args:
        data: the snapshot.
        visible_only: leave out the scrollback in `ScreenState.rows`. The rest of it is decoded only as far as
            `ScreenState.history` is iterated.

    Raises:
        ValueError: this is not a snapshot of version 1.
    """
    if not data.startswith(_ENVELOPE):
        raise ValueError(f"not a terminal snapshot of version 1: {data[:10]!r}")
    records = _records(data)
    tag, payload = next(records)
    _expect(tag, _TERMINAL_TAG)
    state, screen_count = _decode_terminal(_Fields(payload))
    screens: dict[int, ScreenState] = {}
    for _ in range(screen_count):
        key, screen = _decode_screen(records, state.rows if visible_only else None)
        screens[key] = screen
    tag, state.continuation = next(records)
    _expect(tag, _CONTINUATION_TAG)
    state.primary = screens[0]
    state.primary.history = _history(records)
    state.alternate = screens.get(_ALTERNATE)
    return state


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = len(_ENVELOPE)
    while at < len(data):
        tag, n_bytes, _crc = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        yield tag, data[at : at + n_bytes]
        at += n_bytes


def _expect(tag: int, wanted: int) -> None:
    if tag != wanted:
        raise ValueError(f"record {tag} where {wanted} should be")


def _history(records: Iterator[tuple[int, bytes]]) -> Iterator[list[Row]]:
    for tag, payload in records:
        if tag == _HISTORY_TAG and _HISTORY.unpack_from(payload)[0] == _ALTERNATE:
            return
        if tag == _PAGE_TAG:
            yield decode_page(payload)


def _decode_terminal(fields: _Fields) -> tuple[TerminalState, int]:
    (
        cols, rows, _width, _height, top, bottom, left, right, _status, active, screen_count, last_printed,
        shape_is_default, _shape, _blink, _redraw, modify_keys, mouse_event, mouse_format, _shift, _pointer,
        _password, modes, _saved_modes, default_modes,
    ) = fields.unpack(_TERMINAL)  # fmt: skip
    # In the order background, foreground, cursor: each a default and what a program has set.
    background, foreground, cursor = (fields.unpack(_COLOR) for _ in range(3))
    fields.take(_LIMITS_BYTES)
    tab_bits = int.from_bytes(fields.take((cols + 7) // 8), "little")
    fields.take(3 * 256)
    changed = int.from_bytes(fields.take(32), "little")
    palette = {index: fields.take(3) for index in range(256) if changed >> index & 1}
    fields.counted()  # the working directory
    title = fields.counted().decode(errors="replace")
    state = TerminalState(
        rows=rows,
        cols=cols,
        margins=(top, bottom, left, right),
        modes=modes,
        default_modes=default_modes,
        mouse_event=mouse_event,
        mouse_format=mouse_format,
        cursor_shape_is_default=bool(shape_is_default),
        modify_other_keys=bool(modify_keys),
        palette=palette,
        colors=(
            foreground[3] if foreground[2] else None,
            background[3] if background[2] else None,
            cursor[3] if cursor[2] else None,
        ),
        tab_stops=[col for col in range(cols) if tab_bits >> col & 1],
        title=title,
        last_printed=None if last_printed == _NO_CODEPOINT else chr(last_printed),
        primary=_NO_SCREEN,
        alternate=None,
        alternate_active=active == _ALTERNATE,
        continuation=b"",
    )
    return state, screen_count


def _decode_screen(records: Iterator[tuple[int, bytes]], last_rows: int | None) -> tuple[int, ScreenState]:
    tag, payload = next(records)
    _expect(tag, _SCREEN_TAG)
    fields = _Fields(payload)
    (
        key, page_count, _history_rows, col, row, shape, flags, pen, _link_id, charset, _protected_mode,
        flags_index, keyboard_flags, _click_kind, _click_value, has_saved,
    ) = fields.unpack(_SCREEN)  # fmt: skip
    saved = None
    if has_saved:
        saved_col, saved_row, saved_pen, saved_flags, saved_charset = fields.unpack(_SAVED_CURSOR)
        saved = Cursor(
            saved_row,
            saved_col,
            saved_pen,
            saved_charset,
            pending_wrap=bool(saved_flags & 2),
            protected=bool(saved_flags & 1),
            origin=bool(saved_flags & 4),
        )
    cursor = Cursor(
        row,
        col,
        pen,
        charset,
        pending_wrap=bool(flags & 1),
        protected=bool(flags & 2),
        origin=False,
    )
    link = fields.link()
    pages = []
    for _ in range(page_count):
        tag, payload = next(records)
        _expect(tag, _PAGE_TAG)
        pages.append(payload)
    rows: list[Row] = []
    for page in reversed(pages):
        missing = None if last_rows is None else last_rows - len(rows)
        if missing != 0:
            rows = decode_page(page, missing) + rows
    stack = list(keyboard_flags[: flags_index + 1])
    return key, ScreenState(cursor, shape, link, saved, rows, stack, iter(()))


def decode_page(payload: bytes, last_rows: int | None = None) -> list[Row]:
    """Decode the rows of a page, or only its last ones, from the top."""
    fields = _Fields(payload)
    cols, n_rows, style_count, link_count, *_ = fields.unpack(_PAGE)
    styles = {0: NO_STYLE}
    for _ in range(style_count):
        style_id, style = fields.unpack(_STYLE)
        styles[style_id] = style
    links: dict[int, Link | None] = {0: None}
    for _ in range(link_count):
        link_id = fields.u16()
        links[link_id] = fields.link()
    looks = Looks(styles, links)
    first = 0 if last_rows is None else n_rows - last_rows
    # The rest of characters of several code points stands behind all rows.
    raw_rows: list[tuple[int, int, bytes]] = []
    for _ in range(n_rows):
        flags, count = fields.unpack(_ROW)
        raw_rows.append((flags, count, fields.take(count << (flags >> 4 & 3))))
    suffixes: dict[int, dict[int, str]] = {}
    for _ in range(fields.u32()):
        row, col, count = fields.unpack(_GRAPHEME)
        suffixes.setdefault(row, {})[col] = fields.take(4 * count).decode("utf-32-le", "replace")
    return [
        decode_row(cols, flags, count, data, looks, suffixes.get(n))
        for n, (flags, count, data) in enumerate(raw_rows)
        if n >= first
    ]


_NO_SCREEN = ScreenState(Cursor(0, 0, NO_STYLE, 0, False, False, False), 1, None, None, [], [0], iter(()))
