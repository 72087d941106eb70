"""The harness itself, with as little load as it can have: every byte is checked by its viewer."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import loads, loads_synthetic, loads_whole
from bench.corpus import corpus
from bench.native import program
from bench.processes import Processes, cpu_s, memory
from bench.systems import Baseline, Floor, Product, System, view
from bench.viewers import ViewerError, draining

SCALE = 0.01


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("bench")) as processes:
        yield processes


def short_floor(processes: Processes) -> Floor:
    return Floor(processes, hops=1)


@pytest.mark.parametrize("make", [Product, Baseline, Floor, short_floor])
def test_a_system_brings_every_byte(processes: Processes, make: Callable[[Processes], System]) -> None:
    system = make(processes)

    measured = loads.bulk(loads.Bench(processes, SCALE), system)

    at_work = set(system.pids) - {"keeper"}  # which only holds the PTY
    assert all(measured[f"{part}_cpu_s_per_gb"] > 0 for part in at_work)


def test_hq_makes_no_more_frames_than_it_gets(processes: Processes) -> None:
    measured = loads_synthetic.synthetic(loads.Bench(processes, SCALE), "agentrelay", "4k")

    assert measured["frames_out_per_frame_in"] < 0.5


def test_a_thousand_idle_sessions_with_a_megabyte_each_cost_hq_little(processes: Processes) -> None:
    bench = loads.Bench(processes, 1.0)
    measured = loads_whole.thousand_with_history(bench, short_floor(processes))  # it brings its own system

    assert measured["hq_kb_per_session"] <= 65.536


def test_a_viewer_refuses_output_that_is_not_what_was_written(processes: Processes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\0" * corpus().stat().st_size)
    floor = Floor(processes)
    viewers = view(
        processes, floor, draining(1000), [floor.starting([program("program"), "bulk", str(other), "1000"])]
    )
    viewers.go()

    with pytest.raises(ViewerError, match="wrong output"):
        viewers.result()
    viewers.close()


def test_what_a_run_starts_ends_with_it(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        pid = processes.start("sleeper", "sleep", "60").pid
        assert cpu_s(pid) >= 0
        assert memory(pid).rss > 0

    assert not Path(f"/proc/{pid}").exists()
