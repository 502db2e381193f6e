"""Cuts histograms off at a value: the observations on one side of it stay."""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray
from promql.histograms.bucket_kernels import VIEW, HistogramView, is_custom, side_bounds
from promql.histograms.statistics_kernels import fraction_below
from promql.values.sample_kernels import FLOATS


@kernel(allocates=False)
def _middle(lower: float, upper: float, is_negative: bool, linear: bool) -> float:
    """The value that stands for observations between two bounds."""
    if np.isinf(lower):
        if np.isinf(upper):
            return 0.0
        return upper / 2 if upper > 0 else upper
    if np.isinf(upper):
        return lower
    if linear:
        return (lower + upper) / 2
    middle = float(np.sqrt(abs(lower * upper)))
    return -middle if is_negative else middle


@kernel(allocates=False)
def _cut_infinite(
    lower: float, upper: float, count: float, limit: float, keeps_below: bool
) -> tuple[float, float]:
    """The part that stays of a bucket around the limit that has an infinite bound, and its middle.

    Of what is known only from one side nothing stays, unless it can begin at 0.
    """
    begins_at_zero = upper > 0 and not np.isinf(upper)
    if not np.isinf(lower):
        return (0.0, 0.0) if keeps_below else (count, limit)
    if keeps_below:
        if limit > 0 and begins_at_zero:
            return count * limit / upper, limit / 2
        return (count, limit) if upper <= 0 else (0.0, 0.0)
    if limit == -np.inf:
        return count, 0.0
    if limit >= 0 and begins_at_zero:
        return count * (1 - limit / upper), (limit + upper) / 2
    return 0.0, 0.0


@kernel(allocates=False)
def _cut(
    lower: float,
    upper: float,
    count: float,
    limit: float,
    keeps_below: bool,
    is_negative: bool,
    linear: bool,
) -> tuple[float, float]:
    """The observations of a bucket that stay, and the value that stands for them."""
    if (upper <= limit) if keeps_below else (lower >= limit):
        return count, _middle(lower, upper, is_negative, linear)
    if not (lower < limit if keeps_below else upper > limit):
        return 0.0, 0.0
    if np.isinf(lower) or np.isinf(upper):
        return _cut_infinite(lower, upper, count, limit, keeps_below)
    below = count * fraction_below(lower, upper, limit, linear)
    if keeps_below:
        return below, _middle(lower, limit, is_negative, linear)
    return count - below, _middle(limit, upper, is_negative, linear)


@kernel(allocates=False)
def _cut_zero(
    lower: float, upper: float, count: float, limit: float, keeps_below: bool
) -> tuple[float, float]:
    """The observations of a zero bucket that stay, and the value that stands for them."""
    if limit <= lower:
        return (0.0, 0.0) if keeps_below else (count, (lower + upper) / 2)
    if limit >= upper:
        return (count, (lower + upper) / 2) if keeps_below else (0.0, 0.0)
    if keeps_below:
        return count * ((limit - lower) / (upper - lower)), (lower + limit) / 2
    return count * ((upper - limit) / (upper - lower)), (limit + upper) / 2


@kernel(allocates=False)
def _cut_side(
    view: HistogramView,
    row: int,
    is_negative: bool,
    limit: float,
    keeps_below: bool,
    kept: FloatArray,
) -> tuple[float, float, bool, bool]:
    """Cut the buckets of one side, whose counts are `kept`.

    Returns the count and the sum of what stays, whether any bucket has observations, and whether
    one of them lost some.
    """
    offsets, indices = (view[6], view[7]) if is_negative else (view[3], view[4])
    total, total_sum, has_any, has_cut, linear = 0.0, 0.0, False, False, is_custom(view, row)
    for place in range(offsets[row], offsets[row + 1]):
        count = kept[place]
        if count == 0:
            continue
        has_any = True
        lower, upper = side_bounds(view, row, indices[place])
        if is_negative:
            lower, upper = -upper, -lower
        left, middle = _cut(lower, upper, count, limit, keeps_below, is_negative, linear)
        total += left
        total_sum += middle * left
        if left != count:
            kept[place] = left
            has_cut = True
    return total, total_sum, has_any, has_cut


@kernel(
    f"void({VIEW}, {FLOATS}, boolean, float64[::1], float64[::1], float64[::1],"
    "float64[::1], float64[::1])",
    allocates=False,
)
def trim(
    view: HistogramView,
    limits: FloatArray,
    keeps_below: bool,
    positive: FloatArray,
    negative: FloatArray,
    zero_counts: FloatArray,
    counts: FloatArray,
    sums: FloatArray,
) -> None:
    """Keep the observations up to, or from, a limit of every histogram, float64 [n].

    The arrays are the counts of buckets and the totals, which are changed. Those of a histogram
    that loses nothing stay as they are.
    """
    for row in range(len(limits)):
        limit = limits[row]
        total, total_sum, has_positive, was_cut = _cut_side(
            view, row, False, limit, keeps_below, positive
        )
        more, more_sum, has_negative, is_cut = _cut_side(
            view, row, True, limit, keeps_below, negative
        )
        total += more
        total_sum += more_sum
        was_cut |= is_cut
        if zero_counts[row] > 0:
            threshold = view[1][row]
            kept, middle = _cut_zero(
                0.0 if has_positive and not has_negative else -threshold,
                0.0 if has_negative and not has_positive else threshold,
                zero_counts[row],
                limit,
                keeps_below,
            )
            was_cut |= kept != zero_counts[row]
            zero_counts[row] = kept
            total_sum += middle * kept
            total += kept
        if was_cut:
            counts[row], sums[row] = total, total_sum
