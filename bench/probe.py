"""HQ with a heartbeat in its event loop; it takes `--port` and `--data-dir` of `agentrelay-hq`.

Every 2 ms a timer looks at how much CPU the loop's thread has used since the last time. What other
processes do to this one does not count; a turn of the loop that runs long does. SIGTERM ends it, and it then
prints the longest turns in microseconds of CPU.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from agentrelay.hq import server
from agentrelay.hq.config import HqConfig

BEAT_S = 0.002
LONG_US = 1000


class Heartbeat:
    """The heartbeat of the running loop."""

    def __init__(self) -> None:
        self.turns_us: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._last_ns = time.thread_time_ns()
        self._beat()

    def _beat(self) -> None:
        now_ns = time.thread_time_ns()
        turn_us = (now_ns - self._last_ns) // 1000
        self._last_ns = now_ns
        if turn_us > LONG_US:
            self.turns_us.append(turn_us)
        self._loop.call_later(BEAT_S, self._beat)


def main() -> None:
    """Run HQ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    hearts: list[Heartbeat] = []
    serve = server._Server.serve_hq

    async def serve_with_heartbeat(*args: Any) -> None:
        hearts.append(Heartbeat())
        await serve(*args)

    server._Server.serve_hq = serve_with_heartbeat  # type: ignore[assignment]
    server.run(
        HqConfig.checked(
            port=arguments.port,
            data_dir=arguments.data_dir,
            admin_token=os.environ["AGENTRELAY_ADMIN_TOKEN"],
            runner_token=os.environ["RUNNER_TOKEN"],
        )
    )
    logging.shutdown()
    json.dump({"turns_us": sorted(hearts[0].turns_us, reverse=True)[:1000]}, sys.stdout)


if __name__ == "__main__":
    main()
