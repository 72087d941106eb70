"""How records are laid into blocks: bytes to write for records to append, no I/O."""

from collections.abc import Iterable
from typing import Final

from agentrelay.hq.log.format import (
    BLOCK_BYTES,
    RECORD_HEADER_BYTES,
    Kind,
    Mark,
    encode_record,
    encode_record_header,
)

LEAST_OUTPUT_BYTES: Final = 512
"""Output is not split for less than this at the end of a block; what is left there is filled with zeros."""


class Layout:
    """The bytes that append records to a segment, and where the segment stands after them.

    Attributes:
        parts: to be written in this order. Output is not copied.
        position: length of the segment with them.
        offset: where the log stands with them.
        output_bytes: output recorded in the whole log with them.
        block_offsets: where the log stands at the beginning of each block that they begin.
    """

    __slots__ = ("_cols", "_rows", "block_offsets", "offset", "output_bytes", "parts", "position")

    def __init__(self, position: int, *, offset: int, output_bytes: int, rows: int, cols: int) -> None:
        """Go on at `position` of a segment, with the log at `offset` and the PTY of this size."""
        self.parts: list[bytes | memoryview] = []
        self.position = position
        self.offset = offset
        self.output_bytes = output_bytes
        self.block_offsets: list[int] = []
        self._rows, self._cols = rows, cols

    def add_output(
        self, data: bytes | memoryview, time_us: int, arrivals: Iterable[tuple[int, int]] = ()
    ) -> None:
        """Lay out output, in as many records as times and blocks ask for.

        Args:
            data: the output; must stay until it is written.
            time_us: when it arrived.
            arrivals: from which offset on it arrived later, and when, in order.
        """
        data = memoryview(data)
        first = self.offset
        for start, later_us in arrivals:
            done = self.offset - first
            if self.offset < start < first + len(data):
                self._add_run(data[done : start - first], time_us)
            if start <= self.offset:
                time_us = later_us
        self._add_run(data[self.offset - first :], time_us)

    def _add_run(self, data: memoryview, time_us: int) -> None:
        while data:
            room = self._room(RECORD_HEADER_BYTES + min(len(data), LEAST_OUTPUT_BYTES), time_us)
            piece = data[: room - RECORD_HEADER_BYTES]
            self._add(encode_record_header(Kind.OUTPUT, self.offset, time_us, piece), piece)
            self.offset += len(piece)
            self.output_bytes += len(piece)
            data = data[len(piece) :]

    def add_record(self, record: bytes, *, offset: int, time_us: int) -> None:
        """Lay out an encoded record, after which the log stands at `offset`."""
        self._room(len(record), time_us)
        self._add(record)
        self.offset = offset

    def _room(self, wanted_bytes: int, time_us: int) -> int:
        """Begin a block if this one has less room; give the room there is."""
        room = BLOCK_BYTES - self.position % BLOCK_BYTES
        if room < wanted_bytes:
            self._add(bytes(room))
            room = BLOCK_BYTES
        if room == BLOCK_BYTES:  # never at 0: there is the segment's header
            self.block_offsets.append(self.offset)
            self._add(encode_record(Mark(self.offset, time_us, self.output_bytes, self._rows, self._cols)))
            room = BLOCK_BYTES - self.position % BLOCK_BYTES
        return room

    def _add(self, *parts: bytes | memoryview) -> None:
        self.parts.extend(parts)
        self.position += sum(len(part) for part in parts)
