"""What the whole system is to reach, as medians of one run."""

from typing import NamedTuple


class Target(NamedTuple):
    """One target.

    Attributes:
        load: which load.
        metric: which number of it.
        limit: most it may be, or least where `least`.
        to: the system it is compared with; None: the number itself.
        difference: whether the comparison is a difference and not a ratio.
        least: whether more is better.
    """

    load: str
    metric: str
    limit: float
    to: str | None = None
    difference: bool = False
    least: bool = False

    def met_by(self, number: float) -> bool:
        """Tell whether a number is good enough."""
        return number >= self.limit if self.least else number <= self.limit

    def say(self) -> str:
        """Say it in one line."""
        how = "" if self.to is None else f" {'minus' if self.difference else '/'} {self.to}"
        return f"{self.load} {self.metric}{how} {'>=' if self.least else '<='} {self.limit:g}"


TARGETS = [
    Target("bulk", "hq_cpu_s_per_gb", 0.6),
    Target("bulk", "hq_cpu_s_per_gb", 2.2, to="floor"),
    Target("bulk", "hq_cpu_s_per_gb", 0.1, to="websockets"),
    Target("bulk", "reader_cpu_s_per_gb", 1.15, to="floor"),
    Target("paced", "us_per_write", 5.0),
    Target("echo", "p50_us", 50.0, to="floor", difference=True),
    Target("echo", "p99_us", 150.0, to="floor", difference=True),
    Target("echo-flood", "p99_us", 1000.0),
    Target("echo-rest", "p99_us", 2000.0),
    Target("viewers-20", "hq_cpu_s_per_gb", 4.0),
    Target("stalled", "live_share", 0.95, least=True),
    Target("stalled", "stall_growth_mb", 2.0),
    Target("sessions-50", "slowest_to_fastest", 1.1),
    Target("synthetic-64k", "mb_per_s", 1400, least=True),
    Target("synthetic-4k", "mb_per_s", 1300, least=True),
    Target("synthetic-64", "mb_per_s", 40, least=True),
    Target("idle", "hq_rss_mb", 60),
    Target("idle", "runner_rss_mb", 25),
    Target("idle", "keeper_rss_mb", 15),
    Target("idle", "kb_per_session", 65.536),
    Target("idle-1000", "hq_core_share", 0.02),
    Target("idle-history", "hq_kb_per_session", 65.536),
    Target("stalls", "hq_longest_turn_ms", 5.0),
    Target("stalls", "runner_longest_turn_ms", 5.0),
]
