"""The samples of a plan's selectors on a grid, and how many of them each step reads."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.histograms.columns import Histograms
from promcompat.core.model import (
    BoolArray,
    EvalRange,
    IntArray,
    SampleBlock,
    is_stale,
)
from promql.ast import Call, MatrixSelector, TimeModifiers, VectorSelector
from promql.budget import BYTES_PER_SAMPLE, QueryBudget
from promql.functions.extended_histograms import SmoothedSelector
from promql.functions.extended_ranges import smoothed_samples
from promql.functions.info_function import add_info_labels, look_up_info
from promql.histograms.found_resets import found_reset_hints, hints_of_neighbours
from promql.planning.plan import Plan
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations, Matrix
from promql.values.matrix_histograms import (
    histogram_weights,
    used_histograms,
    with_stored_histograms,
    with_used_histograms,
)
from promql.values.range_vectors import RangeVector
from promql.values.row_pieces import RowWriter, series_pieces, step_pieces, take_series
from promql.values.shapes import without_empty_rows
from promql.values.windows import (
    InstantSamples,
    fill_samples,
    has_stale_markers,
    without_stale_markers,
)

_BYTES_LOOKED_UP = 25
"""A cell whose sample time is needed too: index, time, value and presence."""
_BYTES_PER_UNMARKED_SAMPLE = 25
"""A sample while stale markers are removed: whether and where it stays, and a copy."""
_BYTES_PER_SMOOTHED_CELL = 100
"""Indices, times and values of the samples around a cell, while it is computed."""
BYTES_PER_STEP = 24
"""A time of the grid, its moved time, and one more array of them."""


class LeafSamples:
    """`blocks[i]` are the samples of `plan.selections[i]`.

    `per_step` int64 [n_steps] counts the samples read for each step of the grid that is being
    evaluated; a window counts in full at every step.
    """

    def __init__(
        self,
        plan: Plan,
        blocks: Sequence[SampleBlock],
        lookback_ms: int,
        budget: QueryBudget,
        annotations: Annotations,
    ) -> None:
        self._leaf_of = plan.leaf_of
        self._find_resets = plan.find_resets
        self._without_buckets = plan.without_buckets
        self._blocks = blocks
        self._lookback_ms = lookback_ms
        self._budget = budget
        self._annotations = annotations
        self._kept_bytes = 0
        self._range_blocks: dict[int, SampleBlock] = {}
        self._histograms: dict[tuple[int, bool, bool], HistogramColumns] = {}
        self.per_step = np.zeros(plan.eval_range.n_steps, np.int64)

    def values(self, selector: VectorSelector, grid: EvalRange) -> Matrix:
        """The value of an instant selector."""
        if selector.extension == "smoothed":
            return self._smoothed(selector, grid)
        block = self._block_of(selector)
        matrix = self._look_up(block, grid, selector.modifiers, wants_times=False)
        if block.histograms is None:
            return matrix
        return self._with_histograms(matrix, block.histograms, selector, grid)

    def times(self, selector: VectorSelector, grid: EvalRange) -> Matrix:
        """The times of the samples of an instant selector, in seconds."""
        block, modifiers = self._block_of(selector), _modifiers_for_times(selector)
        return self._look_up(block, grid, modifiers, wants_times=True)

    def start_times(self, selector: VectorSelector, grid: EvalRange) -> Matrix:
        """When the counters of the samples of an instant selector began, in seconds; else 0."""
        block = self._block_of(selector)
        self._budget.check_bytes(block.values.nbytes)
        starts = np.zeros(len(block.values)) if block.starts is None else block.starts / 1000
        starts = np.where(is_stale(block.values), block.values, starts)
        block = replace(block, values=starts, histograms=None)
        return self._look_up(block, grid, _modifiers_for_times(selector), wants_times=False)

    def _look_up(
        self, block: SampleBlock, grid: EvalRange, modifiers: TimeModifiers, *, wants_times: bool
    ) -> Matrix:
        n_series = len(block.labels)
        self._budget.check_size(n_series * grid.n_steps)
        self._budget.check_bytes(grid.n_steps * BYTES_PER_STEP)
        if not n_series:
            return Matrix.empty(grid.n_steps)
        times_ms = moved_times(grid, modifiers)
        result = RowWriter(n_series, grid.n_steps)
        for series in series_pieces(block.offsets, grid.n_steps):
            part = take_series(block, series)
            values, present = result.next_rows(len(part.labels))
            for steps in step_pieces(len(part.labels), grid.n_steps):
                self._budget.check_time()
                found = InstantSamples(
                    values[:, steps],
                    np.empty(values[:, steps].shape if wants_times else (0, 0), np.int64),
                    present[:, steps],
                )
                counts = fill_samples(found, part, times_ms[steps], self._lookback_ms)
                self.per_step[steps] += counts
                if wants_times:
                    values[:, steps] = found.timestamps / 1000
            result.close_rows(series)
        return result.matrix(block.labels, np.zeros(n_series, bool))

    def _with_histograms(
        self, matrix: Matrix, pool: Histograms, selector: VectorSelector, grid: EvalRange
    ) -> Matrix:
        """The values of an instant selector with the histograms of a pool that they refer to."""
        if selector in self._find_resets:
            block = self._block_of(selector)
            is_used = used_histograms(matrix, len(pool))
            times_ms = moved_times(grid, selector.modifiers)
            columns = self._with_found_resets(block, times_ms, self._lookback_ms, is_used)
            matrix = with_used_histograms(replace(matrix, histograms=columns))
        else:
            matrix = with_stored_histograms(
                matrix, pool, without_buckets=selector in self._without_buckets
            )
        self.per_step += histogram_weights(matrix)
        return matrix

    def _smoothed(self, selector: VectorSelector, grid: EvalRange) -> Matrix:
        block = self._without_stale(self._leaf_of[selector])
        self._budget.check_size(len(block.labels) * grid.n_steps)
        self._budget.check_bytes(len(block.labels) * grid.n_steps * _BYTES_PER_SMOOTHED_CELL)
        times_ms = moved_times(grid, selector.modifiers)
        columns = None
        if block.histograms is not None:
            columns = self._all_histograms(block, without_buckets=selector in self._without_buckets)
        smoothed = SmoothedSelector(
            times_ms, self._lookback_ms, columns, self._annotations, selector.pos, self._budget
        )
        return without_empty_rows(smoothed_samples(block, smoothed))

    def _block_of(self, selector: VectorSelector) -> SampleBlock:
        return self._blocks[self._leaf_of[selector]]

    def range_vector(self, selector: MatrixSelector, grid: EvalRange) -> RangeVector:
        """The windows of a range selector, stale markers removed."""
        end_ms = moved_times(grid, selector.vector_selector.modifiers)
        leaf = self._leaf_of[selector.vector_selector]
        block = self._without_stale(leaf)
        histograms = None
        if block.histograms is not None:
            histograms = self._range_histograms(leaf, selector, end_ms)
        return RangeVector.of(block, end_ms, selector.range_ms, histograms)

    def _range_histograms(
        self, leaf: int, selector: MatrixSelector, end_ms: IntArray
    ) -> HistogramColumns:
        """The histograms of a range selector, made once for all that want the same of them."""
        block, vector_selector = self._without_stale(leaf), selector.vector_selector
        finds_resets = vector_selector in self._find_resets
        without_buckets = vector_selector in self._without_buckets
        key = leaf, finds_resets, without_buckets
        if key not in self._histograms:
            assert block.histograms is not None
            self._keep(block.histograms.n_bytes)
            if finds_resets:
                columns = self._with_found_resets(block, end_ms, selector.range_ms)
            else:
                columns = self._all_histograms(block, without_buckets=without_buckets)
            self._histograms[key] = columns
        return self._histograms[key]

    def _all_histograms(self, block: SampleBlock, *, without_buckets: bool) -> HistogramColumns:
        """The histograms of a block; without buckets, hints say what these would have shown."""
        assert block.histograms is not None
        columns = HistogramColumns.of(block.histograms)
        if not without_buckets:
            return columns
        self._budget.check_time()
        return replace(columns, hints=hints_of_neighbours(block, columns)).without_buckets()

    def _with_found_resets(
        self,
        block: SampleBlock,
        end_ms: IntArray,
        reach_ms: int,
        is_used: BoolArray | None = None,
    ) -> HistogramColumns:
        assert block.histograms is not None
        self._budget.check_time()
        self._budget.check_bytes(block.histograms.n_bytes)
        columns = HistogramColumns.of(block.histograms)
        hints = found_reset_hints(block, columns, end_ms, reach_ms, is_used)
        return replace(columns, hints=hints).without_buckets()

    def _without_stale(self, leaf: int) -> SampleBlock:
        if leaf not in self._range_blocks:
            block = self._blocks[leaf]
            if has_stale_markers(block):
                self._budget.check_bytes(len(block.timestamps) * _BYTES_PER_UNMARKED_SAMPLE)
                block = without_stale_markers(block)
                self._keep(len(block.timestamps) * BYTES_PER_SAMPLE)
            self._range_blocks[leaf] = block
        return self._range_blocks[leaf]

    def _keep(self, n_bytes: int) -> None:
        self._budget.keep(n_bytes)
        self._kept_bytes += n_bytes

    def release(self) -> None:
        """Give up what was made of the blocks, which the budget stops counting."""
        self._range_blocks.clear()
        self._histograms.clear()
        self._budget.release(self._kept_bytes)
        self._kept_bytes = 0

    def info(self, call: Call, base: Matrix, grid: EvalRange) -> Matrix:
        """The value of `info`, whose first argument has the value `base`."""
        selector = call.args[1]
        assert isinstance(selector, VectorSelector)
        block = self._block_of(selector)
        self._budget.check_size(len(block.labels) * grid.n_steps, _BYTES_LOOKED_UP)
        times_ms = moved_times(grid, selector.modifiers)
        samples = look_up_info(base, block, selector.matchers, times_ms, self._lookback_ms)
        self.per_step += samples.present.sum(axis=0)
        return add_info_labels(base, block.labels, samples, selector.matchers)


def _modifiers_for_times(selector: VectorSelector) -> TimeModifiers:
    """When `timestamp(selector)` and `start_timestamp(selector)` look for samples.

    Prometheus ignores an offset beside `@` there, though not when it selects samples.
    """
    modifiers = selector.modifiers
    return modifiers if modifiers.timestamp_ms is None else replace(modifiers, offset_ms=0)


def moved_times(grid: EvalRange, modifiers: TimeModifiers) -> IntArray:
    """The times a selector looks at: `@` fixes them, an offset moves them; int64 [n_steps]."""
    if modifiers.timestamp_ms is not None:
        return np.full(grid.n_steps, modifiers.timestamp_ms - modifiers.offset_ms, np.int64)
    times_ms = grid.timestamps()
    return times_ms - modifiers.offset_ms if modifiers.offset_ms else times_ms
