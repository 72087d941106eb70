"""What a style looks like, in words and colours for programs that read a screen."""

from functools import lru_cache
from typing import Final

from agentrelay.hq.info import CellRun
from agentrelay.hq.screen.state import Row

_ATTRIBUTES: Final = ("bold", "italic", "faint", "blink", "inverse", "invisible", "strikethrough", "overline")
_UNDERLINE_BITS: Final = 7 << 8

Color = int | str | None


def cell_runs(row: Row) -> list[CellRun]:
    """Give the runs of a row; columns behind the last are empty."""
    return [
        CellRun(
            text=" " * run.cols if run.text is None else run.text,
            cols=run.cols,
            fg=_color(run.style[0:4]),
            bg=_color(run.style[4:8]),
            attributes=list(_attributes(run.style)),
            link=run.link.uri.decode(errors="replace") if run.link is not None else None,
        )
        for run in row.runs
    ]


def _color(color: bytes) -> Color:
    kind, first, second, third = color
    return None if kind == 0 else first if kind == 1 else f"#{first:02x}{second:02x}{third:02x}"


@lru_cache(maxsize=4096)
def _attributes(style: bytes) -> tuple[str, ...]:
    bits = style[12] | style[13] << 8
    found = tuple(name for place, name in enumerate(_ATTRIBUTES) if bits >> place & 1)
    return (*found, "underline") if bits & _UNDERLINE_BITS else found
