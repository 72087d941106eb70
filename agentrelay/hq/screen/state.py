"""What a terminal's state is made of, as far as a viewer can see or feel it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentrelay.hq.info import CellRun

NO_STYLE: Final = bytes(16)
"""The style of plain text."""

CURSOR_VISIBLE: Final = 1 << 13
"""In `TerminalState.modes`."""


class Link(NamedTuple):
    """A hyperlink; `link_id` is empty where the program gave none."""

    link_id: bytes
    uri: bytes


class Run(NamedTuple):
    """Cells of a row that follow each other and look the same.

    Attributes:
        style: 16 bytes, see `escapes.sgr`.
        text: what they show, or None for cells without text.
        cols: how many columns they take.
        link: where they lead.
        protected: whether a selective erase spares them.
        cells: the text by column, empty behind wide characters; None where every code point has its column.
    """

    style: bytes
    text: str | None
    cols: int
    link: Link | None = None
    protected: bool = False
    cells: list[str] | None = None


class Row(NamedTuple):
    """A row as it is on the screen; columns behind the last run are empty.

    Attributes:
        runs: from the left.
        wraps: the next row continues this one, and the last column is not empty.
        is_short: the last column is empty because the next row begins with a wide character.
    """

    runs: list[Run]
    wraps: bool
    is_short: bool = False


class Cursor(NamedTuple):
    """A cursor, current or saved; counted from 0."""

    row: int
    col: int
    pen: bytes
    charset: int
    pending_wrap: bool
    protected: bool
    origin: bool


@dataclass(slots=True)
class ScreenState:
    """One of the two screens.

    Attributes:
        cursor: its cursor.
        cursor_shape: 0 bar, 1 block, 2 underline, 3 hollow block.
        link: the hyperlink that what is printed will belong to.
        saved: what DECSC saved.
        rows: what is on the screen, and in front of it lines of the scrollback that share its memory.
        history: the rest of the scrollback; pages of rows, the newest page first.
        keyboard_flags: the stack of kitty keyboard flags, the current ones last.
    """

    cursor: Cursor
    cursor_shape: int
    link: Link | None
    saved: Cursor | None
    rows: list[Row]
    keyboard_flags: list[int]
    history: Iterator[list[Row]]


@dataclass(slots=True)
class TerminalState:
    """A whole terminal.

    Attributes:
        margins: top, bottom, left and right of the scroll region, from 0, inclusive.
        modes: bits, see `escapes.MODES`.
        default_modes: the same after a reset.
        mouse_event: 0 none, 1 mode 9, 2 mode 1000, 3 mode 1002, 4 mode 1003.
        mouse_format: 0 default, 1 mode 1005, 2 mode 1006, 3 mode 1015, 4 mode 1016.
        palette: colours that were changed.
        colors: foreground, background and cursor, where they were changed.
        tab_stops: columns.
        last_printed: code point that REP repeats.
        primary: the screen with scrollback.
        alternate: the other one, once it was used.
        alternate_active: which one is shown.
        continuation: the unfinished sequence or character at the end of what was fed.
    """

    rows: int
    cols: int
    margins: tuple[int, int, int, int]
    modes: int
    default_modes: int
    mouse_event: int
    mouse_format: int
    cursor_shape_is_default: bool
    modify_other_keys: bool
    palette: dict[int, bytes]
    colors: tuple[bytes | None, bytes | None, bytes | None]
    tab_stops: list[int]
    title: str
    last_printed: str | None
    primary: ScreenState
    alternate: ScreenState | None
    alternate_active: bool
    continuation: bytes

    @property
    def active(self) -> ScreenState:
        """The screen that is shown."""
        return self.alternate if self.alternate_active and self.alternate else self.primary


@dataclass(frozen=True, slots=True)
class ScreenText:
    """What a screen shows.

    Attributes:
        rows: size.
        cols: likewise.
        cursor_row: from 0.
        cursor_col: from 0.
        cursor_visible: whether the program shows its cursor.
        alternate: whether this is the alternate screen, as full-screen programs use it.
        title: as the program set it, at most 1,024 characters.
        text: a string for each row, without trailing blanks.
        cells: the same as runs of cells, where they were asked for.
    """

    rows: int
    cols: int
    cursor_row: int
    cursor_col: int
    cursor_visible: bool
    alternate: bool
    title: str
    text: list[str]
    cells: list[list[CellRun]] | None = None
