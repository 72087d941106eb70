"""What HQ tells the outside about its runners, sessions and screens: one struct each, no behaviour.

Field names are the JSON names. Times are unix seconds; offsets are as in docs/protocol.md.
"""

from typing import Literal

import msgspec

from agentrelay.protocol.messages import Preset

SessionState = Literal["starting", "running", "away", "ended", "lost"]
"""`away`: its runner has no link now. `lost`: the runner came back without it."""


class RunnerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A runner that has registered at least once. `sessions` counts those that have not ended."""

    runner_id: str
    hostname: str
    os: str
    arch: str
    version: str
    online: bool
    connected_at: float | None
    last_seen_at: float | None
    presets: list[Preset]
    sessions: int


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session. `base_offset` is the oldest byte that can still be read, `offset` the next one to come.

    `exit_code` and `signal` are both None while the program runs, and where the exit status is not known.
    `title` is what the program has called its window since HQ started; empty if it has not.
    """

    session_id: str
    runner_id: str
    name: str
    command: list[str]
    preset: str | None
    cwd: str | None
    rows: int
    cols: int
    state: SessionState
    pid: int | None
    epoch: str
    created_at: float
    ended_at: float | None
    exit_code: int | None
    signal: int | None
    offset: int
    base_offset: int
    viewers: int
    recording: bool
    title: str


class CursorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The cursor of a screen; `row` and `col` count from 0 at the top left."""

    row: int
    col: int
    visible: bool


class CellRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Cells of a row that follow each other and look the same, `cols` columns wide.

    A colour is a number of the palette, 0 to 255, or `#rrggbb`; without one it is the terminal's own.
    `attributes`: bold, italic, faint, blink, inverse, invisible, strikethrough, overline, underline.
    """

    text: str
    cols: int
    fg: int | str | None = None
    bg: int | str | None = None
    attributes: list[str] = []
    link: str | None = None


class ScreenInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session's screen as it is after the byte before `offset`; `text` has one string per row.

    `cells`, where they were asked for, has the same rows as runs of cells.
    """

    rows: int
    cols: int
    cursor: CursorInfo
    title: str
    text: list[str]
    offset: int
    alternate: bool
    cells: list[list[CellRun]] | msgspec.UnsetType = msgspec.UNSET
