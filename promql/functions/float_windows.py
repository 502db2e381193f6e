"""Functions of range vectors on floats: the arrays around the kernel of windows."""

from typing import Final

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray
from promcompat.core.texts.strconv import format_f
from promql.budget import BYTES_PER_CELL
from promql.functions.function_calls import RangeCall
from promql.functions.window_kernels import reduce_windows
from promql.values.row_pieces import RowWriter, series_pieces
from promql.values.windows import counted_until

_SCRATCH_PER_SAMPLE = 24
"""Bytes of scratch memory of the kernel for each sample of the longest series."""
_NO_SCALAR: Final = np.empty(0)


def reduce_floats(operation: int, call: RangeCall) -> RowWriter:
    """The value of each window that has one.

    Cells that are histograms are moved as they are. Raises ExecutionError if the result is too
    large.
    """
    vector, budget = call.vector, call.budget
    offsets, n_steps = vector.block.offsets, vector.n_steps
    n_series = len(vector.block.labels)
    budget.check_bytes(n_series * n_steps * BYTES_PER_CELL)
    longest = int(np.diff(offsets).max(initial=0))
    budget.check_scratch(longest * _SCRATCH_PER_SAMPLE)
    reduction = _Reduction(operation, call, longest)
    result = RowWriter(n_series, n_steps)
    for series in series_pieces(offsets, n_steps):
        values, present = result.next_rows(series.stop - series.start)
        for steps in vector.step_pieces(series):
            budget.check_time()
            reduction.fill(series, steps, values[:, steps], present[:, steps])
        result.close_rows(series)
    return result


class _Reduction:
    """An operation of `reduce_windows` on the windows of a call, and the arrays it works in."""

    def __init__(self, operation: int, call: RangeCall, longest: int) -> None:
        self._operation = operation
        self._call = call
        self._counted = counted_until(call.vector.block)
        self._pairs = np.empty(longest, np.int64)
        self._scratch = np.empty(2 * longest)

    def fill(self, series: slice, steps: slice, values: FloatArray, present: BoolArray) -> None:
        """Compute some series at some steps; the arrays are of these only.

        Raises ExecutionError if a factor of SMOOTHING is not between 0 and 1.
        """
        call, block = self._call, self._call.vector.block
        scalars = [scalar[steps] for scalar in call.scalars] + [_NO_SCALAR] * 2
        bad_step = reduce_windows(
            self._operation,
            block.offsets[series.start : series.stop + 1],
            block.timestamps,
            block.values,
            self._counted,
            call.vector.end_ms[steps],
            call.timestamps[steps],
            call.vector.range_ms,
            scalars[0],
            scalars[1],
            np.empty((3, steps.stop - steps.start), np.int64),
            self._pairs,
            self._scratch,
            values,
            present,
            call.samples_per_step[steps],
        )
        if bad_step >= 0:
            raise _invalid_factor(float(scalars[0][bad_step]), float(scalars[1][bad_step]))


def check_factors(has_samples: BoolArray, call: RangeCall) -> None:
    """Raise ExecutionError if a factor of SMOOTHING is not between 0 and 1 where there are samples.

    `has_samples` is [n_series, n_steps].
    """
    smoothing, trend = call.scalars
    is_bad = (smoothing <= 0) | (smoothing >= 1) | (trend <= 0) | (trend >= 1)
    _, steps = np.nonzero(has_samples & is_bad)
    if len(steps):
        raise _invalid_factor(float(smoothing[steps[0]]), float(trend[steps[0]]))


def _invalid_factor(smoothing: float, trend: float) -> ExecutionError:
    if smoothing <= 0 or smoothing >= 1:
        got = format_f(smoothing)
        return ExecutionError(f"invalid smoothing factor. Expected: 0 < sf < 1, got: {got}")
    got = format_f(trend)
    return ExecutionError(f"invalid trend factor. Expected: 0 < tf < 1, got: {got}")
