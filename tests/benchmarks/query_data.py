"""The series of the query benchmark, and their samples in the order of time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.prometheus_api import encode_write_requests
from promcompat.core.model import Labels
from tests.support.factories import make_labels

WINDOW_MS = 3_600_000
DAY_MS = 24 * WINDOW_MS


@dataclass(frozen=True, slots=True)
class Population:
    """Counters scraped together: `[n_series]` of them for `span_ms` until the end."""

    labels: Sequence[Labels]
    span_ms: int
    interval_ms: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many series each population has."""

    panel: int = 400
    dashboard: int = 1_000
    wide: int = 10_000
    day: int = 1_000
    month: int = 20
    names: int = 100_000

    def scaled(self, scale: float) -> "Sizes":
        """The same, smaller or larger; the panel stays."""
        fields = {name: max(10, round(getattr(self, name) * scale)) for name in self.__slots__}
        return Sizes(**{**fields, "panel": self.panel})


def populations(sizes: Sizes) -> list[Population]:
    """What is loaded into every server."""
    minutes = 60_000
    buckets = [
        make_labels("q_seconds_bucket", job=f"job-{number % 10}", instance=f"i{number}", le=bound)
        for number in range(200)
        for bound in ("0.05", "0.25", "1", "5", "+Inf")
    ]
    return [
        Population(_fleet("q_panel_total", sizes.panel), 70 * minutes, 15_000),
        Population(_fleet("q_dashboard_total", sizes.dashboard), 70 * minutes, 15_000),
        Population(buckets, 70 * minutes, 15_000),
        Population(_fleet("q_wide_total", sizes.wide), 10 * minutes, 30_000),
        Population(_fleet("q_day_total", sizes.day), DAY_MS, 15_000),
        Population(_fleet("q_month_total", sizes.month), 30 * DAY_MS, 60_000),
        Population(_fleet("q_name", sizes.names), 0, 15_000),
    ]


def _fleet(name: str, n_series: int) -> list[Labels]:
    return [
        make_labels(
            name,
            job=f"job-{number % 10}",
            instance=f"10.{number // 2500}.{number // 10 % 250}.{number % 10}:9100",
            environment="production",
        )
        for number in range(n_series)
    ]


def write_bodies(loaded: Sequence[Population], end_ms: int) -> Iterator[bytes]:
    """Remote-write bodies, an hour of all series after the other."""
    first_ms = end_ms - max(population.span_ms for population in loaded)
    for start_ms in range(first_ms, end_ms + 1, WINDOW_MS):
        for population in loaded:
            times = _times(population, end_ms, start_ms)
            if len(times):
                yield from encode_write_requests(
                    (labels, _points(number, times))
                    for number, labels in enumerate(population.labels)
                )


def _times(population: Population, end_ms: int, start_ms: int) -> np.ndarray:
    times = end_ms - np.arange(population.span_ms // population.interval_ms, -1, -1) * (
        population.interval_ms
    )
    return times[(times >= start_ms) & (times < start_ms + WINDOW_MS)]


def _points(number: int, times: np.ndarray) -> list[tuple[int, float]]:
    # Counters of different speeds that are exact in a float, and never reset.
    values = times // 1000 % 10_000_000 * (1 + number % 7)
    return list(zip(times.tolist(), values.astype(float).tolist(), strict=True))
