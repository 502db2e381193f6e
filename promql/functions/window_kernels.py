"""The functions of range vectors, in one pass over the samples of each series.

`reduce_windows` walks over the windows of every series; `window_value_kernels` has the value of one
window.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.window_value_kernels import (
    better_extreme,
    extrapolation,
    latest_rate,
    line,
    mean,
    median_distance,
    smoothed,
    total,
    variance,
    window_quantile,
)
from promql.values.sample_kernels import FLOATS, INTEGERS, first_later

# The operations, in the groups that `reduce_windows` tells apart.
RATE, INCREASE, DELTA = 0, 1, 2
PREDICT_LINEAR, SMOOTHING, QUANTILE = 3, 4, 5
CHANGES, RESETS = 6, 7
IRATE, IDELTA, DERIV = 8, 9, 10
PRESENT, LAST, TIME_OF_LAST, FIRST, TIME_OF_FIRST = 11, 12, 13, 14, 15
COUNT, MEDIAN_DISTANCE = 16, 17
AVG, SUM, VARIANCE, DEVIATION = 18, 19, 20, 21
MIN, MAX, TIME_OF_MIN, TIME_OF_MAX = 22, 23, 24, 25


@kernel(allocates=False)
def _walk(
    timestamps: IntArray,
    end_ms: IntArray,
    range_ms: int,
    lows: IntArray,
    highs: IntArray,
) -> None:
    """The bounds of the windows `(end - range, end]` over the samples of a series."""
    n_steps = len(end_ms)
    step_ms = end_ms[1] - end_ms[0] if n_steps > 1 else 0
    # Where a window starts, an earlier one may have ended. A range may be 0.
    is_multiple = 0 < step_ms <= range_ms and range_ms % step_ms == 0
    earlier = range_ms // step_ms if is_multiple else n_steps
    lo = hi = 0
    for step in range(n_steps):
        if step >= earlier:
            lo = highs[step - earlier]
        else:
            lo = first_later(timestamps, lo, end_ms[step] - range_ms)
        hi = first_later(timestamps, max(lo, hi), end_ms[step])
        lows[step], highs[step] = lo, hi


@kernel(allocates=False)
def _mark_windows(
    lows: IntArray,
    highs: IntArray,
    counted: IntArray,
    needed: int,
    sizes: IntArray,
    results: FloatArray,
    present: BoolArray,
    totals: IntArray,
) -> None:
    """Say which windows have the needed samples, and count those that each window represents."""
    for step in range(len(lows)):
        n_samples = highs[step] - lows[step]
        present[step], results[step] = n_samples >= needed, 0.0
        if len(counted):
            n_samples = counted[highs[step]] - counted[lows[step]]
        sizes[step] = n_samples
        totals[step] += n_samples


@kernel(allocates=False)
def _value_of_samples(
    operation: int, times: IntArray, samples: FloatArray, scratch: FloatArray
) -> float:
    """The value of a window that depends on its samples only."""
    value, last = 1.0, len(samples) - 1
    if operation == LAST:
        value = samples[last]
    elif operation == TIME_OF_LAST:
        # Prometheus takes the later of the newest float and the newest histogram, which is 0 here.
        value = max(times[last], 0) / 1000
    elif operation == FIRST:
        value = samples[0]
    elif operation == TIME_OF_FIRST:
        value = times[0] / 1000
    elif operation == IRATE:
        value = latest_rate(times, samples)
    elif operation == IDELTA:
        value = samples[last] - samples[last - 1]
    elif operation == DERIV:
        # Times are relative to the first sample: Unix times would lose most of the digits.
        value = line(times, samples, times[0])[0]
    elif operation == MEDIAN_DISTANCE:
        value = median_distance(samples, scratch)
    elif operation >= SUM:
        value = _statistic(operation, samples)
    return value


@kernel(allocates=False)
def _statistic(operation: int, samples: FloatArray) -> float:
    if operation == SUM:
        return total(samples)
    squares = variance(samples)
    return squares if operation == VARIANCE else float(np.sqrt(squares))


@kernel(allocates=False)
def _reduce_row(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    lows: IntArray,
    highs: IntArray,
    sizes: IntArray,
    scratch: FloatArray,
    results: FloatArray,
    present: BoolArray,
) -> None:
    for step in range(len(results)):
        if not present[step]:
            continue
        lo, hi = lows[step], highs[step]
        if operation == COUNT:
            results[step] = sizes[step]
        elif operation == AVG:
            results[step] = mean(values[lo:hi], sizes[step])
        elif step and present[step - 1] and lo == lows[step - 1] and hi == highs[step - 1]:
            results[step] = results[step - 1]
        else:
            results[step] = _value_of_samples(operation, timestamps[lo:hi], values[lo:hi], scratch)


@kernel(allocates=False)
def _extreme_row(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    lows: IntArray,
    highs: IntArray,
    results: FloatArray,
    present: BoolArray,
) -> None:
    """MIN, MAX and their times. An extreme that is still in the window only meets new samples."""
    is_max, is_time = operation in (MAX, TIME_OF_MAX), operation >= TIME_OF_MIN
    at, seen = -1, 0
    for step in range(len(results)):
        if not present[step]:
            continue
        lo, hi = lows[step], highs[step]
        if at < lo:
            at, seen = lo, lo + 1
        better = better_extreme(values[at], values[seen:hi], is_max, is_time)
        if better >= 0:
            at = seen + better
        seen = hi
        results[step] = timestamps[at] / 1000 if is_time else values[at]


@kernel(allocates=False)
def _find_resets(samples: FloatArray, found: IntArray) -> int:
    """Find the samples that are less than the one before; returns how many."""
    n_found = 0
    for i in range(1, len(samples)):
        if samples[i] < samples[i - 1]:
            found[n_found] = i
            n_found += 1
    return n_found


@kernel(allocates=False)
def _find_changes(samples: FloatArray, found: IntArray) -> int:
    """Find the samples that differ from the one before, where NaN equals NaN; returns how many."""
    n_found = 0
    for i in range(1, len(samples)):
        before, after = samples[i - 1], samples[i]
        if before != after and not (np.isnan(before) and np.isnan(after)):
            found[n_found] = i
            n_found += 1
    return n_found


@kernel(allocates=False)
def _count_pairs_row(
    operation: int,
    values: FloatArray,
    lows: IntArray,
    highs: IntArray,
    pairs: IntArray,
    results: FloatArray,
    present: BoolArray,
) -> None:
    """CHANGES and RESETS."""
    base, covered = lows[0], values[lows[0] : highs[-1]]
    is_change = operation == CHANGES
    n_pairs = _find_changes(covered, pairs) if is_change else _find_resets(covered, pairs)
    first = end = 0
    for step in range(len(results)):
        if present[step]:
            while first < n_pairs and base + pairs[first] <= lows[step]:
                first += 1
            while end < n_pairs and base + pairs[end] < highs[step]:
                end += 1
            results[step] = end - first


@kernel(allocates=False)
def _extrapolate_row(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    lows: IntArray,
    highs: IntArray,
    sizes: IntArray,
    end_ms: IntArray,
    range_ms: int,
    resets: IntArray,
    results: FloatArray,
    present: BoolArray,
) -> None:
    """RATE, INCREASE and DELTA.

    What a counter had before each reset in a window is added one by one. Differences of a prefix
    sum would be faster, but one huge or infinite sample would make every later window wrong.
    """
    range_seconds = range_ms // 1000 + range_ms % 1000 * 1_000_000 / 1e9
    is_counter = operation != DELTA
    base, covered = lows[0], values[lows[0] : highs[-1]]
    n_resets = _find_resets(covered, resets) if is_counter else 0
    first = 0
    for step in range(len(results)):
        if not present[step]:
            continue
        lo, last = lows[step], highs[step] - 1
        change = values[last] - values[lo]
        while first < n_resets and base + resets[first] <= lo:
            first += 1
        reset = first
        while reset < n_resets and base + resets[reset] <= last:
            change += covered[resets[reset] - 1]
            reset += 1
        times = (end_ms[step] - range_ms, timestamps[lo], timestamps[last], end_ms[step])
        factor = extrapolation(is_counter, change, values[lo], sizes[step], times)
        if operation == RATE:
            factor /= range_seconds
        results[step] = factor * change


@kernel(allocates=False)
def _scalar_row(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    lows: IntArray,
    highs: IntArray,
    eval_ms: IntArray,
    scalars: tuple[FloatArray, FloatArray],
    scratch: FloatArray,
    results: FloatArray,
    present: BoolArray,
) -> None:
    """PREDICT_LINEAR, SMOOTHING and QUANTILE, which have scalar arguments."""
    for step in range(len(results)):
        if not present[step]:
            continue
        lo, hi, first = lows[step], highs[step], scalars[0][step]
        if operation == PREDICT_LINEAR:
            slope, intercept = line(timestamps[lo:hi], values[lo:hi], eval_ms[step])
            results[step] = slope * first + intercept
        elif operation == SMOOTHING:
            results[step] = smoothed(values[lo:hi], first, scalars[1][step])
        else:
            results[step] = window_quantile(first, values[lo:hi], scratch)


@kernel(allocates=False)
def _unusable_factor(lows: IntArray, highs: IntArray, first: FloatArray, second: FloatArray) -> int:
    """The first step with samples whose factors are not between 0 and 1; -1 without any."""
    for step in range(len(lows)):
        outside = first[step] <= 0 or first[step] >= 1 or second[step] <= 0 or second[step] >= 1
        if highs[step] > lows[step] and outside:
            return step
    return -1


@kernel(
    f"int64(int64, {INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, {INTEGERS}, {INTEGERS}, int64,"
    f"{FLOATS}, {FLOATS}, int64[:, ::1], int64[::1], float64[::1],"
    "float64[:, :], boolean[:, :], int64[::1])",
    allocates=False,
)
def reduce_windows(
    operation: int,
    offsets: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    counted: IntArray,
    end_ms: IntArray,
    eval_ms: IntArray,
    range_ms: int,
    first_scalar: FloatArray,
    second_scalar: FloatArray,
    bounds: IntArray,
    pairs: IntArray,
    scratch: FloatArray,
    results: FloatArray,
    present: BoolArray,
    totals: IntArray,
) -> int:
    """Compute an operation over the windows `(end - range, end]` of some series.

    Series i has the samples [offsets[i], offsets[i + 1]) of `timestamps` and `values`, none of them
    a stale marker. `counted[i]` is how many samples those before sample i represent; empty if one
    each. `end_ms`, `eval_ms` and the scalar arguments have an entry for each step; times do not
    fall. `bounds` [3, n_steps], `pairs` [longest] and `scratch` [2 * longest] are for the kernel's
    own use, where `longest` is the number of samples of the longest series.
    Fills `results` and `present` [n_series, n_steps] and adds the number of samples to `totals`.
    Returns -1; or, when a factor of SMOOTHING is not between 0 and 1, the step.
    """
    lows, highs, sizes = bounds[0], bounds[1], bounds[2]
    scalars = (first_scalar, second_scalar)
    needed = 2 if operation <= SMOOTHING or IRATE <= operation <= DERIV else 1
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        times, samples = timestamps[start:end], values[start:end]
        cells, here = results[row], present[row]
        _walk(times, end_ms, range_ms, lows, highs)
        _mark_windows(lows, highs, counted[start : end + 1], needed, sizes, cells, here, totals)
        if operation == SMOOTHING:
            step = _unusable_factor(lows, highs, first_scalar, second_scalar)
            if step >= 0:
                return step
        if operation <= DELTA:
            _extrapolate_row(
                operation, times, samples, lows, highs, sizes, end_ms, range_ms, pairs, cells, here
            )
        elif operation <= QUANTILE:
            _scalar_row(
                operation, times, samples, lows, highs, eval_ms, scalars, scratch, cells, here
            )
        elif operation <= RESETS:
            _count_pairs_row(operation, samples, lows, highs, pairs, cells, here)
        elif operation >= MIN:
            _extreme_row(operation, times, samples, lows, highs, cells, here)
        else:
            _reduce_row(operation, times, samples, lows, highs, sizes, scratch, cells, here)
    return -1
