"""Counters whose samples say when these began (docs/adr/0040-starts-in-promql.md).

Such a counter was reset between two samples also where its value did not fall, and was 0 at its
start, so that nothing before it is extrapolated.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from promcompat.core.model import METRIC_NAME, BoolArray, IntArray, SampleBlock
from promql.budget import BYTES_PER_CELL
from promql.functions import window_kernels as kernels
from promql.functions.function_calls import RangeCall
from promql.functions.start_kernels import find_overlaps, find_starts, reduce_started_windows
from promql.values.annotation_texts import overlapping_start
from promql.values.label_columns import label_pairs
from promql.values.range_vectors import RangeVector
from promql.values.row_pieces import RowWriter, series_pieces, take_series
from promql.values.windows import make_windows, upper_bounds

_BYTES_PER_WINDOW = 24
"""Its bounds, and whether a start overlaps in it."""


def began_after_last(block: SampleBlock) -> BoolArray | None:
    """Whether the counter of each sample began after the sample before; None without starts."""
    if block.starts is None:
        return None
    began = np.zeros(len(block.timestamps), bool)
    find_starts(block.offsets, block.timestamps, block.starts, began)
    return began


def begin_inside(block: SampleBlock, lo: IntArray, hi: IntArray, vector: RangeVector) -> BoolArray:
    """In which windows the counter of the first sample began: bool [n_series, n_steps]."""
    if block.starts is None or not len(block.starts):
        return np.zeros(lo.shape, bool)
    first = np.minimum(lo, len(block.starts) - 1)
    starts = block.starts[first]
    is_inside = (starts > vector.end_ms - vector.range_ms) & (starts < block.timestamps[first])
    return np.asarray(is_inside & (starts != 0) & (hi > lo))


def reduce_started_floats(operation: int, call: RangeCall) -> RowWriter:
    """RATE, INCREASE, IRATE or RESETS of each window that has a value; all samples are floats."""
    vector = call.vector

    def windows_of(part: SampleBlock) -> tuple[IntArray, IntArray]:
        windows = make_windows(part, vector.end_ms, vector.range_ms)
        call.samples_per_step[:] += (windows.hi - windows.lo).sum(axis=0)
        return windows.lo, windows.hi

    return _reduce(operation, call, windows_of)


def count_anchored_resets(lookback_ms: int, call: RangeCall) -> RowWriter:
    """RESETS from the last sample before each range on, where there is a sample in it.

    All samples are floats; that sample is at most `lookback_ms` before the range.
    """
    vector = call.vector
    start_ms = vector.end_ms - vector.range_ms

    def windows_of(part: SampleBlock) -> tuple[IntArray, IntArray]:
        lo = upper_bounds(part, start_ms - lookback_ms)
        after, hi = upper_bounds(part, start_ms), upper_bounds(part, vector.end_ms)
        call.samples_per_step[:] += (hi - lo).sum(axis=0)
        return np.where(after < hi, np.maximum(lo, after - 1), hi), hi

    return _reduce(kernels.RESETS, call, windows_of)


def _reduce(
    operation: int,
    call: RangeCall,
    windows_of: Callable[[SampleBlock], tuple[IntArray, IntArray]],
) -> RowWriter:
    """An operation on the windows of each piece of series, int64 [n_series, n_steps]."""
    vector, budget = call.vector, call.budget
    result = RowWriter(len(vector.block.labels), vector.n_steps)
    for series in series_pieces(vector.block.offsets, vector.n_steps):
        part = take_series(vector.block, series)
        budget.check_time()
        budget.check_bytes(len(part.labels) * vector.n_steps * (BYTES_PER_CELL + _BYTES_PER_WINDOW))
        lo, hi = windows_of(part)
        began = began_after_last(part)
        assert began is not None
        assert part.starts is not None
        values, present = result.next_rows(len(part.labels))
        reduce_started_windows(
            operation,
            part.timestamps,
            part.values,
            part.starts,
            began,
            lo,
            hi,
            vector.end_ms,
            vector.range_ms,
            values,
            present,
        )
        if operation in (kernels.RATE, kernels.INCREASE):
            warn_of_overlaps(part, lo, hi, call)
        result.close_rows(series)
    return result


def warn_of_overlaps(block: SampleBlock, lo: IntArray, hi: IntArray, call: RangeCall) -> None:
    """Warn of samples that say that their counter began before the sample before them did not.

    As in Prometheus, the warning tells in how many windows there is one. The bounds of these are
    int64 [n_series, n_steps].
    """
    assert block.starts is not None
    overlaps = np.zeros(len(block.timestamps), bool)
    find_overlaps(block.offsets, block.timestamps, block.starts, overlaps)
    if not overlaps.any():
        return
    until = np.concatenate(([0], np.cumsum(overlaps)))
    n_inside = until[hi] - until[np.minimum(lo + 1, hi)]
    counts = (n_inside > 0).sum(axis=1)
    rows = np.flatnonzero(counts).tolist()
    pairs = label_pairs([block.labels[row] for row in rows], METRIC_NAME)
    totals: Counter[str] = Counter()
    for row, pair in zip(rows, pairs, strict=True):
        totals["" if pair is None else pair[1]] += int(counts[row])
    for name, count in totals.items():
        call.annotations.warn_counted(overlapping_start(name), call.arg_positions[0], count)
