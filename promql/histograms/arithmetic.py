"""Arithmetic with native histograms, on whole columns of them.

Results have no empty buckets. Their order of additions is that of Prometheus, to the last bit.
"""

from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.histograms.bucket_kernels import view_of
from promql.histograms.combination import Combined, combined, longest_side, source_of, work_lists
from promql.histograms.combination_kernels import AVERAGE, PLAIN, SUM
from promql.histograms.comparison_kernels import find_resets
from promql.histograms.trim_kernels import trim
from promql.values.histogram_columns import GAUGE, Buckets, HistogramColumns


def add(left: HistogramColumns, right: HistogramColumns) -> Combined:
    """`left + right`, row by row."""
    return _pairs(left, right, 1.0)


def subtract(left: HistogramColumns, right: HistogramColumns) -> Combined:
    """`left - right`, row by row; the results are gauges."""
    result = _pairs(left, right, -1.0)
    return replace(result, histograms=result.histograms.with_hint(GAUGE))


def _pairs(left: HistogramColumns, right: HistogramColumns, sign: float) -> Combined:
    n = len(left)
    rows = np.column_stack((np.arange(n), np.arange(n, 2 * n))).ravel()
    signs = np.tile([1.0, sign], n)
    joined = HistogramColumns.joined([left, right])
    return add_and_subtract(joined, np.arange(0, 2 * n + 1, 2), rows, signs)


def add_and_subtract(
    columns: HistogramColumns,
    offsets: IntArray,
    rows: IntArray,
    signs: FloatArray,
    max_schemas: IntArray | None = None,
) -> Combined:
    """Add and subtract rows, as the binary operators do.

    Result i is the sum of the rows `rows[offsets[i]:offsets[i + 1]]`, at least one, each times its
    sign, 1 or -1; that of the first is 1. It has at most the resolution `max_schemas[i]`.
    """
    return combined(PLAIN, columns, offsets, rows, signs, max_schemas)


def total(columns: HistogramColumns, offsets: IntArray, rows: IntArray) -> Combined:
    """The sum of the rows `rows[offsets[i]:offsets[i + 1]]`, at least one, with compensation."""
    return combined(SUM, columns, offsets, rows, np.ones(len(rows)))


