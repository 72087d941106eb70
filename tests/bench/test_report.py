"""The arithmetic of runs: ratios by round, targets, regressions."""

from typing import Any

from bench.compare import regressions, system_ratios
from bench.plot import draw
from bench.report import ratios, reached, spread
from bench.targets import TARGETS, Target


def results(**systems: list[float]) -> dict[str, Any]:
    rounds = {name: [{"hq_cpu_s_per_gb": number} for number in numbers] for name, numbers in systems.items()}
    return {"loads": {"bulk": rounds}, "rounds": 3, "started_at": "now"}


def test_a_ratio_is_taken_within_each_round() -> None:
    run = results(agentrelay=[1.0, 4.0, 3.0], floor=[1.0, 2.0, 6.0])

    assert ratios(run, "bulk", "hq_cpu_s_per_gb", "floor") == [1.0, 2.0, 0.5]


def test_a_target_is_met_by_the_median() -> None:
    run = results(agentrelay=[1.0, 4.0, 3.0], floor=[1.0, 2.0, 6.0])
    ratio = Target("bulk", "hq_cpu_s_per_gb", 1.0, to="floor")
    difference = Target("bulk", "hq_cpu_s_per_gb", 0.0, to="floor", difference=True)

    assert reached(run, ratio) == 1.0
    assert reached(run, difference) == 0.0
    assert reached(run, ratio._replace(to="websockets")) is None
    assert ratio.met_by(1.0)
    assert not ratio.met_by(1.1)
    assert not ratio._replace(least=True).met_by(0.9)


def test_only_what_is_worse_than_chance_is_a_regression() -> None:
    before = {"bulk hq_cpu_s_per_gb / floor": 1.0, "micro a": 1.0, "gone": 1.0}

    assert regressions({"bulk hq_cpu_s_per_gb / floor": 1.3, "micro a": 0.2, "new": 9.0}, before) == []
    assert len(regressions({"bulk hq_cpu_s_per_gb / floor": 1.4, "micro a": 1.6}, before)) == 2


def test_a_run_gives_the_ratios_that_are_watched() -> None:
    run = results(agentrelay=[2.0], floor=[1.0], websockets=[4.0])

    assert system_ratios(run) == {
        "bulk hq_cpu_s_per_gb / floor": 2.0,
        "bulk hq_cpu_s_per_gb / websockets": 0.5,
    }


def test_a_spread_shows_the_median_and_the_range() -> None:
    assert spread([3.0, 1.0, 2.0]) == "2 (1-3)"
    assert spread([]) == "-"


def test_a_drawing_has_a_dot_for_every_system() -> None:
    svg = draw(results(agentrelay=[2.0, 3.0], floor=[1.0]), "bulk")

    assert svg.count("<circle") == 2
    assert svg.startswith("<svg")


def test_every_target_has_a_load_that_is_run() -> None:
    from bench.system import LOADS

    assert {target.load for target in TARGETS} <= set(LOADS)
