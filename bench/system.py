"""Whole-system benchmarks: `python -m bench.system` (docs/benchmarks.md).

Real processes on loopback, in interleaved rounds: AgentRelay, the same relay on `websockets`, the floor in
C (with two hops, as AgentRelay has, with one, and with holds for a token stream), one after the other,
again and again, so that what the machine does to one it does to all. Compare within a run; absolute numbers
are the machine's.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench import loads, loads_synthetic, loads_whole
from bench.loads import Bench, LoadFunction
from bench.machine import describe_machine
from bench.processes import Processes
from bench.report import Results, print_load, print_targets
from bench.systems import Baseline, Floor, Product, System

ROUNDS = 5
RESULTS = Path(__file__).resolve().parent / "results"
QUICK_SCALE = 0.15

ALL = ("agentrelay", "websockets", "floor")
RELAYS = ("agentrelay", "websockets")
OWN = ("agentrelay",)
HOPS = (*ALL, "floor-1")


class Load(NamedTuple):
    """A load and who takes part in it; `once`: what does not get truer by being repeated."""

    run: LoadFunction
    systems: tuple[str, ...]
    once: bool = False


LOADS: dict[str, Load] = {
    "bulk": Load(loads.bulk, HOPS),
    "bulk-recorded": Load(loads.bulk_recorded, OWN),
    "tiny": Load(loads.tiny, HOPS),
    "paced": Load(loads.paced, (*HOPS, "floor-held")),
    "echo": Load(loads.echo, HOPS),
    "echo-flood": Load(loads.echo_in_flood, HOPS),
    "echo-rest": Load(loads_whole.echo_with_rest, OWN),
    "viewers-20": Load(loads.twenty_viewers, RELAYS),
    "stalled": Load(loads.stalled_viewer, OWN),
    "sessions-50": Load(loads.fifty_sessions, ALL),
    "sessions-200": Load(loads.two_hundred_sessions, ALL),
    "attach-history": Load(loads_whole.attach_to_history, OWN),
    **{f"synthetic-{size}": Load(run, ALL) for size, run in loads_synthetic.SYNTHETIC.items()},
    "idle": Load(loads_whole.idle, OWN, once=True),
    "idle-1000": Load(loads_whole.thousand_idle, OWN, once=True),
    "idle-history": Load(loads_whole.thousand_with_history, OWN, once=True),
    "stalls": Load(loads_whole.loop_stalls, OWN, once=True),
}


def run_load(name: str, bench: Bench, systems: dict[str, System], rounds: int) -> dict[str, Any]:
    """Run one load in interleaved rounds; gives, by system, what each round measured."""
    load = LOADS[name]
    measured: dict[str, list[loads.Metrics]] = {system: [] for system in load.systems}
    for _ in range(1 if load.once else rounds):
        for system in load.systems:
            measured[system].append(load.run(bench, systems[system]))
    return measured


def run(names: list[str], rounds: int, scale: float) -> Results:
    """Run loads one after the other and print what they measured."""
    results: Results = {
        "machine": describe_machine(),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": rounds,
        "scale": scale,
        "loads": {},
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Processes(Path(directory)) as processes:
        systems: dict[str, System] = {
            "agentrelay": Product(processes),
            "websockets": Baseline(processes),
            "floor": Floor(processes),
            "floor-1": Floor(processes, hops=1),
            "floor-held": Floor(processes, hold_us=loads.HOLD_US),
        }
        bench = Bench(processes, scale)
        for name in names:
            results["loads"][name] = run_load(name, bench, systems, rounds)
            print_load(name, LOADS[name].run, results)
    return results


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="bench.system", description="Measure the whole system.")
    parser.add_argument("--load", action="append", choices=list(LOADS), help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument(
        "--quick", action="store_true", help="small amounts and two rounds: does it work at all"
    )
    parser.add_argument("--output", type=Path, help="where to write the raw results; default: bench/results/")
    arguments = parser.parse_args()
    rounds, scale = (2, QUICK_SCALE) if arguments.quick else (arguments.rounds, 1.0)
    results = run(arguments.load or list(LOADS), rounds, scale)
    print_targets(results)
    path = arguments.output or RESULTS / f"system-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1))
    print(f"\nraw results: {path}")


if __name__ == "__main__":
    main()
