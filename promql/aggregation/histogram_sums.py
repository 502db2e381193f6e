"""Sums and averages of groups that have histograms.

Prometheus adds the samples of a group in the order of the series. A group with floats and
histograms has no result, nor has one with exponential and custom buckets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from promcompat.core.histograms.columns import CUSTOM_BUCKETS
from promcompat.core.model import METRIC_NAME, BoolArray, IntArray
from promql.aggregation.grouping import Grouping
from promql.ast import AggregateExpr, unwrap_parens
from promql.histograms.arithmetic import average, total
from promql.histograms.combination import Combined
from promql.values.annotation_texts import (
    mixed_in_aggregation,
    mixed_schemas,
    reconciled_bounds,
    reset_collision,
)
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations, Matrix
from promql.values.matrix_histograms import HistogramSamples, with_histograms

_ADDED: Mapping[str, Callable[[HistogramColumns, IntArray, IntArray], Combined]] = {
    "sum": total,
    "avg": average,
}
_OPERATION = "aggregation"
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class _Terms:
    """The histograms of each group and step, in the order of their rows.

    Result i is of the cell `cells[i]` (group times n_steps plus step) and has the terms
    `offsets[i]` to `offsets[i + 1]`, which are rows of the matrix and numbers of histograms.
    """

    cells: IntArray
    offsets: IntArray
    rows: IntArray
    numbers: IntArray

    @classmethod
    def of(cls, samples: HistogramSamples, grouping: Grouping, n_steps: int) -> "_Terms":
        cells = grouping.group_of[samples.rows] * n_steps + samples.steps
        order = np.argsort(cells, kind="stable")
        found, firsts = np.unique(cells[order], return_index=True)
        offsets = np.append(firsts, len(order)).astype(np.int64)
        return cls(found, offsets, samples.rows[order], samples.numbers[order])


def add_histograms(
    expr: AggregateExpr,
    matrix: Matrix,
    samples: HistogramSamples,
    grouping: Grouping,
    floats: Matrix,
    annotations: Annotations,
) -> Matrix:
    """`sum` or `avg` of the histograms of a matrix, added to those of its floats, `floats`.

    Tells of what has no result, of counter resets that collide and of custom bounds that differ.
    """
    n_steps = matrix.present.shape[1]
    terms = _Terms.of(samples, grouping, n_steps)
    added = _ADDED[expr.op](samples.columns, terms.offsets, terms.numbers)
    has_floats = floats.present.ravel()[terms.cells]
    kept = ~has_floats & ~added.is_mixed
    order = _Order.of(matrix, samples, grouping, terms, added)
    pos = unwrap_parens(expr.expr).pos
    if (has_floats & order.meets_float).any():
        annotations.warn(mixed_in_aggregation(), pos)
    for row in dict.fromkeys(order.other_rows[added.is_mixed & order.begins].tolist()):
        annotations.warn(mixed_schemas(matrix.labels[row].get(METRIC_NAME)), pos)
    if (added.was_reconciled & order.begins).any():
        annotations.info(reconciled_bounds(_OPERATION), pos)
    if (added.has_collision & kept).any():
        annotations.warn(reset_collision(_OPERATION), pos)
    floats.present.ravel()[terms.cells[has_floats]] = False
    groups, steps = np.divmod(terms.cells[kept], n_steps)
    columns = added.histograms if kept.all() else added.histograms.take(kept)
    return with_histograms(floats, groups, steps, columns)


@dataclass(frozen=True, slots=True)
class _Order:
    """What comes first in each group and step with histograms.

    `begins` bool: the first sample is a histogram; otherwise Prometheus adds none. `other_rows`
    int64: the row of the first histogram whose kind of buckets differs from the first one's.
    `meets_float` bool: a float comes before that row.
    """

    begins: BoolArray
    other_rows: IntArray
    meets_float: BoolArray

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        samples: HistogramSamples,
        grouping: Grouping,
        terms: _Terms,
        added: Combined,
    ) -> "_Order":
        """The order of the rows of each result."""
        other_rows = _first_of_other_kind(samples.columns, terms, added.is_mixed)
        float_rows = _first_float_rows(matrix, samples, grouping, terms)
        begins = terms.rows[terms.offsets[:-1]] < float_rows
        return cls(begins, other_rows, ~begins | (float_rows < other_rows))


def _first_of_other_kind(columns: HistogramColumns, terms: _Terms, is_mixed: BoolArray) -> IntArray:
    rows = np.full(len(terms.cells), _NEVER)
    if is_mixed.any():
        is_custom = columns.schemas[terms.numbers] == CUSTOM_BUCKETS
        lengths = np.diff(terms.offsets)
        differs = is_custom != np.repeat(is_custom[terms.offsets[:-1]], lengths)
        results = np.repeat(np.arange(len(lengths)), lengths)[differs]
        # The first of them is written last.
        rows[results[::-1]] = terms.rows[differs][::-1]
    return rows


def _first_float_rows(
    matrix: Matrix, samples: HistogramSamples, grouping: Grouping, terms: _Terms
) -> IntArray:
    """The first row with a float in the group and step of each result."""
    are_floats = matrix.present.copy()
    are_floats[samples.rows, samples.steps] = False
    n_steps = are_floats.shape[1]
    first = np.full(len(grouping.labels) * n_steps, _NEVER)
    rows, steps = np.nonzero(are_floats)
    first[(grouping.group_of[rows] * n_steps + steps)[::-1]] = rows[::-1]
    return np.asarray(first[terms.cells])
