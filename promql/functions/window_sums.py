"""Sums, means and variances over windows, with Prometheus' compensated summation."""

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import (
    WindowChunk,
    chunk_windows,
    is_bounded,
    kahan_window_sums,
    lane_count,
)
from promql.numbers.kahan import kahan_add, kahan_result

_MAX_SUMMAND = 1e290
"""Sums of fewer than 10¹⁸ values within this bound are finite."""
_MAX_SQUARED = 1e140


def _flat(call: RangeCall) -> tuple[IntArray, IntArray]:
    lo = call.windows.lo.ravel()
    return lo, call.windows.hi.ravel() - lo


def _shaped(call: RangeCall, results: FloatArray, counts: IntArray) -> tuple[FloatArray, BoolArray]:
    shape = call.windows.lo.shape
    return results.reshape(shape), (counts > 0).reshape(shape)


def _sums(call: RangeCall) -> tuple[FloatArray, FloatArray, bool]:
    values = call.windows.block.values
    first, counts = _flat(call)
    bounded = is_bounded(values, _MAX_SUMMAND)
    ((total, compensation),) = kahan_window_sums(
        first, counts, lambda samples, _: (values[samples],), 1, bounded
    )
    return total, compensation, bounded


def sum_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The sum of each window."""
    with np.errstate(all="ignore"):
        total, compensation, _ = _sums(call)
        return _shaped(call, kahan_result(total, compensation), _flat(call)[1])


def avg_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The mean of each window: the sum divided by the count, or a running mean if it overflows."""
    first, counts = _flat(call)
    divisor = np.maximum(call.windows.sizes().ravel(), 1)
    with np.errstate(all="ignore"):
        total, compensation, bounded = _sums(call)
        means = total / divisor + compensation / divisor
        if not bounded:
            redo = np.flatnonzero(~np.isfinite(means) & (counts > 1))
            means[redo] = _incremental_means(call.windows.block.values, first[redo], counts[redo])
    return _shaped(call, means, counts)


def _incremental_means(values: FloatArray, first: IntArray, counts: IntArray) -> FloatArray:
    means = np.zeros(len(first))
    for chunk in chunk_windows(first, counts):
        means[chunk.rows] = _incremental_mean_of_chunk(values, chunk)
    return means


def _incremental_mean_of_chunk(values: FloatArray, chunk: WindowChunk) -> FloatArray:
    """A sum as long as it is finite, and a running mean from there on."""
    total = values[chunk.first]
    compensation, mean = np.zeros(len(total)), np.zeros(len(total))
    is_mean = np.zeros(len(total), bool)
    for count, samples in enumerate(chunk.rounds(1), 2):
        n = len(samples)
        x, c = values[samples], compensation[:n]
        new_total, new_c = kahan_add(total[:n], c, x)
        switch = ~is_mean[:n] & np.isinf(new_total)
        mean[:n][switch] = total[:n][switch] / (count - 1)
        c[switch] /= count - 1
        is_mean[:n] |= switch
        share = (count - 1) / count
        new_mean, mean_c = kahan_add(share * mean[:n], share * c, x / count)
        total[:n] = np.where(is_mean[:n], total[:n], new_total)
        mean[:n] = np.where(is_mean[:n], new_mean, mean[:n])
        compensation[:n] = np.where(is_mean[:n], mean_c, new_c)
    counts = chunk.counts
    return np.where(is_mean, mean + compensation, total / counts + compensation / counts)


def stdvar_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The population variance of each window."""
    values = call.windows.block.values
    first, counts = _flat(call)
    with np.errstate(all="ignore"):
        if lane_count(counts, is_bounded(values, _MAX_SQUARED)) > 1:
            return _shaped(call, _two_pass_variances(values, first, counts), counts)
        variances = np.zeros(len(first))
        for chunk in chunk_windows(first, counts):
            variances[chunk.rows] = _running_variance_of_chunk(values, chunk)
    return _shaped(call, variances, counts)


def stddev_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The population standard deviation of each window."""
    variances, present = stdvar_over_time(call)
    with np.errstate(all="ignore"):
        return np.sqrt(variances), present


def _running_variance_of_chunk(values: FloatArray, chunk: WindowChunk) -> FloatArray:
    """Welford's recurrence with compensated mean and sum of squares."""
    n_windows = len(chunk.rows)
    mean, mean_c = np.zeros(n_windows), np.zeros(n_windows)
    squares, squares_c = np.zeros(n_windows), np.zeros(n_windows)
    for count, samples in enumerate(chunk.rounds(), 1):
        n = len(samples)
        x = values[samples]
        delta = x - (mean[:n] + mean_c[:n])
        mean[:n], mean_c[:n] = kahan_add(mean[:n], mean_c[:n], delta / count)
        rest = x - (mean[:n] + mean_c[:n])
        squares[:n], squares_c[:n] = kahan_add(squares[:n], squares_c[:n], delta * rest)
    return (squares + squares_c) / chunk.counts


def _two_pass_variances(values: FloatArray, first: IntArray, counts: IntArray) -> FloatArray:
    """For a few long windows: the mean first, then the squares, both in lanes.

    It agrees with the recurrence except for rounding, and like it gives NaN if any sample is
    infinite or NaN.
    """
    divisor = np.maximum(counts, 1)
    ((total, compensation),) = kahan_window_sums(
        first, counts, lambda samples, _: (values[samples],), 1, True
    )
    mean = (total + compensation) / divisor

    def deviations(samples: IntArray, rows: IntArray) -> tuple[FloatArray, ...]:
        delta = values[samples] - mean[rows]
        return delta, delta * delta

    (shift, shift_c), (squares, squares_c) = kahan_window_sums(first, counts, deviations, 2, True)
    shift = shift + shift_c
    return ((squares + squares_c) - shift * shift / divisor) / divisor
