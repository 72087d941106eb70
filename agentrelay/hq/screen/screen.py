"""A session's screen, rendered from its output."""

from dataclasses import dataclass
from typing import Final

from agentrelay.hq.screen.answers import MAX_ANSWER_BYTES, safe_answer
from agentrelay.hq.screen.decode import decode
from agentrelay.hq.screen.ghostty import NativeTerminal
from agentrelay.hq.screen.repaint import MAX_TITLE_CHARS, repaint
from agentrelay.hq.screen.state import CURSOR_VISIBLE, Row, TerminalState

MAX_LINES: Final = 1000
MAX_SIDE: Final = 1000
MAX_SNAPSHOT_BYTES: Final = 512 * 1024


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
    """

    rows: int
    cols: int
    cursor_row: int
    cursor_col: int
    cursor_visible: bool
    alternate: bool
    title: str
    text: list[str]


class Screen:
    """Renders a session's output. Nothing that is fed to it can make it fail or grow without bound.

    Use it from one thread at a time, best not the event loop's: `feed` takes about 10 ms per MB, a snapshot
    some milliseconds. `feed` and most of a snapshot release the GIL.
    """

    def __init__(self, *, rows: int, cols: int, scrollback_lines: int = MAX_LINES) -> None:
        """Make an empty screen.

        Args:
            rows: 1 to 1,000.
            cols: 1 to 1,000.
            scrollback_lines: how many lines are kept, at least, once they have left the screen.

        Raises:
            ValueError: a size is out of range.
        """
        _check_size(rows, cols)
        self._terminal = NativeTerminal(rows=rows, cols=cols, scrollback_lines=scrollback_lines)
        self._text = ScreenText(rows, cols, 0, 0, True, False, "", [""] * rows)

    def feed(self, data: bytes | bytearray | memoryview, *, answer: bool = False) -> bytes:
        """Process output.

        Args:
            data: the next bytes of the stream, cut anywhere; only read during the call.
            answer: whether to answer queries in it. Not for a replay: they have been answered.

        Returns:
            What to send to the program as input, at most 4 KiB; always empty without `answer`.
        """
        out = b""
        for reply in self._terminal.feed(data, answer=answer):
            safe = safe_answer(reply)
            if len(out) + len(safe) > MAX_ANSWER_BYTES:
                break
            out += safe
        return out

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size, 1 to 1,000 each; lines of the primary screen are wrapped anew.

        Raises:
            ValueError: out of range; nothing has changed.
        """
        _check_size(rows, cols)
        self._terminal.resize(rows=rows, cols=cols)

    def snapshot(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_SNAPSHOT_BYTES) -> bytes | None:
        """Give escape sequences that rebuild this screen in a fresh terminal of the same size.

        What follows the snapshot is the very next byte of the stream, even if that is in the middle of a
        sequence or a character: its beginning ends the snapshot.

        Args:
            max_lines: of scrollback.
            max_bytes: roughly; scrollback is left out beyond it.

        Returns:
            None in the middle of a sequence that is longer than 1 MiB, such as a picture.
        """
        state = self._state()
        return None if state is None else repaint(state, max_lines=max_lines, max_bytes=max_bytes)

    def text(self) -> ScreenText:
        """Give what the screen shows as text; where a snapshot would give None, what it showed last time."""
        state = self._state()
        if state is not None:
            self._text = _text(state)
        return self._text

    def close(self) -> None:
        """Free the memory now. Other calls raise ValueError from then on."""
        self._terminal.close()

    def _state(self) -> TerminalState | None:
        encoded = self._terminal.encode()
        return None if encoded is None else decode(encoded)


def _check_size(rows: int, cols: int) -> None:
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"a screen has 1 to {MAX_SIDE} rows and columns, not {rows} and {cols}")


def _text(state: TerminalState) -> ScreenText:
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
    )


def _row_text(row: Row) -> str:
    return "".join(" " * run.cols if run.text is None else run.text for run in row.runs).rstrip(" ")
