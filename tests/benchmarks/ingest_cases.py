"""What `ingest_bench` sends: each case's requests, made once and sent to every system."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from tests.benchmarks.format_bodies import CSV_COLUMNS, FORMATS, N_SERIES, make_bodies
from tests.benchmarks.histogram_bodies import make_histogram_bodies
from tests.benchmarks.ingest_batches import make_batches
from tests.benchmarks.ingest_load import REMOTE_WRITE_1, Bodies, Protocol, Scrapes
from tests.benchmarks.payload import INTERVAL_MS, Fleet, fleet_labels
from tests.benchmarks.snappy_template import make_template
from tests.support.factories import encode_labels

SAMPLES_PER_REQUEST: Final = 2_000
_SCRAPES_PER_BATCH: Final = 10
_N_BATCHED_SERIES: Final = 20_000
_BATCHED_SAMPLES_PER_SECOND: Final = 3_000_000
"""More than any system takes on two cores."""
_BACKFILL_MS: Final = 12 * 3_600_000
N_HISTOGRAM_SERIES: Final = 8_000
_HISTOGRAMS_PER_REQUEST: Final = 1_000
_HISTOGRAM_SCRAPES_PER_SECOND: Final = 20
"""Of 8,000 series, 160,000 histograms."""
_SCRAPES_PER_SECOND: Final = 50
"""Of 24,000 series, 1.2 million samples: more than any system takes."""


@dataclass(frozen=True, slots=True)
class Load:
    """A case's requests: `first` makes the series, before any clock; then `timed` for a while."""

    title: str
    first: Scrapes | Bodies | None
    timed: Scrapes | Bodies
    seconds: float
    n_connections: int = 4
    paths: Mapping[str, str | None] = field(default_factory=dict)
    """Where a system takes the format, if elsewhere; None: it does not take it."""

    def of_system(self, name: str) -> "Load":
        """The requests as they are sent to a system."""
        path = self.paths.get(name, self.timed.protocol.path)
        assert path is not None
        protocol = replace(self.timed.protocol, path=path)
        first = None if self.first is None else replace(self.first, protocol=protocol)
        return replace(self, first=first, timed=replace(self.timed, protocol=protocol))


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
    """As `steady`, with as many series for each connection, which stay close to each other."""
    load = _scrapes(20_000, sizes.minutes * 60, f"20,000 series, {sizes.minutes:g} minutes")
    assert isinstance(load.timed, Scrapes)
    return replace(load, timed=replace(load.timed, most_ahead=20), n_connections=5)


def _batches(sizes: LoadSizes) -> Load:
    """As `steady`, with several samples of each series in a request, and fewer series."""
    n_series, per_request = _N_BATCHED_SERIES, SAMPLES_PER_REQUEST // _SCRAPES_PER_BATCH
    n_turns = 1 + round(
        _BATCHED_SAMPLES_PER_SECOND * sizes.seconds / (n_series * _SCRAPES_PER_BATCH)
    )
    start_ms = time.time_ns() // 1_000_000 - (n_turns * _SCRAPES_PER_BATCH + 1) * INTERVAL_MS
    n_first = n_series // per_request
    requests = list(
        make_batches(n_series, per_request, _SCRAPES_PER_BATCH, n_turns * n_first, start_ms)
    )
    title = f"{n_series:,} series, {_SCRAPES_PER_BATCH} samples of each in a request"
    return Load(title, Bodies(requests[:n_first]), Bodies(requests[n_first:]), sizes.seconds)


