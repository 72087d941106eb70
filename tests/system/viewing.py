"""A viewer as an outsider writes one: the `websockets` library and docs/protocol.md, nothing of ours."""

import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.system.running import ADMIN_TOKEN, System

Payload = dict[str, Any]
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def python(source: str, *arguments: object) -> list[str]:
    """Give a command that runs `source`, fast to start."""
    return [sys.executable, "-ISc", source, *map(str, arguments)]


def stream(seed: object, n_bytes: int) -> bytes:
    """Give `n_bytes` of noise that a program makes from the same seed."""
    return hashlib.shake_256(str(seed).encode()).digest(n_bytes)


def sha(data: bytes | bytearray) -> str:
    """Give the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


class Viewer:
    """One connection. It reads when it is asked to wait for something, and only then.

    Attributes:
        output: every output byte so far, without snapshots.
        start: offset of the first byte of `output`.
        lost_bytes: what HQ said is lost; `output` has no place for it.
        seen: control messages so far.
        closed: the close code, once HQ has closed.
        session_id: known after `session_started` or `attached`, as are `epoch` and `pid`.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.output = bytearray()
        self.start = 0
        self.lost_bytes = 0
        self.seen: list[tuple[str, Payload]] = []
        self.closed: int | None = None
        self.session_id = ""
        self.epoch = ""
        self.pid = 0
        self._taken = 0
        self._snapshot_bytes = 0

    @property
    def offset(self) -> int:
        """Offset of the first byte it does not have."""
        return self.start + len(self.output)

    async def say(self, kind: str, **payload: object) -> None:
        """Send a control message; `from_` stands for `from`."""
        fields = {name.rstrip("_"): value for name, value in payload.items()}
        await self.socket.send(json.dumps({"type": kind, "payload": fields}))

    async def type(self, data: bytes) -> None:
        """Send keyboard input."""
        await self.socket.send(data)

    async def receive(self) -> bool:
        """Take one message; False if HQ has closed."""
        try:
            message = await self.socket.recv()
        except ConnectionClosed as error:
            self.closed = error.rcvd.code if error.rcvd is not None else 1006
            return False
        if isinstance(message, bytes):
            of_snapshot = min(self._snapshot_bytes, len(message))
            self._snapshot_bytes -= of_snapshot
            self.output += message[of_snapshot:]
        else:
            event = json.loads(message)
            self._note(event["type"], event["payload"])
        return True

    def _note(self, kind: str, payload: Payload) -> None:
        self.seen.append((kind, payload))
        if kind in ("attached", "resync"):
            is_log = payload["replay"]["kind"] == "log"
            self._snapshot_bytes = 0 if is_log else payload["replay"]["bytes"]
            offset = payload["offset"] - (payload["replay"]["bytes"] if is_log else 0)
            if offset != self.offset:
                self.output.clear()
                self.start = offset
        elif kind == "gap":
            self.lost_bytes += payload["to"] - payload["from"]
            self.start += payload["to"] - payload["from"]
        self.session_id = payload.get("session_id", self.session_id)
        self.epoch = payload.get("epoch", self.epoch)
        self.pid = payload.get("pid", self.pid)

    async def until(self, what: str, true: Callable[[], bool]) -> None:
        """Receive until something is true."""
        while not true():
            if not await self.receive():
                assert true(), f"closed with {self.closed} before {what}; {self.seen}, {self.output[-500:]!r}"

    async def sees(self, data: bytes) -> None:
        """Receive until `data` is in the output."""
        await self.until(f"{data!r}", lambda: data in self.output)

    async def has(self, n_bytes: int) -> None:
        """Receive until there are so many bytes of output."""
        await self.until(f"{n_bytes} bytes", lambda: len(self.output) >= n_bytes)

    async def hears(self, kind: str) -> Payload:
        """Receive until the next control message of a kind that has not been waited for."""

        def found() -> bool:
            return any(name == kind for name, _ in self.seen[self._taken :])

        await self.until(kind, found)
        index = next(i for i in range(self._taken, len(self.seen)) if self.seen[i][0] == kind)
        self._taken = index + 1
        return self.seen[index][1]

    async def ends(self) -> tuple[int | None, int | None]:
        """Receive until the session ends and HQ closes; gives exit code and signal."""
        ended = await self.hears("session_ended")
        n_bytes = len(self.output)
        assert not await self.receive()
        assert self.closed == 1000
        assert self.lost_bytes == 0
        assert len(self.output) == n_bytes
        return ended["exit_code"], ended["signal"]

    async def is_closed(self) -> int:
        """Receive until HQ closes; gives the close code."""
        while await self.receive():
            pass
        assert self.closed is not None
        return self.closed

    async def echoes(self, word: bytes) -> None:
        """Type a word into a program that echoes, and see it."""
        seen = len(self.output)
        await self.type(word)
        await self.until(f"{word!r}", lambda: word in self.output[seen:])


@asynccontextmanager
async def opened(system: System, path: str, **options: Any) -> AsyncIterator[Viewer]:
    """Open a viewer's socket and say nothing yet."""
    options = {"additional_headers": BEARER, "compression": None, "proxy": None, "max_size": None} | options
    async with connect(system.ws_url + path, **options) as socket:
        yield Viewer(socket)


@asynccontextmanager
async def started(
    system: System,
    command: list[str],
    *,
    runner: str = "r1",
    options: dict[str, Any] | None = None,
    **wish: object,
) -> AsyncIterator[Viewer]:
    """Start a session and attach to it."""
    async with opened(system, f"/ws/terminal/{runner}", **(options or {})) as viewer:
        await viewer.say("start_session", command=command, **wish)
        await viewer.hears("session_started")
        yield viewer


@asynccontextmanager
async def attached(
    system: System, session_id: str, *, options: dict[str, Any] | None = None, **wish: object
) -> AsyncIterator[Viewer]:
    """Attach to a session; `from_` stands for `from`."""
    async with opened(system, f"/ws/session/{session_id}", **(options or {})) as viewer:
        await viewer.say("attach", **wish)
        await viewer.hears("attached")
        yield viewer
