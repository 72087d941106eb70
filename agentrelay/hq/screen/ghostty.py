"""The only place that touches libghostty-vt: a terminal that takes bytes and gives its state as bytes.

pyghostty has no types, so this is also the typed boundary: everything past it is checked.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyghostty  # type: ignore[import-untyped]  # has no types; all that leaves this file has

_ffi: Any = pyghostty.ffi
_lib: Any = pyghostty.lib

MAX_CONTINUATION_BYTES: Final = 1 << 20
"""How much of an unfinished sequence is kept; the longest that are seen are pictures in OSC and DCS."""

MAX_APC_BYTES: Final = 64 * 1024
MAX_SCROLLBACK_BYTES: Final = 16 << 20

PAGE_CELLS: Final = 215 * 215
"""Scrollback is freed by pages of this many cells, so that much more has to be kept to keep enough."""

MAX_REPLIES: Final = 1000

FOREGROUND: Final = (0xDF, 0xE2, 0xE7)
BACKGROUND: Final = (0x0F, 0x10, 0x12)
CURSOR: Final = (0x98, 0xA6, 0xFF)
"""The dark colours of the web UI: what a program is told that asks whether the terminal is dark or light."""


class NativeTerminal:
    """A headless terminal. Calls are serialised, and release the GIL while they run.

    Args:
        rows: 1 to 1,000.
        cols: 1 to 1,000.
        scrollback_lines: lines kept, at least, of what has left the screen; whole pages are freed beyond.
    """

    def __init__(self, *, rows: int, cols: int, scrollback_lines: int) -> None:
        handle = _ffi.new("GhosttyTerminal*")
        _check(_lib.ghostty_terminal_new(_ffi.NULL, handle, cols, rows), "make a terminal")
        self._terminal = handle[0]
        self._free = weakref.finalize(self, _lib.ghostty_terminal_free, self._terminal)
        self._lock = threading.Lock()
        self._scrollback_lines = scrollback_lines
        self._keep_scrollback(cols)
        for option, n_bytes in (
            ("SCROLLBACK_MAX_BYTES", MAX_SCROLLBACK_BYTES),
            ("CONTINUATION_MAX_BYTES", MAX_CONTINUATION_BYTES),
            ("APC_MAX_BYTES", MAX_APC_BYTES),
            ("APC_MAX_BYTES_KITTY", MAX_APC_BYTES),
        ):
            self._set(option, _ffi.new("size_t*", n_bytes))
        self._set("KITTY_IMAGE_STORAGE_LIMIT", _ffi.new("uint64_t*", 0))  # pictures are the viewers' matter
        for option, rgb in (
            ("COLOR_FOREGROUND", FOREGROUND),
            ("COLOR_BACKGROUND", BACKGROUND),
            ("COLOR_CURSOR", CURSOR),
        ):
            self._set(option, _ffi.new("GhosttyColorRgb*", list(rgb)))
        self._replies, self._reply_callback = _collector()

    def _set(self, option: str, value: Any) -> None:
        key = getattr(_lib, f"GHOSTTY_TERMINAL_OPT_{option}")
        _check(_lib.ghostty_terminal_set(self._terminal, key, value), f"set {option.lower()}")

    def _keep_scrollback(self, cols: int) -> None:
        lines = self._scrollback_lines + PAGE_CELLS // cols + 1 if self._scrollback_lines else 0
        self._set("SCROLLBACK_MAX_LINES", _ffi.new("size_t*", lines))

    def feed(self, data: bytes | bytearray | memoryview, *, answer: bool) -> list[bytes]:
        """Process output.

        Args:
            data: only read during the call.
            answer: whether to answer queries.

        Returns:
            What this terminal would answer, at most 1,000 answers.
        """
        with self._open():
            if data:
                self._set("WRITE_PTY", self._reply_callback if answer else _ffi.NULL)
                _lib.ghostty_terminal_vt_write(self._terminal, _ffi.from_buffer(data), len(data))
            replies = self._replies.copy()
            self._replies.clear()
        return replies

    def resize(self, *, rows: int, cols: int) -> None:
        """Change the size; lines of the primary screen are wrapped anew."""
        with self._open():
            self._keep_scrollback(cols)
            self._set("WRITE_PTY", _ffi.NULL)  # no reports of the new size: the program gets a signal
            _check(_lib.ghostty_terminal_resize(self._terminal, cols, rows, 8, 16), "resize a terminal")

    def encode(self) -> bytes | None:
        """Encode the whole state in the library's own format, see `state.py`.

        Returns:
            None in the middle of a sequence longer than `MAX_CONTINUATION_BYTES`.
        """
        data, n_bytes = _ffi.new("uint8_t**"), _ffi.new("size_t*")
        with self._open():
            result = _lib.ghostty_snapshot_encode_alloc(self._terminal, _ffi.NULL, data, n_bytes)
        if result == _lib.GHOSTTY_INVALID_VALUE:
            return None
        _check(result, "encode a terminal")
        try:
            return bytes(_ffi.buffer(data[0], n_bytes[0]))
        finally:
            _lib.ghostty_free(_ffi.NULL, data[0], n_bytes[0])

    @contextmanager
    def _open(self) -> Iterator[None]:
        with self._lock:
            if not self._free.alive:
                raise ValueError("the screen is closed")
            yield

    def close(self) -> None:
        """Free the terminal now rather than with this object. Other calls raise ValueError from then on."""
        with self._lock:
            self._free()


def _collector() -> tuple[list[bytes], Any]:
    """Make a callback that collects replies. It holds its list only: no cycle keeps a terminal alive."""
    replies: list[bytes] = []

    def collect(_terminal: Any, _user: Any, data: Any, n_bytes: int) -> None:
        if len(replies) < MAX_REPLIES:
            replies.append(bytes(_ffi.buffer(data, n_bytes)))

    return replies, _ffi.callback("GhosttyTerminalWritePtyFn", collect)


def _check(result: int, what: str) -> None:
    if result != _lib.GHOSTTY_SUCCESS:
        raise MemoryError(f"libghostty-vt could not {what}: result {result}")
