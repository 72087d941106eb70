"""A session's records as an asciicast, the format of asciinema (version 2 or 3), line by line.

Offsets, viewers and lost bytes have no place in an asciicast: input comes as typed, a gap as a marker.
"""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Literal

from agentrelay.hq.log.format import End, Gap, Input, Output, Record, Resize


def asciicast(
    records: Iterable[Record], *, version: Literal[2, 3] = 3, title: str | None = None
) -> Iterator[bytes]:
    """Turn the records of a log into an asciicast.

    Args:
        records: as `SessionLog.records` gives them: a RESIZE first, which becomes the size in the header.
        version: of the format. In 3 times are intervals and the exit status is an event.
        title: for the header.

    Yields:
        One line at a time, UTF-8 with its line feed. Nothing is held but an unfinished UTF-8 character.
    """
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    clock: _Clock | None = None
    size: Resize | None = None
    for record in records:
        if clock is None:
            if isinstance(record, Resize):
                size = record
                continue
            clock = _Clock(record.time_us, absolute=version == 2)
            yield _header(size, version, record.time_us, title)
        match record:
            case Output(data=data):
                if text := decode(data):
                    yield clock.event(record, "o", text)
            case Resize(rows=rows, cols=cols):
                yield clock.event(record, "r", f"{cols}x{rows}")
            case Input(data=bytes(data)):
                yield clock.event(record, "i", data.decode(errors="replace"))
            case Gap(offset=offset, end=end):
                if text := decode(b"", True):  # the rest of a character is lost with the gap
                    yield clock.event(record, "o", text)
                yield clock.event(record, "m", f"{end - offset} bytes lost")
            case End(exit_code=exit_code, signal=signal):
                if text := decode(b"", True):
                    yield clock.event(record, "o", text)
                if version == 3:
                    yield clock.event(record, "x", str(_status(exit_code, signal)))
            case _:
                pass  # input that was only counted
    if clock is None:
        yield _header(size, version, size.time_us if size else 0, title)


class _Clock:
    """Gives each event its time in seconds: since the start, or since the event before."""

    def __init__(self, start_us: int, *, absolute: bool) -> None:
        self._start_us = self._last_us = start_us
        self._absolute = absolute

    def event(self, record: Record, code: str, text: str) -> bytes:
        # Never back in time: input is stamped when it comes, output when its first byte came.
        now_us = max(record.time_us, self._last_us)
        elapsed_us = now_us - (self._start_us if self._absolute else self._last_us)
        self._last_us = now_us
        return _line([elapsed_us / 1e6, code, text])


def _header(size: Resize | None, version: int, start_us: int, title: str | None) -> bytes:
    cols, rows = (size.cols, size.rows) if size else (80, 24)
    header: dict[str, object] = {"version": version}
    header |= {"width": cols, "height": rows} if version == 2 else {"term": {"cols": cols, "rows": rows}}
    header["timestamp"] = start_us // 1_000_000
    if title:
        header["title"] = title
    return _line(header)


def _status(exit_code: int | None, signal: int | None) -> int:
    """Give the exit status as a shell does; 255 where it is not known."""
    if signal is not None:
        return 128 + signal
    return 255 if exit_code is None else exit_code


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
