"""Functions of range vectors whose samples may be histograms.

A window has floats, histograms or both, and each function says what it makes of them: some count
both alike, some leave histograms out, and the others have no value for a mix.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from promcompat.core.histograms.columns import histogram_cells, is_histogram
from promcompat.core.model import BoolArray, FloatArray, IntArray, SampleBlock
from promql.budget import BYTES_PER_CELL
from promql.functions import window_kernels as kernels
from promql.functions.float_windows import check_factors, reduce_floats
from promql.functions.function_calls import RangeCall
from promql.functions.histogram_rates import (
    WindowHistograms,
    extrapolated_change,
    latest_change,
    statistic,
)
from promql.functions.mixed_windows import MixedWindows
from promql.functions.started_counters import reduce_started_floats
from promql.histograms.arithmetic import are_equal
from promql.values.annotation_texts import ignored_in_range, mixed_in_range
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import with_used_histograms
from promql.values.row_pieces import RowWriter, series_pieces, take_series
from promql.values.shapes import without_empty_rows
from promql.values.windows import make_windows

_SAMPLES = (kernels.FIRST, kernels.LAST)
"""The value is one of the samples."""
_OF_EITHER = (
    *_SAMPLES,
    kernels.PRESENT,
    kernels.COUNT,
    kernels.TIME_OF_FIRST,
    kernels.TIME_OF_LAST,
)
"""What a window has counts, whatever it is."""
_PAIRS = (kernels.CHANGES, kernels.RESETS)
_EXTRAPOLATED = (kernels.RATE, kernels.INCREASE, kernels.DELTA)
_LATEST = (kernels.IRATE, kernels.IDELTA)
_STATISTICS = (kernels.SUM, kernels.AVG)
_BYTES_PER_WINDOW = 100
"""Bounds of windows, numbers of samples and masks while a piece of the result is made."""

_COPIES = 3
"""A histogram that is made exists as a sum, scaled, and among those of all pieces."""

_Body = Callable[[int, MixedWindows], WindowHistograms]
_BODIES: tuple[tuple[tuple[int, ...], _Body], ...] = (
    (_EXTRAPOLATED, extrapolated_change),
    (_LATEST, latest_change),
    (_STATISTICS, statistic),
)


def reduce_samples(operation: int, call: RangeCall) -> Matrix:
    """The value of each window that has one; series without any are left out.

    Raises ExecutionError if the result is too large.
    """
    vector = call.vector
    labels, drop_name = vector.block.labels, vector.drop_name
    floats = reduce_floats if vector.block.starts is None else reduce_started_floats
    if vector.histograms is None:
        return floats(operation, call).matrix(labels, drop_name)
    if operation in _OF_EITHER:
        _count_weights(call)
        rows = reduce_floats(operation, call)
        if operation not in _SAMPLES:
            return rows.matrix(labels, drop_name)
        return with_used_histograms(rows.matrix(labels, drop_name, vector.histograms))
    reduction = MixedReduction(
        partial(floats, operation), _windows, partial(_reduce_piece, operation)
    )
    return reduce_mixed(reduction, call, vector.histograms)


@dataclass(frozen=True, slots=True)
class MixedReduction:
    """What is made of windows that may have histograms.

    `floats` reduces a call whose samples are all floats. `windows` are those of some series.
    `piece` corrects the values and presence [n_series, n_steps] of these, which are those of their
    floats, where windows have histograms, and returns the values that are histograms.
    """

    floats: Callable[[RangeCall], RowWriter]
    windows: Callable[[RangeCall, HistogramColumns, slice], MixedWindows]
    piece: Callable[[MixedWindows, FloatArray, BoolArray], WindowHistograms | None]


def reduce_mixed(reduction: MixedReduction, call: RangeCall, columns: HistogramColumns) -> Matrix:
    """The values of the windows of floats, and in their places what others have."""
    vector = call.vector
    floats = replace(vector, block=_without_histograms(vector.block), histograms=None)
    rows = reduction.floats(replace(call, vector=floats))
    shape = len(vector.block.labels), vector.n_steps
    call.budget.check_bytes(2 * shape[0] * shape[1] * BYTES_PER_CELL)
    values, present = np.zeros(shape), np.zeros(shape, bool)
    found = rows.matrix(vector.block.labels, vector.drop_name)
    values[rows.rows()], present[rows.rows()] = found.values, found.present
    weights = columns.n_samples_like()
    pools: list[HistogramColumns] = []
    n_pooled, bytes_each = 0, columns.n_bytes / max(1, len(columns))
    for series in series_pieces(vector.block.offsets, vector.n_steps):
        call.budget.check_time()
        call.budget.check_bytes((series.stop - series.start) * shape[1] * _BYTES_PER_WINDOW)
        windows = reduction.windows(call, columns, series)
        if not windows.n_histograms.any():
            continue
        _count_window_weights(call, windows, weights)
        n_made = int((windows.n_histograms > 0).sum()) + n_pooled
        call.budget.check_bytes(int(n_made * bytes_each) * _COPIES)
        made = reduction.piece(windows, values[series], present[series])
        if made is not None:
            cells = histogram_cells(np.arange(n_pooled, n_pooled + len(made.rows)))
            values[series][made.rows, made.steps] = cells
            present[series][made.rows, made.steps] = True
            pools.append(made.columns)
            n_pooled += len(made.rows)
    pool = HistogramColumns.joined(pools) if pools else None
    return without_empty_rows(Matrix(vector.block.labels, values, present, vector.drop_name, pool))


def _windows(call: RangeCall, columns: HistogramColumns, series: slice) -> MixedWindows:
    part = take_series(call.vector.block, series)
    found = make_windows(part, call.vector.end_ms, call.vector.range_ms)
    return MixedWindows.of(part, columns, found, call)


def _reduce_piece(
    operation: int, windows: MixedWindows, values: FloatArray, present: BoolArray
) -> WindowHistograms | None:
    """Correct the values of floats where windows have histograms; the values that are histograms.

    The arrays [n_series, n_steps] are those of the floats of each window.
    """
    has_histograms = windows.n_histograms > 0
    if operation in _PAIRS:
        counts = count_pairs(operation, windows)
        values[has_histograms] = counts[has_histograms]
        present[has_histograms] = True
        return None
    for operations, body in _BODIES:
        if operation in operations:
            is_mixed = windows.are_mixed(operation in _LATEST)
            windows.warn(is_mixed, mixed_in_range)
            has_floats_only = ~windows.have_histograms(operation in _LATEST)
            present &= has_floats_only
            return body(operation, windows)
    if operation == kernels.SMOOTHING:
        check_factors(windows.hi > windows.lo, windows.call)
    windows.inform(windows.are_mixed(False), ignored_in_range)
    return None


def count_pairs(operation: int, windows: MixedWindows) -> IntArray:
    """CHANGES or RESETS in each window; one of kinds counts as one."""
    numbers = windows.numbers
    pairs = np.flatnonzero(windows.is_histogram[1:] & windows.is_histogram[:-1]) + 1
    differs = np.zeros(len(numbers), bool)
    differs[1:] = windows.is_histogram[1:] != windows.is_histogram[:-1]
    before, after = windows.values[:-1], windows.values[1:]
    are_floats = ~(windows.is_histogram[1:] | windows.is_histogram[:-1])
    with np.errstate(invalid="ignore"):
        if operation == kernels.RESETS:
            differs[1:] |= are_floats & (after < before)
            if windows.began is not None:
                differs[1:] |= are_floats & windows.began[1:]
            differs[pairs] = windows.resets_at(pairs)
        else:
            are_nan = np.isnan(before) & np.isnan(after)
            differs[1:] |= are_floats & (after != before) & ~are_nan
            differs[pairs] = ~are_equal(windows.columns, numbers[pairs], numbers[pairs - 1])
    until = np.concatenate(([0], np.cumsum(differs)))
    first = np.minimum(windows.lo + 1, len(numbers))
    return np.asarray(until[windows.hi] - until[first])


def _without_histograms(block: SampleBlock) -> SampleBlock:
    kept = ~is_histogram(block.values)
    before = np.concatenate(([0], np.cumsum(kept)))
    taken = block.take(block.labels, kept, before[block.offsets].astype(np.int64))
    return replace(taken, histograms=None)


def _count_weights(call: RangeCall) -> None:
    """Count histograms, each as one sample so far, as the samples that they are like."""
    vector = call.vector
    assert vector.histograms is not None
    weights = vector.histograms.n_samples_like()
    for series in series_pieces(vector.block.offsets, vector.n_steps):
        windows = _windows(call, vector.histograms, series)
        _count_window_weights(call, windows, weights)
        call.samples_per_step[:] -= windows.n_histograms.sum(axis=0)


def _count_window_weights(call: RangeCall, windows: MixedWindows, weights: IntArray) -> None:
    """Count the histograms in windows; `weights` are those of all histograms of the call."""
    of_samples = np.zeros(len(windows.numbers), np.int64)
    chosen = windows.is_histogram
    of_samples[chosen] = weights[windows.numbers[chosen]]
    until = np.concatenate(([0], np.cumsum(of_samples)))
    call.samples_per_step[:] += (until[windows.hi] - until[windows.lo]).sum(axis=0)
