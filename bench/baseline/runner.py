"""The baseline's runner: `python -m bench.baseline.runner PORT` serves the HQ at PORT."""

import asyncio
import contextlib
import json
import os
import pty
import sys

import uvloop
from websockets.asyncio.client import ClientConnection, connect

masters: dict[int, int] = {}


async def pump(link: ClientConnection, session: int, master: int) -> None:
    """Send what the program writes, as it comes."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(master, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                while data := os.read(master, 65536):
                    await link.send(session.to_bytes(4) + data)
    except OSError:
        pass  # the program has ended
    finally:
        loop.remove_reader(master)
        del masters[session]
        os.close(master)


async def main(port: str) -> None:
    """Start what HQ asks for and write what it sends, until HQ is gone."""
    tasks = set()
    async with connect(f"ws://127.0.0.1:{port}/link", compression=None, max_size=None) as link:
        async for message in link:
            if isinstance(message, bytes):
                session = int.from_bytes(message[:4])
                if session in masters:
                    os.write(masters[session], message[4:])
                continue
            request = json.loads(message)
            pid, master = pty.fork()
            if pid == 0:
                os.execvp(request["command"][0], request["command"])  # noqa: S606
            os.set_blocking(master, False)
            masters[request["session"]] = master
            task = asyncio.create_task(pump(link, request["session"], master))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
