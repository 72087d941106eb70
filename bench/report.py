"""What a run measured, for people: medians with their range, ratios within the run, targets."""

import statistics
from typing import Any

from bench.loads import LoadFunction
from bench.targets import TARGETS, Target

Results = dict[str, Any]
REFERENCES = ("floor", "websockets")


def values(results: Results, load: str, system: str, metric: str) -> list[float]:
    """Give what each round measured; empty where it did not."""
    rounds = results["loads"].get(load, {}).get(system, [])
    return [measured[metric] for measured in rounds if metric in measured]


def metrics(results: Results, load: str) -> list[str]:
    """Give the names of everything that a load measured."""
    measured = results["loads"][load]
    return list(dict.fromkeys(metric for rounds in measured.values() for each in rounds for metric in each))


def ratios(results: Results, load: str, metric: str, to: str) -> list[float]:
    """Give, round by round, AgentRelay's number divided by that of the system `to`."""
    pairs = zip(values(results, load, "agentrelay", metric), values(results, load, to, metric), strict=False)
    return [ours / theirs for ours, theirs in pairs if theirs > 0]


def spread(numbers: list[float]) -> str:
    """Show a median with its range."""
    if not numbers:
        return "-"
    median = statistics.median(numbers)
    if len(numbers) == 1:
        return f"{median:.4g}"
    return f"{median:.4g} ({min(numbers):.4g}-{max(numbers):.4g})"


def print_load(name: str, run: LoadFunction, results: Results) -> None:
    """Print one load's numbers."""
    print(f"\n{name}: {(getattr(run, '__doc__', '') or '').splitlines()[0]}")
    measured = results["loads"][name]
    others = [system for system in REFERENCES if system in measured]
    for metric in metrics(results, name):
        line = f"  {metric:<26}" + "".join(
            f" {system} {spread(values(results, name, system, metric)):<28}" for system in measured
        )
        for system in others:
            found = ratios(results, name, metric, system)
            if found:
                line += f" /{system} {statistics.median(found):.2f}"
        print(line, flush=True)


def reached(results: Results, target: Target) -> float | None:
    """Give the median that a target speaks of; None where it was not measured."""
    ours = values(results, target.load, "agentrelay", target.metric)
    if not ours:
        return None
    if target.to is None:
        return statistics.median(ours)
    if target.difference:
        theirs = values(results, target.load, target.to, target.metric)
        return statistics.median(a - b for a, b in zip(ours, theirs, strict=False)) if theirs else None
    found = ratios(results, target.load, target.metric, target.to)
    return statistics.median(found) if found else None


def print_targets(results: Results) -> None:
    """Print which targets are met."""
    print("\ntargets")
    for target in TARGETS:
        number = reached(results, target)
        if number is not None:
            verdict = "met" if target.met_by(number) else "NOT met"
            print(f"  {verdict:<8} {target.say():<76} {number:.4g}")
