"""Rendering: the screen of a session that is older than what is rendered of it."""

import pytest

from agentrelay.hq import rendering
from tests.hq.fakes import Rig

PIECE = 500
LINE = b"what? a line of text\r\n"
PASTE_MODE = b"\x1b[?2004"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "FROM_BYTES", PIECE)
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
