from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from agentrelay.hq.metrics import _COUNTERS, Metrics


class Known:
    def __init__(self) -> None:
        self.runners: Counter[bool] = Counter()
        self.sessions: Counter[str] = Counter()
        self.viewers = 0

    def count_runners(self) -> Counter[bool]:
        return self.runners

    def count_sessions(self) -> Counter[str]:
        return self.sessions

    def count_viewers(self) -> int:
        return self.viewers


def read(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_gauges_are_what_is_known_when_somebody_asks() -> None:
    known = Known()
    metrics = Metrics(known)
    assert read(metrics)["agentrelay_runners", "true"] == 0
    known.runners = Counter({True: 2, False: 1})
    known.sessions = Counter(running=2, ended=1)
    known.viewers = 5
    values = read(metrics)
    assert values["agentrelay_runners", "true"] == 2
    assert values["agentrelay_runners", "false"] == 1
    assert values["agentrelay_sessions", "running"] == 2
    assert values["agentrelay_sessions", "ended"] == 1
    assert values["agentrelay_sessions", "away"] == 0
    assert values["agentrelay_viewers", ""] == 5


def test_every_counter_is_an_attribute_to_add_to() -> None:
    metrics = Metrics(Known())
    for index, name in enumerate(_COUNTERS):
        assert getattr(metrics, name) == 0
        setattr(metrics, name, index + 1)
    values = read(metrics)
    for index, name in enumerate(_COUNTERS):
        assert values[f"agentrelay_{name}_total", ""] == index + 1


def test_a_counter_may_be_larger_than_a_float_counts_exactly() -> None:
    metrics = Metrics(Known())
    metrics.output_bytes += 2**60
    assert read(metrics)["agentrelay_output_bytes_total", ""] == 2**60


def test_the_process_and_the_version_are_told() -> None:
    values = read(Metrics(Known()))
    assert values["process_resident_memory_bytes", ""] > 0
    assert [key for key in values if key[0] == "agentrelay_hq_info"]


def test_two_hqs_in_one_process_do_not_share_numbers() -> None:
    first, second = Metrics(Known()), Metrics(Known())
    first.logins += 1
    assert read(second)["agentrelay_logins_total", ""] == 0
