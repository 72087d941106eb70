"""The renderer: the process that holds all screens of this HQ, as seen from here."""

import atexit
import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from typing import Final

from agentrelay.hq.screen.wire import Op, Request, Status, receive_answer, send_request

logger = logging.getLogger(__name__)

ANSWER_S: Final = 20.0
"""A worker that takes longer for 1 MiB of output, or for a snapshot, hangs."""

# No secrets: the worker reads what programs write.
_ENVIRONMENT: Final = (
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "PATH",
    "PYGHOSTTY_LIB",
    "PYTHONHOME",
    "PYTHONPATH",
)


class RendererLost(Exception):
    """The worker that held the screen is gone.

    Attributes:
        to_blame: whether it went while it worked for this screen.
    """

    def __init__(self, message: str, *, to_blame: bool) -> None:
        super().__init__(message)
        self.to_blame = to_blame


class Renderer:
    """Starts the worker when it is needed, and again when it has ended. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._generation = 0
        self._last_number = 0
        # Not freed at once: garbage may be collected anywhere, also where the lock is held.
        self._abandoned: deque[tuple[int, int]] = deque()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, if there is one."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the worker if there is none, without waiting the half second that it takes to be ready."""
        if self._lock.acquire(blocking=False):  # else somebody is using it
            try:
                self._start()
            except RendererLost as error:  # who needs it will be told
                logger.warning("%s", error)
            finally:
                self._lock.release()

    def open(self, *, rows: int, cols: int, scrollback_lines: int) -> tuple[int, int]:
        """Open a screen.

        Returns:
            Which worker holds it, and its number there.

        Raises:
            RendererLost: the worker cannot be started.
        """
        with self._lock:
            self._start()
            self._last_number += 1
            number = self._last_number
            request = Request(Op.OPEN, number, rows, cols, scrollback_lines, 0)
            self._ask(request, b"")
            return self._generation, number

    def ask(
        self, generation: int, op: Op, number: int, first: int = 0, second: int = 0, *,
        data: bytes | bytearray | memoryview = b"",
    ) -> bytearray | None:  # fmt: skip
        """Have something done for a screen.

        Args:
            generation: which worker holds the screen.
            op: what.
            number: of the screen.
            first: see `Op`.
            second: see `Op`.
            data: likewise; only read during the call.

        Returns:
            What it gave; None if there is nothing at this moment.

        Raises:
            RendererLost: the screen is gone.
        """
        with self._lock:
            if generation != self._generation or self._socket is None:
                raise RendererLost("the renderer has been started again", to_blame=False)
            while self._abandoned:
                of_generation, abandoned = self._abandoned.popleft()
                if of_generation == self._generation:
                    self._ask(Request(Op.CLOSE, abandoned, 0, 0, 0, 0), b"")
            return self._ask(Request(op, number, first, second, 0, len(data)), data)

    def abandon(self, generation: int, number: int) -> None:
        """Free a screen with the next request; may be called from anywhere."""
        self._abandoned.append((generation, number))

    def close(self) -> None:
        """End the worker. It is started again by the next screen."""
        with self._lock:
            self._bury()

    def _ask(self, request: Request, data: bytes | bytearray | memoryview) -> bytearray | None:
        if self._socket is None:
            raise RendererLost("the renderer is not running", to_blame=False)
        if self._process is not None and self._process.poll() is not None:
            logger.error("the renderer ended while it had nothing to do")
            self._bury()
            raise RendererLost("the renderer ended", to_blame=False)
        try:
            send_request(self._socket, request, data)
            status, answer = receive_answer(self._socket)
        except (OSError, EOFError, ValueError) as error:
            reason = "does not answer" if isinstance(error, TimeoutError) else "ended"
            logger.error("the renderer %s while it worked for screen %d", reason, request.screen)  # noqa: TRY400
            self._bury()
            raise RendererLost(f"the renderer {reason}", to_blame=True) from error
        if status == Status.FAILED:
            raise RendererLost("the screen cannot be rendered", to_blame=True)
        return answer if status == Status.OK else None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._bury()
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, nothing of anybody else
                    [sys.executable, "-m", "agentrelay.hq.screen.worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise RendererLost(
                    f"the renderer cannot be started: {error.strerror}", to_blame=False
                ) from error
        ours.settimeout(ANSWER_S)
        self._socket = ours
        self._generation += 1
        atexit.register(self.close)

    def _bury(self) -> None:
        atexit.unregister(self.close)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
            self._process = None


RENDERER: Final = Renderer()
"""The renderer of this process."""
