"""The functions of `anchored` and `smoothed` range vectors of floats.

The rules are those of Prometheus 3.14's feature `promql-extended-range-selectors`. `anchored` takes
the last sample at or before the start of the range as the first one of the window. `smoothed`
computes the values at both ends of the range from the samples around them, as on a straight line.
Neither extrapolates.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.window_kernels import CHANGES, DELTA, RATE, RESETS
from promql.values.sample_kernels import FLOATS, INTEGERS, first_later


@kernel(allocates=False)
def _between(
    timestamps: IntArray, values: FloatArray, before: int, time_ms: int, is_counter: bool
) -> float:
    """The value at a time between a sample and the next one; a counter that was reset was 0."""
    earlier, later = values[before], values[before + 1]
    if is_counter and later < earlier:
        earlier = 0.0
    elapsed: float = np.float64(time_ms - timestamps[before])
    span: float = np.float64(timestamps[before + 1] - timestamps[before])
    value: float = earlier + (later - earlier) * elapsed / span
    return value


@kernel(allocates=False)
def _corrections(values: FloatArray, left: float, right: float) -> float:
    """What a counter had before each reset between `left`, the values and `right`."""
    correction, previous = 0.0, left
    for value in values:
        if value < previous:
            correction += previous
        previous = value
    if right < previous:
        correction += previous
    return correction


@kernel(allocates=False)
def _pairs(operation: int, values: FloatArray) -> float:
    """CHANGES or RESETS among the values."""
    found = 0
    for i in range(1, len(values)):
        before, after = values[i - 1], values[i]
        if operation == RESETS:
            found += after < before
        else:
            found += before != after and not (np.isnan(before) and np.isnan(after))
    return float(found)


@kernel(allocates=False)
def _change(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    start_ms: int,
    end_ms: int,
    is_smoothed: bool,
) -> tuple[bool, float]:
    """Whether RATE (not divided by the range), INCREASE or DELTA has a value, and the value."""
    is_counter = operation != DELTA
    last = len(values) - 1
    first = max(0, first_later(timestamps[:last], 0, start_ms) - 1)
    if is_smoothed:
        last = first_later(timestamps[:last], 0, end_ms - 1)
    if timestamps[last] <= start_ms or (is_smoothed and timestamps[first] > end_ms):
        return False, 0.0
    left, right = values[first], values[last]
    if is_smoothed and timestamps[first] < start_ms:
        left = _between(timestamps, values, first, start_ms, is_counter)
    if is_smoothed and last > 0 and timestamps[last] > end_ms:
        right = _between(timestamps, values, last - 1, end_ms, is_counter)
    change = right - left
    if is_counter:
        # The values at the ends already take account of resets there.
        inner = first + 1 if timestamps[first] <= start_ms else first
        behind = last if timestamps[last] >= end_ms else last + 1
        change += _corrections(values[inner : max(inner, behind)], left, right)
    return True, change


@kernel(
    f"void(int64, boolean, {INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, int64, int64,"
    " float64[:, ::1], boolean[:, ::1], int64[::1])",
    allocates=False,
)
def reduce_extended(
    operation: int,
    is_smoothed: bool,
    offsets: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    end_ms: IntArray,
    range_ms: int,
    lookback_ms: int,
    results: FloatArray,
    present: BoolArray,
    totals: IntArray,
) -> None:
    """An operation on the windows `(end - range, end]` of every series at every step.

    `end_ms` does not fall. Fills `results` and `present`, [n_series, n_steps], and adds to `totals`
    [n_steps] how many samples a step looks at.
    """
    seconds = np.float64(range_ms) / 1000
    ahead_ms = lookback_ms if is_smoothed else 0
    for series in range(len(offsets) - 1):
        times = timestamps[offsets[series] : offsets[series + 1]]
        samples = values[offsets[series] : offsets[series + 1]]
        lo = hi = 0
        for step in range(len(end_ms)):
            end = end_ms[step]
            start = end - range_ms
            lo = first_later(times, lo, start - lookback_ms)
            hi = first_later(times, max(lo, hi), end + ahead_ms)
            totals[step] += hi - lo
            present[series, step] = False
            if lo == hi:
                continue
            if operation in (CHANGES, RESETS):
                after = first_later(times[:hi], lo, start)
                if after < hi:
                    present[series, step] = True
                    results[series, step] = _pairs(operation, samples[max(lo, after - 1) : hi])
                continue
            has_value, change = _change(
                operation, times[lo:hi], samples[lo:hi], start, end, is_smoothed
            )
            present[series, step] = has_value
            results[series, step] = change / seconds if operation == RATE else change
