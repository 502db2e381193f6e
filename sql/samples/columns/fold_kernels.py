"""Kernels that find, copy and settle rows of samples in CSR form.

Values are passed as their bits, so that no operation on a float changes a NaN. `timestamps` ascend
strictly within a series, `ids` and `wanted` ascend strictly, and offsets are within the arrays they
point into: `SeriesSamples` promises all of that.
"""

from typing import Final

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import IntArray

MANY_ROWS: Final = 64
"""Making slices of arrays takes as long as copying about as many rows one by one."""


@kernel(allocates=False)
def _position(ids: IntArray, start: int, wanted: int) -> int:
    """The first position from `start` whose id is not below `wanted`: a galloping search."""
    step = 1
    low = start
    high = start
    while high < len(ids) and ids[high] < wanted:
        low = high + 1
        high += step
        step *= 2
    high = min(high, len(ids))
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(allocates=False)
def _first_after(timestamps: IntArray, low: int, high: int, time_ms: int) -> int:
    """The first row in `[low, high)` after a time, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if timestamps[middle] <= time_ms:
            low = middle + 1
        else:
            high = middle
    return low


@kernel("i8(i8[::1], i8[::1], i8[::1], i8[::1], i8, i8, i8[::1], i8[::1])", allocates=False)
def find_rows(
    ids: IntArray,
    offsets: IntArray,
    timestamps: IntArray,
    wanted: IntArray,
    start_ms: int,
    end_ms: int,
    first: IntArray,
    lengths: IntArray,
) -> int:
    """Set the first row of each wanted series in `(start_ms, end_ms]` and their number.

    Returns the sum of `lengths`; the first row of a series without any is not set.
    """
    position = 0
    total = 0
    for index in range(len(wanted)):
        lengths[index] = 0
        position = _position(ids, position, wanted[index])
        if position == len(ids):
            lengths[index:] = 0
            break
        if ids[position] != wanted[index]:
            continue
        low, high = offsets[position], offsets[position + 1]
        if low < high and timestamps[low] <= start_ms:
            low = _first_after(timestamps, low, high, start_ms)
        if low < high and timestamps[high - 1] > end_ms:
            high = _first_after(timestamps, low, high, end_ms)
        first[index] = low
        lengths[index] = high - low
        total += high - low
    return total


@kernel(allocates=False)
def _move_many(source: IntArray, start: int, target: IntArray, begin: int, n_rows: int) -> None:
    """Copy rows, forwards. Slices whose index starts at 0 let the compiler use vectors."""
    read = source[start : start + n_rows]
    written = target[begin : begin + n_rows]
    for row in range(n_rows):
        written[row] = read[row]


@kernel("void(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1])", allocates=False)
def copy_rows(
    timestamps: IntArray,
    bits: IntArray,
    first: IntArray,
    lengths: IntArray,
    cursors: IntArray,
    out_timestamps: IntArray,
    out_bits: IntArray,
) -> None:
    """Copy the rows that `find_rows` found to `cursors`, and move these behind them."""
    for index in range(len(lengths)):
        source = first[index]
        target = cursors[index]
        n_rows = lengths[index]
        cursors[index] = target + n_rows
        if n_rows > MANY_ROWS:
            _move_many(timestamps, source, out_timestamps, target, n_rows)
            _move_many(bits, source, out_bits, target, n_rows)
            continue
        for row in range(n_rows):
            out_timestamps[target + row] = timestamps[source + row]
            out_bits[target + row] = bits[source + row]


@kernel(allocates=False)
def _run_end(timestamps: IntArray, start: int, stop: int) -> int:
    """Where the run of ascending times that begins at `start` ends."""
    end = start + 1
    while end < stop and timestamps[end] >= timestamps[end - 1]:
        end += 1
    return min(end, stop)


@kernel(allocates=False)
def _merge_runs(
    timestamps: IntArray,
    bits: IntArray,
    start: int,
    stop: int,
    merged_timestamps: IntArray,
    merged_bits: IntArray,
) -> int:
    """Merge each two neighbouring runs; of equal times the earlier row stays first.

    Returns how many runs are left.
    """
    n_runs = 0
    target = 0
    left = start
    while left < stop:
        middle = _run_end(timestamps, left, stop)
        end = _run_end(timestamps, middle, stop) if middle < stop else stop
        right = middle
        while left < middle or right < end:
            takes_left = right == end or (left < middle and timestamps[left] <= timestamps[right])
            source = left if takes_left else right
            merged_timestamps[target] = timestamps[source]
            merged_bits[target] = bits[source]
            target += 1
            if takes_left:
                left += 1
            else:
                right += 1
        left = end
        n_runs += 1
    for row in range(target):
        timestamps[start + row] = merged_timestamps[row]
        bits[start + row] = merged_bits[row]
    return n_runs


@kernel(allocates=False)
def _is_ascending(timestamps: IntArray, start: int, stop: int) -> bool:
    """Whether the times of rows `[start, stop)` ascend strictly."""
    rows = timestamps[start:stop]
    n_steps_back = 0
    for row in range(1, len(rows)):
        n_steps_back += rows[row] <= rows[row - 1]
    return n_steps_back == 0


@kernel()
def _sort_rows(timestamps: IntArray, bits: IntArray, start: int, stop: int) -> int:
    """Sort rows `[start, stop)` by time, and keep the first of each time; returns their end."""
    scratch_timestamps = np.empty(stop - start, np.int64)
    scratch_bits = np.empty(stop - start, np.int64)
    n_runs = 2
    while n_runs > 1:
        n_runs = _merge_runs(timestamps, bits, start, stop, scratch_timestamps, scratch_bits)
    end = start + 1
    for row in range(start + 1, stop):
        if timestamps[row] != timestamps[end - 1]:
            timestamps[end] = timestamps[row]
            bits[end] = bits[row]
            end += 1
    return end


@kernel("i8(i8[::1], i8[::1], i8[::1], i8[::1])")
def settle_rows(ids: IntArray, offsets: IntArray, timestamps: IntArray, bits: IntArray) -> int:
    """Sort the rows of each series by time, in place, and keep the first of those with one time.

    Series without rows are left out. Returns the number of series left: `ids` and `offsets` begin
    with these, the columns with their rows.
    """
    n_series = 0
    end = 0
    stop = offsets[0]
    for index in range(len(ids)):
        start = stop
        stop = offsets[index + 1]
        if start == stop:
            continue
        is_ascending = _is_ascending(timestamps, start, stop)
        n_rows = (stop if is_ascending else _sort_rows(timestamps, bits, start, stop)) - start
        if end < start:
            for row in range(n_rows):
                timestamps[end + row] = timestamps[start + row]
                bits[end + row] = bits[start + row]
        ids[n_series] = ids[index]
        offsets[n_series] = end
        n_series += 1
        end += n_rows
    offsets[n_series] = end
    return n_series
