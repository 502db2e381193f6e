"""Searches in the samples of series: the last one at each step, and stale markers."""

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import STALE_NAN_BITS, BoolArray, FloatArray, IntArray

INTEGERS = "Array(int64, 1, 'C', True)"
FLOATS = "Array(float64, 1, 'C', True)"
"""Types of arrays that a kernel only reads; they may be read-only."""

_NEAR = 8
"""How many samples to look at before searching: steps are a few samples apart in most queries."""
_STALE = STALE_NAN_BITS


@kernel(allocates=False)
def first_later(timestamps: IntArray, at: int, time_ms: int) -> int:
    """The first index from `at` on whose sample is later: found near `at`, or by galloping."""
    end = len(timestamps)
    near = min(at + _NEAR, end)
    while at < near and timestamps[at] <= time_ms:
        at += 1
    if at < near:
        return at
    stride = 1
    while at + stride <= end and timestamps[at + stride - 1] <= time_ms:
        at += stride
        stride *= 2
    high = min(at + stride - 1, end)
    while at < high:
        middle = (at + high) // 2
        if timestamps[middle] <= time_ms:
            at = middle + 1
        else:
            high = middle
    return at


@kernel(f"void({INTEGERS}, {INTEGERS}, {INTEGERS}, int64[:, ::1])", allocates=False)
def upper_bounds(
    offsets: IntArray, timestamps: IntArray, times_ms: IntArray, bounds: IntArray
) -> None:
    """Fill `bounds` [n_series, n_steps] with the index after the last sample not later than a time.

    The times are in any order; a search starts again at the first sample where they fall.
    """
    for row in range(len(offsets) - 1):
        start, at = offsets[row], 0
        times = timestamps[start : offsets[row + 1]]
        for step in range(len(times_ms)):
            if step and times_ms[step] < times_ms[step - 1]:
                at = 0
            at = first_later(times, at, times_ms[step])
            bounds[row, step] = start + at


@kernel(
    f"void({INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, {INTEGERS}, int64,"
    "float64[:, :], int64[:, :], boolean[:, :], int64[::1])",
    allocates=False,
)
def look_up(
    offsets: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    bits: IntArray,
    times_ms: IntArray,
    lookback_ms: int,
    found: FloatArray,
    found_at_ms: IntArray,
    present: BoolArray,
    totals: IntArray,
) -> None:
    """Find the last sample of each series at or before each time, within the lookback delta.

    `bits` are the values as integers. Times do not fall. Fills arrays [n_series, n_steps] with the
    value, its time (unless that array is empty) and whether there is one, with 0 if not. Adds the
    number of samples at each step to `totals`.
    """
    wants_times = found_at_ms.size > 0
    for row in range(len(offsets) - 1):
        start, end, at = offsets[row], offsets[row + 1], 0
        times, samples, marks = timestamps[start:end], values[start:end], bits[start:end]
        for step in range(len(times_ms)):
            at = first_later(times, at, times_ms[step])
            last = max(at - 1, 0)
            is_present = (
                at > 0 and times[last] > times_ms[step] - lookback_ms and marks[last] != _STALE
            )
            present[row, step] = is_present
            totals[step] += is_present
            found[row, step] = samples[last] if is_present else 0.0
            if wants_times:
                found_at_ms[row, step] = times[last] if is_present else 0


@kernel(f"int64({INTEGERS})", allocates=False)
def count_stale(bits: IntArray) -> int:
    """How many samples are stale markers; `bits` are the values as integers."""
    n_stale = 0
    for sample in bits:
        n_stale += sample == _STALE
    return n_stale
