"""What happens at HQ, as server-sent events that a browser can resume.

The hub keeps the last `KEPT_EVENTS` events as ready-made bytes, up to `KEPT_BYTES`. A subscriber is nothing
but a cursor into them, so a slow one costs no memory: when what it has not read is gone, it is given a
snapshot of the present instead.

Wire format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Ids are `<boot>-<n>`; an id of
another boot, or too old, is answered with a snapshot.
"""

import asyncio
import re
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import islice
from typing import Literal

import msgspec

EventKind = Literal["runner", "runner_removed", "session", "session_removed"]

KEPT_EVENTS = 1_000
KEPT_BYTES = 8 * 1024 * 1024
"""An event is some 600 bytes; this is for sessions with very long commands."""

KEEP_ALIVE_S = 15.0
"""Proxies cut a connection that is silent for 30 to 60 s."""

_KEEP_ALIVE = b": keep-alive\n\n"
_MAX_CHUNK_EVENTS = 100
_EVENT_ID = re.compile(r"([0-9a-f]{8})-([0-9]{1,18})", re.ASCII)


class EventHub:
    """Publishes events to any number of subscribers, from the event loop's thread only.

    Args:
        keep_alive_s: after this much silence a subscriber is sent a comment.
    """

    def __init__(self, *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._keep_alive_s = keep_alive_s
        self._boot = secrets.token_hex(4)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._published = 0
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def subscribers(self) -> int:
        """How many subscribers are waiting for something to happen."""
        return len(self._waiting)

    def publish(self, kind: EventKind, data: msgspec.Struct | Mapping[str, object]) -> None:
        """Tell every subscriber. Encodes once, waits for nobody."""
        self._published += 1
        event = self._event(self._published, kind, msgspec.json.encode(data))
        self._kept.append(event)
        self._kept_bytes += len(event)
        while len(self._kept) > KEPT_EVENTS or self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft())
        self._wake()

    def close(self) -> None:
        """End every subscription, so that the server can shut down."""
        self._closed = True
        self._wake()

    async def subscribe(
        self, snapshot: Callable[[], Awaitable[bytes]], last_event_id: str | None = None
    ) -> AsyncIterator[bytes]:
        """Give the event stream as chunks of whole events, until the hub is closed.

        Args:
            snapshot: gives everything a fresh subscriber has to know, as JSON. It may take several turns of
                the loop: what happens meanwhile is told behind it.
            last_event_id: as the browser sent it; the stream goes on behind it where that is still possible,
                else it begins with a `snapshot`.
        """
        cursor = self._resume(last_event_id)
        while not self._closed:
            oldest = self._published - len(self._kept)
            if cursor is None or cursor < oldest:
                cursor = self._published
                yield self._event(cursor, "snapshot", await snapshot())
            elif cursor < self._published:
                first = cursor - oldest
                chunk = list(islice(self._kept, first, first + _MAX_CHUNK_EVENTS))
                cursor += len(chunk)
                yield b"".join(chunk)
            elif not await self._wait():
                yield _KEEP_ALIVE

    def _event(self, number: int, kind: str, data: bytes) -> bytes:
        # JSON has no raw line breaks, so the data is always one line.
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (self._boot.encode(), number, kind.encode(), data)

    def _resume(self, last_event_id: str | None) -> int | None:
        found = _EVENT_ID.fullmatch(last_event_id or "")
        if found is None or found[1] != self._boot or int(found[2]) > self._published:
            return None
        return int(found[2])

    async def _wait(self) -> bool:
        """Wait for the next event; False after `keep_alive_s` without one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            async with asyncio.timeout(self._keep_alive_s):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(waiter)
        return True

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
