"""Has anything become slower? `python -m bench.compare` measures and compares with bench/baseline.json.

What is compared are ratios within one run: AgentRelay to the floor and to `websockets`, micro benchmarks of
our compiled code to all of them. Absolute times are a machine's, and are never compared. What looks worse is
measured once more, and is worse if it is so again. `--update` makes the ratios of this run the new baseline;
commit it with what changed it.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.report import Results, ratios
from bench.system import run

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
ROUNDS = 5

Ratios = dict[str, float]


class Watched(NamedTuple):
    """A ratio of the whole system, and how much worse it may come out before that means something."""

    load: str
    metric: str
    to: str
    slack: float


WATCHED = [
    Watched("bulk", "hq_cpu_s_per_gb", "floor", 1.35),
    Watched("bulk", "hq_cpu_s_per_gb", "websockets", 1.35),
    Watched("bulk", "reader_cpu_s_per_gb", "floor", 1.25),
    Watched("tiny", "us_per_write", "floor", 2.0),
    Watched("paced", "us_per_write", "websockets", 2.0),
    Watched("echo", "cpu_us_per_key", "floor", 1.4),
    Watched("viewers-20", "hq_cpu_s_per_gb", "websockets", 1.35),
    Watched("synthetic-64k", "hq_cpu_s_per_gb", "floor", 1.35),
    Watched("synthetic-4k", "hq_cpu_s_per_gb", "floor", 1.35),
    Watched("synthetic-64", "hq_cpu_s_per_gb", "websockets", 1.5),
]

MICRO_SLACK = 1.5
NOT_OURS = ("with_", "python", "os_read")
"""What the names of micro benchmarks have that measure something else, or what is not meant to be fast."""


def system_ratios(results: Results) -> Ratios:
    """Give the watched ratios of a run; in all of them less is better."""
    found = {}
    for load, metric, to, _ in WATCHED:
        numbers = ratios(results, load, metric, to)
        if numbers:
            found[f"{load} {metric} / {to}"] = statistics.median(numbers)
    return found


def micro_ratios() -> Ratios:
    """Run the micro benchmarks; gives the time of ours in units of the geometric mean of all."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", str(HERE / "micro"), f"--benchmark-json={path}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        benchmarks = json.loads(path.read_text())["benchmarks"]
    medians = {each["fullname"].rpartition("/")[2]: each["stats"]["median"] for each in benchmarks}
    mean = statistics.geometric_mean(medians.values())
    return {
        f"micro {name}": median / mean
        for name, median in medians.items()
        if not any(other in name for other in NOT_OURS)
    }


def regressions(now: Ratios, before: Ratios) -> list[str]:
    """Say what has become worse by more than chance; what only one of them has is not compared."""
    slack = {f"{load} {metric} / {to}": allowed for load, metric, to, allowed in WATCHED}
    return [
        f"{name}: {number:.3g}, was {before[name]:.3g}"
        for name, number in now.items()
        if name in before and number > before[name] * slack.get(name, MICRO_SLACK)
    ]


def measure(loads: Iterable[str], rounds: int, *, micro: bool) -> tuple[Results, Ratios]:
    """Measure these loads and, if wanted, the micro benchmarks."""
    results = run(list(dict.fromkeys(loads)), rounds, 1.0)
    return results, system_ratios(results) | (micro_ratios() if micro else {})


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.compare", description="Measure and compare with the baseline."
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-micro", action="store_true", help="the whole system only")
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    arguments = parser.parse_args()
    results, now = measure(
        (watched.load for watched in WATCHED), arguments.rounds, micro=not arguments.no_micro
    )
    if arguments.update:
        document = {"machine": results["machine"], "measured_at": results["started_at"], "ratios": now}
        BASELINE.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{BASELINE} has {len(now)} ratios")
        return
    if not BASELINE.exists():
        raise SystemExit(f"there is no {BASELINE}; python -m bench.compare --update makes it")
    before = json.loads(BASELINE.read_text())["ratios"]
    worse = regressions(now, before)
    if worse:
        print("Worse at first sight, and measured once more:", *worse, sep="\n")
        kinds = {name.partition(" ")[0] for name in worse}
        _, again = measure(kinds - {"micro"}, arguments.rounds, micro="micro" in kinds)
        worse = regressions({name: min(now[name], again[name]) for name in again}, before)
    for line in worse:
        print(f"WORSE  {line}")
    print(f"{len(now) - len(worse)} of {len(now)} ratios are as they were")
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()
