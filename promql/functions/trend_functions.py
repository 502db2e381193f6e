"""The trend of each window: a least-squares line through it, or its smoothed level and slope."""

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promcompat.core.strconv import format_f
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import (
    WindowChunk,
    chunk_windows,
    is_bounded,
    kahan_window_sums,
)

_MAX_SAMPLE = 1e270
"""With times of at most 10¹⁰ seconds, products of samples within this bound can be added up."""
_FEW_WINDOWS = 32
"""For fewer windows Python floats (0.2 µs a sample) beat NumPy (7 µs a round over all windows)."""


def deriv(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The slope per second of the line through each window."""
    windows = call.windows
    present = windows.hi - windows.lo >= 2
    lo = windows.lo[present]
    # Times are relative to the first sample: Unix times would lose most of the digits.
    slope, _ = _regression(call, present, windows.block.timestamps[lo])
    results = np.zeros(present.shape)
    results[present] = slope
    return results, present


def predict_linear(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The value of that line at the given number of seconds after the eval time."""
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
    """Slope, and intercept at `origin_ms`, of each present window, flattened.

    Equal samples give slope 0 exactly; infinite ones give NaN for both.
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
    # Unlike in sum_over_time, infinite sums are used as they are: the slope is NaN then.
    sum_x, sum_y, sum_xy, sum_xx = (total + compensation for total, compensation in sums)
    covariance = sum_xy - sum_x * sum_y / counts
    slope = covariance / (sum_xx - sum_x * sum_x / counts)
    return slope, sum_y / counts - slope * sum_x / counts


def double_exponential_smoothing(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The smoothed value at the end of each window of at least two samples.

    Raises ExecutionError if the factors of a window are not between 0 and 1.
    """
    windows = call.windows
    counts = windows.hi - windows.lo
    smoothing, trend = (np.broadcast_to(factor, counts.shape) for factor in call.scalars)
    _check_factors(smoothing[counts > 0], trend[counts > 0])
    results = np.zeros(counts.size)
    present = counts >= 2
    with np.errstate(all="ignore"):
        for chunk in chunk_windows(windows.lo.ravel(), np.where(present, counts, 0).ravel()):
            factors = smoothing.ravel()[chunk.rows], trend.ravel()[chunk.rows]
            results[chunk.rows] = _smooth(windows.block.values, chunk, *factors)
    return results.reshape(counts.shape), present


def _check_factors(smoothing: FloatArray, trend: FloatArray) -> None:
    bad_smoothing = (smoothing <= 0) | (smoothing >= 1)
    bad_trend = (trend <= 0) | (trend >= 1)
    bad = np.flatnonzero(bad_smoothing | bad_trend)
    if not len(bad):
        return
    row = int(bad[0])
    if bad_smoothing[row]:
        got = format_f(float(smoothing[row]))
        raise ExecutionError(f"invalid smoothing factor. Expected: 0 < sf < 1, got: {got}")
    got = format_f(float(trend[row]))
    raise ExecutionError(f"invalid trend factor. Expected: 0 < tf < 1, got: {got}")


def _smooth(
    values: FloatArray, chunk: WindowChunk, smoothing: FloatArray, trend: FloatArray
) -> FloatArray:
    if len(chunk.rows) < _FEW_WINDOWS:
        return np.array(
            [
                _smooth_one(values[first : first + count].tolist(), factor, trend_factor)
                for first, count, factor, trend_factor in zip(
                    chunk.first.tolist(),
                    chunk.counts.tolist(),
                    smoothing.tolist(),
                    trend.tolist(),
                    strict=True,
                )
            ]
        )
    previous, level = np.zeros(len(chunk.rows)), values[chunk.first]
    slope = values[chunk.first + 1] - level
    for k, samples in enumerate(chunk.rounds(1)):
        n = len(samples)
        factor = smoothing[:n]
        if k:
            slope[:n] = trend[:n] * (level[:n] - previous[:n]) + (1 - trend[:n]) * slope[:n]
        smoothed = factor * values[samples] + (1 - factor) * (level[:n] + slope[:n])
        previous[:n], level[:n] = level[:n], smoothed
    return level


def _smooth_one(samples: list[float], smoothing: float, trend: float) -> float:
    """The same for one window, with Python floats."""
    previous, level, slope = 0.0, samples[0], samples[1] - samples[0]
    for k in range(1, len(samples)):
        if k > 1:
            slope = trend * (level - previous) + (1 - trend) * slope
        previous, level = level, smoothing * samples[k] + (1 - smoothing) * (level + slope)
    return level
