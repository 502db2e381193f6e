"""Deterministic data with what real data has: restarts, outages, stale markers, NaN, odd times."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import FloatArray, IntArray, Labels
from tests.support.factories import STALE_NAN, Points, make_labels

END_MS = 1_743_296_400_000
"""2025-03-30T01:00:00Z; the queries look at the two hours before it."""
INTERVAL_MS = 15_000
N_SCRAPES = 600
BOUNDS = ("0.005", "0.025", "0.1", "0.5", "2.5", "+Inf")

Column = Sequence[tuple[Labels, FloatArray]]


@dataclass(frozen=True, slots=True)
class DemoTarget:
    """A scraped target: `restarts` are scrapes at which its counters begin anew, `outage` is a
    stretch of scrapes that failed, `phase_ms` is when within an interval it is scraped."""

    instance: str
    seed: int
    phase_ms: int
    restarts: tuple[int, ...] = ()
    outage: range = range(0)

    def series(self) -> Iterator[tuple[Labels, Points]]:
        """Every series of the target."""
        rng = np.random.default_rng(self.seed)
        times = END_MS - (N_SCRAPES - 1 - np.arange(N_SCRAPES)) * INTERVAL_MS + self.phase_ms
        for labels, values in [*self._counters(rng), *self._gauges(rng, times)]:
            yield labels, self._scraped(times, values)

    def _scraped(self, times: IntArray, values: FloatArray) -> Points:
        """The points without the outage, which begins with a stale marker."""
        pairs = list(zip(times.tolist(), values.tolist(), strict=True))
        if not self.outage:
            return pairs
        before, after = pairs[: self.outage.start], pairs[self.outage.stop :]
        return [*before, (pairs[self.outage.start][0], STALE_NAN), *after]

    def _counter(self, increments: FloatArray) -> FloatArray:
        values = np.cumsum(increments)
        for restart in self.restarts:
            values[restart:] -= values[restart] - increments[restart]
        return values

    def _counters(self, rng: np.random.Generator) -> Iterator[tuple[Labels, FloatArray]]:
        for mode, weight in (("user", 0.3), ("system", 0.1), ("idle", 0.6)):
            labels = self._labels("demo_cpu_seconds_total", mode=mode)
            yield labels, self._counter(rng.uniform(0, 30 * weight, N_SCRAPES))
        for method, status, rate in (("GET", "200", 40), ("GET", "500", 1), ("POST", "200", 9)):
            labels = self._labels("demo_requests_total", method=method, status=status)
            yield labels, self._counter(rng.poisson(rate, N_SCRAPES).astype(float))
        for method in ("GET", "POST"):
            yield from self._histogram(rng, method)

    def _histogram(
        self, rng: np.random.Generator, method: str
    ) -> Iterator[tuple[Labels, FloatArray]]:
        in_bucket = rng.poisson(3, (len(BOUNDS), N_SCRAPES)).astype(float)
        cumulative = np.cumsum(in_bucket, axis=0)
        for bound, increments in zip(BOUNDS, cumulative, strict=True):
            labels = self._labels("demo_duration_seconds_bucket", method=method, le=bound)
            yield labels, self._counter(increments)
        total = self._labels("demo_duration_seconds_sum", method=method)
        yield total, self._counter(rng.uniform(0, 5, N_SCRAPES))
        count = self._labels("demo_duration_seconds_count", method=method)
        yield count, self._counter(cumulative[-1])

    def _gauges(
        self, rng: np.random.Generator, times: IntArray
    ) -> Iterator[tuple[Labels, FloatArray]]:
        for kind in ("used", "free"):
            values = np.round(rng.normal(4e9, 5e8, N_SCRAPES))
            yield self._labels("demo_memory_bytes", type=kind), values
        wave = 20 * np.sin(np.arange(N_SCRAPES) / 40) + rng.normal(0, 1, N_SCRAPES)
        wave[rng.integers(0, N_SCRAPES, 5)] = np.nan
        yield self._labels("demo_temperature_celsius"), wave
        steps = np.floor(np.arange(N_SCRAPES) / 50)
        yield self._labels("demo_replicas"), steps % 4
        yield self._labels("demo_start_time_seconds"), np.full(N_SCRAPES, times[0] / 1000)
        yield self._labels("demo_build_info", version=f"v{self.seed % 2}"), np.ones(N_SCRAPES)

    def _labels(self, name: str, **labels: str) -> Labels:
        return make_labels(name, job="demo", instance=self.instance, **labels)


TARGETS = (
    DemoTarget("a:8080", seed=1, phase_ms=0),
    DemoTarget("b:8080", seed=2, phase_ms=137, restarts=(300, 500)),
    DemoTarget("c:8080", seed=3, phase_ms=-4_321, restarts=(450,), outage=range(420, 440)),
)


def irregular_series() -> Iterator[tuple[Labels, Points]]:
    """Series whose samples come when they like."""
    rng = np.random.default_rng(9)
    start_ms = END_MS - N_SCRAPES * INTERVAL_MS
    for number, mean_ms in enumerate((1_000, 47_000, 400_000)):
        n_samples = min(2_000, N_SCRAPES * INTERVAL_MS // mean_ms)
        times = start_ms + np.cumsum(rng.integers(1, 2 * mean_ms, n_samples))
        values = np.round(rng.normal(0, 10, n_samples), 2)
        labels = make_labels("irregular", number=str(number))
        yield labels, list(zip(times.tolist(), values.tolist(), strict=True))


def all_series() -> dict[Labels, Points]:
    """The whole data set."""
    sources: Iterable[tuple[Labels, Points]] = (
        pair for target in TARGETS for pair in target.series()
    )
    return dict(sources) | dict(irregular_series())
