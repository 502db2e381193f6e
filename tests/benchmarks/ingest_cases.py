"""What `ingest_bench` sends: each case's requests, made once and sent to every system."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.benchmarks.ingest_load import Bodies, Scrapes
from tests.benchmarks.payload import INTERVAL_MS, Fleet, fleet_labels
from tests.benchmarks.snappy_template import make_template
from tests.factories import encode_labels

SAMPLES_PER_REQUEST: Final = 2_000
_BACKFILL_MS: Final = 12 * 3_600_000


@dataclass(frozen=True, slots=True)
class Load:
    """A case's requests: `first` makes the series, before any clock; then `timed` for a while."""

    title: str
    first: Scrapes | Bodies | None
    timed: Scrapes | Bodies
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadSizes:
    """How large and how long the cases are."""

    seconds: float
    minutes: float
    churn_series: int


def _scrapes(n_series: int, seconds: float, title: str) -> Load:
    """Counters of `n_series` series every 15 s, sent faster than they were scraped."""
    prefixes = [encode_labels(fleet_labels(number, "fleet")) for number in range(n_series)]
    templates = [
        make_template(prefixes[start : start + SAMPLES_PER_REQUEST])
        for start in range(0, n_series, SAMPLES_PER_REQUEST)
    ]
    # No system takes samples of the future, and the samples' clock is faster than the real one.
    span_ms = _BACKFILL_MS + round(seconds * 200 * INTERVAL_MS * 20_000 / n_series)
    start_ms = time.time_ns() // 1_000_000 - span_ms
    return Load(
        title,
        Scrapes(templates, start_ms, INTERVAL_MS, n_scrapes=1),
        Scrapes(templates, start_ms + INTERVAL_MS, INTERVAL_MS),
        seconds,
    )


def _steady(sizes: LoadSizes) -> Load:
    return _scrapes(20_000, sizes.seconds, "20,000 series")


def _wide(sizes: LoadSizes) -> Load:
    return _scrapes(100_000, sizes.seconds, "100,000 series")


def _sustained(sizes: LoadSizes) -> Load:
    return _scrapes(20_000, sizes.minutes * 60, f"20,000 series, {sizes.minutes:g} minutes")


def _churn(sizes: LoadSizes) -> Load:
    """Series that have one sample each, as after a rollout of everything at once."""
    fleet = Fleet("churn", sizes.churn_series, time.time_ns() // 1_000_000 - INTERVAL_MS)
    requests = [(request.body, request.n_samples) for request in fleet.scrape(1)]
    title = f"{sizes.churn_series:,} new series"
    return Load(title, None, Bodies(requests), 4 * sizes.seconds)


LOADS: Final[Mapping[str, Callable[[LoadSizes], Load]]] = {
    "steady": _steady,
    "wide": _wide,
    "churn": _churn,
    "sustained": _sustained,
}


def percentile(values: np.ndarray, percent: float) -> float:
    """A percentile; 0 of no values."""
    return float(np.percentile(values, percent)) if len(values) else 0.0
