"""Selectors that look beyond their ends: `anchored` and `smoothed`."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import FloatArray, IntArray, SampleBlock
from promql.ast import Expr, Extension, MatrixSelector, unwrap_parens
from promql.budget import BYTES_PER_CELL
from promql.functions.extended_histograms import (
    SamplesAround,
    SmoothedSelector,
    extended_windows_of,
    reduce_extended_piece,
    with_smoothed_histograms,
)
from promql.functions.extended_range_kernels import reduce_extended
from promql.functions.function_calls import RangeCall
from promql.functions.histogram_windows import MixedReduction, reduce_mixed
from promql.functions.started_counters import count_anchored_resets
from promql.functions.window_functions import annotated_non_counters
from promql.functions.window_kernels import CHANGES, DELTA, INCREASE, RATE, RESETS
from promql.values.matrix import Matrix, Windows
from promql.values.range_vectors import RangeVector
from promql.values.row_pieces import RowWriter, series_pieces
from promql.values.windows import upper_bounds

_OPERATIONS: Final[Mapping[Extension, Mapping[str, int]]] = {
    "anchored": {
        "changes": CHANGES,
        "delta": DELTA,
        "increase": INCREASE,
        "rate": RATE,
        "resets": RESETS,
    },
    "smoothed": {"delta": DELTA, "increase": INCREASE, "rate": RATE},
}


def extension_of(expr: Expr) -> Extension:
    """How a range vector is extended."""
    expr = unwrap_parens(expr)
    return expr.vector_selector.extension if isinstance(expr, MatrixSelector) else ""


def check_extension(extension: Extension, function: str) -> None:
    """Raise ExecutionError for a function that cannot be applied to such a range vector."""
    if extension and function not in _OPERATIONS[extension]:
        allowed = ", ".join(_OPERATIONS[extension])
        raise ExecutionError(
            f"{extension} modifier can only be used with: {allowed} - not with {function}"
        )


def extended_call(extension: Extension, function: str, call: RangeCall, lookback_ms: int) -> Matrix:
    """The value of a function of an `anchored` or `smoothed` range vector; see `check_extension`.

    Raises ExecutionError if the result is too large.
    """
    operation, is_smoothed = _OPERATIONS[extension][function], extension == "smoothed"
    columns = call.vector.histograms
    if columns is None:
        rows = _extended_floats(operation, is_smoothed, lookback_ms, call)
        result = rows.matrix(call.vector.block.labels, call.vector.drop_name)
    else:
        reduction = MixedReduction(
            partial(_extended_floats, operation, is_smoothed, lookback_ms),
            partial(extended_windows_of, is_smoothed, lookback_ms),
            partial(reduce_extended_piece, operation, is_smoothed),
        )
        result = reduce_mixed(reduction, call, columns)
    return annotated_non_counters(call, result) if operation in (RATE, INCREASE) else result


def _extended_floats(
    operation: int, is_smoothed: bool, lookback_ms: int, call: RangeCall
) -> RowWriter:
    vector, n_steps = call.vector, call.vector.n_steps
    block = vector.block
    if block.starts is not None:
        # As in Prometheus, only `resets` of an anchored range knows when counters began.
        return count_anchored_resets(lookback_ms, call)
    call.budget.check_bytes(len(block.labels) * n_steps * BYTES_PER_CELL)
    result = RowWriter(len(block.labels), n_steps)
    for series in series_pieces(block.offsets, n_steps):
        call.budget.check_time()
        values, present = result.next_rows(series.stop - series.start)
        reduce_extended(
            operation,
            is_smoothed,
            block.offsets[series.start : series.stop + 1],
            block.timestamps,
            block.values,
            vector.end_ms,
            vector.range_ms,
            lookback_ms,
            values,
            present,
            call.samples_per_step,
        )
        result.close_rows(series)
    return result


def smoothed_samples(block: SampleBlock, selector: SmoothedSelector) -> Matrix:
    """The value of `x smoothed`: at each time that of a straight line between two samples.

    Both are within the lookback delta; without a later one it is the earlier one. A time with
    floats and histograms around it has none. `block` has no stale markers.
    """
    times_ms, lookback_ms = selector.times_ms, selector.lookback_ms
    behind = upper_bounds(block, times_ms)
    first, end = block.offsets[:-1, None], block.offsets[1:, None]
    padded_times = np.append(block.timestamps, 0)
    padded = np.append(block.values, 0.0)
    before = np.maximum(behind - 1, 0)
    earlier_ms, later_ms = padded_times[before], padded_times[behind]
    present = (behind > first) & (earlier_ms > times_ms - lookback_ms)
    lies_between = (behind < end) & (later_ms <= times_ms + lookback_ms) & (earlier_ms < times_ms)
    values = padded[before]
    elapsed = (times_ms - earlier_ms).astype(np.float64)
    span = np.where(lies_between, later_ms - earlier_ms, 1).astype(np.float64)
    with np.errstate(all="ignore"):
        line = values + (padded[behind] - values) * elapsed / span
    matrix = Matrix.of(block.labels, np.where(lies_between, line, values), present)
    if selector.columns is None:
        return matrix
    around = SamplesAround(before, behind, lies_between, elapsed / span)
    return with_smoothed_histograms(matrix, block, around, selector)


def extended_windows(extension: Extension, vector: RangeVector, lookback_ms: int) -> Windows:
    """The only window of an extended range vector by itself, with a sample at each end of it.

    Raises ExecutionError if a sample is a histogram, as Prometheus does.
    """
    block, end_ms = vector.block, int(vector.end_ms[0])
    start_ms, is_smoothed = end_ms - vector.range_ms, extension == "smoothed"
    until_ms = end_ms + lookback_ms * is_smoothed
    bounds = upper_bounds(block, np.array([start_ms - lookback_ms, until_ms]))
    if any(is_histogram(block.values[slice(*ends)]).any() for ends in bounds.tolist()):
        raise ExecutionError(f"{extension} modifier is not supported with histograms")
    series = [
        _extended_series(
            block.timestamps[first:end], block.values[first:end], start_ms, end_ms, is_smoothed
        )
        for first, end in bounds.tolist()
    ]
    offsets = np.cumsum([0, *(len(times) for times, _ in series)], dtype=np.int64)
    extended = SampleBlock(
        block.labels,
        np.concatenate([np.empty(0, np.int64), *(times for times, _ in series)]),
        np.concatenate([np.empty(0), *(values for _, values in series)]),
        offsets,
    )
    return Windows(
        block=extended,
        lo=offsets[:-1, None],
        hi=offsets[1:, None],
        start_ms=vector.end_ms - vector.range_ms,
        end_ms=vector.end_ms,
        range_ms=vector.range_ms,
        drop_name=vector.drop_name,
    )


def _extended_series(
    times: IntArray, values: FloatArray, start_ms: int, end_ms: int, is_smoothed: bool
) -> tuple[IntArray, FloatArray]:
    """The samples of a window and those at its ends; none without a sample after its start."""
    last = len(times) - 1
    if last < 0 or times[last] <= start_ms:
        return times[:0], values[:0]
    first = max(0, int(np.searchsorted(times[:last], start_ms, "right")) - 1)
    if is_smoothed:
        last = int(np.searchsorted(times[:last], end_ms))
    left, right = values[first], values[last]
    if is_smoothed and times[first] < start_ms:
        left = _value_between(times, values, first, start_ms)
    if is_smoothed and last > 0 and times[last] > end_ms:
        right = _value_between(times, values, last - 1, end_ms)
    inner = slice(first + (times[first] <= start_ms), last + (times[last] < end_ms))
    return (
        np.concatenate(([start_ms], times[inner], [end_ms])),
        np.concatenate(([left], values[inner], [right])),
    )


def _value_between(times: IntArray, values: FloatArray, first: int, at_ms: int) -> float:
    """The value at a time between the sample `first` and the next one.

    The operations come in Prometheus' order; `np.interp` has other digits.
    """
    (begin, end), (before, after) = times[first : first + 2], values[first : first + 2]
    with np.errstate(all="ignore"):
        return float(before + (after - before) * float(at_ms - begin) / float(end - begin))
