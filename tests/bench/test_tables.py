"""The page of results: tables between markers, everything else as it was."""

from typing import Any

import pytest

from bench.tables import fill, hops, micro, one_load, table


def results(load: str, metric: str, **systems: list[float]) -> dict[str, Any]:
    rounds = {name: [{metric: number} for number in numbers] for name, numbers in systems.items()}
    return {"loads": {load: {name.replace("floor_1", "floor-1"): each for name, each in rounds.items()}}}


def benchmark(name: str, group: str, median: float) -> dict[str, Any]:
    stats = {"median": median, "min": median / 2}
    return {"name": name, "group": group, "stats": stats, "extra_info": {"frames": 2, "bytes": 8192}}


def test_a_table_has_a_line_for_each_row() -> None:
    assert list(table(("a", "b"), [(1, 2)])) == ["| a | b |", "|---|---:|", "| 1 | 2 |", ""]


def test_only_what_is_between_the_markers_changes() -> None:
    page = "before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n"

    filled = fill(page, "x", ["new \\1"])

    assert filled == "before\n<!-- x: begin -->\n\nnew \\1\n\n<!-- x: end -->\nafter\n"
    assert fill(filled, "x", ["new \\1"]) == filled


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="x: begin"):
        fill("nothing", "x", [])


def test_a_load_shows_every_system_and_its_ratios() -> None:
    run = results(
        "echo", "p50_us", agentrelay=[2.0, 6.0, 3.0], websockets=[4.0, 4.0, 4.0], floor=[1.0, 1.0, 1.0]
    )

    assert "| `p50_us` | 3 (2-6) | 4 (4-4) | 1 (1-1) | 3.00 | 0.75 |" in list(one_load(run, "echo"))


def test_a_hop_is_the_difference_of_two_floors() -> None:
    run = results("echo", "p50_us", agentrelay=[9.0], floor=[5.0], floor_1=[3.0])

    assert "| echo `p50_us` | 2 | 6 |" in list(hops(run))


def test_a_micro_benchmark_shows_nanoseconds_for_a_frame_and_who_takes_longer() -> None:
    document = {
        "benchmarks": [
            benchmark("test_scan[compiled-4 KiB]", "scan", 1e-6),
            benchmark("test_scan[python-4 KiB]", "scan", 20e-6),
            benchmark("test_scan_with_picows[4 KiB]", "scan", 3e-6),
        ]
    }

    (row,) = [line for line in micro(document) if line.startswith("| scan")]

    assert row.split(" | ")[1] == "500 (250), 8.2 GB/s"
    assert row.endswith("| 20 · - · 3 |")
