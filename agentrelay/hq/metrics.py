"""HQ's numbers for Prometheus: counters the data plane adds to, and gauges read when somebody asks.

`metrics.output_bytes += n` is one attribute store: nothing here is a lock, a label lookup or a call on the
hot path. All of it is for the event loop's thread only, where `/metrics` is answered too.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from agentrelay import __version__
from agentrelay.hq.info import SessionState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS = {
    "output_bytes": "Output bytes taken from runners.",
    "input_bytes": "Input bytes sent to runners.",
    "viewer_bytes": "Output bytes sent to viewers.",
    "links": "Links that were established.",
    "links_replaced": "Links that a newer one of the same runner replaced.",
    "attaches": "Viewers that attached.",
    "resyncs": "Times a viewer fell too far behind and was given a snapshot.",
    "gaps": "Holes in the output of a session.",
    "gap_bytes": "Output bytes that were lost.",
    "logins": "Logins that were made.",
    "logins_refused": "Logins that were refused.",
}


class Known(Protocol):
    """What gauges are read from; the registry."""

    def count_runners(self) -> Counter[bool]:
        """Count the runners by whether they are online."""

    def count_sessions(self) -> Counter[str]:
        """Count the sessions by state."""

    def count_viewers(self) -> int:
        """Count the attached viewers."""


class Metrics:
    """The counters of one HQ, and how to read the rest of it.

    Args:
        known: read whenever somebody asks.
    """

    __slots__ = (*_COUNTERS, "_known", "_registry")

    output_bytes: int
    input_bytes: int
    viewer_bytes: int
    links: int
    links_replaced: int
    attaches: int
    resyncs: int
    gaps: int
    gap_bytes: int
    logins: int
    logins_refused: int

    def __init__(self, known: Known) -> None:
        for name in _COUNTERS:
            setattr(self, name, 0)
        self._known = known
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def render(self) -> bytes:
        """Give everything in the Prometheus text format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Read the numbers as they are now (prometheus-client calls this)."""
        yield InfoMetricFamily("agentrelay_hq", "This HQ.", {"version": __version__})
        yield self._collect_runners()
        yield from self._collect_sessions()
        for name, text in _COUNTERS.items():
            yield CounterMetricFamily(f"agentrelay_{name}", text, getattr(self, name))

    def describe(self) -> Iterable[Metric]:
        """Give no description ahead of time: nothing here may collide, and `collect` says it all."""
        return ()

    def _collect_runners(self) -> Metric:
        online = self._known.count_runners()
        runners = GaugeMetricFamily("agentrelay_runners", "Known runners.", labels=["online"])
        for state in (True, False):
            runners.add_metric([str(state).lower()], online[state])
        return runners

    def _collect_sessions(self) -> Iterator[Metric]:
        count = self._known.count_sessions()
        sessions = GaugeMetricFamily("agentrelay_sessions", "Known sessions.", labels=["state"])
        for state in get_args(SessionState):
            sessions.add_metric([state], count[state])
        yield sessions
        yield GaugeMetricFamily("agentrelay_viewers", "Attached viewers.", self._known.count_viewers())
