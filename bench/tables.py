"""Fill docs/benchmarks.md from results: `python -m bench.tables [SYSTEM.json [MICRO.json]]`.

Without arguments the newest results of `make bench-system` and of `make bench` are taken. Everything between
the markers is written anew, and so are the drawings in docs/images/; no number there is written by hand.
"""

import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench import plot
from bench.report import REFERENCES, Results, metrics, ratios, reached, spread, values
from bench.system import LOADS, RESULTS
from bench.targets import TARGETS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
MICRO = "micro.json"
WHO = {"with_websockets": "websockets", "with_picows": "picows", "with_json": "json", "os_read": "os.read"}
CONTENDERS = ("compiled", "python", "websockets", "picows")
TITLES = {"floor": "floor, 2 hops", "floor-1": "floor, 1 hop", "floor-held": "floor, held"}

Row = Iterable[object]


def table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    """Give the lines of a table: the first column to the left, numbers to the right."""
    names = list(map(str, head))
    yield f"| {' | '.join(names)} |"
    yield f"|---|{'---:|' * (len(names) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""


def machine(results: dict[str, Any]) -> str:
    """Say what was measured on, and how."""
    where = results["machine"]
    return (
        f"Measured at {results['started_at']} on {where['cores']} cores of {where['cpu']}, Linux "
        f"{where['kernel']}, Python {where['python']}; {results['rounds']} rounds, amounts times "
        f"{results['scale']:g}; load average before it: {where['load']:.2f}. "
        "A number is the median of its rounds, with the lowest and the highest."
    )


def targets(results: Results) -> Iterator[str]:
    """Say which targets were met."""
    found = [(target, number) for target in TARGETS if (number := reached(results, target)) is not None]
    yield from table(
        ("target", "measured", "met"),
        ((f"`{target.say()}`", f"{n:.4g}", "yes" if target.met_by(n) else "**no**") for target, n in found),
    )


def one_load(results: Results, load: str) -> Iterator[str]:
    """Give what one load measured, with its drawing where there is something to compare."""
    measured = results["loads"][load]
    against = [system for system in REFERENCES if system in measured]
    yield from (f"#### {load}", "", (LOADS[load].run.__doc__ or "").splitlines()[0], "")
    if against:
        yield from (f"![{load}, drawn](images/bench-{load}.svg)", "")
    rows = []
    for metric in metrics(results, load):
        compared = (ratios(results, load, metric, system) for system in against)
        rows.append(
            [f"`{metric}`"]
            + [spread(values(results, load, system, metric)) for system in measured]
            + [f"{statistics.median(found):.2f}" if found else "-" for found in compared]
        )
    head = ["", *(TITLES.get(system, system) for system in measured), *(f"/ {name}" for name in against)]
    yield from table(head, rows)


def hops(results: Results) -> Iterator[str]:
    """Say what one more loopback hop costs: in C, and in AgentRelay, whose second hop is HQ."""
    rows = []
    for load in ("bulk", "tiny", "paced", "echo", "echo-flood"):
        for metric in ("hq_cpu_s_per_gb", "hq_us_per_write", "p50_us", "p99_us", "cpu_us_per_key"):
            one, two, ours = (
                values(results, load, system, metric) for system in ("floor-1", "floor", "agentrelay")
            )
            if not two or not ours:
                continue
            # What only the second hop has, and what has grown by it.
            before = one or [0.0] * len(two)
            rows.append(
                (
                    f"{load} `{metric}`",
                    spread([b - a for a, b in zip(before, two, strict=False)]),
                    spread([b - a for a, b in zip(before, ours, strict=False)]),
                )
            )
    yield from table(("", "one more hop in C", "AgentRelay above one hop"), rows)


def who(name: str) -> str:
    """Tell whose work a micro benchmark measures, by its name."""
    for part, contender in WHO.items():
        if part in name:
            return contender
    return next((each for each in ("compiled", "python") if each in name), "agentrelay")


def per_frame(benchmark: dict[str, Any]) -> str:
    """Show a micro benchmark: time for one frame, and what that makes of large ones."""
    shortest_s, median_s = benchmark["stats"]["min"], benchmark["stats"]["median"]
    frames, n_bytes = benchmark["extra_info"]["frames"], benchmark["extra_info"]["bytes"]
    rate = f", {n_bytes / median_s / 1e9:.2g} GB/s" if n_bytes / frames >= 1024 else ""
    return f"{median_s / frames * 1e9:.4g} ({shortest_s / frames * 1e9:.4g}){rate}"


def times(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """Show how many times as long a micro benchmark takes as ours does."""
    ratio = theirs["stats"]["median"] / ours["stats"]["median"]
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def micro(document: dict[str, Any]) -> Iterator[str]:
    """Give the micro benchmarks: one row for each work and size, one column for each who does it."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    rest: list[tuple[str, str]] = []
    for benchmark in document["benchmarks"]:
        if "frames" in benchmark["extra_info"]:
            work = benchmark["group"] + (", shared ring" if "shared" in benchmark["name"] else "")
            found.setdefault(work, {})[who(benchmark["name"])] = benchmark
        for unit, of in (("cpu_s_per_gb", "CPU-s/GB"), ("mb_per_s", "MB/s")):
            if unit in benchmark["extra_info"]:
                rest.append((benchmark["name"], f"{benchmark['extra_info'][unit]:.4g} {of}"))
    rows: list[Row] = []
    for work, each in found.items():
        ours = each.get("compiled") or each.get("agentrelay")
        others = [times(each[name], ours) if ours and name in each else "-" for name in CONTENDERS[1:]]
        rows.append(
            [work, per_frame(ours) if ours else "-"]
            + [per_frame(each[name]) if name in each else "-" for name in CONTENDERS[1:]]
            + [" · ".join(others)]
        )
    yield "Nanoseconds for one frame: the median, and the shortest in brackets."
    yield ""
    yield from table(("work", *CONTENDERS, "others / compiled"), rows)
    if rest:
        yield from ("The output log and screens, in CPU time of the whole process:", "")
        yield from table(("benchmark", "median"), ((f"`{name}`", number) for name, number in rest))


def fill(page: str, part: str, lines: Iterable[str]) -> str:
    """Put lines between the markers of a part.

    Raises:
        ValueError: the page does not have the markers, once each.
    """
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"the page needs {begin} and {end}, once each")
    text = "\n".join(lines).strip("\n")
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n\n{text}\n\n{end}", page, flags=re.DOTALL)


def system(results: Results) -> Iterator[str]:
    """Give everything about the whole system."""
    yield from (machine(results), "", "### Targets", "")
    yield from targets(results)
    yield from ("### One hop", "", (hops.__doc__ or "").strip().replace("Say w", "W"), "")
    yield from hops(results)
    yield from ("### Loads", "")
    for load in results["loads"]:
        yield from one_load(results, load)


def main() -> None:
    """Fill the page from the command line."""
    given = list(map(Path, sys.argv[1:]))
    newest = sorted(RESULTS.glob("system-*.json"))[-1:]
    results, of_micro = [*given, *newest[len(given) :], *([RESULTS / MICRO] if len(given) < 2 else [])][:2]
    page = PAGE.read_text()
    document: Results = json.loads(results.read_text())
    page = fill(page, "system", system(document))
    plot.write(document)
    if of_micro.exists():
        page = fill(page, "micro", micro(json.loads(of_micro.read_text())))
    PAGE.write_text(page)
    print(f"{PAGE} is filled from {results}" + (f" and {of_micro}" if of_micro.exists() else ""))


if __name__ == "__main__":
    main()
