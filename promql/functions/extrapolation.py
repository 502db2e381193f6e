"""`rate`, `increase` and `delta` extrapolate to the window's ends; `irate` and `idelta` do not."""

from dataclasses import dataclass
from itertools import compress

import numpy as np

from promcompat.core.model import METRIC_NAME, BoolArray, FloatArray, IntArray
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import chunk_windows
from promql.values.annotation_texts import possible_non_counter
from promql.values.label_columns import label_pairs

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
_EXTRAPOLATION_SLACK = 1.1


@dataclass(frozen=True, slots=True)
class _Ends:
    """The windows with at least two samples: their first and last sample, and the time around them.

    The arrays have the shape of `present` if all windows have two samples, which saves copies;
    otherwise they are flat.
    """

    present: BoolArray
    lo: IntArray
    last: IntArray
    n_distances: IntArray
    first_value: FloatArray
    last_value: FloatArray
    sampled_seconds: FloatArray
    seconds_to_start: FloatArray
    seconds_to_end: FloatArray


def _ends(call: RangeCall) -> _Ends:
    windows, block = call.windows, call.windows.block
    present = windows.hi - windows.lo >= 2
    lo, last, start_ms, end_ms = windows.lo, windows.hi - 1, windows.start_ms, windows.end_ms
    n_distances = windows.sizes() - 1
    if not present.all():
        lo, last, n_distances = lo[present], last[present], n_distances[present]
        start_ms = np.broadcast_to(start_ms, present.shape)[present]
        end_ms = np.broadcast_to(end_ms, present.shape)[present]
    first_ms, last_ms = block.timestamps[lo], block.timestamps[last]
    return _Ends(
        present,
        lo,
        last,
        n_distances,
        block.values[lo],
        block.values[last],
        (last_ms - first_ms) / 1000,
        (first_ms - start_ms) / 1000,
        (end_ms - last_ms) / 1000,
    )


def add_reset_corrections(
    increases: FloatArray, values: FloatArray, lo: IntArray, last: IntArray
) -> None:
    """Add to each increase, in place, the value a counter had before each reset in its window.

    Differences of a prefix sum would be faster, but one huge or infinite counter would make every
    later window of the block wrong.
    """
    is_reset = np.append(False, values[1:] < values[:-1])[: len(values)]
    resets_until = np.cumsum(is_reset)
    if not len(values) or not resets_until[-1]:
        return
    reset_at = np.flatnonzero(is_reset)
    first_reset = resets_until[lo]
    counts = resets_until[last] - first_reset
    before_reset = values[reset_at - 1]
    if np.count_nonzero(counts) < counts.max(initial=0):
        for row in np.flatnonzero(counts).tolist():
            start = int(first_reset[row])
            added = before_reset[start : start + int(counts[row])]
            increases[row] = np.add.accumulate(np.append(increases[row], added))[-1]
        return
    for chunk in chunk_windows(first_reset, counts):
        for resets in chunk.rounds():
            increases[chunk.rows[: len(resets)]] += before_reset[resets]


def _extrapolated(call: RangeCall, *, is_counter: bool, is_rate: bool) -> FloatArray:
    """The increase over each window, extrapolated to the ends of the window.

    The rule is Prometheus' `extrapolatedRate`: a gap to an end below 1.1 average sample distances
    is filled, of a larger one half a distance; a counter is not extrapolated below zero. Windows
    with fewer than two samples give 0.
    """
    ends = _ends(call)
    change = ends.last_value - ends.first_value
    if is_counter:
        values = call.windows.block.values
        add_reset_corrections(change.reshape(-1), values, ends.lo.ravel(), ends.last.ravel())
    average_distance = ends.sampled_seconds / ends.n_distances
    threshold = average_distance * _EXTRAPOLATION_SLACK
    half = average_distance / 2
    to_start = np.where(ends.seconds_to_start >= threshold, half, ends.seconds_to_start)
    if is_counter:
        can_reach_zero = (change > 0) & (ends.first_value >= 0)
        to_zero = ends.sampled_seconds * (ends.first_value / change)
        to_start = np.where(can_reach_zero & (to_zero < to_start), to_zero, to_start)
    to_end = np.where(ends.seconds_to_end >= threshold, half, ends.seconds_to_end)
    factor = (ends.sampled_seconds + to_start + to_end) / ends.sampled_seconds
    if is_rate:
        factor /= _range_seconds(call.windows.range_ms)
    factor *= change
    if factor.shape == ends.present.shape:
        return factor
    results = np.zeros(ends.present.shape)
    results[ends.present] = factor
    return results


def _range_seconds(range_ms: int) -> float:
    seconds, rest_ms = divmod(range_ms, 1000)
    return seconds + rest_ms * 1_000_000 / 1e9


def _annotate_non_counters(call: RangeCall, present: BoolArray) -> None:
    """Add an info for every metric with a result whose name is not that of a counter."""
    has_result = np.logical_or.reduce(present, axis=1).tolist()
    names = label_pairs(call.windows.block.labels, METRIC_NAME)
    for pair in dict.fromkeys(compress(names, has_result)):
        if pair is not None and not pair[1].endswith(_COUNTER_SUFFIXES):
            call.annotations.info(possible_non_counter(pair[1]), call.arg_positions[0])


def rate(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The per-second increase of a counter."""
    return _counter_function(call, is_rate=True)


def increase(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The increase of a counter over the window."""
    return _counter_function(call, is_rate=False)


def _counter_function(call: RangeCall, *, is_rate: bool) -> tuple[FloatArray, BoolArray]:
    present = call.windows.hi - call.windows.lo >= 2
    with np.errstate(all="ignore"):
        results = _extrapolated(call, is_counter=True, is_rate=is_rate)
    _annotate_non_counters(call, present)
    return results, present


def delta(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The difference of a gauge between the ends of the window."""
    with np.errstate(all="ignore"):
        results = _extrapolated(call, is_counter=False, is_rate=False)
    return results, call.windows.hi - call.windows.lo >= 2


def irate(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The per-second increase of a counter between the last two samples."""
    with np.errstate(all="ignore"):
        return _between_last_two(call, is_rate=True)


def idelta(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The difference of a gauge between the last two samples."""
    with np.errstate(all="ignore"):
        return _between_last_two(call, is_rate=False)


def _between_last_two(call: RangeCall, *, is_rate: bool) -> tuple[FloatArray, BoolArray]:
    windows, block = call.windows, call.windows.block
    present = windows.hi - windows.lo >= 2
    last = windows.hi[present] - 1
    newest, previous = block.values[last], block.values[last - 1]
    change = newest - previous
    if is_rate:
        # After a reset the counter rose from zero to its newest value.
        change = np.where(newest < previous, newest, change)
        change /= (block.timestamps[last] - block.timestamps[last - 1]) / 1000
    results = np.zeros(present.shape)
    results[present] = change
    return results, present
