"""A snapshot and what follows it bring a fresh terminal to where the whole stream brings one."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.screen.state import Cursor, Row, ScreenState, TerminalState

CORPORA = sorted((Path(__file__).parents[2] / "bench" / "corpora").glob("*.bin"))
CUTS = 25
BLANK = ("", bytes(16), None, False)

# Which alternate screen sequence was used is not restored, only that one was; a held screen is let go.
_IGNORED_MODES = sum(1 << bit for bit in (5, 11, 16, 20, 21, 22, 24, 25, 27, 28, 33, 34, 35, 37))


def cells(row: Row) -> list[tuple[str, bytes, bytes | None, bool]]:
    found: list[tuple[str, bytes, bytes | None, bool]] = []
    for run in row.runs:
        link = run.link.uri if run.link else None
        if run.text is None:  # of a cell without text only the background shows
            found += [("", bytes(4) + run.style[4:8] + bytes(8), None, False)] * run.cols
        else:
            found += [(text, run.style, link, run.protected) for text in run.cells or run.text]
    while found and found[-1] == BLANK:
        found.pop()
    return found


def charset(value: int) -> int:
    """UTF-8 and ASCII are one here, the right half means nothing, a single shift is not saved."""
    slots = [value >> shift & 3 for shift in (0, 2, 4, 6)]
    return sum((0 if slot == 1 else slot) << 2 * n for n, slot in enumerate(slots)) | value & 0x300


def cursor(value: Cursor | None) -> Any:
    return value and value._replace(charset=charset(value.charset))


def screen(value: ScreenState, n_rows: int) -> dict[str, Any]:
    return {
        "rows": [cells(row) for row in value.rows[-n_rows:]],
        "saved": cursor(value.saved),
        "keyboard": value.keyboard_flags,
    }


def state_of(value: LocalScreen) -> TerminalState:
    state = value.state()
    assert state is not None
    return state


def describe(value: LocalScreen, lines: int = 800) -> dict[str, Any]:
    """Everything that can be seen or felt."""
    state = state_of(value)
    history = [cells(row) for row in state.primary.rows[: -state.rows]]
    for page in state.primary.history:
        history = [cells(row) for row in page] + history
    shape = state.active.cursor_shape if not state.cursor_shape_is_default else None
    return {
        "history": history[-lines:],
        "primary": screen(state.primary, state.rows),
        "alternate": screen(state.active, state.rows) if state.alternate_active else None,
        "cursor": cursor(state.active.cursor),
        "link": state.active.link and state.active.link.uri,
        "shape": shape,
        "margins": state.margins,
        "modes": state.modes & ~_IGNORED_MODES,
        "mouse": (state.mouse_event, state.mouse_format),
        "keys": state.modify_other_keys,
        "palette": state.palette,
        "colors": state.colors,
        "tab stops": state.tab_stops,
        "title": state.title,
        "continuation": state.continuation,
    }


def assert_same_from(data: bytes, cut: int, *, rows: int = 24, cols: int = 80) -> None:
    whole, resumed = LocalScreen(rows=rows, cols=cols), LocalScreen(rows=rows, cols=cols)
    whole.feed(data[:cut])
    snapshot = whole.snapshot()
    assert snapshot is not None
    resumed.feed(snapshot)
    assert describe(resumed) == describe(whole)
    whole.feed(data[cut:])
    resumed.feed(data[cut:])
    assert describe(resumed) == describe(whole)


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_a_recording_can_be_joined_anywhere(corpus: Path) -> None:
    data = corpus.read_bytes()[:100_000]
    pick = random.Random(corpus.stem)
    for cut in [0, len(data), *(pick.randrange(len(data)) for _ in range(CUTS))]:
        assert_same_from(data, cut)


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_a_snapshot_of_a_snapshot_is_the_same(corpus: Path) -> None:
    data = corpus.read_bytes()
    first = LocalScreen(rows=24, cols=80)
    first.feed(data[: len(data) // 2])
    snapshot = first.snapshot()
    assert snapshot is not None
    second = LocalScreen(rows=24, cols=80)
    second.feed(snapshot)
    assert second.snapshot() == snapshot


JOINED_IN_THE_MIDDLE = {
    "a character": ("caf", "é".encode(), 1),
    "a wide character": ("x" * 19, "漢".encode(), 2),
    "a combining mark": ("cafe", "\u0301".encode(), 1),
    "before a combining mark": ("\x1b[31mcafe", "\u0301s".encode(), 0),
    "before another mark": ("e\u0301", "\u0323s".encode(), 0),
    "before a repetition": ("-", b"\x1b[10b", 0),
    "a repetition": ("-", b"\x1b[10b", 3),
    "a colour": ("x", b"\x1b[38;2;10;20;30mcolour", 9),
    "a position": ("x", b"\x1b[3;7Hthere", 4),
    "an escape": ("x", b"\x1bMup", 1),
    "a title": ("x", b"\x1b]2;a title\x07text", 6),
    "a title's end": ("x", b"\x1b]2;a title\x1b\\text", 12),
    "a link": ("x", b"\x1b]8;;http://example.org\x1b\\text", 12),
    "a device string": ("x", b"\x1bPq#0;2;0;0;0#0~~\x1b\\text", 9),
    "a picture": ("x", b"\x1b_Ga=T,f=24,s=1,v=1;AAAA\x1b\\text", 9),
    "before a wrap": ("0123456789" * 2, b"wrapped", 0),
    "before a wide wrap": ("0" * 19, "漢".encode(), 0),
    "before a wrap in colour": ("\x1b[42;31m" + "0123456789" * 2, b"wrapped", 0),
    "before a wrap with another pen": ("\x1b[42m" + "0123456789" * 2 + "\x1b[45m", b"wrapped", 0),
    "before a wrap of line drawing": ("\x1b(0" + "q" * 20, b"qqq\x1b(Bq", 0),
    "line drawing": ("\x1b(0lqk\x1b(B \x1b)0\x0emq", b"qj\x0f plain", 0),
    "in a wide character": ("漢\x1b[2G", b"x", 0),
    "insert mode": ("abc\x1b[4h\x1b[2G", b"XY", 0),
    "no wrapping": ("\x1b[?7l" + "0123456789" * 2, b"XY\r\nnext", 0),
    "origin mode": ("\x1b[2;4r\x1b[?6h\x1b[2;3Hx", b"\x1b[1;1Hy\x1b[9;9Hz", 0),
    "a scroll region": ("a\r\nb\r\nc\r\nd\x1b[2;3r\x1b[3;1H", b"\n\n\x1b[?6l\x1bM", 0),
    "a saved cursor": ("\x1b[3;5H\x1b[1;35m\x1b7\x1b[m\x1b[1;1Hx", b"\x1b8here", 0),
    "a saved cursor that waits to wrap": ("0123456789" * 2 + "\x1b7\x1b[3;3Hx", b"\x1b8wrapped", 0),
    "a saved cursor outside of the margins": ("\x1b[4;4H\x1b7\x1b[1;2r\x1b[1;1H", b"\x1b8here", 0),
    "the alternate screen": ("primary\x1b[2;3H\x1b[31m\x1b[?1049h\x1b[Halt", b"\x1b[?1049lback", 0),
    "the alternate screen of old": ("primary\x1b[2;3H\x1b[?47h\x1b[Halt", b"\x1b[?47lback", 0),
    "tab stops": ("\x1b[3g\x1b[5G\x1bH\x1b[1G", b"\tx\ty", 0),
    "the scrollback": ("".join(f"line {n}\r\n" for n in range(50)), b"\x1bM\x1bM\x1bMx", 0),
    "coloured blanks": ("\x1b[44m\x1b[2J\x1b[2;3H\x1b[41mxx\x1b[K\x1b[m\x1b[3X", b"\x1b[2;3H\x1b[2P", 0),
    "a coloured line that wraps at the bottom": ("\r\n" * 5 + "\x1b[42m" + "x" * 25 + "\x1b[m", b"y", 0),
    "changed colours": ("\x1b]4;1;rgb:01/02/03\x07\x1b]11;#102030\x07", b"\x1b]104\x07\x1b[31mx", 0),
    "keyboard protocols": ("\x1b[>1u\x1b[>5u\x1b[>4;2m", b"\x1b[<ux", 0),
    "a mouse": ("\x1b[?1003h\x1b[?1000h\x1b[?1016h\x1b[?1006h", b"\x1b[?1000l", 0),
    "modes": ("\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[?25l\x1b[?45h\x1b[20h\x1b[5 q", b"a\nb", 0),
    "protected characters": ('\x1b[1"qkept\x1b[0"q gone', b"\x1b[?2J", 0),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED_IN_THE_MIDDLE)
def test_it_can_be_joined_in_the_middle_of(name: str) -> None:
    before, after, into = JOINED_IN_THE_MIDDLE[name]
    data = before.encode() + after
    for cut in (len(before.encode()) + into, len(before.encode()), len(data)):
        assert_same_from(data, cut, rows=4, cols=20)


def test_a_fresh_terminal_needs_nothing() -> None:
    assert LocalScreen(rows=24, cols=80).snapshot() == b"\x1b[1;1H\x1b[m"


def test_control_characters_of_a_title_are_left_out() -> None:
    value = LocalScreen(rows=2, cols=20)
    value.feed("\x1b]2;a\u009b31mb\u0007".encode())
    snapshot = value.snapshot() or b""
    assert "\u009b".encode() not in snapshot


def test_it_survives_a_resize() -> None:
    whole, resumed = LocalScreen(rows=24, cols=80), LocalScreen(rows=10, cols=33)
    whole.feed("wrapped text and 漢字 ".encode() * 40 + b"\x1b[5;8r\x1b[3;3Hx")
    whole.resize(rows=10, cols=33)
    resumed.feed(whole.snapshot() or b"")
    assert describe(resumed) == describe(whole)


CONTROLS = [
    "\r\n",
    "\n",
    "\r",
    "\b",
    "\t",
    "\x1bM",
    "\x1bD",
    "\x1bE",
    "\x1bc",
    "\x1b=",
    "\x1b>",
    "\x1bH",
    "\x1b[3g",
]
CHARSETS = ["\x1b(0", "\x1b(B", "\x1b)0", "\x0e", "\x0f"]
STRINGS = ["\x1b]2;t\x1b\\", "\x1b]8;;http://a\x07", "\x1b]8;;\x07", "\x1b]4;5;#112233\x07", "\x1b]104\x07"]
OTHERS = ["\x1b[3g", "\x1b[r", "\x1b[4h", "\x1b[4l", "\x1b[2 q", "\x1b[0 q", "\x1b[>1u", "\x1b[<u"]
PENS = [
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "7",
    "8",
    "9",
    "22",
    "24",
    "27",
    "31",
    "42",
    "97",
    "104",
    "39",
    "49",
    "4:3",
]
COLORS = ["38;5;200", "48;5;17", "38;2;1;2;3", "48;2;4;5;6", "58;5;3", "59", "4:3"]
MODES = [1, 5, 6, 7, 12, 25, 45, 47, 66, 1000, 1002, 1003, 1004, 1006, 1047, 1049, 2004, 2026]
PIECES = st.one_of(
    st.text("abc xyz", min_size=1, max_size=25),
    st.sampled_from(["漢字", "e\u0301", "😀", "é", "│─"]),
    st.sampled_from(CONTROLS + CHARSETS + STRINGS + OTHERS),
    st.builds("\x1b[{};{}H".format, st.integers(0, 12), st.integers(0, 25)),
    st.builds("\x1b[{}{}".format, st.integers(0, 6), st.sampled_from("ABCDGd@PXLMSTJKIZ")),
    st.builds("\x1b[{};{}r".format, st.integers(0, 8), st.integers(0, 10)),
    st.builds("\x1b[?{}{}".format, st.sampled_from(MODES), st.sampled_from("hl")),
    st.builds("\x1b[{};{}m".format, st.sampled_from(PENS), st.sampled_from(PENS + COLORS)),
)


@settings(deadline=None, max_examples=200, derandomize=True)  # the rarest cursors cannot be put back
@given(
    pieces=st.lists(PIECES, max_size=40),
    share=st.floats(0, 1),
    size=st.sampled_from([(24, 80), (6, 20), (10, 33)]),
)
def test_a_stream_can_be_joined_anywhere(pieces: list[str], share: float, size: tuple[int, int]) -> None:
    data = "".join(pieces).encode()
    assert_same_from(data, int(share * len(data)), rows=size[0], cols=size[1])