def average(columns: HistogramColumns, offsets: IntArray, rows: IntArray) -> Combined:
    """The average of rows, which are given as for `total`."""
    return combined(AVERAGE, columns, offsets, rows, np.ones(len(rows)))


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Histograms between two others, and the operations that made them, for their annotations."""

    histograms: HistogramColumns
    difference: Combined
    result: Combined


def interpolate(
    columns: HistogramColumns,
    before: IntArray,
    after: IntArray,
    fractions: FloatArray,
    was_reset: BoolArray,
) -> Interpolated:
    """`before + (after - before) * fraction`, row by row; after a reset, `before` is empty.

    Rows that have exponential and custom buckets have no meaningful result, see `Combined`.
    """
    n = len(before)
    offsets = np.concatenate(([0], np.cumsum(2 - was_reset))).astype(np.int64)
    is_second = np.ones(offsets[-1], bool)
    is_second[offsets[:-1]] = False

    def terms(first: IntArray, second: IntArray) -> IntArray:
        rows = np.empty(offsets[-1], np.int64)
        rows[~is_second], rows[is_second] = first, second[~was_reset]
        return rows

    signs = np.where(is_second, -1.0, 1.0)
    difference = add_and_subtract(columns, offsets, terms(after, before), signs)
    parts = HistogramColumns.joined([scale(difference.histograms, fractions), columns])
    rows = terms(np.arange(n), before + n)
    result = add_and_subtract(parts, offsets, rows, np.ones(len(rows)))
    return Interpolated(result.histograms, difference, result)


def scale(columns: HistogramColumns, factors: FloatArray) -> HistogramColumns:
    """Each histogram times its factor, float64 [n]; those with a negative factor are gauges."""
    with np.errstate(all="ignore"):
        return compact(
            replace(
                columns,
                hints=np.where(factors < 0, GAUGE, columns.hints),
                zero_counts=columns.zero_counts * factors,
                counts=columns.counts * factors,
                sums=columns.sums * factors,
                positive=_times(columns.positive, factors),
                negative=_times(columns.negative, factors),
            )
        )


def divide(columns: HistogramColumns, divisors: FloatArray) -> HistogramColumns:
    """Each histogram divided by its divisor, float64 [n]; with 0 it has no buckets left."""
    is_zero = divisors == 0
    with np.errstate(all="ignore"):
        return compact(
            replace(
                columns,
                hints=np.where(divisors < 0, GAUGE, columns.hints),
                zero_counts=columns.zero_counts / divisors,
                counts=columns.counts / divisors,
                sums=columns.sums / divisors,
                positive=_over(_without(columns.positive, is_zero), divisors),
                negative=_over(_without(columns.negative, is_zero), divisors),
            )
        )


def are_equal(columns: HistogramColumns, rows: IntArray, others: IntArray) -> BoolArray:
    """Whether the rows equal the others, pair by pair: all fields to the bit, except the hint."""
    floats = (columns.counts, columns.sums, columns.zero_thresholds, columns.zero_counts)
    same = (columns.schemas[rows] == columns.schemas[others]) & (
        columns.bounds[rows] == columns.bounds[others]
    )
    for column in floats:
        bits = column.view(np.int64)
        same &= bits[rows] == bits[others]
    for side in (columns.positive, columns.negative):
        same &= _have_same_buckets(side, rows, others)
    return np.asarray(same)


def _have_same_buckets(buckets: Buckets, rows: IntArray, others: IntArray) -> BoolArray:
    left, right = buckets.take(rows), buckets.take(others)
    same = np.diff(left.offsets) == np.diff(right.offsets)
    chosen = np.flatnonzero(same)
    left, right = left.take(chosen), right.take(chosen)
    differs = (left.indices != right.indices) | (
        left.counts.view(np.int64) != right.counts.view(np.int64)
    )
    pairs = np.repeat(chosen, np.diff(left.offsets))
    same[pairs[differs]] = False
    return np.asarray(same)


def were_reset(columns: HistogramColumns, rows: IntArray, previous: IntArray) -> BoolArray:
    """Whether a counter was reset between the previous row and the row, pair by pair."""
    resets = np.empty(len(rows), bool)
    lists = work_lists(2, longest_side(columns))
    find_resets(source_of(columns), rows, previous, lists, resets)
    return resets


def compact(columns: HistogramColumns) -> HistogramColumns:
    """The same histograms without empty buckets."""
    return replace(
        columns, positive=_populated(columns.positive), negative=_populated(columns.negative)
    )


def _populated(buckets: Buckets) -> Buckets:
    return _where(buckets, buckets.counts != 0)


def _without(buckets: Buckets, is_gone: BoolArray) -> Buckets:
    """The buckets of the histograms that keep theirs."""
    if not is_gone.any():
        return buckets
    return _where(buckets, ~np.repeat(is_gone, np.diff(buckets.offsets)))


def _where(buckets: Buckets, kept: BoolArray) -> Buckets:
    if kept.all():
        return buckets
    until = np.concatenate(([0], np.cumsum(kept)))
    offsets = until[buckets.offsets].astype(np.int64)
    return Buckets(offsets, buckets.indices[kept], buckets.counts[kept])


def _times(buckets: Buckets, factors: FloatArray) -> Buckets:
    return replace(buckets, counts=buckets.counts * np.repeat(factors, np.diff(buckets.offsets)))


def _over(buckets: Buckets, divisors: FloatArray) -> Buckets:
    return replace(buckets, counts=buckets.counts / np.repeat(divisors, np.diff(buckets.offsets)))


def trimmed(
    columns: HistogramColumns, limits: FloatArray, *, keeps_below: bool
) -> HistogramColumns:
    """The observations of each histogram up to its limit, or else those from the limit on.

    A bucket around the limit is shared out as its distribution says, see `trim_kernels`.
    """
    zero_counts, counts, sums = (
        np.array(column) for column in (columns.zero_counts, columns.counts, columns.sums)
    )
    positive, negative = columns.positive.counts.copy(), columns.negative.counts.copy()
    trim(
        view_of(columns),
        np.ascontiguousarray(limits, np.float64),
        keeps_below,
        positive,
        negative,
        zero_counts,
        counts,
        sums,
    )
    return compact(
        replace(
            columns,
            zero_counts=zero_counts,
            counts=counts,
            sums=sums,
            positive=replace(columns.positive, counts=positive),
            negative=replace(columns.negative, counts=negative),
        )
    )
