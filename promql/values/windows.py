"""From raw samples to the step grid: instant lookups and windows.

There is no loop in Python over samples or steps.
"""

import numpy as np

from promcompat.core.model import (
    BoolArray,
    FloatArray,
    IntArray,
    SampleBlock,
    is_stale,
)
from promcompat.core.value_classes import value_class
from promql.values import sample_kernels
from promql.values.matrix import Matrix, Windows


@value_class(frozen=True, slots=True)
class InstantSamples:
    """The samples of an instant selector: arrays of shape [n_series, n_steps].

    `values` and `timestamps` (of the samples themselves) are 0 where there is none.
    """

    values: FloatArray
    timestamps: IntArray
    present: BoolArray


def upper_bounds(block: SampleBlock, times_ms: IntArray) -> IntArray:
    """The index after the last sample that is not later than each time, per series.

    `times_ms` int64 [n_steps], in any order. Returns int64 [n_series, n_steps] of absolute indices
    into the block: `offsets[i]` if a series has no such sample.
    """
    bounds = np.empty((len(block.labels), len(times_ms)), np.int64)
    sample_kernels.upper_bounds(block.offsets, block.timestamps, times_ms, bounds)
    return bounds


def look_up(block: SampleBlock, times_ms: IntArray, lookback_ms: int) -> InstantSamples:
    """The last sample of each series at or before each time, within the lookback delta.

    The lookback is left-open, as is every range in Prometheus 3. After a stale marker there is no
    sample until the next real one. `times_ms` is int64 [n_steps] and does not fall.
    """
    shape = len(block.labels), len(times_ms)
    samples = InstantSamples(np.empty(shape), np.empty(shape, np.int64), np.empty(shape, bool))
    fill_samples(samples, block, times_ms, lookback_ms)
    return samples


def fill_samples(
    samples: InstantSamples, block: SampleBlock, times_ms: IntArray, lookback_ms: int
) -> IntArray:
    """The same in arrays that exist; `timestamps` without elements are not wanted.

    Returns how many series have a sample at each time, int64 [n_steps].
    """
    totals = np.zeros(len(times_ms), np.int64)
    sample_kernels.look_up(
        block.offsets,
        block.timestamps,
        block.values,
        block.values.view(np.int64),
        times_ms,
        lookback_ms,
        samples.values,
        samples.timestamps,
        samples.present,
        totals,
    )
    return totals


def has_stale_markers(block: SampleBlock) -> bool:
    """Whether any sample of a block is a stale marker."""
    return sample_kernels.count_stale(block.values.view(np.int64)) > 0


def without_stale_markers(block: SampleBlock) -> SampleBlock:
    """The block without stale markers, as range selectors need it; itself if it has none."""
    if not has_stale_markers(block):
        return block
    kept = ~is_stale(block.values)
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
    """The present samples of a matrix over the steps `timestamps`, as raw samples.

    The block has the cells of histograms, but not these themselves.
    """
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
        histograms=windows.block.histograms,
    )
