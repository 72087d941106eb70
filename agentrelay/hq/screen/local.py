"""A screen in this process: what the renderer's worker does for each `Screen`."""

from typing import Final

from agentrelay.hq.screen.appearance import cell_runs
from agentrelay.hq.screen.decode import decode
from agentrelay.hq.screen.ghostty import NativeTerminal
from agentrelay.hq.screen.repaint import MAX_TITLE_CHARS, repaint
from agentrelay.hq.screen.state import CURSOR_VISIBLE, Row, ScreenText, TerminalState

MAX_LINES: Final = 1000
MAX_SIDE: Final = 1000
MAX_SNAPSHOT_BYTES: Final = 512 * 1024


class LocalScreen:
    """Renders output with libghostty-vt, which ends its process on some input: HQ uses `Screen`."""

    def __init__(self, *, rows: int, cols: int, scrollback_lines: int = MAX_LINES) -> None:
        """Make an empty screen; as `Screen`.

        Raises:
            ValueError: a size is out of range.
        """
        _check_size(rows, cols)
        self._terminal = NativeTerminal(rows=rows, cols=cols, scrollback_lines=scrollback_lines)
        self._text = ScreenText(rows, cols, 0, 0, True, False, "", [""] * rows)

    def feed(self, data: bytes | bytearray | memoryview, *, answer: bool = False) -> list[bytes]:
        """Process output; `data` is only read during the call.

        Returns:
            With `answer`, what the library would answer to queries in it; see `answers.py` for what is safe.
        """
        return self._terminal.feed(data, answer=answer)

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size; as `Screen.resize`.

        Raises:
            ValueError: out of range; nothing has changed.
        """
        _check_size(rows, cols)
        self._terminal.resize(rows=rows, cols=cols)

    def snapshot(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_SNAPSHOT_BYTES) -> bytes | None:
        """Give a snapshot; as `Screen.snapshot`."""
        state = self.state()
        return None if state is None else repaint(state, max_lines=max_lines, max_bytes=max_bytes)

    def text(self, *, cells: bool = False) -> ScreenText:
        """Give what the screen shows; as `Screen.text`."""
        state = self.state(visible_only=True)
        if state is not None:
            self._text = _text(state, cells=cells)
        return self._text

    def close(self) -> None:
        """Free the memory now. Other calls raise ValueError from then on."""
        self._terminal.close()

    def state(self, *, visible_only: bool = False) -> TerminalState | None:
        """Give what is known of the terminal, with or without scrollback; None where there is no snapshot."""
        encoded = self._terminal.encode()
        return None if encoded is None else decode(encoded, visible_only=visible_only)


def _check_size(rows: int, cols: int) -> None:
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"a screen has 1 to {MAX_SIDE} rows and columns, not {rows} and {cols}")


def _text(state: TerminalState, *, cells: bool) -> ScreenText:
    screen = state.active
    return ScreenText(
        rows=state.rows,
        cols=state.cols,
        cursor_row=screen.cursor.row,
        cursor_col=screen.cursor.col,
        cursor_visible=bool(state.modes & CURSOR_VISIBLE),
        alternate=state.alternate_active,
        title=state.title[:MAX_TITLE_CHARS],
        text=[_row_text(row) for row in screen.rows[-state.rows :]],
        cells=[cell_runs(row) for row in screen.rows[-state.rows :]] if cells else None,
    )


def _row_text(row: Row) -> str:
    return "".join(" " * run.cols if run.text is None else run.text for run in row.runs).rstrip(" ")
