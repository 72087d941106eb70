"""Loads through a PTY: each gives the numbers of one system in one round."""

from collections.abc import Callable
from typing import NamedTuple

from bench.corpus import corpus
from bench.native import program
from bench.processes import Processes, cpu_s, memory
from bench.systems import PLAIN, Parts, System, view
from bench.viewers import draining, echoing

Metrics = dict[str, float]

PACED_GAP_US = 250
PACED_BYTES = 40
HOLD_US = 4000
"""How long AgentRelay holds a token stream at most; the floor that holds waits as long."""
TINY_MEAN_BYTES = 40


class Bench(NamedTuple):
    """One run.

    Attributes:
        processes: everything it starts.
        scale: 1 for a full run; smaller amounts for a quick one.
        parts: what runs HQ and the runner.
    """

    processes: Processes
    scale: float
    parts: Parts = PLAIN

    def amount(self, full: int) -> int:
        """Give the amount of something for this run, at least 1."""
        return max(1, int(full * self.scale))


class Usage:
    """CPU of a system's processes since it was made."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._before = {part: cpu_s(pid) for part, pid in system.pids.items()}

    def seconds(self) -> dict[str, float]:
        """Give the CPU seconds of each part."""
        return {part: cpu_s(pid) - self._before[part] for part, pid in self._system.pids.items()}


def _program(how: str, n_bytes: int = 0, *more: int) -> list[str]:
    return [program("program"), how, str(corpus()), str(n_bytes), *map(str, more)]


def _per_gb(seconds: dict[str, float], n_bytes: float) -> Metrics:
    return {f"{part}_cpu_s_per_gb": used / n_bytes * 1e9 for part, used in seconds.items()} | {
        "reader_cpu_s_per_gb": (seconds.get("runner", 0.0) + seconds.get("keeper", 0.0)) / n_bytes * 1e9
    }


def bulk(bench: Bench, system: System, *, recording: bool = False) -> Metrics:
    """64 KiB writes through a PTY to one viewer."""
    n_bytes = bench.amount(128 << 20)
    viewers = view(
        bench.processes,
        system,
        draining(n_bytes),
        [system.starting(_program("bulk", n_bytes), recording=recording)],
    )
    try:
        usage = Usage(system)
        viewers.go()
        result = viewers.result()
        seconds = usage.seconds()
    finally:
        viewers.close()
    return {
        **_per_gb(seconds, n_bytes),
        "mb_per_s": n_bytes / result["seconds"] / 1e6,
        "frames_per_mb": result["viewers"][0]["frames"] / n_bytes * 1e6,
    }


def bulk_recorded(bench: Bench, system: System) -> Metrics:
    """The same, recorded: the output log is written too."""
    return bulk(bench, system, recording=True)


def _writes(bench: Bench, system: System, how: str, n_bytes: int, mean_bytes: int, *more: int) -> Metrics:
    viewers = view(
        bench.processes, system, draining(n_bytes), [system.starting(_program(how, n_bytes, *more))]
    )
    try:
        usage = Usage(system)
        viewers.go()
        result = viewers.result()
        seconds = usage.seconds()
    finally:
        viewers.close()
    n_writes = n_bytes / mean_bytes
    return {
        **{f"{part}_us_per_write": used / n_writes * 1e6 for part, used in seconds.items()},
        "us_per_write": sum(seconds.values()) / n_writes * 1e6,
        "writes_per_s": n_writes / result["seconds"],
        "frames_per_write": result["viewers"][0]["frames"] / n_writes,
    }


def tiny(bench: Bench, system: System) -> Metrics:
    """Writes of 20 to 60 bytes as fast as possible."""
    return _writes(bench, system, "tiny", bench.amount(16 << 20), TINY_MEAN_BYTES)


def paced(bench: Bench, system: System) -> Metrics:
    """A token stream: 40 bytes every 250 us."""
    n_writes = bench.amount(12_000)
    return _writes(bench, system, "paced", n_writes * PACED_BYTES, PACED_BYTES, PACED_GAP_US)


def latency(system: System, bench: Bench, *, count: int, gap_us: int) -> Metrics:
    """Type single keys into a program that echoes them."""
    viewers = view(
        bench.processes, system, echoing(count, gap_us), [system.starting([program("program"), "echo"])]
    )
    try:
        usage = Usage(system)
        viewers.go()
        nanoseconds = sorted(viewers.result()["latency_ns"])
        seconds = usage.seconds()
    finally:
        viewers.close()
    return {
        "p50_us": nanoseconds[len(nanoseconds) // 2] / 1e3,
        "p99_us": nanoseconds[len(nanoseconds) * 99 // 100] / 1e3,
        "max_us": nanoseconds[-1] / 1e3,
        "cpu_us_per_key": sum(seconds.values()) / len(nanoseconds) * 1e6,
    }


def echo(bench: Bench, system: System) -> Metrics:
    """One key at a time, everything else idle."""
    return latency(system, bench, count=bench.amount(1500), gap_us=1000)


def echo_in_flood(bench: Bench, system: System) -> Metrics:
    """One key at a time while another session floods a viewer of its own."""
    flood = view(bench.processes, system, draining(0), [system.starting(_program("flood"))])
    try:
        flood.go()
        found = latency(system, bench, count=bench.amount(1500), gap_us=1000)
        flood.stop()
        result = flood.result()
    finally:
        flood.close()
    drained = result["viewers"][0]
    return {**found, "flood_mb_per_s": drained["bytes"] / max(drained["last_s"], 1e-9) / 1e6}


def twenty_viewers(bench: Bench, system: System) -> Metrics:
    """Bulk to 20 viewers of one session."""
    n_bytes = bench.amount(32 << 20)
    connections = [system.starting(_program("bulk", n_bytes)), *[system.attaching()] * 19]
    viewers = view(bench.processes, system, draining(n_bytes), connections)
    try:
        usage = Usage(system)
        viewers.go()
        result = viewers.result()
        seconds = usage.seconds()
    finally:
        viewers.close()
    return {**_per_gb(seconds, n_bytes), "mb_per_s_in": n_bytes / result["seconds"] / 1e6}


def stalled_viewer(bench: Bench, system: System) -> Metrics:
    """Bulk to a live viewer, alone and beside one that never reads."""
    n_bytes = bench.amount(64 << 20)
    seconds = {False: 0.0, True: 0.0}
    growth_mb = {False: 0.0, True: 0.0}
    # There and back: a machine that gets slower or faster meanwhile does so to both.
    for stalled in (False, True, True, False):
        connections = [system.starting(_program("bulk", n_bytes))]
        if stalled:
            connections.append(system.attaching()._replace(flags="s"))
        viewers = view(bench.processes, system, draining(n_bytes), connections)
        try:
            before = memory(system.pids["hq"]).pss
            viewers.go()
            seconds[stalled] += viewers.result()["seconds"]
            growth_mb[stalled] += (memory(system.pids["hq"]).pss - before) / 2e6
        finally:
            viewers.close()
    return {
        "alone_mb_per_s": 2 * n_bytes / seconds[False] / 1e6,
        "beside_mb_per_s": 2 * n_bytes / seconds[True] / 1e6,
        "live_share": seconds[False] / seconds[True],
        "stall_growth_mb": growth_mb[True] - growth_mb[False],
    }


def _pss(system: System) -> dict[str, int]:
    return {part: memory(pid).pss for part, pid in system.pids.items()}


def _sessions(bench: Bench, system: System, n_sessions: int) -> Metrics:
    n_bytes = bench.amount((128 << 20) // n_sessions)
    connections = [system.starting(_program("bulk", n_bytes))] * n_sessions
    empty = _pss(system)
    viewers = view(bench.processes, system, draining(n_bytes), connections)
    try:
        started = _pss(system)
        usage = Usage(system)
        viewers.go()
        result = viewers.result()
        seconds = usage.seconds()
        full = _pss(system)
    finally:
        viewers.close()
    ends_s = [viewer["last_s"] for viewer in result["viewers"]]
    return {
        **_per_gb(seconds, n_bytes * n_sessions),
        "mb_per_s": n_bytes * n_sessions / max(ends_s) / 1e6,
        "slowest_to_fastest": max(ends_s) / min(ends_s),
        **{f"{part}_kb_per_session": (full[part] - empty[part]) / n_sessions / 1e3 for part in empty},
        **{
            f"{part}_growth_kb_per_session": (full[part] - started[part]) / n_sessions / 1e3 for part in empty
        },
    }


def fifty_sessions(bench: Bench, system: System) -> Metrics:
    """50 sessions at once, a viewer each."""
    return _sessions(bench, system, 50)


def two_hundred_sessions(bench: Bench, system: System) -> Metrics:
    """200 sessions at once, a viewer each."""
    return _sessions(bench, system, 200)


LoadFunction = Callable[[Bench, System], Metrics]

__all__ = ["Bench", "LoadFunction", "Metrics", "Usage"]
