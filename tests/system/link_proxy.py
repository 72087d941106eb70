"""A TCP proxy between runners and HQ whose links can be broken the ways networks break them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 65_536


class _Link:
    """Two connections, runner to proxy and proxy to HQ."""

    def __init__(self, ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.ends = ends
        self.swallows = False

    def reset(self) -> None:
        for end in self.ends:
            end.transport.abort()


class LinkProxy:
    """Passes bytes on until it is told otherwise.

    Attributes:
        port: where runners dial.
    """

    def __init__(self, hq_port: int) -> None:
        self.port = 0
        self._hq_port = hq_port
        self._links: set[_Link] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._changed = asyncio.Condition()

    def cut(self) -> None:
        """Reset every link; new ones are fine."""
        for link in self._links:
            link.reset()

    def stall(self) -> None:
        """Pass nothing on until `flow`; nothing is lost."""
        self._flows.clear()

    def flow(self) -> None:
        """Pass everything on again, also new links."""
        self._flows.set()
        self._refuses = False

    def swallow(self, *, refuse: bool = False) -> None:
        """Take every byte of the links that stand and pass none on; new links are fine, or refused too."""
        self._refuses = refuse
        for link in self._links:
            link.swallows = True

    async def no_links(self) -> None:
        """Wait until both ends have given up every link."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._links)

    async def _carry(self, runner: asyncio.StreamReader, to_runner: asyncio.StreamWriter) -> None:
        if self._refuses:
            to_runner.transport.abort()
            return
        try:
            hq, to_hq = await asyncio.open_connection("127.0.0.1", self._hq_port)
        except OSError:
            to_runner.transport.abort()
            return
        link = _Link((to_runner, to_hq))
        self._links.add(link)
        try:
            await asyncio.gather(self._pass_on(link, runner, to_hq), self._pass_on(link, hq, to_runner))
        finally:
            link.reset()
            async with self._changed:
                self._links.discard(link)
                self._changed.notify_all()

    async def _pass_on(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                if not link.swallows:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # an end is gone: so is the link
        # A dead network does not tell one end that the other has gone.
        if not link.swallows:
            link.reset()


@asynccontextmanager
async def link_proxy(hq_port: int) -> AsyncIterator[LinkProxy]:
    """Run a proxy to the HQ at a port."""
    proxy = LinkProxy(hq_port)
    server = await asyncio.start_server(proxy._carry, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield proxy
        finally:
            proxy.flow()
            server.close()
            proxy.cut()
            await asyncio.wait_for(proxy.no_links(), 10)
