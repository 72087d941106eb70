"""Appearance: the cells of a screen as a program reads them."""

import pytest

from agentrelay.hq.info import CellRun
from agentrelay.hq.screen import Screen
from agentrelay.hq.screen.local import LocalScreen


def row(output: str) -> list[CellRun]:
    screen = LocalScreen(rows=2, cols=20)
    screen.feed(output.encode())
    cells = screen.text(cells=True).cells
    assert cells is not None
    assert cells[1] == []
    return cells[0]


def test_plain_text_is_one_run() -> None:
    assert row("hello you") == [CellRun(text="hello you", cols=9)]


def test_colours_are_of_the_palette_or_mixed() -> None:
    assert row("\x1b[31mred\x1b[94;48;5;200mbright\x1b[0;38;2;1;171;255mmixed") == [
        CellRun(text="red", cols=3, fg=1),
        CellRun(text="bright", cols=6, fg=12, bg=200),
        CellRun(text="mixed", cols=5, fg="#01abff"),
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("1", "bold"),
        ("2", "faint"),
        ("3", "italic"),
        ("4", "underline"),
        ("4:3", "underline"),
        ("5", "blink"),
        ("7", "inverse"),
        ("8", "invisible"),
        ("9", "strikethrough"),
        ("53", "overline"),
    ],
)
def test_attributes_have_names(code: str, name: str) -> None:
    assert row(f"\x1b[{code}mx") == [CellRun(text="x", cols=1, attributes=[name])]


def test_columns_add_up_with_wide_characters_and_gaps() -> None:
    runs = row("漢字\x1b[8Gx\x1b[41m\x1b[K")
    assert sum(run.cols for run in runs) == 20
    assert [(run.text, run.cols, run.bg) for run in runs] == [
        ("漢字", 4, None),
        ("   ", 3, None),
        ("x", 1, None),
        (" " * 12, 12, 1),
    ]


def test_a_link_leads_somewhere() -> None:
    assert row("\x1b]8;;https://example.org/\x07here\x1b]8;;\x07") == [
        CellRun(text="here", cols=4, link="https://example.org/")
    ]


def test_cells_come_from_the_renderer_too() -> None:
    screen = Screen(rows=2, cols=20)
    screen.feed(b"\x1b[1;32mok")
    assert screen.text().cells is None
    assert screen.text(cells=True).cells == [[CellRun(text="ok", cols=2, fg=2, attributes=["bold"])], []]
