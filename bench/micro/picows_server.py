"""The server's side of a picows connection without a network under it, for the same work as the hot path."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from picows import WSFrame, WSListener, WSTransport
from picows.picows import WSAutoPingStrategy, WSProtocol

BUFFER_BYTES = 1 << 20
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: hq\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

OnFrame = Callable[[WSFrame], object]


class Listener(WSListener):  # type: ignore[misc]
    """Hands over frames."""

    def __init__(self, on_frame: OnFrame) -> None:
        self._on_frame = on_frame

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._on_frame(frame)


class SilentSocket:
    """A socket whose options nobody may set: those of TCP are wrong for a pair of local ones."""

    def __init__(self, connection: socket.socket) -> None:
        self.fileno = connection.fileno

    def setsockopt(self, *_: object) -> None:
        """Leave it as it is."""

    def getsockopt(self, *_: object) -> int:
        """Give something to log."""
        return 0


class Transport(asyncio.Transport):
    """A transport that has nothing queued, ever. Small frames go past it, large ones through `writelines`."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__({"socket": SilentSocket(connection)})
        self._connection = connection

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Any) -> None:
        sent = self._connection.sendmsg(list_of_data)
        assert sent == sum(map(len, list_of_data)), "the socket is full, which no benchmark fills"


@contextmanager
def picows_server(connection: socket.socket, on_frame: OnFrame) -> Iterator[Any]:
    """Give a picows protocol behind its handshake, which sends to `connection`."""
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    try:
        logger = logging.getLogger("picows.bench")
        logger.setLevel(logging.ERROR)
        protocol = WSProtocol(
            None, None, False, lambda request: Listener(on_frame), logger, True, None, False, 10, 10,
            WSAutoPingStrategy.PING_WHEN_IDLE, False, 1 << 20, None, BUFFER_BYTES,
        )  # fmt: skip
        protocol.connection_made(Transport(connection))
        feed(protocol, UPGRADE)
        yield protocol
    finally:
        asyncio._set_running_loop(None)
        loop.close()


def feed(protocol: Any, data: bytes) -> None:
    """Let bytes arrive as a loop delivers them; they have to fit into the buffer."""
    protocol.get_buffer(-1)[: len(data)] = data
    protocol.buffer_updated(len(data))
