"""Decodes the cells of a row: the inner loop of every snapshot.

A cell is a code point, or a word of 4 or 8 bytes. In a word, from bit 0: 2 bits kind and 24 bits content;
then, counted anew, 16 bits style, 2 width, 1 protected, 1 has a link, 2 semantic, 16 link. Rows of 4-byte
words have styles up to 63 and none of the rest.

Most rows have neither wide characters nor bare backgrounds. They are decoded as one large integer, which
takes a few operations for the row instead of a few for each cell.
"""

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from typing import Final

from agentrelay.hq.screen.state import NO_STYLE, Link, Row, Run

_STYLE_BITS: Final = 0xFFFF
_PROTECTED_BIT: Final = 1 << 18
_LOOK_BITS: Final = _STYLE_BITS | _PROTECTED_BIT | 0xFFFF << 22
_SPACER_TAIL, _SPACER_HEAD = 2, 3
_BACKGROUND_KINDS: Final = 2  # and above: 2 palette, 3 RGB
_ATTRIBUTES_AT: Final = 26
_EMPTY_OR_TEXT = re.compile("\0+|[^\0]+")


@dataclass(frozen=True, slots=True)
class Looks:
    """What the numbers in a page's cells stand for; 0 is plain, and no link."""

    styles: dict[int, bytes]
    links: dict[int, Link | None]


def decode_row(
    cols: int, flags: int, count: int, data: bytes, looks: Looks, suffixes: dict[int, str] | None
) -> Row:
    """Decode a row.

    Args:
        cols: of the screen.
        flags: bit 0: the row wraps; bits 4 and 5: how large a cell is, as a power of two.
        count: cells in `data`; those behind are empty.
        data: the cells.
        looks: of the page.
        suffixes: by column, what follows the first code point of characters that have several.
    """
    wraps = bool(flags & 1)
    width_log2 = flags >> 4 & 3
    if width_log2 < 2:
        text = data.decode("latin-1" if width_log2 == 0 else "utf-16-le")
        return Row(list(_pieces(text, NO_STYLE)), wraps and count == cols and text[-1] != "\0")
    cell_bytes = 1 << width_log2
    number = int.from_bytes(data, "little")
    masks = _masks(count, cell_bytes)
    if suffixes is None and not number & masks.special:
        # What is above the content of a cell is cut off its code point; a cell of 8 bytes gives a NUL more.
        text = (number >> 2 & masks.content).to_bytes(len(data), "little").decode("utf-32-le", "replace")
        text = text if cell_bytes == 4 else text[::2]
        return Row(list(_runs(text, data, cell_bytes, looks)), wraps and count == cols and text[-1] != "\0")
    words = array("I" if cell_bytes == 4 else "Q", data)
    runs, reaches_end, is_short = _special_runs(words, looks, suffixes or {})
    return Row(runs, wraps and reaches_end and not is_short and count == cols, wraps and is_short)


@dataclass(frozen=True, slots=True)
class _Masks:
    content: int
    special: int


@lru_cache(maxsize=2048)
def _masks(count: int, cell_bytes: int) -> _Masks:
    """Give the bits of code points, and those that need a closer look: kinds of background, and widths."""
    width = 3 << _ATTRIBUTES_AT + 16 if cell_bytes == 8 else 0

    def repeat(bits: int) -> int:
        return int.from_bytes(bits.to_bytes(cell_bytes, "little") * count, "little")

    return _Masks(repeat(0x1FFFFF), repeat(_BACKGROUND_KINDS | width))


def _pieces(text: str, style: bytes, link: Link | None = None, *, protected: bool = False) -> Iterator[Run]:
    """Give runs of a style, apart where cells are empty."""
    if "\0" not in text:
        if text:
            yield Run(style, text, len(text), link, protected)
        return
    for piece in _EMPTY_OR_TEXT.findall(text):
        if piece[0] == "\0":
            yield Run(style, None, len(piece))
        else:
            yield Run(style, piece, len(piece), link, protected)


def _runs(text: str, data: bytes, cell_bytes: int, looks: Looks) -> Iterator[Run]:
    # The style of a small cell is in the upper 6 bits of its last byte.
    attributes = data[3::4] if cell_bytes == 4 else [word >> _ATTRIBUTES_AT for word in array("Q", data)]
    at = 0
    for attribute, group in groupby(attributes):
        end = at + len(list(group))
        if cell_bytes == 4:
            yield from _pieces(text[at:end], looks.styles.get(attribute >> 2, NO_STYLE))
        else:
            style = looks.styles.get(attribute & _STYLE_BITS, NO_STYLE)
            protected = bool(attribute & _PROTECTED_BIT)
            yield from _pieces(text[at:end], style, looks.links.get(attribute >> 22), protected=protected)
        at = end


def _special_runs(
    words: "array[int]", looks: Looks, suffixes: dict[int, str]
) -> tuple[list[Run], bool, bool]:
    """Give the runs of a row, whether it reaches its last column, and whether it left that for a wide one."""
    starts: list[int] = []
    found: list[int] = []
    chars: list[str] = []  # "" for empty cells and for the right halves of wide characters
    look: int | None = None
    has_cells = bool(suffixes)
    is_short = False
    for col, word in enumerate(words):
        content = word >> 2 & 0xFFFFFF
        attributes = word >> _ATTRIBUTES_AT
        if attributes > _STYLE_BITS:
            width = attributes >> 16 & 3
            if width == _SPACER_TAIL:
                # Printed anew a letter is narrow; it is wide where a character set mapped a wide one to it.
                chars.append(" " if chars and chars[-1].isascii() else "")
                has_cells = True
                continue
            if width == _SPACER_HEAD:
                is_short = look is not None and look >= 0  # else there is nothing to wrap behind
                break
            attributes &= _LOOK_BITS
        # Empty cells differ from text in the sign bit, so that they become runs of their own.
        if word & 3 >= _BACKGROUND_KINDS:
            attributes = ~(1 << 48 | (word & 3) << 24 | content)
            chars.append("")
        elif content == 0:
            attributes = ~attributes
            chars.append("")
        else:
            chars.append(chr(content))
        if attributes != look:
            look = attributes
            found.append(look)
            starts.append(col)
    for col, suffix in suffixes.items():
        if col < len(chars):
            chars[col] += suffix
    starts.append(len(chars))
    runs = [
        _run(look, chars[start:end], looks, has_cells=has_cells)
        for look, (start, end) in zip(found, pairwise(starts), strict=True)
    ]
    return runs, look is not None and look >= 0, is_short


def _run(look: int, cells: list[str], looks: Looks, *, has_cells: bool) -> Run:
    cols = len(cells)
    if look >= 0:
        style = looks.styles.get(look & _STYLE_BITS, NO_STYLE)
        link, protected = looks.links.get(look >> 22), bool(look & _PROTECTED_BIT)
        return Run(style, "".join(cells), cols, link, protected, cells if has_cells else None)
    look = ~look
    if not look >> 48:
        return Run(looks.styles.get(look & _STYLE_BITS, NO_STYLE), None, cols)
    if look >> 24 & 3 == _BACKGROUND_KINDS:
        return Run(bytes([0, 0, 0, 0, 1, look & 0xFF, 0, 0]) + bytes(8), None, cols)
    red, green, blue = look & 0xFF, look >> 8 & 0xFF, look >> 16 & 0xFF
    return Run(bytes([0, 0, 0, 0, 2, red, green, blue]) + bytes(8), None, cols)