def _churn(sizes: LoadSizes) -> Load:
    """Series that have one sample each, as after a rollout of everything at once."""
    fleet = Fleet("churn", sizes.churn_series, time.time_ns() // 1_000_000 - INTERVAL_MS)
    requests = [(request.body, request.n_samples) for request in fleet.scrape(1)]
    title = f"{sizes.churn_series:,} new series"
    return Load(title, None, Bodies(requests), 4 * sizes.seconds)


_GZIP: Final = "Content-Encoding: gzip\r\n"
_PROTOCOLS: Final = {
    "remote-write-1": REMOTE_WRITE_1,
    "remote-write-2": Protocol(
        headers="Content-Encoding: snappy\r\n"
        "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n"
        "X-Prometheus-Remote-Write-Version: 2.0.0\r\n"
    ),
    "otlp": Protocol(
        "/api/v1/otlp/v1/metrics",
        "Content-Encoding: gzip\r\nContent-Type: application/x-protobuf\r\n",
    ),
    "json-lines": Protocol("/api/v1/import", _GZIP),
    "exposition": Protocol("/api/v1/import/prometheus", _GZIP),
    "csv": Protocol(f"/api/v1/import/csv?format={CSV_COLUMNS}", _GZIP),
    "influx": Protocol("/write?precision=ms", _GZIP),
    "datadog": Protocol("/datadog/api/v2/series", _GZIP + "Content-Type: application/json\r\n"),
}
_WITHOUT_PROMETHEUS: Final[Mapping[str, str | None]] = {"Prometheus": None}
PATHS: Final[Mapping[str, Mapping[str, str | None]]] = {
    "remote-write-1": {},
    "remote-write-2": {"VictoriaMetrics": None},
    # Debian's Prometheus is built without its receiver of OTLP.
    "otlp": {"VictoriaMetrics": "/opentelemetry/v1/metrics", "Prometheus": None},
    **dict.fromkeys(("json-lines", "exposition", "csv", "influx", "datadog"), _WITHOUT_PROMETHEUS),
    # VictoriaMetrics makes series of floats of native histograms.
    "histograms-1": {"VictoriaMetrics": None},
    "histograms-2": {"VictoriaMetrics": None},
    "histograms-at-rest": {"VictoriaMetrics": None},
}


def _format(name: str, sizes: LoadSizes) -> Load:
    """The same scrapes in one of the formats; each connection has its own series."""
    n_scrapes = max(2, round(_SCRAPES_PER_SECOND * sizes.seconds))
    start_ms = time.time_ns() // 1_000_000 - (n_scrapes + 1) * INTERVAL_MS
    requests = list(make_bodies(name, n_scrapes, start_ms))
    n_first = N_SERIES // SAMPLES_PER_REQUEST
    protocol = _PROTOCOLS[name]
    return Load(
        f"{N_SERIES:,} series as {name}",
        Bodies(requests[:n_first], protocol),
        Bodies(requests[n_first:], protocol),
        sizes.seconds,
        paths=PATHS[name],
    )


def histogram_requests(version: int, n_scrapes: int, n_series: int) -> list[tuple[bytes, int]]:
    """Scrapes of native histograms that end now."""
    start_ms = time.time_ns() // 1_000_000 - (n_scrapes + 1) * INTERVAL_MS
    per_request = min(_HISTOGRAMS_PER_REQUEST, n_series)
    return list(make_histogram_bodies(version, n_series, per_request, n_scrapes, start_ms))


def _histograms(version: int, sizes: LoadSizes) -> Load:
    """Native histograms of 20 buckets; each connection has its own series."""
    n_scrapes = max(2, round(_HISTOGRAM_SCRAPES_PER_SECOND * sizes.seconds))
    requests = histogram_requests(version, n_scrapes, N_HISTOGRAM_SERIES)
    n_first = N_HISTOGRAM_SERIES // _HISTOGRAMS_PER_REQUEST
    protocol = _PROTOCOLS[f"remote-write-{version}"]
    return Load(
        f"{N_HISTOGRAM_SERIES:,} series of native histograms by remote write {version}.0",
        Bodies(requests[:n_first], protocol),
        Bodies(requests[n_first:], protocol),
        sizes.seconds,
        paths=PATHS[f"histograms-{version}"],
    )


LOADS: Final[Mapping[str, Callable[[LoadSizes], Load]]] = {
    "steady": _steady,
    "wide": _wide,
    "batches": _batches,
    "churn": _churn,
    "sustained": _sustained,
    **{name: partial(_format, name) for name in FORMATS},
    "histograms-1": partial(_histograms, 1),
    "histograms-2": partial(_histograms, 2),
}


def percentile(values: np.ndarray, percent: float) -> float:
    """A percentile; 0 of no values."""
    return float(np.percentile(values, percent)) if len(values) else 0.0
