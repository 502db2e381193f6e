"""`deriv` and `predict_linear`: a least-squares line through the samples of each window."""

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import is_bounded, kahan_window_sums

_MAX_SAMPLE = 1e270
"""Times of at most 10¹⁰ seconds leave products of samples within this bound summable."""


def deriv(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The slope per second of the line through each window."""
    windows = call.windows
    present = windows.hi - windows.lo >= 2
    lo = windows.lo[present]
    # Times count from the first sample: Unix time would cost most of the digits.
    slope, _ = _regression(call, present, windows.block.timestamps[lo])
    results = np.zeros(present.shape)
    results[present] = slope
    return results, present


def predict_linear(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The value of that line the given number of seconds after the eval step."""
    present = call.windows.hi - call.windows.lo >= 2
    now_ms = np.broadcast_to(call.timestamps, present.shape)[present]
    ahead_seconds = np.broadcast_to(call.scalars[0], present.shape)[present]
    slope, intercept = _regression(call, present, now_ms)
    results = np.zeros(present.shape)
    with np.errstate(all="ignore"):
        results[present] = slope * ahead_seconds + intercept
    return results, present


def _regression(
    call: RangeCall, present: BoolArray, origin_ms: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept at `origin_ms` for each window of `present`, which is flattened.

    Equal samples give slope 0 exactly, and NaN for both when they are infinite.
    """
    block = call.windows.block
    lo, hi = call.windows.lo[present], call.windows.hi[present]
    if not len(lo):
        return np.zeros(0), np.zeros(0)
    with np.errstate(all="ignore"):
        slope, intercept = _fit(call, lo, hi - lo, origin_ms)
    changes = np.cumsum(np.append(False, block.values[1:] != block.values[:-1]))
    constant = changes[hi - 1] == changes[lo]
    level = block.values[lo]
    undefined = np.isinf(level)
    slope = np.where(constant, np.where(undefined, np.nan, 0.0), slope)
    intercept = np.where(constant, np.where(undefined, np.nan, level), intercept)
    return slope, intercept


def _fit(
    call: RangeCall, first: IntArray, counts: IntArray, origin_ms: IntArray
) -> tuple[FloatArray, FloatArray]:
    timestamps, values = call.windows.block.timestamps, call.windows.block.values

    def terms(samples: IntArray, rows: IntArray) -> tuple[FloatArray, ...]:
        x = (timestamps[samples] - origin_ms[rows]) / 1000
        y = values[samples]
        return x, y, x * y, x * x

    sums = kahan_window_sums(first, counts, terms, 4, is_bounded(values, _MAX_SAMPLE))
    # Unlike sum_over_time, infinite sums take part as they are: the slope is NaN then.
    sum_x, sum_y, sum_xy, sum_xx = (total + compensation for total, compensation in sums)
    covariance = sum_xy - sum_x * sum_y / counts
    slope = covariance / (sum_xx - sum_x * sum_x / counts)
    return slope, sum_y / counts - slope * sum_x / counts
