"""HQ or a runner with a heartbeat: `python -m bench.probe hq|runner`, then its own arguments.

Every millisecond a timer looks at how much CPU the loop's thread has used since the last time. What other
processes do to this one does not count; a turn of the loop that runs long does. At its end it prints the
longest turns and the pauses of garbage collection, both in microseconds of CPU. With BENCH_STACKS set a
thread also looks, every millisecond, what a turn of more than 4 ms is at; it costs turns of its own.
"""

import asyncio
import collections
import gc
import json
import logging
import os
import sys
import threading
import time
import traceback
from typing import Any

BEAT_S = 0.001
LONG_US = 1000
LOOK_S = 0.001
LOOK_AFTER_NS = 4_000_000


class Collections:
    """The pauses of garbage collection from now on.

    Attributes:
        pauses_us: by generation.
    """

    def __init__(self) -> None:
        self.pauses_us: tuple[list[int], ...] = ([], [], [])
        self._began_ns = 0
        gc.callbacks.append(self._on_phase)

    def _on_phase(self, phase: str, facts: dict[str, int]) -> None:
        # Both phases of one collection are called by the thread that does it.
        if phase == "start":
            self._began_ns = time.thread_time_ns()
        else:
            self.pauses_us[facts["generation"]].append((time.thread_time_ns() - self._began_ns) // 1000)


class Heartbeat:
    """The heartbeat of the running loop."""

    def __init__(self) -> None:
        self.turns_us: list[int] = []
        self.stacks: collections.Counter[str] = collections.Counter()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._last_ns = time.thread_time_ns()
        self._beat()
        if os.environ.get("BENCH_STACKS"):
            threading.Thread(target=self._look, daemon=True).start()

    def _beat(self) -> None:
        now_ns = time.thread_time_ns()
        turn_us = (now_ns - self._last_ns) // 1000
        self._last_ns = now_ns
        if turn_us > LONG_US:
            self.turns_us.append(turn_us)
        self._loop.call_later(BEAT_S, self._beat)

    def _look(self) -> None:
        sys.setswitchinterval(LOOK_S / 2)
        clock = time.pthread_getcpuclockid(self._thread)
        while True:
            time.sleep(LOOK_S)
            if time.clock_gettime_ns(clock) - self._last_ns > LOOK_AFTER_NS:
                frame = sys._current_frames()[self._thread]
                self.stacks["".join(traceback.format_stack(frame, 12))] += 1


def main() -> None:
    """Run HQ or the runner from its command line until SIGTERM, and print what was found."""
    part = sys.argv.pop(1)
    hearts: list[Heartbeat] = []

    def with_heartbeat(serve: Any) -> Any:
        async def served(*args: Any) -> None:  # from here on others wait for it
            hearts.append(Heartbeat())
            pauses.append(Collections())
            await serve(*args)

        return served

    pauses: list[Collections] = []
    if part == "hq":
        from agentrelay.cli.hq import main as run
        from agentrelay.hq.server import _Server

        _Server.serve_hq = with_heartbeat(_Server.serve_hq)  # type: ignore[method-assign]
    else:
        from agentrelay.cli.runner import main as run
        from agentrelay.runner import daemon

        daemon.Daemon._keep_linked = with_heartbeat(daemon.Daemon._keep_linked)  # type: ignore[method-assign]
    run(standalone_mode=False)
    logging.shutdown()
    for stack, times in hearts[0].stacks.most_common():
        print(f"{times} times\n{stack}", file=sys.stderr)
    found = {
        "turns_us": sorted(hearts[0].turns_us, reverse=True)[:1000],
        "gc_us": [sorted(each, reverse=True)[:1000] for each in pauses[0].pauses_us],
        "gc_counts": [len(each) for each in pauses[0].pauses_us],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
