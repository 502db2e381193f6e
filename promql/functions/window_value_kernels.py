"""The value of one window `values[lo:hi]`, for `window_kernels`.

Operations and their order are those of Prometheus, so results agree to the last bit except where
Go's assembly rounds differently.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray, IntArray
from promql.numbers.kahan_kernels import kahan_add

_EXTRAPOLATION_SLACK = 1.1
_SORTED_RUN = 16
_COMPARED_AT_ONCE = 16


@kernel(allocates=False)
def extrapolation(
    is_counter: bool,
    change: float,
    first_value: float,
    n_samples: int,
    times: tuple[int, int, int, int],
) -> float:
    """What Prometheus' `extrapolatedRate` multiplies a change with, to extrapolate it to the ends.

    A gap to an end below 1.1 average sample distances is filled, of a larger one half a distance; a
    counter is not extrapolated below zero. `times`: start, first sample, last sample, end.
    """
    start_ms, first_ms, last_ms, end_ms = times
    sampled = (last_ms - first_ms) / 1000
    to_start, to_end = (first_ms - start_ms) / 1000, (end_ms - last_ms) / 1000
    average_distance = sampled / (n_samples - 1)
    threshold = average_distance * _EXTRAPOLATION_SLACK
    if to_start >= threshold:
        to_start = average_distance / 2
    if is_counter and change > 0 and first_value >= 0:
        to_zero = sampled * (first_value / change)
        if to_zero < to_start:
            to_start = to_zero
    if to_end >= threshold:
        to_end = average_distance / 2
    return (sampled + to_start + to_end) / sampled


@kernel(allocates=False)
def latest_rate(times: IntArray, samples: FloatArray) -> float:
    """The per-second increase of a counter between the last two samples of a window."""
    last = len(samples) - 1
    change: float = samples[last]
    # After a reset the counter rose from zero to its newest value.
    if not samples[last] < samples[last - 1]:
        change -= samples[last - 1]
    seconds: float = (times[last] - times[last - 1]) / 1000
    return change / seconds


@kernel(allocates=False)
def line(times: IntArray, samples: FloatArray, origin_ms: int) -> tuple[float, float]:
    """Slope, and intercept at a time, of the least-squares line through a window.

    Equal samples give slope 0 exactly; infinite ones give NaN for both.
    """
    n, level, is_constant = len(samples), samples[0], True
    sum_x = sum_y = sum_xy = sum_xx = c_x = c_y = c_xy = c_xx = 0.0
    for i in range(n):
        x, y = (times[i] - origin_ms) / 1000, samples[i]
        is_constant = is_constant and y == level
        sum_x, c_x = kahan_add(sum_x, c_x, x)
        sum_y, c_y = kahan_add(sum_y, c_y, y)
        sum_xy, c_xy = kahan_add(sum_xy, c_xy, x * y)
        sum_xx, c_xx = kahan_add(sum_xx, c_xx, x * x)
    if is_constant:
        return (np.nan, np.nan) if np.isinf(level) else (0.0, level)
    # Unlike in sum_over_time, infinite sums are used as they are: the slope is NaN then.
    sum_x, sum_y, sum_xy, sum_xx = sum_x + c_x, sum_y + c_y, sum_xy + c_xy, sum_xx + c_xx
    slope = (sum_xy - sum_x * sum_y / n) / (sum_xx - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


@kernel(allocates=False)
def smoothed(samples: FloatArray, factor: float, trend: float) -> float:
    """The level after the last sample, by Holt's double exponential smoothing."""
    level: float = samples[0]
    previous, slope = 0.0, samples[1] - level
    for i in range(1, len(samples)):
        if i > 1:
            slope = trend * (level - previous) + (1 - trend) * slope
        previous, level = level, factor * samples[i] + (1 - factor) * (level + slope)
    return level


@kernel(allocates=False)
def total(samples: FloatArray) -> float:
    """The compensated sum of a window."""
    total = compensation = 0.0
    for x in samples:
        total, compensation = kahan_add(total, compensation, x)
    return total if np.isinf(total) else total + compensation


@kernel(allocates=False)
def mean(samples: FloatArray, count: int) -> float:
    """The compensated sum divided by the count; from where the sum overflows on, a running mean.

    As in Prometheus, sum and compensation are divided each for itself, which decides the last bit.
    """
    total: float = samples[0]
    compensation = 0.0
    for i in range(1, len(samples)):
        new_total, new_compensation = kahan_add(total, compensation, samples[i])
        if np.isinf(new_total):
            return _running_mean(samples, i, total, compensation)
        total, compensation = new_total, new_compensation
    return total / count + compensation / count


@kernel(allocates=False)
def _running_mean(samples: FloatArray, count: int, total: float, compensation: float) -> float:
    """The mean of a window whose first `count` samples have this sum."""
    mean, compensation = total / count, compensation / count
    for x in samples[count:]:
        count += 1
        share = (count - 1) / count
        mean, compensation = kahan_add(share * mean, share * compensation, x / count)
    return mean + compensation


