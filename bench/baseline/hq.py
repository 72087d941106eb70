"""The baseline's HQ: `python -m bench.baseline.hq` listens on a free port, which it prints.

`/link`: the runner. `/start`: a viewer, whose first message is the command to start. `/session/{id}`: a
viewer of what another has started; in place of a replay it gets the R with which every program here begins.
Output has the session's id as 4 bytes in front on the link and nothing on viewers. In its favour, compression
is off and the loop is uvloop.
"""

import asyncio
import contextlib
import itertools
import json

import uvloop
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

link: ServerConnection | None = None
viewers: dict[int, list[ServerConnection]] = {}
numbers = itertools.count(1)


async def run_link(connection: ServerConnection) -> None:
    """Pass output on to every viewer of its session, one after the other."""
    global link
    link = connection
    async for message in connection:
        assert isinstance(message, bytes)
        session = int.from_bytes(message[:4])
        for viewer in list(viewers.get(session, [])):
            with contextlib.suppress(ConnectionClosed):
                await viewer.send(message[4:])


async def run_viewer(connection: ServerConnection, session: int, first: str | bytes) -> None:
    """Send the first message, to whom it concerns, and pass input on to the runner."""
    assert link is not None
    viewers.setdefault(session, []).append(connection)
    try:
        await (connection if isinstance(first, bytes) else link).send(first)
        await connection.send(json.dumps({"session_id": str(session)}))
        async for message in connection:
            if isinstance(message, bytes):
                await link.send(session.to_bytes(4) + message)
    finally:
        viewers[session].remove(connection)


async def run(connection: ServerConnection) -> None:
    """Run a connection by its path."""
    assert connection.request is not None
    path = connection.request.path
    with contextlib.suppress(ConnectionClosed):
        if path == "/link":
            await run_link(connection)
        elif path == "/start":
            command = json.loads(await connection.recv())
            session = next(numbers)
            await run_viewer(connection, session, json.dumps({"session": session, "command": command}))
        else:
            await connection.recv()
            await run_viewer(connection, int(path.rpartition("/")[2]), b"R")


async def main() -> None:
    """Serve until the process is ended."""
    async with serve(run, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
