"""What a screen shows, and that next to nothing a program writes can harm it."""

import gc
import random
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrelay.hq.screen.decode import decode
from agentrelay.hq.screen.ghostty import MAX_CONTINUATION_BYTES
from agentrelay.hq.screen.local import LocalScreen

CORPORA = sorted((Path(__file__).parents[2] / "bench" / "corpora").glob("*.bin"))


def screen_of(*pieces: str, rows: int = 4, cols: int = 20) -> LocalScreen:
    screen = LocalScreen(rows=rows, cols=cols)
    for piece in pieces:
        screen.feed(piece.encode())
    return screen


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_the_corpora_are_there() -> None:
    assert len(CORPORA) > 10


def test_text_is_what_the_rows_show() -> None:
    shown = screen_of("one\r\n\r\n  漢字 e\u0301 \x1b[31mred\x1b[0m  \r\nlast").text()
    assert shown.text == ["one", "", "  漢字 e\u0301 red", "last"]
    assert (shown.rows, shown.cols) == (4, 20)
    assert (shown.cursor_row, shown.cursor_col, shown.cursor_visible) == (3, 4, True)
    assert (shown.alternate, shown.title) == (False, "")


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_what_is_visible_is_the_end_of_everything(corpus: Path) -> None:
    for rows in (1, 24, 600):
        screen = LocalScreen(rows=rows, cols=80)
        screen.feed(corpus.read_bytes() * 2)
        visible, everything = screen.state(visible_only=True), screen.state()
        assert visible is not None
        assert everything is not None
        assert visible.active.rows == everything.active.rows[-rows:]


def test_text_of_the_alternate_screen() -> None:
    screen = screen_of("behind", "\x1b[?1049h\x1b[?25l\x1b[2;3Hfront\x1b]2;the title\x07")
    shown = screen.text()
    assert shown.text == ["", "  front", "", ""]
    assert (shown.alternate, shown.cursor_visible, shown.title) == (True, False, "the title")
    screen.feed(b"\x1b[?1049l")
    assert screen.text().text == ["behind", "", "", ""]


def test_a_long_line_is_wrapped_and_wrapped_anew() -> None:
    screen = screen_of("0123456789" * 3)
    assert screen.text().text == ["01234567890123456789", "0123456789", "", ""]
    screen.resize(rows=2, cols=30)
    assert screen.text().text == ["0123456789" * 3, ""]


@pytest.mark.parametrize("cut", range(1, 30))
def test_output_may_be_cut_anywhere(cut: int) -> None:
    data = "a\x1b[1;31mé漢\x1b[0m\x1b]2;ti\x07\x1b[3Gx\x1b[2;2Hy".encode()
    screen = LocalScreen(rows=4, cols=20)
    screen.feed(data[:cut])
    screen.feed(data[cut:])
    shown = screen.text()
    assert shown.text == ["aéx", " y", "", ""]
    assert shown.title == "ti"


def test_a_memoryview_is_fed_without_a_copy_and_let_go() -> None:
    data = bytearray(b"hello")
    screen = LocalScreen(rows=2, cols=10)
    with memoryview(data) as view:
        screen.feed(view)
    data += b" "  # would raise if the view were still held
    assert screen.text().text == ["hello", ""]


def test_a_sequence_without_end_can_not_be_part_of_a_snapshot() -> None:
    screen = screen_of("shown")
    screen.feed(b"\x1b]1337;File=:" + b"A" * (MAX_CONTINUATION_BYTES + 1))
    assert screen.snapshot() is None
    assert screen.text().text == ["", "", "", ""]
    screen.feed(b"\x07")
    assert screen.snapshot() is not None
    assert screen.text().text[0] == "shown"


def test_text_is_that_of_the_last_time_inside_an_endless_sequence() -> None:
    screen = screen_of("shown")
    screen.text()
    screen.feed(b"\x1bP" + b"A" * (MAX_CONTINUATION_BYTES + 1))
    assert screen.text().text[0] == "shown"


def test_at_least_the_scrollback_that_was_asked_for_is_kept() -> None:
    for cols in (20, 80):
        screen = LocalScreen(rows=5, cols=cols, scrollback_lines=300)
        for n in range(3000):
            screen.feed(b"line %d\r\n" % n)
            if n > 310 and n % 97 == 0:
                snapshot = screen.snapshot()
                assert snapshot is not None
                assert b"line %d\r\n" % (n - 300) in snapshot


