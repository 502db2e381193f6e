"""Quantiles, fractions and variances of native histograms, one row for each sample."""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.histograms.bucket_kernels import (
    VIEW,
    HistogramView,
    bucket_bounds,
    bucket_count,
    is_custom,
    n_buckets,
    n_negative,
    n_positive,
)
from promql.numbers.kahan_kernels import kahan_add
from promql.values.sample_kernels import FLOATS, INTEGERS

NO_NOTE, NAN_RESULT, NAN_SKEW = 0, 1, 2
"""What a quantile says of observations of NaN, which are in no bucket."""

_TOTALS = f"{FLOATS}, {FLOATS}"


@kernel(allocates=False)
def fraction_below(lower: float, upper: float, value: float, linear: bool) -> float:
    """The share of a bucket up to a value within it.

    Exponential buckets have equal widths on a logarithmic scale, so the share is taken there.
    """
    if linear:
        return (value - lower) / (upper - lower)
    log_lower, log_upper = np.log2(abs(lower)), np.log2(abs(upper))
    log_value = np.log2(abs(value))
    if value > 0:
        return float((log_value - log_lower) / (log_upper - log_lower))
    return float(1 - (log_value - log_upper) / (log_lower - log_upper))


@kernel(allocates=False)
def _without_empty_side(
    view: HistogramView, row: int, lower: float, upper: float
) -> tuple[float, float]:
    """The bounds of a zero bucket; it ends at 0 on the side where a histogram has no buckets."""
    positive, negative = n_positive(view, row) > 0, n_negative(view, row) > 0
    if positive and not negative:
        return 0.0, upper
    if negative and not positive:
        return lower, 0.0
    return lower, upper


@kernel(allocates=False)
def _value_within(lower: float, upper: float, share: float, linear: bool) -> float:
    """The value up to which a bucket has a share of its observations."""
    if linear or (lower <= 0 <= upper):
        return lower + (upper - lower) * share
    log_lower, log_upper = np.log2(abs(lower)), np.log2(abs(upper))
    if lower > 0:
        return float(np.exp2(log_lower + (log_upper - log_lower) * share))
    return float(-np.exp2(log_upper + (log_lower - log_upper) * (1 - share)))


@kernel(allocates=False)
def _reach_rank(
    view: HistogramView, row: int, rank: float, is_forward: bool
) -> tuple[int, int, float]:
    """The first bucket at which a rank is reached, else the last one.

    Returns how many buckets were looked at, the bucket's number and the count up to it; without
    buckets the number is -1.
    """
    n, reached, number = n_buckets(view, row), 0.0, -1
    for seen in range(n):
        number = seen if is_forward else n - 1 - seen
        count = bucket_count(view, row, number)
        reached += count
        if count != 0 and reached >= rank:
            return seen + 1, number, reached
    return n, number, reached


@kernel(allocates=False)
def _quantile(
    view: HistogramView, row: int, total: float, has_nan: bool, q: float
) -> tuple[float, int]:
    """A quantile in [0, 1] of a histogram with observations, and the note on it."""
    is_forward = has_nan or q < 0.5
    rank = q * total if is_forward else (1 - q) * total
    seen, number, reached = _reach_rank(view, row, rank, is_forward)
    lower, upper, count = 0.0, 0.0, 0.0
    if number >= 0:
        lower, upper = bucket_bounds(view, row, number)
        count = bucket_count(view, row, number)
    custom = is_custom(view, row)
    if custom:
        if lower == -np.inf:
            if upper <= 0:
                return upper, NO_NOTE
            lower = 0.0
        elif upper == np.inf:
            return lower, NO_NOTE
    elif lower < 0 < upper:
        lower, upper = _without_empty_side(view, row, lower, upper)
    reached = min(reached, total)
    if reached < rank:
        return (np.nan, NAN_RESULT) if has_nan else (upper, NO_NOTE)
    rank = rank - (reached - count) if is_forward else reached - rank
    note = NO_NOTE
    if has_nan:
        for later in range(seen, n_buckets(view, row)):
            # Prometheus takes the bounds and the count of the last bucket here.
            lower, upper = bucket_bounds(view, row, later)
            count = bucket_count(view, row, later)
            reached += count
        note = NAN_SKEW if reached < total else NO_NOTE
    return _value_within(lower, upper, rank / count, custom), note


