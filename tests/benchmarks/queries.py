"""The queries that are timed, and the data they are asked of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.prometheus_api import PrometheusApi, Response, format_seconds
from promcompat.core.model import Labels
from tests.benchmarks.measure import Call
from tests.support.factories import Points, make_labels

N_SAMPLES = 120
INTERVAL_MS = 15_000
BOUNDS = ("0.01", "0.05", "0.25", "1", "+Inf")


class BenchmarkError(Exception):
    """A server answered a query with an error, or with nothing."""


@dataclass(frozen=True, slots=True)
class TimedQuery:
    """An expression, asked at the end of the data or at each of its 120 steps."""

    title: str
    expr: str
    is_range: bool


TIMED_QUERIES = (
    TimedQuery("400 series x 120 steps", "sum by (job) (rate(bench_total[5m]))", True),
    TimedQuery("400 series x 120 steps", "bench_total", True),
    TimedQuery("400 series x 120 steps", "topk(5, rate(bench_total[5m]))", True),
    TimedQuery("400 series x 120 steps", "rate(bench_total[5m]) / on(instance) bench_limit", True),
    TimedQuery(
        "400 buckets x 120 steps",
        "histogram_quantile(0.9, sum by (le, job) (rate(bench_seconds_bucket[5m])))",
        True,
    ),
    TimedQuery("400 series, subquery", "max_over_time(rate(bench_total[1m])[10m:1m])", False),
    TimedQuery("400 series, 30 min window", "quantile_over_time(0.9, bench_total[30m])", False),
    TimedQuery("one series", 'bench_total{instance="i007"}', False),
    TimedQuery("20,000 series", 'count by (job) ({job=~"exporter-.+"})', False),
    TimedQuery(
        "400 of 20,000 series", "sum by (job) (rate(fleet_exporter_metric_07_total[5m]))", True
    ),
)


def query_data(end_ms: int) -> Iterator[tuple[Labels, Points]]:
    """The series the queries select, other than the fleet: 1,200 of them, 120 samples each."""
    rng = np.random.default_rng(5)
    times = [end_ms - (N_SAMPLES - 1 - step) * INTERVAL_MS for step in range(N_SAMPLES)]
    for number in range(400):
        target = {"job": f"job-{number % 10}", "instance": f"i{number:03}"}
        counter = np.cumsum(rng.integers(0, 100, N_SAMPLES)).astype(float).tolist()
        yield make_labels("bench_total", **target), list(zip(times, counter, strict=True))
        yield make_labels("bench_limit", **target), [(time, 100.0) for time in times]
    for number in range(400 // len(BOUNDS)):
        target = {"job": f"job-{number % 10}", "instance": f"i{number:03}"}
        buckets = np.cumsum(rng.integers(0, 9, (len(BOUNDS), N_SAMPLES)), axis=(0))
        for bound, counts in zip(BOUNDS, np.cumsum(buckets, axis=1), strict=True):
            labels = make_labels("bench_seconds_bucket", le=bound, **target)
            yield labels, list(zip(times, counts.astype(float).tolist(), strict=True))


def make_call(query: TimedQuery, end_ms: int) -> Call:
    """Asks the query; raises BenchmarkError when there is nothing to time."""

    async def call(api: PrometheusApi) -> None:
        response = await _ask(api, query, end_ms)
        if not response.is_success or not response.data["result"]:
            raise BenchmarkError(f"{api.url} answers {query.expr} with {response.body}")

    return call


async def _ask(api: PrometheusApi, query: TimedQuery, end_ms: int) -> Response:
    if not query.is_range:
        return await api.query(query.expr, format_seconds(end_ms))
    start_ms = end_ms - (N_SAMPLES - 1) * INTERVAL_MS
    step = str(INTERVAL_MS // 1000)
    return await api.query_range(query.expr, format_seconds(start_ms), format_seconds(end_ms), step)


async def list_metric_names(api: PrometheusApi) -> None:
    """Asks for all metric names."""
    response = await api.get("label/__name__/values")
    if not response.is_success or not response.data:
        raise BenchmarkError(f"{api.url} lists no metric names: {response.body}")
