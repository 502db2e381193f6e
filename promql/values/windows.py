"""From raw samples to the step grid: instant lookups and windows.

Both use `upper_bounds`: how many samples of a series are not later than each time of the grid.
There is no loop over samples or steps.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from promcompat.core.model import (
    BoolArray,
    FloatArray,
    IntArray,
    SampleBlock,
    is_stale,
)
from promql.values.matrix import Matrix, Windows

_MANY_SERIES = 50
_FEW_PER_SERIES = 40
"""Samples plus half the steps of a series below which counting is faster than a binary search.
10,000 series of 20 samples on 17 steps take 4 ms by counting and 13 ms by searching."""


@dataclass(frozen=True, slots=True)
class InstantSamples:
    """The samples of an instant selector: arrays of shape [n_series, n_steps].

    `values` and `timestamps` (of the samples themselves) are meaningful where `present`.
    """

    values: FloatArray
    timestamps: IntArray
    present: BoolArray


def upper_bounds(block: SampleBlock, times_ms: IntArray) -> IntArray:
    """The index after the last sample that is not later than each time, per series.

    `times_ms` int64 [n_steps], in any order. Returns int64 [n_series, n_steps] of absolute indices
    into the block: `offsets[i]` if a series has no such sample.

    A binary search per series and step takes 40 ms for 10,000 series of 240 samples on 240 steps.
    Counting at which step each sample is first visible takes 110 ms, but is faster if series have
    few samples.
    """
    if len(times_ms) == 1:
        return _single_bounds(block, int(times_ms[0]))[:, None]
    if _has_few_samples(block, len(times_ms)):
        return _counted_bounds(block, times_ms)
    bounds = np.empty((len(block.labels), len(times_ms)), np.int64)
    for row, (low, high) in enumerate(pairwise(block.offsets.tolist())):
        bounds[row] = block.timestamps[low:high].searchsorted(times_ms, "right")
    bounds += block.offsets[:-1, None]
    return bounds


def _has_few_samples(block: SampleBlock, n_steps: int) -> bool:
    n_series = len(block.labels)
    n_cells = n_series * n_steps
    return n_series >= _MANY_SERIES and (
        len(block.timestamps) + n_cells // 2 < _FEW_PER_SERIES * n_series
    )


def _counted_bounds(block: SampleBlock, times_ms: IntArray) -> IntArray:
    """The same by counting at which step each sample is first visible; no loop over the series."""
    n_series, n_steps = len(block.labels), len(times_ms)
    order = np.argsort(times_ms, kind="stable")
    cells = times_ms.searchsorted(block.timestamps, "left", sorter=order)
    cells += np.repeat(np.arange(n_series) * (n_steps + 1), np.diff(block.offsets))
    counts = np.bincount(cells, minlength=n_series * (n_steps + 1)).reshape(n_series, -1)
    bounds = np.empty((n_series, n_steps), np.int64)
    bounds[:, order] = np.cumsum(counts[:, :-1], axis=1)
    bounds += block.offsets[:-1, None]
    return bounds


def _single_bounds(block: SampleBlock, time_ms: int) -> IntArray:
    """The same for one step, in one pass over all samples."""
    before = np.concatenate(([0], np.cumsum(block.timestamps <= time_ms, dtype=np.int64)))
    counts = before[block.offsets[1:]] - before[block.offsets[:-1]]
    bounds: IntArray = block.offsets[:-1] + counts
    return bounds


def look_up(block: SampleBlock, times_ms: IntArray, lookback_ms: int) -> InstantSamples:
    """The last sample of each series at or before each time, within the lookback delta.

    The lookback is left-open, as is every range in Prometheus 3. After a stale marker there is no
    sample until the next real one. `times_ms` is int64 [n_steps].
    """
    last = upper_bounds(block, times_ms) - 1
    if len(block.timestamps) == 0:
        empty = np.zeros(last.shape)
        return InstantSamples(empty, last, np.zeros(last.shape, bool))
    present = last >= block.offsets[:-1, None]
    np.maximum(last, 0, out=last)
    timestamps = block.timestamps[last]
    present &= timestamps > times_ms - lookback_ms
    stale = is_stale(block.values)
    if stale.any():
        present &= ~stale[last]
    return InstantSamples(block.values[last], timestamps, present)


def without_stale_markers(block: SampleBlock) -> SampleBlock:
    """The block without stale markers, as range selectors need it; itself if it has none."""
    stale = is_stale(block.values)
    if not stale.any():
        return block
    kept = ~stale
    before = np.concatenate(([0], np.cumsum(kept)))
    return block.take(block.labels, kept, before[block.offsets].astype(np.int64))


def counted_until(block: SampleBlock) -> IntArray:
    """How many samples those before each index of a block represent; empty if one each."""
    if block.counts is None:
        return np.empty(0, np.int64)
    return np.concatenate(([0], np.cumsum(block.counts))).astype(np.int64)


def make_windows(
    block: SampleBlock, end_ms: IntArray, range_ms: int, drop_name: BoolArray | None = None
) -> Windows:
    """The windows `(end - range, end]` of every series; `block` has no stale markers.

    `end_ms` is int64 [n_steps] at equal distances, which are 0 for a fixed `@`.
    """
    lo, hi = _window_bounds(block, end_ms, range_ms)
    return Windows(
        block=block,
        lo=lo,
        hi=hi,
        start_ms=end_ms - range_ms,
        end_ms=end_ms,
        range_ms=range_ms,
        drop_name=np.zeros(len(block.labels), bool) if drop_name is None else drop_name,
    )


def _window_bounds(
    block: SampleBlock, end_ms: IntArray, range_ms: int
) -> tuple[IntArray, IntArray]:
    n_steps = len(end_ms)
    step_ms = int(end_ms[1] - end_ms[0]) if n_steps > 1 else 0
    if n_steps > 1 and step_ms == 0:
        lo, hi = _window_bounds(block, end_ms[:1], range_ms)
        return np.repeat(lo, n_steps, axis=1), np.repeat(hi, n_steps, axis=1)
    if step_ms and range_ms % step_ms == 0 and range_ms // step_ms < n_steps:
        # Each window starts where an earlier one ends, so one longer grid gives both bounds.
        before = range_ms // step_ms
        earlier = end_ms[0] - step_ms * np.arange(before, 0, -1)
        bounds = upper_bounds(block, np.concatenate((earlier, end_ms)))
        return bounds[:, :n_steps].copy(), bounds[:, before:].copy()
    return upper_bounds(block, end_ms - range_ms), upper_bounds(block, end_ms)


def matrix_to_block(matrix: Matrix, timestamps: IntArray) -> SampleBlock:
    """The present samples of a matrix over the steps `timestamps`, as raw samples."""
    counts = matrix.present.sum(axis=1)
    return SampleBlock(
        tuple(matrix.labels),
        np.broadcast_to(timestamps, matrix.present.shape)[matrix.present],
        matrix.values[matrix.present],
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
    )


def windows_to_block(windows: Windows) -> SampleBlock:
    """The samples of the windows of a grid of one step; series without samples are left out."""
    lows, highs = windows.lo[:, 0].tolist(), windows.hi[:, 0].tolist()
    rows = [row for row in range(len(lows)) if highs[row] > lows[row]]
    if not rows:
        return SampleBlock.empty()
    rows.sort(key=lambda row: windows.block.labels[row].pairs)
    index = np.concatenate([np.arange(lows[row], highs[row]) for row in rows])
    sizes = [highs[row] - lows[row] for row in rows]
    return SampleBlock(
        tuple(windows.block.labels[row] for row in rows),
        windows.block.timestamps[index],
        windows.block.values[index],
        np.cumsum([0, *sizes], dtype=np.int64),
    )
