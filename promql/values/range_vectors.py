"""A range vector whose windows are computed for a part of the series and steps at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray, SampleBlock
from promql.budget import BYTES_PER_CELL, QueryBudget
from promql.values.matrix import Matrix, Windows
from promql.values.row_pieces import RowWriter, series_pieces, step_pieces, take_series
from promql.values.windows import make_windows

_SCRATCH_PER_SAMPLE = 16
"""Scratch arrays of functions per sample of a block: a prefix sum, a mask, a copy of the values."""

WindowFunction = Callable[[slice, Windows], tuple[FloatArray, BoolArray]]
"""(steps, their windows) -> the value of each window, and whether it has one."""


@dataclass(frozen=True, slots=True)
class RangeVector:
    """The samples of a range vector and the ends of its windows, `end_ms` int64 [n_steps].

    `block` has no stale markers. `drop_name` as in Windows.
    """

    block: SampleBlock
    end_ms: IntArray
    range_ms: int
    drop_name: BoolArray

    @classmethod
    def of(cls, block: SampleBlock, end_ms: IntArray, range_ms: int) -> "RangeVector":
        """A range vector whose names stay."""
        return cls(block, end_ms, range_ms, np.zeros(len(block.labels), bool))

    @property
    def n_steps(self) -> int:
        """The number of eval steps."""
        return len(self.end_ms)

    def windows(self) -> Windows:
        """All windows at once."""
        return make_windows(self.block, self.end_ms, self.range_ms, self.drop_name)

    def reduce(self, function: WindowFunction, budget: QueryBudget) -> Matrix:
        """The value of each window for which `function` gives one; series without any are left out.

        Raises what the function raises, and ExecutionError if the result is too large.
        """
        n_series = len(self.block.labels)
        budget.check_bytes(n_series * self.n_steps * BYTES_PER_CELL)
        result = RowWriter(n_series, self.n_steps)
        for series, part in self.series_pieces():
            values, present = result.next_rows(len(part.block.labels))
            for steps, windows in part.step_windows(budget):
                values[:, steps], present[:, steps] = function(steps, windows)
            result.close_rows(series)
        return result.matrix(self.block.labels, self.drop_name)

    def series_pieces(self) -> Iterator[tuple[slice, "RangeVector"]]:
        """Some series at a time, with their row numbers; at least one piece."""
        for series in series_pieces(self.block.offsets, self.n_steps):
            yield (
                series,
                replace(
                    self,
                    block=take_series(self.block, series),
                    drop_name=self.drop_name[series],
                ),
            )

    def step_windows(self, budget: QueryBudget) -> Iterator[tuple[slice, Windows]]:
        """The windows of some steps at a time."""
        n_series = len(self.block.labels)
        budget.check_scratch(len(self.block.timestamps) * _SCRATCH_PER_SAMPLE)
        for steps in step_pieces(n_series, self.n_steps):
            budget.check_time()
            windows = make_windows(self.block, self.end_ms[steps], self.range_ms, self.drop_name)
            yield steps, _trimmed(windows) if n_series == 1 else windows


def _trimmed(windows: Windows) -> Windows:
    """The windows of one series, over a block without the samples before and after them.

    Functions visit all samples of a block, which is slow if every piece has those of a long series.
    """
    first, last = int(windows.lo[0].min()), int(windows.hi[0].max())
    block = windows.block
    if first == 0 and last == len(block.timestamps):
        return windows
    return replace(
        windows,
        block=block.take(block.labels, slice(first, last), np.array([0, last - first], np.int64)),
        lo=windows.lo - first,
        hi=windows.hi - first,
    )
