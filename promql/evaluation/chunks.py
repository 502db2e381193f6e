"""Evaluates a plan in pieces of time when the whole grid at once would take too much memory.

A matrix has a cell for every series and step, but a series that existed for one hour of a month has
samples in few of them. A piece of the grid has rows only for the series that existed then, so
memory grows with the samples. PromQL's operators work step by step, so the results of the pieces
are put side by side. One case differs: two series with equal labels in the result of a range
function that never share a piece are merged here, where Prometheus refuses them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.model import (
    EvalRange,
    IntArray,
    Labels,
    SampleBlock,
    SeriesSelection,
    label_sets_at,
)
from promcompat.core.value_classes import value_class
from promql.ast import VectorSelector
from promql.budget import BYTES_PER_SAMPLE, QueryBudget
from promql.evaluation.evaluator import EvaluationOptions, Evaluator
from promql.planning.plan import Plan
from promql.planning.planner import make_plan
from promql.values.matrix import Annotations, Matrix, ScalarGrid, Value
from promql.values.matrix_histograms import in_one_pool
from promql.values.name_removal import finish
from promql.values.windows import upper_bounds

CELLS_PER_CHUNK = 16_000_000
"""About 144 MB for a single selector; below it, pieces cost more than they save."""
_CHUNKS_WITHIN_LIMIT = 64
"""Bytes of the memory limit per cell of a chunk: about seven matrices may exist at once."""

_MIN_STEPS = 2
"""A single step would be taken for an instant query, which has other rules."""


@value_class(frozen=True, slots=True)
class Evaluation:
    """The value of a plan, its annotations, and how many samples each step read, [n_steps]."""

    value: Value
    annotations: Annotations
    samples_per_step: IntArray


def evaluate_plan(
    plan: Plan,
    blocks: Sequence[SampleBlock],
    options: EvaluationOptions,
    budget: QueryBudget,
    cells_per_chunk: int = CELLS_PER_CHUNK,
) -> Evaluation:
    """Evaluate `plan` over `blocks`, the samples of its selections. Raises as Evaluator does."""
    cells_per_chunk = min(cells_per_chunk, budget.max_bytes // _CHUNKS_WITHIN_LIMIT)
    annotations = Annotations()
    values: list[Value] = []
    samples_per_step: list[IntArray] = []
    grids = _chunk_grids(plan, blocks, cells_per_chunk)
    for piece, samples in _pieces(plan, blocks, grids, options):
        n_bytes = 0 if piece is plan else sum(map(_copied_bytes, samples))
        budget.keep(n_bytes)
        evaluator = Evaluator(piece, samples, options, budget, annotations)
        values.append(evaluator.evaluate())
        samples_per_step.append(evaluator.samples_per_step)
        if piece is not plan:
            evaluator.release()
        budget.release(n_bytes)
    value = values[0] if len(values) == 1 else _side_by_side(values, budget)
    finished = finish(value, options.delayed_name_removal)
    n_samples = samples_per_step[0] if len(grids) == 1 else np.concatenate(samples_per_step)
    return Evaluation(finished, annotations, n_samples)


def _copied_bytes(block: SampleBlock) -> int:
    n_bytes = 0 if block.histograms is None else block.histograms.n_bytes
    return len(block.timestamps) * BYTES_PER_SAMPLE + n_bytes


def _chunk_grids(
    plan: Plan, blocks: Sequence[SampleBlock], cells_per_chunk: int
) -> list[EvalRange]:
    grid = plan.eval_range
    cells = max(map(_cell_count, plan.selections, blocks), default=0)
    n_chunks = min(-(-cells // cells_per_chunk), grid.n_steps // _MIN_STEPS)
    if n_chunks <= 1 or plan.keeps_first_param:
        return [grid]
    starts = np.linspace(0, grid.n_steps, n_chunks + 1).astype(np.int64).tolist()
    return [
        EvalRange(
            grid.start_ms + first * grid.step_ms,
            grid.start_ms + (end - 1) * grid.step_ms,
            grid.step_ms,
        )
        for first, end in pairwise(starts)
    ]


def _cell_count(selection: SeriesSelection, block: SampleBlock) -> int:
    # Within a subquery the step is that of the subquery.
    step_ms = selection.hints.step_ms
    n_steps = (selection.end_ms - selection.start_ms) // step_ms if step_ms else 1
    return len(block.labels) * n_steps


def _pieces(
    plan: Plan,
    blocks: Sequence[SampleBlock],
    grids: Sequence[EvalRange],
    options: EvaluationOptions,
) -> Iterator[tuple[Plan, Sequence[SampleBlock]]]:
    """The plan of each piece of the grid, with the samples that it can read."""
    if len(grids) == 1:
        yield plan, blocks
        return
    plans = [
        make_plan(
            plan.expr,
            plan.result_type,
            grid,
            lookback_ms=options.lookback_ms,
            # Every subquery has a step already.
            default_subquery_step_ms=grid.step_ms,
            uses_starts=options.uses_start_timestamps,
        )
        for grid in grids
    ]
    bounds = {selector: _bounds(selector, plan, blocks, plans) for selector in plan.leaf_of}
    for number, piece in enumerate(plans):
        samples = [SampleBlock.empty()] * len(piece.selections)
        for selector, leaf in plan.leaf_of.items():
            starts, ends = (bound[:, number] for bound in bounds[selector])
            rows = np.flatnonzero(ends > starts)
            taken = _take_samples(blocks[leaf], rows, starts[rows], ends[rows])
            samples[piece.leaf_of[selector]] = taken
        yield piece, samples


def _bounds(
    selector: VectorSelector, plan: Plan, blocks: Sequence[SampleBlock], plans: Sequence[Plan]
) -> tuple[IntArray, IntArray]:
    """Where the samples of a selector start and end in its block: [n_series, n_pieces] each."""
    selections = [piece.selections[piece.leaf_of[selector]] for piece in plans]
    block = blocks[plan.leaf_of[selector]]
    starts = np.array([selection.start_ms for selection in selections], np.int64)
    ends = np.array([selection.end_ms for selection in selections], np.int64)
    return upper_bounds(block, starts), upper_bounds(block, ends)


def _take_samples(
    block: SampleBlock, rows: IntArray, starts: IntArray, ends: IntArray
) -> SampleBlock:
    counts = ends - starts
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    index = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
    labels = label_sets_at(block.labels, rows.tolist())
    taken = block.take(labels, index, offsets)
    cells = HistogramCells(taken.values, taken.histograms).compacted()
    return replace(taken, values=cells.values, histograms=cells.histograms)


def _side_by_side(values: Sequence[Value], budget: QueryBudget) -> Value:
    if all(isinstance(value, ScalarGrid) for value in values):
        return ScalarGrid(np.concatenate([v.values for v in values if isinstance(v, ScalarGrid)]))
    pieces = [value for value in values if isinstance(value, Matrix)]
    row_of: dict[Labels, int] = {}
    for piece in pieces:
        for labels in piece.labels:
            row_of.setdefault(labels, len(row_of))
    n_steps = sum(piece.values.shape[1] for piece in pieces)
    budget.check_size(len(row_of) * n_steps)
    values_array = np.zeros((len(row_of), n_steps))
    present = np.zeros(values_array.shape, bool)
    drop_name = np.zeros(len(row_of), bool)
    first = 0
    moved, histograms = in_one_pool(pieces)
    for piece, values_of_piece in zip(pieces, moved, strict=True):
        steps = slice(first, first + piece.values.shape[1])
        rows = [row_of[labels] for labels in piece.labels]
        values_array[rows, steps] = values_of_piece
        present[rows, steps] = piece.present
        drop_name[rows] |= piece.drop_name
        first = steps.stop
    return Matrix(list(row_of), values_array, present, drop_name, histograms)
