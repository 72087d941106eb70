"""Loads without a PTY: the output is ready, so what is measured is HQ and nothing else."""

import time

from bench.loads import Bench, LoadFunction, Metrics, Usage
from bench.processes import Processes, read_port
from bench.systems import RUNNER_TOKEN, Baseline, Floor, Product, System, view
from bench.viewers import draining

FRAME_DATA_BYTES = {"64k": 65_512, "4k": 4_096, "64": 64}
TOTAL_BYTES = {"64k": 2 << 30, "4k": 2 << 30, "64": 96 << 20}
TOTAL_BYTES_BASELINE = {"64k": 512 << 20, "4k": 256 << 20, "64": 8 << 20}


def _system(bench: Bench, processes: Processes, name: str, data_bytes: int) -> System:
    """Start a system whose runner is a source."""
    if name == "floor":
        process = processes.start(
            "source", "python", "-m", "bench.source", "raw", "0", "-", str(data_bytes), pipes=True
        )
        return Floor(processes, source=read_port(process.stdout))
    system = (
        Product(processes, runner=False, parts=bench.parts)
        if name == "agentrelay"
        else Baseline(processes, runner=False)
    )
    processes.start(
        "source", "python", "-m", "bench.source", name, str(system.port), RUNNER_TOKEN, str(data_bytes)
    )
    if isinstance(system, Product):
        system.await_runners(1)
    else:
        time.sleep(1.0)
    return system


def synthetic(bench: Bench, name: str, size: str) -> Metrics:
    """Measure the system called `name` with frames of a size, one of FRAME_DATA_BYTES."""
    data_bytes = FRAME_DATA_BYTES[size]
    totals = TOTAL_BYTES_BASELINE if name == "websockets" else TOTAL_BYTES
    # Whole rounds of the corpus, so that every source ends with a whole frame.
    n_bytes = max(1, bench.amount(totals[size]) >> 20) << 20
    with Processes(bench.processes.subdirectory()) as processes:
        alone = _system(bench, processes, name, data_bytes)
        first = alone.starting([str(n_bytes)])
        if isinstance(alone, Product):
            first = first._replace(path="/ws/terminal/source")
        viewers = view(processes, alone, draining(n_bytes), [first])
        usage = Usage(alone)
        viewers.go()
        result = viewers.result()
        seconds = usage.seconds()
        viewers.close()
    return {
        "hq_cpu_s_per_gb": seconds["hq"] / n_bytes * 1e9,
        "hq_us_per_frame": seconds["hq"] / (n_bytes / data_bytes) * 1e6,
        "mb_per_s": n_bytes / result["seconds"] / 1e6,
        "frames_out_per_frame_in": result["viewers"][0]["frames"] / (n_bytes / data_bytes),
    }


def _of(size: str) -> LoadFunction:
    def run(bench: Bench, system: System) -> Metrics:
        return synthetic(bench, system.name, size)

    run.__doc__ = f"Frames of {FRAME_DATA_BYTES[size]} bytes that need no PTY, to one viewer."
    return run


SYNTHETIC = {size: _of(size) for size in FRAME_DATA_BYTES}
"""By the size of the frames."""
