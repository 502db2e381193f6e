"""`double_exponential_smoothing`: a level and a trend, each smoothed by its own factor."""

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray
from promcompat.core.strconv import format_f
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import WindowChunk, chunk_windows

_FEW_WINDOWS = 32
"""Below it Python floats, 0.2 µs a sample, beat numpy's 7 µs a round over all windows."""


def double_exponential_smoothing(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The smoothed value at the end of each window of at least two samples.

    Raises ExecutionError when a factor that a window needs is not between 0 and 1.
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
    """The same for one window, in plain floats."""
    previous, level, slope = 0.0, samples[0], samples[1] - samples[0]
    for k in range(1, len(samples)):
        if k > 1:
            slope = trend * (level - previous) + (1 - trend) * slope
        previous, level = level, smoothing * samples[k] + (1 - smoothing) * (level + slope)
    return level
