"""Classic histograms and summaries, assembled from the series they are stored as."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import EMPTY_LABELS, FloatArray, Labels, SampleBlock, is_stale
from promcompat.core.native_queries import (
    DEFAULT_PERCENTILES,
    LatestDistribution,
    SampleRow,
    Statistics,
)
from promcompat.querying.bucket_expressions import quantile_text
from promql.functions.classic_histograms import parse_bound

BUCKET, SUM, COUNT, QUANTILE = "_bucket", "_sum", "_count", ""
"""The suffixes of the metric's name in the names of its series."""
_US_PER_MS = 1000

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class _Parts:
    """The values of the series of one distribution."""

    timestamp_ms: int = 0
    count: float | None = None
    sum: float | None = None
    buckets: dict[str, float] = field(default_factory=dict)
    quantiles: dict[str, list[float]] = field(default_factory=dict)

    def add(self, suffix: str, labels: Labels, value: float) -> None:
        """Add the value of one series; values of several series of a group are summed."""
        match suffix:
            case "_bucket":
                le = labels.get("le")
                self.buckets[le] = self.buckets.get(le, 0.0) + value
            case "_sum":
                self.sum = (self.sum or 0.0) + value
            case "_count":
                self.count = (self.count or 0.0) + value
            case _:
                self.quantiles.setdefault(labels.get("quantile"), []).append(value)


def latest_distributions(
    rows_of: dict[str, list[SampleRow]], limit: int
) -> list[LatestDistribution]:
    """The newest state of each distribution, sorted by labels; `rows_of` is by suffix."""
    groups: dict[Labels, _Parts] = {}
    for suffix, rows in rows_of.items():
        for row in rows:
            labels = row.labels.without_name().without(("le", "quantile"))
            parts = groups.setdefault(labels, _Parts())
            parts.add(suffix, row.labels, row.value)
            time_ms = row.position.timestamp_us // _US_PER_MS
            parts.timestamp_ms = max(parts.timestamp_ms, time_ms)
    return [
        LatestDistribution(
            labels=labels,
            timestamp_ms=parts.timestamp_ms,
            count=parts.count,
            sum=parts.sum,
            buckets=dict(_by_bound(parts.buckets.items())),
            quantiles={q: values[0] for q, values in _by_bound(parts.quantiles.items())},
        )
        for labels, parts in sorted(groups.items())[:limit]
    ]


def distribution_statistics(
    blocks: dict[str, SampleBlock], group_by: Sequence[str]
) -> list[Statistics]:
    """Statistics of the observations counted in a range, for each group, sorted by labels.

    `blocks` are the samples of the range by suffix. The number of observations is the increase of
    the counters, resets included. Minimum and maximum are unknown.
    """
    groups: dict[Labels, _Parts] = {} if group_by else {EMPTY_LABELS: _Parts()}
    for suffix, block in blocks.items():
        reduce_series = _mean if suffix == QUANTILE else _increase
        for labels, value in _reduced(block, reduce_series):
            group = labels.only(group_by)
            groups.setdefault(group, _Parts()).add(suffix, labels, value)
    return [_statistics(labels, parts) for labels, parts in sorted(groups.items())]


def _statistics(labels: Labels, parts: _Parts) -> Statistics:
    count = parts.count
    if count is None:
        count = max(parts.buckets.values(), default=0.0)
    p50, p95, p99 = (_percentile(parts, percentile) for percentile in DEFAULT_PERCENTILES)
    return Statistics(
        labels=labels,
        count=int(count) if float(count).is_integer() else count,
        avg=parts.sum / count if parts.sum is not None and count else None,
        sum=parts.sum,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def _percentile(parts: _Parts, percentile: float) -> float | None:
    if parts.buckets:
        return histogram_percentile(parts.buckets, percentile)
    values = parts.quantiles.get(quantile_text(percentile))
    return float(np.mean(values)) if values else None


def histogram_percentile(buckets: dict[str, float], percentile: float) -> float | None:
    """The percentile of cumulative counts by upper bound, as PromQL's `histogram_quantile`.

    Buckets of one bound, such as `1` and `1.0`, count together: Prometheus 3 writes the bounds of
    Prometheus 2 in another way. None without observations, and without the bucket `+Inf`.
    """
    found = _by_bound(buckets.items())
    bounds, bucket_of = np.unique([parse_bound(le) or 0.0 for le, _ in found], return_inverse=True)
    if len(bounds) < 2 or bounds[-1] != np.inf:
        return None
    counts = np.bincount(bucket_of, weights=[count for _, count in found])
    counts = np.maximum.accumulate(counts)
    if not counts[-1] > 0:
        return None
    rank = counts[-1] * percentile / 100
    index = int(np.searchsorted(counts[:-1], rank))
    if index == len(counts) - 1:
        return float(bounds[-2])
    if index == 0 and bounds[0] <= 0:
        return float(bounds[0])
    low, before = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return float(low + (bounds[index] - low) * (rank - before) / (counts[index] - before))


def _by_bound(items: Iterable[tuple[str, ItemT]]) -> list[tuple[str, ItemT]]:
    """The items sorted by their key as a number, without keys that are not numbers."""
    found = [(bound, key, item) for key, item in items if (bound := parse_bound(key)) is not None]
    return [(key, item) for _, key, item in sorted(found, key=lambda item: item[0])]


def _reduced(
    block: SampleBlock, reduce_series: Callable[[FloatArray], float]
) -> Iterable[tuple[Labels, float]]:
    for row, labels in enumerate(block.labels):
        values = block.values[block.offsets[row] : block.offsets[row + 1]]
        values = values[~(is_stale(values) | is_histogram(values))]
        if len(values):
            yield labels, reduce_series(values)


def _increase(values: FloatArray) -> float:
    """The increase of a counter from its first sample to its last, resets included."""
    steps = np.diff(values)
    return float(np.sum(np.where(steps < 0, values[1:], steps)))


def _mean(values: FloatArray) -> float:
    return float(np.mean(values))
