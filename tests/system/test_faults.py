"""Everything breaks but the keeper, and nothing is lost.

The short form is a test like any other. `make soak` breaks a system many times: AGENTRELAY_SOAK_FAULTS says
how often, and AGENTRELAY_SOAK_SEED repeats a run.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.system.following import EXIT_CODE, Follower, following
from tests.system.link_proxy import LinkProxy, link_proxy
from tests.system.running import System, resident_bytes, until

SOAK_FAULTS = int(os.environ.get("AGENTRELAY_SOAK_FAULTS", "0"))
FAULTS = SOAK_FAULTS or 10
SEED = int(os.environ.get("AGENTRELAY_SOAK_SEED") or random.randrange(10**6))
BUSY_S = 1.0
"""What a machine that does other things meanwhile may add to a silence."""


class Faults:
    """The faults by name; each does its damage, mends it, and gives the seconds the system was not whole."""

    def __init__(self, system: System, proxy: LinkProxy, follower: Follower, rng: random.Random) -> None:
        self._system = system
        self._proxy = proxy
        self._follower = follower
        self._rng = rng

    async def viewer_cut(self) -> float:
        self._follower.cut()
        return 0.0

    async def link_reset(self) -> float:
        self._proxy.cut()
        return 0.0

    async def link_stalled(self) -> float:
        began_s = time.monotonic()
        self._proxy.stall()
        await asyncio.sleep(self._rng.uniform(0.2, 2.0))  # for so long it is stalled
        self._proxy.flow()
        return time.monotonic() - began_s

    async def link_black_holed(self) -> float:
        self._proxy.swallow()
        return 0.0

    async def hq_killed(self) -> float:
        began_s = time.monotonic()
        self._system.kill_hq()
        await asyncio.to_thread(self._system.start_hq)
        return time.monotonic() - began_s

    async def runner_killed(self) -> float:
        began_s = time.monotonic()
        self._system.kill_runner()
        self._system.start_runner(wait=False)
        return time.monotonic() - began_s

    async def both_killed(self) -> float:
        began_s = time.monotonic()
        self._system.kill_runner()
        self._system.kill_hq()
        await asyncio.to_thread(self._system.start_hq)
        self._system.start_runner(wait=False)
        return time.monotonic() - began_s


Fault = Callable[[Faults], Awaitable[float]]

LONGEST_S: dict[Fault, float] = {
    Faults.viewer_cut: 1.0,
    Faults.link_reset: 2.0,
    Faults.link_stalled: 2.0,
    Faults.runner_killed: 2.0,
    Faults.hq_killed: 2.0,
    Faults.both_killed: 2.0,
    Faults.link_black_holed: 12.0,
}
"""The longest silence a viewer may see once the system is whole (docs/protocol.md sections 1 and 3.5)."""


def plan(rng: random.Random) -> list[Fault]:
    """Give the faults of a run: all kinds as often, but the one that takes long, in the long form only."""
    kinds = [kind for kind, longest_s in LONGEST_S.items() if longest_s < 10]
    faults = [kinds[number % len(kinds)] for number in range(FAULTS)]
    if SOAK_FAULTS:
        faults[::20] = [Faults.link_black_holed] * len(faults[::20])
    rng.shuffle(faults)
    return faults


@asynccontextmanager
async def linked(system: System) -> AsyncIterator[LinkProxy]:
    """Start HQ and r1 with a proxy between them."""
    async with link_proxy(system.port) as proxy:
        system.link_port = proxy.port
        await asyncio.to_thread(system.start_hq)
        await asyncio.to_thread(system.start_runner)
        yield proxy


@pytest.mark.limit_s(60.0 + 30.0 * SOAK_FAULTS)
async def test_nothing_is_lost_whatever_breaks(own_system: System) -> None:
    print(f"\nAGENTRELAY_SOAK_SEED={SEED}")
    rng = random.Random(SEED)
    silences: dict[str, list[float]] = {}
    async with linked(own_system) as proxy, following(own_system, SEED) as follower:
        assert own_system.hq is not None
        before = own_system.session(follower.session_id)
        memory_bytes = [resident_bytes(own_system.hq.pid)]
        for number, fault in enumerate(plan(rng)):
            await asyncio.sleep(rng.uniform(0.0, 0.5))  # so that it breaks at any point
            follower.listen()
            down_s = await fault(Faults(own_system, proxy, follower, rng))
            async with asyncio.timeout(30):
                await follower.catches_up()
            silence_s = max(0.0, follower.longest_s - down_s)
            silences.setdefault(fault.__name__, []).append(silence_s)
            print(f"{number:4} {fault.__name__:16} silent for {silence_s:5.2f} s, down for {down_s:.2f} s")
            assert silence_s < LONGEST_S[fault] + BUSY_S
            memory_bytes.append(resident_bytes(own_system.hq.pid))
        after = own_system.session(follower.session_id)
        until("link", lambda: own_system.online("r1"))
        await follower.end()
        n_bytes, digest = follower.written()

    for name, each in sorted(silences.items()):
        print(f"{name:16} {len(each):4} times, longest silence {max(each):5.2f} s")
    before_mib, most_mib, after_mib = (
        n >> 20 for n in (memory_bytes[0], max(memory_bytes), memory_bytes[-1])
    )
    print(f"{n_bytes} bytes, {follower.lost_bytes} of them lost")
    print(f"HQ's memory: {before_mib} MiB before, {most_mib} MiB at most, {after_mib} MiB after")
    assert follower.lost_bytes == 0
    assert (follower.offset, follower.digest()) == (n_bytes, digest)
    assert follower.ended == (EXIT_CODE, None)
    assert (after["pid"], after["epoch"]) == (before["pid"], before["epoch"])


@pytest.mark.skipif(not SOAK_FAULTS, reason="it takes 12 s; make soak does it")
async def test_a_black_hole_is_noticed_by_both_ends(own_system: System) -> None:
    async with linked(own_system) as proxy, following(own_system, SEED) as follower:
        proxy.swallow(refuse=True)
        async with asyncio.timeout(12):
            await proxy.no_links()
        assert not own_system.online("r1")
        follower.listen()
        proxy.flow()
        await follower.catches_up()
        assert follower.longest_s < 2.0
        await follower.end()
        assert (follower.offset, follower.digest()) == follower.written()