@kernel(allocates=False)
def variance(samples: FloatArray) -> float:
    """Welford's recurrence with compensated mean and sum of squares."""
    mean = mean_c = squares = squares_c = 0.0
    for i in range(len(samples)):
        x = samples[i]
        delta = x - (mean + mean_c)
        mean, mean_c = kahan_add(mean, mean_c, delta / (i + 1))
        squares, squares_c = kahan_add(squares, squares_c, delta * (x - (mean + mean_c)))
    return (squares + squares_c) / len(samples)


@kernel(allocates=False)
def better_extreme(best: float, samples: FloatArray, is_max: bool, takes_last: bool) -> int:
    """The index of the extreme of `samples` if it is better than `best`, -1 otherwise.

    NaN is the worst. Of equal samples the first counts, with `takes_last` the last.
    """
    sign = -1.0 if is_max else 1.0
    found, best = -1, sign * best
    for first in range(0, len(samples), _COMPARED_AT_ONCE):
        end = min(first + _COMPARED_AT_ONCE, len(samples))
        # Independent comparisons are fast; most parts of a window have no better sample.
        n_worse = 0
        for i in range(first, end):
            n_worse += sign * samples[i] > best
        if n_worse == end - first:
            continue
        for i in range(first, end):
            x = sign * samples[i]
            if x < best or (takes_last and x == best) or np.isnan(best):
                found, best = i, x
    return found


@kernel(allocates=False)
def _insert_sorted(samples: FloatArray, first: int, end: int) -> None:
    for i in range(first + 1, end):
        x, at = samples[i], i
        while at > first and samples[at - 1] > x:
            samples[at] = samples[at - 1]
            at -= 1
        samples[at] = x


@kernel(allocates=False)
def _merge(source: FloatArray, target: FloatArray, first: int, middle: int, end: int) -> None:
    left, right = first, middle
    for at in range(first, end):
        if left < middle and (right >= end or source[left] <= source[right]):
            target[at] = source[left]
            left += 1
        else:
            target[at] = source[right]
            right += 1


@kernel(allocates=False)
def stable_sort(samples: FloatArray, scratch: FloatArray, n: int) -> None:
    """Sort `samples[:n]`, none of which is NaN; 0 and -0 keep their order."""
    for first in range(0, n, _SORTED_RUN):
        _insert_sorted(samples, first, min(first + _SORTED_RUN, n))
    width = _SORTED_RUN
    while width < n:
        for first in range(0, n, 2 * width):
            _merge(samples, scratch, first, min(first + width, n), min(first + 2 * width, n))
        for i in range(n):
            samples[i] = scratch[i]
        width *= 2


@kernel(allocates=False)
def _sorted_at(ordered: FloatArray, n_nan: int, position: int) -> float:
    found: float = np.nan if position < n_nan else ordered[position - n_nan]
    return found


@kernel(allocates=False)
def _quantile(quantile: float, ordered: FloatArray, n_nan: int, n_samples: int) -> float:
    """The quantile of sorted numbers and `n_nan` NaN, which come before them, interpolated."""
    if np.isnan(quantile):
        return np.nan
    if quantile < 0 or quantile > 1:
        return -np.inf if quantile < 0 else np.inf
    rank = quantile * (n_samples - 1)
    floor = float(np.floor(rank))
    lower, weight = int(floor), rank - floor
    upper = min(n_samples - 1, lower + 1)
    above = _sorted_at(ordered, n_nan, upper) * weight
    return _sorted_at(ordered, n_nan, lower) * (1 - weight) + above


@kernel(allocates=False)
def window_quantile(quantile: float, samples: FloatArray, scratch: FloatArray) -> float:
    """The quantile of a window; `scratch` has twice its length."""
    n_samples = len(samples)
    n_numbers = 0
    for x in samples:
        if not np.isnan(x):
            scratch[n_numbers] = x
            n_numbers += 1
    stable_sort(scratch, scratch[n_samples:], n_numbers)
    return _quantile(quantile, scratch, n_samples - n_numbers, n_samples)


@kernel(allocates=False)
def median_distance(samples: FloatArray, scratch: FloatArray) -> float:
    """The median distance of the samples from their median, NaN if one of them is.

    `scratch` has twice their length.
    """
    for x in samples:
        if np.isnan(x):
            return np.nan
    median, n_samples = window_quantile(0.5, samples, scratch), len(samples)
    n_numbers = 0
    for x in samples:
        distance = abs(x - median)
        if not np.isnan(distance):
            scratch[n_numbers] = distance
            n_numbers += 1
    stable_sort(scratch, scratch[n_samples:], n_numbers)
    return _quantile(0.5, scratch, n_samples - n_numbers, n_samples)
