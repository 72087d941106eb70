"""What the runner's process holds before it does anything: `python -m bench.imports`.

Imports what it is made of, one thing after the other, and prints the resident memory after each.
"""

import importlib
import os

STEPS = (
    "ssl",  # asyncio and uvloop do not start without it
    "asyncio",
    "uvloop",
    "msgspec",
    "orjson",
    "click",
    "websockets.client",
    "agentrelay.fastpath",
    "agentrelay.runner.daemon",
)


def resident_bytes() -> int:
    """Give this process's resident memory."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Import and print."""
    before = resident_bytes()
    print(f"{'the interpreter':26} {before / 1e6:5.1f} MB")
    for name in STEPS:
        importlib.import_module(name)
        now = resident_bytes()
        print(f"{name:26} {now / 1e6:5.1f} MB  + {(now - before) / 1e6:.1f}")
        before = now


if __name__ == "__main__":
    main()
