"""A program that writes without an end, and a viewer that follows it through everything that breaks."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from websockets.exceptions import WebSocketException

from tests.system.running import System
from tests.system.viewing import opened, python

RETRY_S = 0.05
EXIT_CODE = 5

# About 1 MB/s in writes of all sizes; each is noted in a file before it is done. SIGUSR1 ends it.
# Text: of bytes 0xFF, that are in no text, some may be lost when a runner is killed (docs/protocol.md 4.1).
SOURCE = """
import hashlib, os, random, signal, sys, time, tty
tty.setraw(1)
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGUSR1, stop)
seed, note = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
sizes = random.Random(seed)
whole, n_bytes = hashlib.sha256(), 0
while going:
    noise = hashlib.shake_256(b"%s %d" % (seed.encode(), n_bytes))
    block = noise.hexdigest(sizes.choice([1, 20, 2000, 18000]))
    n_bytes += len(block)
    whole.update(block.encode())
    os.pwrite(note, b"%20d %s" % (n_bytes, whole.hexdigest().encode()), 0)
    while block:
        block = block[os.write(1, block.encode()):]
    time.sleep(0.01)
sys.exit(5)
"""


class Follower:
    """Attaches again, at its offset, whenever its connection is gone.

    Attributes:
        offset: offset of the first byte it does not have.
        lost_bytes: what it could not get.
        longest_s: the longest silence since `listen`.
        ended: exit code and signal, once the session has ended.
    """

    def __init__(self, system: System, session_id: str, epoch: str, note: Path) -> None:
        self.system = system
        self.session_id = session_id
        self.offset = 0
        self.lost_bytes = 0
        self.longest_s = 0.0
        self.ended: tuple[int | None, int | None] | None = None
        self._epoch = epoch
        self._note = note
        self._whole = hashlib.sha256()
        self._heard_s = time.monotonic()
        self._news = asyncio.Condition()
        self._transport: asyncio.Transport | None = None

    def written(self) -> tuple[int, str]:
        """Give how many bytes the program has written, and the hash of them all."""
        n_bytes, digest = self._note.read_text().split()
        return int(n_bytes), digest

    def digest(self) -> str:
        """Give the hash of all bytes that came."""
        return self._whole.hexdigest()

    def cut(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def listen(self) -> None:
        """Measure silence from now on."""
        self.longest_s = 0.0
        self._heard_s = time.monotonic()

    async def begins(self) -> None:
        """Wait for the first byte."""
        async with self._news:
            await self._news.wait_for(lambda: self.offset > 0)

    async def catches_up(self) -> None:
        """Wait for a byte that has not been written yet."""
        target, _ = self.written()
        async with self._news:
            await self._news.wait_for(lambda: self.offset > target or self.ended is not None)

    async def end(self) -> None:
        """End the program and wait for its last byte."""
        await asyncio.to_thread(self.system.signal, self.session_id, "USR1")
        async with self._news:
            await self._news.wait_for(lambda: self.ended is not None)

    async def follow(self) -> None:
        """Follow the session until it ends."""
        while self.ended is None:
            try:
                await self._follow_once()
            except (OSError, WebSocketException):
                await asyncio.sleep(RETRY_S)  # as a viewer does between two tries

    async def _follow_once(self) -> None:
        async with opened(self.system, f"/ws/session/{self.session_id}", open_timeout=2) as viewer:
            self._transport = viewer.socket.transport
            viewer.start = self.offset
            await viewer.say("attach", from_=self.offset, epoch=self._epoch)
            while await viewer.receive():
                data = bytes(viewer.output)
                viewer.output.clear()
                self.lost_bytes += viewer.start - self.offset
                viewer.start = self.offset = viewer.start + len(data)
                self._whole.update(data)
                if data:
                    now_s = time.monotonic()
                    self.longest_s = max(self.longest_s, now_s - self._heard_s)
                    self._heard_s = now_s
                kind, payload = viewer.seen[-1] if viewer.seen else ("", {})
                if kind == "session_ended":
                    self.ended = (payload["exit_code"], payload["signal"])
                async with self._news:
                    self._news.notify_all()
                viewer.seen.clear()


@asynccontextmanager
async def following(system: System, seed: object) -> AsyncIterator[Follower]:
    """Start the program on r1 and follow it; leaving ends neither."""
    note = system.directory / "written"
    told = await asyncio.to_thread(system.post_session, *python(SOURCE, seed, note))
    follower = Follower(system, told["session_id"], told["epoch"], note)
    task = asyncio.create_task(follower.follow())
    try:
        await follower.begins()
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