@kernel(
    f"void({VIEW}, {_TOTALS}, {INTEGERS}, {FLOATS}, float64[::1], uint8[::1])",
    allocates=False,
)
def quantiles(
    view: HistogramView,
    counts: FloatArray,
    sums: FloatArray,
    rows: IntArray,
    wanted: FloatArray,
    results: FloatArray,
    notes: NDArray[np.uint8],
) -> None:
    """The quantile `wanted` [n] of the histogram `rows` [n], and the note on it.

    `counts` and `sums` are those of all histograms. Fills `results` and `notes` [n].
    """
    for at in range(len(rows)):
        row, q = rows[at], wanted[at]
        notes[at] = NO_NOTE
        if q < 0:
            results[at] = -np.inf
        elif q > 1:
            results[at] = np.inf
        elif counts[row] == 0 or np.isnan(q):
            results[at] = np.nan
        else:
            results[at], notes[at] = _quantile(view, row, counts[row], np.isnan(sums[row]), q)


@kernel(allocates=False)
def _rank_within(
    lower: float, upper: float, count: float, rank: float, value: float, linear: bool
) -> float:
    """The observations up to a value within a bucket, before which there are `rank`."""
    # Nothing is known of the part of a bucket that begins at -Inf.
    if linear and lower == -np.inf:
        return count
    return rank + count * fraction_below(lower, upper, value, linear)


@kernel(allocates=False)
def _fraction(
    view: HistogramView, row: int, total: float, has_nan: bool, low: float, high: float
) -> tuple[float, bool]:
    """The share of observations between two values, and whether some are NaN."""
    custom, reached, rank = is_custom(view, row), 0.0, 0.0
    low_rank, high_rank = -1.0, -1.0
    low_found, high_found = False, False
    n = n_buckets(view, row)
    for number in range(n):
        count = bucket_count(view, row, number)
        reached += count
        if low_found and high_found:
            continue
        lower, upper = bucket_bounds(view, row, number)
        linear = custom or lower <= 0 <= upper
        if lower <= 0 <= upper:
            lower, upper = _without_empty_side(view, row, lower, upper)
        if not low_found and lower >= low:
            low_rank, low_found = rank, True
        if not high_found and lower >= high:
            high_rank, high_found = rank, True
        if not low_found and lower < low < upper:
            low_rank = _rank_within(lower, upper, count, rank, low, linear)
            low_found = True
        if not high_found and lower < high < upper:
            high_rank = _rank_within(lower, upper, count, rank, high, linear)
            high_found = True
        rank += count
    counted = reached if has_nan else total
    if not low_found or low_rank > counted:
        low_rank = counted
    if not high_found or high_rank > counted:
        high_rank = counted
    return (high_rank - low_rank) / total, has_nan and counted < total


@kernel(
    f"void({VIEW}, {_TOTALS}, {INTEGERS}, {FLOATS}, {FLOATS}, float64[::1], boolean[::1])",
    allocates=False,
)
def fractions(
    view: HistogramView,
    counts: FloatArray,
    sums: FloatArray,
    rows: IntArray,
    lows: FloatArray,
    highs: FloatArray,
    results: FloatArray,
    has_nan: BoolArray,
) -> None:
    """The share of the observations of the histogram `rows` [n] between `lows` and `highs` [n].

    Fills `results` [n], and `has_nan` [n] where some of the observations are NaN.
    """
    for at in range(len(rows)):
        row, low, high = rows[at], lows[at], highs[at]
        has_nan[at] = False
        if counts[row] == 0 or np.isnan(low) or np.isnan(high):
            results[at] = np.nan
        elif low >= high:
            results[at] = 0.0
        else:
            results[at], has_nan[at] = _fraction(
                view, row, counts[row], np.isnan(sums[row]), low, high
            )


@kernel(allocates=False)
def _middle(custom: bool, lower: float, upper: float) -> float:
    """The value that stands for the observations of a bucket."""
    if custom:
        return (upper + lower) / 2
    if lower <= 0 <= upper:
        return 0.0
    middle = np.sqrt(upper * lower)
    return float(-middle if upper < 0 else middle)


@kernel(f"void({VIEW}, {_TOTALS}, float64[::1])", allocates=False)
def variances(
    view: HistogramView, counts: FloatArray, sums: FloatArray, results: FloatArray
) -> None:
    """The variance of the observations of every histogram; fills `results`."""
    for row in range(len(counts)):
        mean = sums[row] / counts[row]
        total, compensation = 0.0, 0.0
        for number in range(n_buckets(view, row)):
            count = bucket_count(view, row, number)
            if count != 0:
                lower, upper = bucket_bounds(view, row, number)
                delta = _middle(is_custom(view, row), lower, upper) - mean
                total, compensation = kahan_add(total, compensation, count * delta * delta)
        results[row] = (total + compensation) / counts[row]
