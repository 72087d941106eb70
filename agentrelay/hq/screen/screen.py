"""A session's screen, rendered from its output by the renderer's worker."""

import logging
import weakref
from typing import Final

import msgspec

from agentrelay.hq.screen.answers import safe_answers
from agentrelay.hq.screen.renderer import RENDERER, Renderer, RendererLost
from agentrelay.hq.screen.state import ScreenText
from agentrelay.hq.screen.wire import MAX_PIECE_BYTES, Op, unpack_fed

logger = logging.getLogger(__name__)

MAX_LINES: Final = 1000
MAX_SIDE: Final = 1000
MAX_SNAPSHOT_BYTES: Final = 512 * 1024


class Screen:
    """Renders a session's output. Nothing that is fed to it harms HQ, or grows without bound.

    The rendering is done in another process, for all screens of this HQ. Should that end, the screen is
    `lost`: it takes output and shows nothing any more, and a new one has to be made and fed.

    `feed`, `snapshot` and `text` wait for the other process, about 10 ms for a MB of output, some
    milliseconds for a snapshot, a few tenths of a second for its start: they are not for the event loop's
    thread. One thread at a time may use a screen.

    Attributes:
        lost: whether the rendering process is gone.
        to_blame: whether it went because of this screen; another one that is fed the same will be lost too.
    """

    def __init__(
        self, *, rows: int, cols: int, scrollback_lines: int = MAX_LINES, renderer: Renderer = RENDERER
    ) -> None:
        """Make an empty screen.

        Args:
            rows: 1 to 1,000.
            cols: 1 to 1,000.
            scrollback_lines: how many lines are kept, at least, once they have left the screen.
            renderer: who renders; the one of this process.

        Raises:
            ValueError: a size is out of range.
        """
        _check_size(rows, cols)
        self.lost = False
        self.to_blame = False
        self._renderer = renderer
        self._scrollback_lines = scrollback_lines
        self._text = ScreenText(rows, cols, 0, 0, True, False, "", [""] * rows)
        self._sizes = [(rows, cols)]  # that the worker does not know of yet
        self._generation, self._number = 0, 0
        self._closed = False
        self._free: weakref.finalize[[int, int], Screen] | None = None
        renderer.start()

    def feed(self, data: bytes | bytearray | memoryview, *, answer: bool = False) -> bytes:
        """Process output.

        Args:
            data: the next bytes of the stream, cut anywhere; only read during the call.
            answer: whether to answer queries in it. Not for a replay: they have been answered.

        Returns:
            What to send to the program as input, at most 4 KiB; always empty without `answer`.
        """
        replies: list[bytes] = []
        with memoryview(data) as view:
            start = 0
            while start < len(view):
                taken_bytes, more = self._feed(view[start:], answer=answer)
                start += taken_bytes
                replies += more
        return safe_answers(replies)

    def feed_slice(self, data: bytes | bytearray | memoryview, *, answer: bool = False) -> tuple[int, bytes]:
        """Process the beginning of `data`, for some milliseconds; else as `feed`.

        Returns:
            How many bytes of it were taken, at least one unless it is empty, and what to send to the program.
        """
        with memoryview(data) as view:
            taken_bytes, replies = self._feed(view, answer=answer)
        return taken_bytes, safe_answers(replies)

    def _feed(self, view: memoryview, *, answer: bool) -> tuple[int, list[bytes]]:
        got = self._ask(Op.FEED, int(answer), data=view[:MAX_PIECE_BYTES])
        return (len(view), []) if got is None else unpack_fed(got)

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size, 1 to 1,000 each; lines of the primary screen are wrapped anew.

        Raises:
            ValueError: out of range; nothing has changed.
        """
        _check_size(rows, cols)
        self._sizes.append((rows, cols))

    def snapshot(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_SNAPSHOT_BYTES) -> bytes | None:
        """Give escape sequences that rebuild this screen in a fresh terminal of the same size.

        What follows the snapshot is the very next byte of the stream, even if that is in the middle of a
        sequence or a character: its beginning ends the snapshot.

        Args:
            max_lines: of scrollback.
            max_bytes: roughly; scrollback is left out beyond it.

        Returns:
            None in the middle of a sequence that is longer than 1 MiB, such as a picture, and when `lost`.
        """
        got = self._ask(Op.SNAPSHOT, max_lines, max_bytes)
        return None if got is None else bytes(got)

    def text(self, *, cells: bool = False) -> ScreenText:
        """Give what the screen shows as text; where a snapshot would give None, what it showed last time.

        Args:
            cells: whether its `cells` are wanted too.
        """
        got = self._ask(Op.TEXT, int(cells))
        if got is not None:
            self._text = msgspec.json.decode(got, type=ScreenText)
        return self._text

    def close(self) -> None:
        """Give the memory back. Other calls raise ValueError from then on."""
        self._closed = True
        if self._free is not None:
            self._free()

    def _ask(
        self, op: Op, first: int = 0, second: int = 0, *, data: memoryview | bytes = b""
    ) -> bytearray | None:
        if self._closed:
            raise ValueError("the screen is closed")
        if self.lost:
            return None
        try:
            self._catch_up()
            return self._renderer.ask(self._generation, op, self._number, first, second, data=data)
        except RendererLost as error:
            self._lose(error)
            return None

    def _catch_up(self) -> None:
        if self._free is None:
            rows, cols = self._sizes.pop(0)
            opened = self._renderer.open(rows=rows, cols=cols, scrollback_lines=self._scrollback_lines)
            self._generation, self._number = opened
            self._free = weakref.finalize(self, self._renderer.abandon, *opened)
            self._free.atexit = False
        while self._sizes:
            rows, cols = self._sizes.pop(0)
            self._renderer.ask(self._generation, Op.RESIZE, self._number, rows, cols)

    def _lose(self, error: RendererLost) -> None:
        self.lost = True
        self.to_blame = error.to_blame
        logger.warning("a screen is lost: %s", error)


def _check_size(rows: int, cols: int) -> None:
    if not (1 <= rows <= MAX_SIDE and 1 <= cols <= MAX_SIDE):
        raise ValueError(f"a screen has 1 to {MAX_SIDE} rows and columns, not {rows} and {cols}")
