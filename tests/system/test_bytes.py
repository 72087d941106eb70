"""What is typed arrives, and what is printed is shown: every byte, in order, whoever looks."""

import asyncio

from tests.system.running import System
from tests.system.viewing import attached, python, sha, started, stream

ECHO = """
import os, sys, tty
tty.setraw(0)
os.write(1, b"ready")
left = int(sys.argv[1])
while left:
    data = os.read(0, 65536)
    left -= len(data)
    while data:
        data = data[os.write(1, data):]
"""

BLOCKS = """
import hashlib, os, sys, tty
tty.setraw(0)
os.write(1, b"ready")
n, seed = int(sys.argv[1]), sys.argv[2]
data = b""
while len(data) < n:
    data += os.read(0, n - len(data))
sys.stdout.buffer.write(hashlib.sha256(data).hexdigest().encode())
sys.stdout.buffer.write(hashlib.shake_256(seed.encode()).digest(n))
"""

FLOOD = """
import hashlib, sys, tty
tty.setraw(1)
n, seed = int(sys.argv[1]), sys.argv[2]
sys.stdout.buffer.write(hashlib.shake_256(seed.encode()).digest(n))
"""


async def test_every_byte_value_passes_both_ways(system: System) -> None:
    every = bytes(range(256))
    async with started(system, python(ECHO, 2 * 256)) as viewer:
        await viewer.sees(b"ready")
        await viewer.type(every)
        for byte in reversed(every):
            await viewer.type(bytes([byte]))
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"ready" + every + every[::-1]


async def test_a_large_block_passes_both_ways(system: System) -> None:
    n_bytes = 65_536
    typed = stream("typed", n_bytes)
    async with started(system, python(BLOCKS, n_bytes, "shown")) as viewer:
        await viewer.sees(b"ready")
        await viewer.type(typed)
        assert await viewer.ends() == (0, None)
    assert viewer.output == b"ready" + sha(typed).encode() + stream("shown", n_bytes)


async def test_sessions_side_by_side_do_not_mix(system: System) -> None:
    n_bytes = 1_000_000

    async def follow(number: int, runner: str) -> None:
        async with started(system, python(FLOOD, n_bytes, number), runner=runner) as viewer:
            assert await viewer.ends() == (0, None)
        assert sha(viewer.output) == sha(stream(number, n_bytes))

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(follow(number, "r1"))
        tasks.create_task(follow(8, "r2"))


async def test_runners_are_told_apart(system: System) -> None:
    for runner in ("r1", "r2"):
        async with started(system, ["/bin/sh", "-c", "echo $PPID"], runner=runner) as viewer:
            assert system.session(viewer.session_id)["runner_id"] == runner
            assert await viewer.ends() == (0, None)
            assert int(viewer.output) == system.keeper_pid(runner)


async def test_two_viewers_see_the_same(system: System) -> None:
    n_bytes = 1_000_000
    wait_then_flood = "input()" + FLOOD
    async with (
        started(system, python(wait_then_flood, n_bytes, "both")) as first,
        attached(system, first.session_id) as second,
    ):
        await first.type(b"\n")
        assert await first.ends() == (0, None)
        assert await second.ends() == (0, None)
    assert second.start == 0
    assert first.output == second.output
    assert first.output == b"\r\n" + stream("both", n_bytes)


async def test_a_viewer_that_does_not_read_stalls_nobody(system: System) -> None:
    n_bytes = 20_000_000
    async with (
        started(system, python("input()" + FLOOD, n_bytes, "all"), options={"max_queue": 1}) as stalled,
        attached(system, stalled.session_id) as reading,
    ):
        await stalled.type(b"\n")
        async with asyncio.timeout(20):
            assert await reading.ends() == (0, None)
        assert reading.output == b"\r\n" + stream("all", n_bytes)
        # It is told what it missed, as bytes or as a picture, and how it ended.
        assert await stalled.ends() == (0, None)
        assert stalled.offset == 2 + n_bytes
