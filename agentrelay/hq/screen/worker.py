"""The renderer's worker: holds the screens, so that what crashes or hangs there leaves HQ alone.

libghostty-vt reads whatever programs write, and ends its process when its tables are full. So it runs in a
process of its own, which knows no token, holds no other descriptor than its socket, and can be started again.
"""

import contextlib
import logging
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from agentrelay.hq.screen.local import LocalScreen
from agentrelay.hq.screen.wire import Op, Request, Status, pack_fed, receive_request, send_answer

logger = logging.getLogger(__name__)

SLICE_S: Final = 0.005
"""How long one screen is fed before another may be: a few bytes can ask for a minute of work."""

STEP_BYTES: Final = 1024
"""How often the time is looked at: 10 us of usual output, and at worst, where each three bytes fill a screen
of 1,000 by 1,000, 0.2 s."""


def feed_slice(screen: LocalScreen, data: bytearray, *, answer: bool) -> tuple[int, list[bytes]]:
    """Feed the beginning of `data`, at least a step of it; gives how much, and the replies."""
    until_s = time.monotonic() + SLICE_S
    replies: list[bytes] = []
    taken_bytes = 0
    with memoryview(data) as view:
        while taken_bytes < len(view):
            piece = view[taken_bytes : taken_bytes + STEP_BYTES]
            replies += screen.feed(piece, answer=answer)
            taken_bytes += len(piece)
            if time.monotonic() >= until_s:
                break
    return taken_bytes, replies


def serve(sock: socket.socket) -> None:
    """Do what is asked until the socket is closed.

    Raises:
        OSError: the socket fails.
    """
    screens: dict[int, LocalScreen] = {}
    while (received := receive_request(sock)) is not None:
        request, data = received
        try:
            status, answer = _answer(screens, request, data)
        except Exception:  # a screen that cannot be decoded: the others go on
            logger.exception("a screen failed")
            screens.pop(request.screen, None)
            status, answer = Status.FAILED, b""
        send_answer(sock, status, answer)


def _answer(screens: dict[int, LocalScreen], request: Request, data: bytearray) -> tuple[Status, bytes]:
    op, number, first, second, scrollback_lines, _ = request
    if op == Op.OPEN:
        screens[number] = LocalScreen(rows=first, cols=second, scrollback_lines=scrollback_lines)
        return Status.OK, b""
    if op == Op.CLOSE:
        if number in screens:
            screens.pop(number).close()
        return Status.OK, b""
    screen = screens[number]
    match op:
        case Op.FEED:
            return Status.OK, pack_fed(*feed_slice(screen, data, answer=bool(first)))
        case Op.RESIZE:
            screen.resize(rows=first, cols=second)
            return Status.OK, b""
        case Op.SNAPSHOT:
            snapshot = screen.snapshot(max_lines=first, max_bytes=second)
            return (Status.NOTHING, b"") if snapshot is None else (Status.OK, snapshot)
        case Op.TEXT:
            return Status.OK, msgspec.json.encode(screen.text(cells=bool(first)))
    raise ValueError(f"unknown request {op}")


def main() -> None:
    """Serve the socket whose descriptor is the only argument."""
    logging.basicConfig(level=logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for HQ, whose end closes the socket
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold what people see on their screens
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # the first to go when memory is short
    with socket.socket(fileno=int(sys.argv[1])) as sock, contextlib.suppress(OSError):
        serve(sock)


if __name__ == "__main__":
    main()
