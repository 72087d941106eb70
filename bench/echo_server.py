"""WebSocket echo through the product's own take-over and fast path: `python -m bench.echo_server [PORT]`.

For conformance suites and for measuring the transport alone. Text comes back as text, binary as binary,
messages up to 1 MiB; `GET /stats` gives `{"fast_frames": n}`: how many the fast path took, and not the
library. Serves 127.0.0.1 until it is ended; the port, 0 for a free one, is printed first.
"""

import json
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
import uvloop

from agentrelay import fastpath
from agentrelay.transport.endpoint import MAX_MESSAGE_BYTES, Endpoint
from agentrelay.transport.takeover import UpgradeRequest, takeover

HIGH_WATER_BYTES = 4 << 20
"""What may wait for a peer that does not read before nothing more is read from it."""


class Stats:
    """What the server has done.

    Attributes:
        fast_frames: messages that the fast path took, not the library.
    """

    def __init__(self) -> None:
        self.fast_frames = 0


class Echo:
    """The owner of one connection."""

    def __init__(self, endpoint: Endpoint, stats: Stats) -> None:
        self._endpoint = endpoint
        self._stats = stats
        endpoint.handler = self
        endpoint.max_text_bytes = MAX_MESSAGE_BYTES

    def on_text(self, text: bytes) -> None:
        """Send it back."""
        self._endpoint.send_text(text)
        self._hold_back()

    def on_text_too_big(self, n_bytes: int) -> None:
        """Nothing: the endpoint closes."""

    def on_binary(self, data: memoryview) -> None:
        """Send it back."""
        # What the fast path took lies in the receive buffer; the library gives messages of its own.
        self._stats.fast_frames += isinstance(data.obj, bytearray)
        self._endpoint.send_frame(fastpath.frame_header(len(data)) + data)
        self._hold_back()

    def _hold_back(self) -> None:
        if self._endpoint.transport.get_write_buffer_size() > HIGH_WATER_BYTES:
            self._endpoint.pause_reading()

    def on_writable(self) -> None:
        """Read on."""
        self._endpoint.resume_reading()

    def on_closed(self, code: int, reason: str) -> None:
        """Nothing to give back."""


def make_app(stats: Stats) -> Callable[..., Awaitable[None]]:
    """Make the HTTP side, which gives the statistics whatever it is asked."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(vars(stats)).encode()})

    return app


async def serve(port: int) -> None:
    """Serve until the task is cancelled or the process is told to end."""
    stats = Stats()

    def route(request: UpgradeRequest) -> Callable[[Endpoint], None]:
        del request
        return lambda endpoint: (Echo(endpoint, stats), None)[1]

    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        make_app(stats),
        http=takeover(route),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    await uvicorn.Server(config).serve([listener])


def main() -> None:
    """Run from the command line."""
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))


if __name__ == "__main__":
    main()
