"""What metrics of several groups are made of."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""The buckets of durations."""


def reload_gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    """Whether files could be used when they were last read; of several workers, the worst.

    It is 1 from the beginning: a service without such a file, or a worker that has not read it
    yet, has found no fault.
    """
    gauge = Gauge(name, text, registry=registry, multiprocess_mode="livemin")
    gauge.set(1)
    return gauge


class Totals:
    """Counters that follow totals which other code keeps, by their names.

    They are increased from time to time: a collector that read the totals when it is scraped would
    not be seen by the other workers.
    """

    def __init__(self, prefix: str, texts: Mapping[str, str], registry: CollectorRegistry) -> None:
        """`texts` has the help text of each total."""
        self._counters = {
            name: Counter(f"{prefix}_{name}", text, registry=registry)
            for name, text in texts.items()
        }
        self._last: dict[str, float] = {}

    def follow(self, totals: Mapping[str, float]) -> None:
        """Increase each counter to its total."""
        for name, counter in self._counters.items():
            total = totals.get(name, 0.0)
            counter.inc(max(0.0, total - self._last.get(name, 0.0)))
            self._last[name] = total
