"""Rendering: the screen of a session that is older than what is rendered of it."""

import pytest

from agentrelay.hq import rendering
from agentrelay.hq.log.keyframe import Keyframe
from tests.hq.fakes import Rig

PIECE = 500
LINE = b"what? a line of text\r\n"
PASTE_MODE = b"\x1b[?2004"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "FROM_BYTES", PIECE)
    monkeypatch.setattr(rendering, "REACH_BYTES", PIECE)
    monkeypatch.setattr(rendering, "CHUNK_BYTES", PIECE)
    monkeypatch.setattr(rendering, "MODES_S", 60.0)


async def snapshot_of(*output: bytes) -> bytes:
    rig = Rig()
    for piece in output:
        rig.output(piece)
    rig.recorder.write()
    snapshot = await rendering.snapshot(rig.session)
    assert snapshot is not None
    assert snapshot.offset == rig.session.head
    return snapshot.data


def lines(n_bytes: int) -> bytes:
    return (LINE * (n_bytes // len(LINE) + 1))[:n_bytes]


async def test_a_mode_that_was_set_when_the_session_began_is_still_set() -> None:
    assert PASTE_MODE + b"h" in await snapshot_of(PASTE_MODE + b"h", lines(20 * PIECE))


async def test_the_last_change_of_a_mode_counts() -> None:
    for first, then in (b"hl", b"lh"):
        changes = [PASTE_MODE + bytes([change]) for change in (first, then)]
        shown = await snapshot_of(changes[0], lines(5 * PIECE), changes[1], lines(5 * PIECE))
        assert (PASTE_MODE + b"h" in shown) == (then == ord("h"))


async def test_a_change_may_lie_across_what_is_read_at_once() -> None:
    change = b"\x1b[?1004;2004h"
    for shift in range(len(change) + 1):
        shown = await snapshot_of(lines(2 * PIECE - shift), change, lines(3 * PIECE + shift - len(change)))
        assert PASTE_MODE + b"h" in shown, shift


async def test_what_was_set_at_the_beginning_counts_also_when_there_is_no_time_for_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "MODES_S", 0.0)
    shown = await snapshot_of(
        PASTE_MODE + b"h",
        lines(5 * PIECE),
        b"\x1b[?1004h",
        lines(20 * PIECE),
        b"\x1b[?1003h",
        lines(2 * PIECE),
    )
    assert PASTE_MODE + b"h" in shown
    assert b"\x1b[?1004h" not in shown, "or nothing was left out"


async def test_sizes_that_are_over_are_not_gone_through_again() -> None:
    rig = Rig()
    rig.session.resize(rows=24, cols=40)
    rig.output(b"\x1b[?1049h")
    rig.session.resize(rows=24, cols=80)
    rig.output(b"\x1b[1;60Hfar right")
    assert "far right" in (await rendering.describe(rig.session)).text[0]
    rig.output(b"\x1b[5;1H")
    assert "far right" in (await rendering.describe(rig.session)).text[0]


SET_UP = (
    b"\x1b]2;an agent\x07"
    b"\x1b[?1049h\x1b[?25l\x1b[2;20r\x1b[3g\x1b[1;5H\x1bH"  # title, screen, no cursor, margins, one tab stop
    b"\x1b[1;1H\x1b[44;97mheader\x1b[0m\x1b[24;1H\x1b(0lqqk\x1b(B \xe4\xbd\xa0\xe5\xa5\xbd"
)
"""What a full-screen program does when it begins, and never again."""


def forget(rig: Rig) -> None:
    """Make the next rendering begin anew, as long after the last one."""
    rendering._renderings.pop(rig.session, None)


async def whole_screen(rig: Rig) -> bytes | None:
    """Give the snapshot that all output there was leads to."""
    screen = rendering._new_screen(rig.session.rows, rig.session.cols)
    _, output = await rig.recorder.read(0, 1 << 30)
    screen.feed(output)
    return screen.snapshot()


async def test_a_screen_that_was_drawn_long_ago_is_whole_after_a_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "REACH_BYTES", 8 * PIECE)
    rig = Rig()
    rig.output(SET_UP)
    for number in range(20):
        rig.output(b"\x1b[10;10H%06d\t." % number + b"\x1b[11;1H\x1b[2Kstatus" * 20)
        rig.recorder.write()
        await rendering.keep_keyframe(rig.session)
        assert rig.session not in rendering._renderings, "it would be kept in memory"
    rig.output(b"\x1b[20;1H\nscrolled\tbetween the margins")
    rig.recorder.write()
    assert rig.session.head > 10 * PIECE

    shown = await rendering.snapshot(rig.session)
    assert shown is not None
    assert shown.data == await whole_screen(rig)
    assert (await rendering.describe(rig.session)).title == "an agent"