def test_a_snapshot_is_bounded_in_lines_and_bytes() -> None:
    screen = LocalScreen(rows=5, cols=80)
    for n in range(2000):
        screen.feed(b"line %d\r\n" % n)
    lines = (screen.snapshot(max_lines=10) or b"").split(b"\r\n")
    assert lines[0] == b"line 1986"
    small = screen.snapshot(max_bytes=200) or b""
    assert 100 < len(small) < 300
    assert b"\r\nline 1999\r\n" in small
    none = screen.snapshot(max_lines=0) or b""
    assert none.split(b"\r\n")[0] == b"line 1996"


def test_it_is_freed_with_its_last_reference() -> None:
    screen = screen_of("x")
    freed = weakref.ref(screen._terminal)
    gc.disable()
    try:
        del screen
        assert freed() is None
    finally:
        gc.enable()


def test_it_can_be_closed() -> None:
    screen = screen_of("x")
    screen.close()
    screen.close()
    with pytest.raises(ValueError, match="closed"):
        screen.feed(b"x")
    with pytest.raises(ValueError, match="closed"):
        screen.snapshot()


@pytest.mark.parametrize(("rows", "cols"), [(0, 80), (24, 0), (-1, 80), (1001, 80), (24, 1001)])
def test_sizes_out_of_range_are_refused(rows: int, cols: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        LocalScreen(rows=rows, cols=cols)
    screen = screen_of("shown")
    with pytest.raises(ValueError, match="1 to 1000"):
        screen.resize(rows=rows, cols=cols)
    assert screen.text().text == ["shown", "", "", ""]


@pytest.mark.parametrize("size", [(1, 1), (1000, 1), (1, 1000), (1000, 1000)])
def test_the_extreme_sizes_work(size: tuple[int, int]) -> None:
    screen = LocalScreen(rows=size[0], cols=size[1])
    screen.feed("a\u6f22\x1b[999;999Hb".encode())
    assert len(screen.text().text) == size[0]
    assert screen.snapshot() is not None


def test_threads_take_turns() -> None:
    screen = LocalScreen(rows=24, cols=80)
    data = CORPORA[0].read_bytes()[:50_000]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(screen.feed, data) for _ in range(20)] + [
            pool.submit(screen.snapshot) for _ in range(20)
        ]
        assert [call.exception() for call in calls] == [None] * 40


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="not a terminal snapshot"):
        decode(b"GHOSTSNP\x02\x00rest")


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 40), st.integers(1, 40))
def test_arbitrary_bytes_do_no_harm(pieces: list[bytes], rows: int, cols: int) -> None:
    screen = LocalScreen(rows=rows, cols=cols)
    for piece in pieces:
        screen.feed(piece, answer=True)
    assert len(screen.text().text) == rows
    assert screen.snapshot() is not None


@pytest.mark.parametrize("seed", range(4))
def test_damaged_recordings_do_no_harm(seed: int) -> None:
    """About a megabyte each: recordings with bytes changed, repeated and left out, and with other sizes."""
    pick = random.Random(seed)
    screen = LocalScreen(rows=24, cols=80)
    for _ in range(30):
        data = bytearray(pick.choice(CORPORA).read_bytes())
        for _ in range(pick.randrange(200)):
            at = pick.randrange(len(data))
            match pick.randrange(3):
                case 0:
                    data[at] = pick.randrange(256)
                case 1:
                    del data[at : at + pick.randrange(20)]
                case _:
                    data[at:at] = data[at : at + 30] * pick.randrange(5)
        screen.feed(data[:40_000], answer=pick.random() < 0.5)
        if pick.random() < 0.3:
            screen.resize(rows=pick.randrange(1, 60), cols=pick.randrange(1, 200))
        screen.snapshot()
        screen.text()


def test_memory_does_not_grow_with_what_is_fed() -> None:
    """Scrollback, titles, links, pictures, colours and marks: none of them may pile up."""
    screen = LocalScreen(rows=24, cols=80)

    def feed() -> None:
        for n in range(2000):
            screen.feed(b"\x1b[38;2;%d;%d;1mline %d " % (n % 256, n // 256, n) + b"x" * 200 + b"\r\n")
            screen.feed(b"\x1b]8;;https://example.org/%d\x07link\x1b]8;;\x07" % n)
            screen.feed(b"e" + "\u0301".encode() * 50)
        for n in range(50):
            screen.feed(b"\x1b]2;" + b"title" * 10_000 + b"\x07")
            screen.feed(b"\x1b_Gf=24,s=100,v=100,i=%d;" % n + b"AAAA" * 10_000 + b"\x1b\\")
            screen.feed(b"\x1b]52;c;" + b"QUFB" * 10_000 + b"\x07")
        screen.snapshot()

    feed()
    feed()
    before = resident_kib()
    for _ in range(4):
        feed()
    assert resident_kib() - before < 8 * 1024
