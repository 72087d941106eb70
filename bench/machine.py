"""What the numbers were measured on."""

import os
import platform
from pathlib import Path


def describe_machine() -> dict[str, str | int | float]:
    """Give what a reader has to know of this machine; `load`: other people's work when the run began."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }
