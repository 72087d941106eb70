"""Runners whose sessions say nothing: `python -m bench.idle PORT TOKEN RUNNERS` is idle-0, idle-1 and on.

The command of a session is the number of bytes that it prints before it falls silent.
"""

import asyncio
import sys

import uvloop

from agentrelay import fastpath
from agentrelay.protocol import mux
from agentrelay.protocol.messages import Register, Start, Started, decode_from_hq, encode
from agentrelay.transport.dial import dial
from agentrelay.transport.endpoint import Endpoint
from bench.corpus import make

CORPUS = make()


class IdleRunner:
    """Takes every start; each session writes the R of every program here, and what it is told to."""

    def __init__(self) -> None:
        self.endpoint: Endpoint
        self._masks = fastpath.MaskSource()

    async def open(self, url: str, token: str, runner_id: str) -> None:
        """Dial and register."""
        self.endpoint = await dial(url, token=token, handler=self)
        register = Register(protocol=1, runner_id=runner_id, version="0", hostname="-", os="-", arch="-")
        self.endpoint.send_text(encode(register))

    def on_text(self, text: bytes) -> None:
        """Start what is asked for."""
        message = decode_from_hq(text)
        if isinstance(message, Start):
            started = Started(
                session_id=message.session_id,
                stream=message.stream,
                epoch="e",
                pid=1,
                rows=message.rows,
                cols=message.cols,
                command=message.command or [],
                cwd="/",
            )
            self.endpoint.send_text(encode(started))
            (n_bytes,) = message.command or ["0"]
            output = b"R" + CORPUS[: int(n_bytes)]
            for start in range(0, len(output), mux.MAX_DATA_BYTES):
                piece = output[start : start + mux.MAX_DATA_BYTES]
                frame = fastpath.pack_frame(mux.Kind.OUTPUT, message.stream, piece, self._masks)
                self.endpoint.send_frame(frame)

    def on_text_too_big(self, n_bytes: int) -> None:
        """Nothing: HQ does not do that."""

    def on_binary(self, data: memoryview) -> None:
        """Nothing: acknowledgements."""

    def on_writable(self) -> None:
        """Nothing: what it sends is small."""

    def on_closed(self, code: int, reason: str) -> None:
        """Nothing: HQ is gone, and so is this process soon."""


async def main(port: str, token: str, n_runners: int) -> None:
    """Register the runners and wait for the end."""
    url = f"ws://127.0.0.1:{port}/ws/runner"
    runners = [IdleRunner() for _ in range(n_runners)]
    for number, runner in enumerate(runners):
        await runner.open(url, token, f"idle-{number}")
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
