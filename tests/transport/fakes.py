"""A loop whose clock is moved by hand, a transport that goes nowhere, a handler that keeps all it hears."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol as WsProtocol
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from agentrelay.transport.endpoint import MAX_MESSAGE_BYTES, Endpoint

Event = tuple[str, Any]


class Heard:
    """An `EndpointHandler` that keeps everything, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self._changed = asyncio.Event()

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()
        self.on_event(event)

    def on_text(self, text: bytes) -> None:
        self._hear(("text", text))

    def on_text_too_big(self, n_bytes: int) -> None:
        self._hear(("text too big", n_bytes))

    def on_binary(self, data: memoryview) -> None:
        self._hear(("binary", bytes(data)))

    def on_writable(self) -> None:
        self._hear(("writable", None))

    def on_closed(self, code: int, reason: str) -> None:
        self._hear(("closed", (code, reason)))

    @property
    def messages(self) -> list[Event]:
        """What the peer said, without what the endpoint did."""
        return [event for event in self.events if event[0] in ("text", "binary")]

    @property
    def closed(self) -> list[tuple[int, str]]:
        """How often, and how, the connection was closed."""
        return [what for kind, what in self.events if kind == "closed"]

    async def until(self, condition: Callable[["Heard"], Any], seconds: float = 10.0) -> None:
        """Wait for what is heard to fulfil a condition."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def more_than(self, n_events: int) -> None:
        """Wait for one more event than these."""
        await self.until(lambda heard: len(heard.events) > n_events)

    async def until_closed(self) -> tuple[int, str]:
        """Wait for the end of the connection."""
        await self.until(lambda heard: heard.closed)
        return self.closed[0]


class FakeLoop:
    """A clock and timers; `advance` moves them. Nothing else of a loop is there."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.now_s + delay, callback, args, cast(Any, self))
        heapq.heappush(self._timers, (timer.when(), next(self._numbers), timer))
        return timer

    def call_soon(self, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self.call_later(0, callback, *args)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due happens at its own time."""
        end_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= end_s:
            self.now_s, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                timer._run()
        self.now_s = end_s

    def run_one(self) -> None:
        """Do the next thing that is due now."""
        when_s, _, timer = heapq.heappop(self._timers)
        assert when_s <= self.now_s, "nothing is due"
        timer._run()

    @property
    def waiting(self) -> int:
        """How many timers could still fire."""
        return sum(not timer.cancelled() for _, _, timer in self._timers)


@contextlib.contextmanager
def running(loop: FakeLoop) -> Iterator[None]:
    """Make `loop` the one that is running."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(cast(Any, loop))
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


class FakeTransport(asyncio.Transport):
    """Keeps what is written, and gives its protocol an end when it is told to."""

    def __init__(self, protocol: Endpoint) -> None:
        # With TLS there is no way past the transport.
        super().__init__(extra={"ssl_object": object(), "socket": SimpleNamespace(fileno=lambda: -1)})
        self.protocol = protocol
        self.written = bytearray()
        self.reading = True
        self.queued_bytes = 0
        self.ended: str | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0), "paused means that the transport holds something"

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert self.ended is None, "written after the end"
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.queued_bytes

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._end("eof")

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        if self.ended != "aborted":
            self.ended = "aborted"
            self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self.ended in ("closed", "aborted")

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def _end(self, how: str) -> None:
        if self.ended is None:
            self.ended = how


class Wire:
    """An endpoint on a fake transport, and the peer's view of it.

    Args:
        masked: True for HQ's side, as whose peer the test masks its frames.
    """

    def __init__(self, *, masked: bool = True) -> None:
        self.loop = FakeLoop()
        self.heard = Heard()
        self.lost: list[Endpoint] = []
        self.masked = masked
        uri = parse_uri("ws://localhost/")
        ws: WsProtocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES, state=State.OPEN)
        self.peer: WsProtocol = ClientProtocol(uri, state=State.OPEN, max_size=None)
        if not masked:
            ws = ClientProtocol(uri, max_size=MAX_MESSAGE_BYTES, state=State.OPEN)
            self.peer = ServerProtocol(state=State.OPEN, max_size=None)
        with running(self.loop):
            self.endpoint = Endpoint(ws, masked=masked, on_lost=self.lost.append)
        self.endpoint.handler = self.heard
        self.transport = FakeTransport(self.endpoint)
        self.endpoint.connection_made(self.transport)
        self._read = 0

    def frame(self, opcode: int, data: bytes = b"", *, fin: bool = True) -> bytes:
        """Make a frame as the peer sends it."""
        return Frame(Opcode(opcode), data, fin).serialize(mask=self.masked)

    def feed(self, data: bytes) -> None:
        """Let bytes arrive the way a loop delivers them: as many as the endpoint's buffer has room for."""
        while data:
            self.loop.advance(0)
            buffer = self.endpoint.get_buffer(-1)
            assert len(buffer) > 0, "a loop gives up on a protocol without a buffer"
            n_bytes = min(len(buffer), len(data))
            buffer[:n_bytes] = data[:n_bytes]
            self.endpoint.buffer_updated(n_bytes)
            data = data[n_bytes:]
        self.loop.advance(0)

    def end(self) -> None:
        """Let the peer end its side, and the transport follow."""
        if not self.endpoint.eof_received():
            self.endpoint.connection_lost(None)

    def answers(self) -> list[Frame]:
        """Give the frames that were written since the last call."""
        self.peer.receive_data(bytes(self.transport.written[self._read :]))
        self._read = len(self.transport.written)
        return [event for event in self.peer.events_received() if isinstance(event, Frame)]

    def close_code(self) -> int | None:
        """Give the code of the close frame that the endpoint has sent."""
        self.answers()
        return self.peer.close_rcvd.code if self.peer.close_rcvd is not None else None
