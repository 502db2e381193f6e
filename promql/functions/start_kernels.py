"""Functions of counters whose samples say when these began (docs/adr/0040-starts-in-promql.md)."""

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.window_kernels import IRATE, RATE, RESETS
from promql.functions.window_value_kernels import extrapolation
from promql.values.sample_kernels import FLOATS, INTEGERS

_SLACK = 1.1
"""A gap below this many average distances of samples is filled by extrapolation."""


@kernel(allocates=False)
def _began_between(before: int, before_ms: int, start: int, time_ms: int) -> bool:
    """Whether a counter that began at `start` did so after the sample at `before_ms`.

    `before` is when that sample says that it began; 0 is not known. Where one sample's start is the
    time of the other, the samples are deltas, unless the one before has no known start itself.
    """
    if start == 0 or start >= time_ms or start < before_ms:
        return False
    return start > before_ms or (before != 0 and before < before_ms)


@kernel(f"void({INTEGERS}, {INTEGERS}, {INTEGERS}, boolean[::1])", allocates=False)
def find_starts(
    offsets: IntArray, timestamps: IntArray, starts: IntArray, began: BoolArray
) -> None:
    """Fill `began` with whether each counter began after the sample before; not for first ones."""
    for series in range(len(offsets) - 1):
        first, end = offsets[series], offsets[series + 1]
        for i in range(first, end):
            began[i] = i > first and _began_between(
                starts[i - 1], timestamps[i - 1], starts[i], timestamps[i]
            )


@kernel(f"void({INTEGERS}, {INTEGERS}, {INTEGERS}, boolean[::1])", allocates=False)
def find_overlaps(
    offsets: IntArray, timestamps: IntArray, starts: IntArray, overlaps: BoolArray
) -> None:
    """Fill `overlaps` with whether each sample says of the time before it what another one denies.

    It says then that its counter began before the sample before it, and at another time than that.
    """
    for series in range(len(offsets) - 1):
        first, end = offsets[series], offsets[series + 1]
        for i in range(first, end):
            is_earlier = starts[i] != 0 and i > first and starts[i] < timestamps[i - 1]
            overlaps[i] = is_earlier and starts[i] != starts[i - 1]


@kernel(allocates=False)
def _increase(values: FloatArray, began: BoolArray, lo: int, hi: int) -> float:
    """The increase between the first sample and the last one."""
    change: float = values[hi - 1] - values[lo]
    for i in range(lo + 1, hi):
        if values[i] < values[i - 1] or began[i]:
            change += values[i - 1]
    return change


@kernel(allocates=False)
def factor_from_start(start: int, first_ms: int, last_ms: int, end_ms: int, n: int) -> float:
    """What extrapolates the change since a start within the range to the end of the range."""
    sampled, to_end = (last_ms - start) / 1000, (end_ms - last_ms) / 1000
    # Of one sample no distance is known: nothing is extrapolated.
    distance = (last_ms - first_ms) / 1000 / (n - 1) if n > 1 else 0.0
    if to_end >= distance * _SLACK:
        to_end = distance / 2
    return (sampled + to_end) / sampled


@kernel(allocates=False)
def _latest_rate(times: IntArray, values: FloatArray, began: BoolArray, last: int) -> float:
    change: float = values[last]
    if not (values[last] < values[last - 1] or began[last]):
        change -= values[last - 1]
    seconds: float = (times[last] - times[last - 1]) / 1000
    return change / seconds


@kernel(allocates=False)
def _count_resets(values: FloatArray, began: BoolArray, lo: int, hi: int) -> int:
    n_resets = 0
    for i in range(lo + 1, hi):
        n_resets += values[i] < values[i - 1] or began[i]
    return n_resets


@kernel(
    f"void(int64, {INTEGERS}, {FLOATS}, {INTEGERS}, Array(boolean, 1, 'C', True), int64[:, ::1],"
    f" int64[:, ::1], {INTEGERS}, int64, float64[:, :], boolean[:, :])",
    allocates=False,
)
def reduce_started_windows(
    operation: int,
    timestamps: IntArray,
    values: FloatArray,
    starts: IntArray,
    began: BoolArray,
    lows: IntArray,
    highs: IntArray,
    end_ms: IntArray,
    range_ms: int,
    results: FloatArray,
    present: BoolArray,
) -> None:
    """Compute RATE, INCREASE, IRATE or RESETS of each window.

    The window of series i at step j has the samples from `lows[i, j]` to `highs[i, j]` of
    `timestamps`, `values`, `starts` and `began`, see `find_starts`, and ends at `end_ms[j]`. Fills
    `results` and `present` [n_series, n_steps].
    """
    range_seconds = range_ms // 1000 + range_ms % 1000 * 1_000_000 / 1e9
    for row in range(len(lows)):
        for step in range(len(end_ms)):
            lo, hi = lows[row, step], highs[row, step]
            n, last = hi - lo, hi - 1
            results[row, step], present[row, step] = 0.0, n > 1 or (n == 1 and operation == RESETS)
            if n < 1:
                continue
            if operation == RESETS:
                results[row, step] = _count_resets(values, began, lo, hi)
                continue
            if operation == IRATE:
                if n > 1:
                    results[row, step] = _latest_rate(timestamps, values, began, last)
                continue
            start, from_ms, end = starts[lo], end_ms[step] - range_ms, end_ms[step]
            change = _increase(values, began, lo, hi)
            if from_ms < start < timestamps[lo] and start != 0:
                present[row, step] = True
                change += values[lo]
                factor = factor_from_start(start, timestamps[lo], timestamps[last], end, n)
            elif n == 1:
                continue
            else:
                times = (from_ms, timestamps[lo], timestamps[last], end)
                factor = extrapolation(True, change, values[lo], n, times)
            if operation == RATE:
                factor /= range_seconds
            results[row, step] = change * factor
