"""Native histograms in the answers of the native API: newest states, and statistics of a range."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf

import numpy as np

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import FloatArray, IntArray, Labels, SampleBlock
from promcompat.core.native_queries import (
    DEFAULT_PERCENTILES,
    LatestDistribution,
    SampleRow,
    Statistics,
    histograms_of_rows,
)
from promcompat.core.texts.strconv import format_g
from promcompat.querying.bucket_expressions import quantile_text
from promql.histograms.arithmetic import add_and_subtract, total, were_reset
from promql.histograms.bucket_kernels import view_of
from promql.histograms.listed_buckets import listed_buckets
from promql.histograms.statistics_kernels import quantiles
from promql.values.histogram_columns import HistogramColumns

_US_PER_MS = 1000


def newest_states(rows: Sequence[SampleRow]) -> list[SampleRow | LatestDistribution]:
    """The rows in their order; a row that is a native histogram becomes a state."""
    stored = histograms_of_rows(rows)
    if stored is None:
        return list(rows)
    columns = HistogramColumns.of(stored)
    counts, sums = columns.counts.tolist(), columns.sums.tolist()
    parts = zip(counts, sums, _cumulative_buckets(columns), _quantiles(columns), strict=True)
    return [row if row.histogram is None else _state(row, *next(parts)) for row in rows]


def _state(
    row: SampleRow,
    count: float,
    total_of_observations: float,
    buckets: Mapping[str, float],
    percentiles: Sequence[float],
) -> LatestDistribution:
    texts = map(quantile_text, DEFAULT_PERCENTILES)
    return LatestDistribution(
        labels=row.labels.without_name(),
        timestamp_ms=row.position.timestamp_us // _US_PER_MS,
        count=count,
        sum=total_of_observations,
        buckets=buckets,
        quantiles=dict(zip(texts, percentiles, strict=True)),
    )


def _cumulative_buckets(columns: HistogramColumns) -> list[dict[str, float]]:
    """The observations up to each bound of a populated bucket, as a classic histogram has them."""
    listed = listed_buckets(columns)
    lowers, uppers, counts = listed.lowers.tolist(), listed.uppers.tolist(), listed.counts.tolist()
    found = []
    for (first, end), n_observations in zip(
        pairwise(listed.offsets.tolist()), columns.counts.tolist(), strict=True
    ):
        buckets: dict[str, float] = {}
        until = 0.0
        for place in range(first, end):
            if lowers[place] > -inf:
                # Where a bucket begins matters only if the one before it is empty.
                buckets.setdefault(format_g(lowers[place]), until)
            until += counts[place]
            buckets[format_g(uppers[place])] = until
        # Observations of NaN are in no bucket.
        found.append({**buckets, "+Inf": n_observations})
    return found


def _quantiles(columns: HistogramColumns) -> list[list[float]]:
    """The usual percentiles of each histogram, as `histogram_quantile` of PromQL; NaN if empty."""
    n, wanted = len(columns), np.array(DEFAULT_PERCENTILES) / 100
    results = np.empty(n * len(wanted))
    quantiles(
        view_of(columns),
        np.ascontiguousarray(columns.counts),
        np.ascontiguousarray(columns.sums),
        np.repeat(np.arange(n), len(wanted)),
        np.tile(wanted, n),
        results,
        np.empty(len(results), np.uint8),
    )
    found: list[list[float]] = results.reshape(n, len(wanted)).tolist()
    return found


def native_statistics(block: SampleBlock, group_by: Sequence[str]) -> list[Statistics]:
    """Statistics of the observations counted in a range, for each group that has native histograms.

    The groups are sorted by labels. What a series counted is the change from its first histogram
    to its last one, resets included; floats between them do not count. A series that changed
    between exponential and custom buckets is left out; a group that has both has no percentiles.
    Minimum and maximum are unknown.
    """
    places = np.flatnonzero(is_histogram(block.values))
    if block.histograms is None or not len(places):
        return []
    # As in PromQL, what senders say of resets does not count.
    columns = HistogramColumns.of(block.histograms).without_reset_hints()
    row_of_place = np.searchsorted(block.offsets, places, "right") - 1
    increases, rows = _increases(columns, histogram_numbers(block.values[places]), row_of_place)
    groups: dict[Labels, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        groups.setdefault(block.labels[row].only(group_by), []).append(place)
    if not groups:
        return []
    members = [np.array(places, np.int64) for places in groups.values()]
    offsets = np.concatenate(([0], np.cumsum([len(found) for found in members]))).astype(np.int64)
    order = np.concatenate(members)
    totals = total(increases, offsets, order)
    counts = np.add.reduceat(increases.counts[order], offsets[:-1]).tolist()
    sums = np.add.reduceat(increases.sums[order], offsets[:-1]).tolist()
    percentiles: list[Sequence[float | None]] = [
        [None] * len(DEFAULT_PERCENTILES) if is_mixed or not count else found
        for found, is_mixed, count in zip(
            _quantiles(totals.histograms), totals.is_mixed.tolist(), counts, strict=True
        )
    ]
    found = map(_statistics, groups, counts, sums, percentiles)
    return sorted(found, key=lambda statistics: statistics.labels)


def _statistics(
    labels: Labels, count: float, sum_: float, percentiles: Sequence[float | None]
) -> Statistics:
    p50, p95, p99 = percentiles
    return Statistics(
        labels=labels,
        count=int(count) if count.is_integer() else count,
        avg=sum_ / count if count else None,
        sum=sum_,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def _increases(
    columns: HistogramColumns, numbers: IntArray, rows: IntArray
) -> tuple[HistogramColumns, IntArray]:
    """What each series counted, and its row; sample i is the histogram `numbers[i]` of `rows[i]`.

    This is the last histogram less the first one, and each one before a reset in between.
    """
    is_first = np.ones(len(rows), bool)
    is_first[1:] = np.diff(rows) != 0
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(rows)) - 1
    later = np.flatnonzero(~is_first)
    before_resets = later[were_reset(columns, numbers[later], numbers[later - 1])] - 1
    series = np.cumsum(is_first) - 1
    n_terms = 2 + np.bincount(series[before_resets], minlength=len(first))
    offsets = np.concatenate(([0], np.cumsum(n_terms))).astype(np.int64)
    # The kernel wants the positive term first; those before resets come behind the ends.
    owners = np.concatenate((series[last], series[first], series[before_resets]))
    terms = np.concatenate((last, first, before_resets))
    signs: FloatArray = np.ones(len(terms))
    signs[len(last) : 2 * len(last)] = -1.0
    order = np.argsort(owners, kind="stable")
    changes = add_and_subtract(columns, offsets, numbers[terms[order]], signs[order])
    kept = ~changes.is_mixed
    return changes.histograms.take(kept), rows[first][kept]
