"""Titles: the last one that a program has set, however it comes."""

import pytest

from agentrelay.hq.titles import EVERY_S, LOOK_BYTES, TITLE_CHARS, Titles
from tests.hq.fakes import Clock, Rig


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def titles(clock: Clock) -> Titles:
    return Titles(clock=clock)


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    ("output", "title"),
    [
        (b"\x1b]0;vim\x07", "vim"),
        (b"\x1b]2;vim\x1b\\", "vim"),
        (b"text\x1b]2;first\x07more\x1b]2;second\x07text", "second"),
        ("\x1b]2;✳ Über\x07".encode(), "✳ Über"),
        (b"\x1b]2;set\x07\x1b]2;\x07", ""),
        (b"\x1b]2;" + b"x" * 1000 + b"\x07", "x" * TITLE_CHARS),
        (b"\x1b]2;\xff\x07", "\ufffd"),
        (b"\x1b]1;an icon\x07", "before"),
        (b"\x1b]52;c;aGk=\x07", "before"),
        (b"\x1b]2;never ended", "before"),
        (b"\x1b]2;broken\x1b[mtext\x07", "before"),
        (b"\x1b]2;too long" + b"x" * 2000 + b"\x07", "before"),
        (b"]2;no escape\x07", "before"),
    ],
)
def test_a_title_is_what_was_set_last(rig: Rig, titles: Titles, output: bytes, title: str) -> None:
    rig.session.retitle("before")
    rig.output(output)
    titles.look_at(rig.session)
    assert rig.session.describe().title == title


def test_a_title_that_comes_in_pieces_is_found(rig: Rig, titles: Titles, clock: Clock) -> None:
    for byte in b"text \x1b]2;in pieces\x1b\\":
        rig.output(bytes([byte]))
        titles.look_at(rig.session)
        clock.advance(EVERY_S)
    assert rig.session.title == "in pieces"


def test_it_is_looked_for_once_a_second_and_told_when_it_changes(
    rig: Rig, titles: Titles, clock: Clock
) -> None:
    told: list[str] = []
    rig.session._changed = lambda session: told.append(session.title)
    for number in range(10):
        rig.output(b"\x1b]2;%d\x07" % (number // 4))
        titles.look_at(rig.session)
        clock.advance(EVERY_S / 4)
    assert told == ["0", "1", "2"]


def test_of_a_flood_only_the_end_is_looked_at(rig: Rig, titles: Titles) -> None:
    rig.output(b"\x1b]2;early\x07" + b"x" * LOOK_BYTES)
    titles.look_at(rig.session)
    assert rig.session.title == ""
    rig.output(b"\x1b]2;late\x07")
    titles._looked.clear()
    titles.look_at(rig.session)
    assert rig.session.title == "late"


def test_a_session_whose_memory_is_gone_keeps_its_title(rig: Rig, titles: Titles) -> None:
    rig.session.retitle("kept")
    rig.session.ring = None
    titles.look_at(rig.session)
    assert rig.session.title == "kept"
