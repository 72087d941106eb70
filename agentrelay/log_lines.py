"""Log lines: what a process says of itself on standard error, one line for each thing.

Much of it quotes what others sent: a runner's words, a path, a reason for closing. Whoever reads the log has
to be able to trust that a line is HQ's or the runner's own, so no control character of theirs gets through.
"""

import logging
import sys

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
"""C0 and C1: line breaks, and what begins a terminal's escape sequences."""


class OneLine(logging.Formatter):
    """Formats a record as one line, whatever its arguments are; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Give the line with control characters as `\\x1b`."""
        return super().formatMessage(record).translate(_CONTROL)


def start_logging(line_format: str) -> None:
    """Write log lines from INFO on to standard error, in a format as of `logging.Formatter`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(line_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