async def test_a_screen_that_is_near_the_first_byte_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "REACH_BYTES", 8 * PIECE)
    rig = Rig()
    rig.output(SET_UP + b"\x1b[10;10Hstep" * (7 * PIECE // 12))
    rig.recorder.write()
    shown = await rendering.snapshot(rig.session)
    assert shown is not None
    assert shown.data == await whole_screen(rig)


async def test_the_first_keyframe_is_whole_and_one_after_a_burst_too() -> None:
    rig = Rig()
    rig.output(SET_UP)
    for n_bytes in (3 * PIECE, 100 * PIECE):
        rig.output(b"\x1b[10;10Hstep" * (n_bytes // 12))
        rig.recorder.write()
        await rendering.keep_keyframe(rig.session)
        shown = await rendering.snapshot(rig.session)
        assert shown is not None
        assert shown.data == await whole_screen(rig)
        forget(rig)


async def test_how_a_flood_set_up_its_terminal_is_kept_once() -> None:
    rig = Rig()
    rig.output(SET_UP + b"\x1b[2;1H")
    beginning = rig.session.head
    rig.output(lines(40 * PIECE))
    rig.recorder.write()
    await rendering.keep_keyframe(rig.session, beginning)
    assert rig.recorder.kept is not None
    assert rig.recorder.kept.offset == beginning
    shown = await rendering.describe(rig.session)
    screen = rendering._new_screen(24, 80)
    screen.feed((await rig.recorder.read(0, 1 << 30))[1])
    whole = screen.text()
    assert (shown.text, shown.title, shown.alternate) == (whole.text, "an agent", True)
    assert (shown.cursor.row, shown.cursor.col, shown.cursor.visible) == (
        whole.cursor_row,
        whole.cursor_col,
        False,
    )

    kept = rig.recorder.kept
    assert await rendering.keep_keyframe(rig.session, beginning)
    assert rig.recorder.kept is kept, "it may be a later one"


async def test_a_screen_that_a_keyframe_has_overtaken_begins_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.output(b"\x1b]2;old\x07")
    rig.recorder.write()
    await rendering.snapshot(rig.session)
    rendering_of_it = rendering._renderings[rig.session]
    rig.output(lines(20 * PIECE))
    rig.recorder.write()
    rig.recorder.kept = Keyframe(rig.session.head, 24, 80, b"\x1b]2;from the keyframe\x07")
    assert (await rendering.describe(rig.session)).title == "from the keyframe"
    assert rendering._renderings[rig.session] is rendering_of_it


async def test_without_a_keyframe_or_far_behind_one_a_screen_is_made_of_what_came_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "REACH_BYTES", 8 * PIECE)
    rig = Rig()
    rig.output(SET_UP)
    rig.recorder.write()
    await rendering.keep_keyframe(rig.session)
    rig.output(lines(9 * PIECE))
    rig.recorder.write()
    far = await rendering.describe(rig.session)
    assert far.title == "an agent", "that still holds"
    assert rig.recorder.kept is not None
    rig.recorder.base = rig.recorder.kept.offset + 1
    forget(rig)
    assert (await rendering.describe(rig.session)).title == "an agent", "also when what followed is gone"
    rig.recorder.kept = None
    forget(rig)
    assert (await rendering.describe(rig.session)).title == ""


async def test_a_keyframe_has_the_size_it_was_made_at() -> None:
    rig = Rig()
    rig.session.resize(rows=24, cols=40)
    rig.output(b"\x1b[?1049h\x1b[1;1Hnarrow")
    rig.session.resize(rows=30, cols=100)
    rig.output(b"\x1b[30;90Hwide" + lines(3 * PIECE)[: 2 * PIECE].replace(b"\n", b" "))
    rig.output(b"\x1b[2J\x1b[30;90Hwide")
    rig.recorder.write()
    await rendering.keep_keyframe(rig.session)
    assert rig.recorder.kept is not None
    assert (rig.recorder.kept.rows, rig.recorder.kept.cols) == (30, 100)
    rig.output(b"\x1b[1;90H!")
    rig.recorder.write()
    shown = await rendering.describe(rig.session)
    assert (shown.rows, shown.cols) == (30, 100)
    assert "wide" in shown.text[29]
    assert "!" in shown.text[0]


async def test_sizes_that_an_earlier_hq_recorded_count_after_a_keyframe() -> None:
    rig = Rig()
    rig.output(b"\x1b[?1049h" + b"narrow " * 100)
    rig.recorder.write()
    await rendering.keep_keyframe(rig.session)
    changed_at = rig.session.head
    rig.output(b"\x1b[2J\x1b[30;90Hwide")
    rig.recorder.write()
    # As after a restart: only the log knows where the size changed.
    rig.session.rows, rig.session.cols = 30, 100
    rig.session.sizes.append((rig.session.head, 30, 100))
    rig.recorder.earlier_sizes.append((changed_at, 30, 100))
    shown = await rendering.describe(rig.session)
    assert (shown.rows, shown.cols) == (30, 100)
    assert shown.text[29].endswith("wide")


async def test_a_screen_somebody_looks_at_is_kept_in_memory() -> None:
    rig = Rig()
    rig.output(lines(PIECE))
    rig.recorder.write()
    await rendering.snapshot(rig.session)
    await rendering.keep_keyframe(rig.session)
    assert rig.session in rendering._renderings


async def test_there_is_no_keyframe_in_the_middle_of_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "FROM_BYTES", 4 << 20)
    rig = Rig()
    rig.output(b"\x1bPq" + b"x" * 1_100_000)
    rig.recorder.write()
    assert await rendering.keep_keyframe(rig.session)
    assert rig.recorder.kept is None


async def test_what_takes_too_long_to_render_has_no_keyframe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "PATIENCE_S", 0.0)
    rig = Rig()
    rig.output(b"\x1b[2000b" * 20_000)
    rig.recorder.write()
    assert not await rendering.keep_keyframe(rig.session)
    assert rig.recorder.kept is None
