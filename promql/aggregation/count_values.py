"""`count_values`: one series for each distinct value of a group."""

from collections.abc import Callable, Sequence

import numpy as np

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import METRIC_NAME, FloatArray, IntArray, Labels
from promcompat.core.texts.strconv import format_decimal
from promql.aggregation.grouping import group_series
from promql.ast import AggregateExpr
from promql.budget import BYTES_PER_CELL, BYTES_PER_LABELS, QueryBudget
from promql.histograms.listed_buckets import histogram_texts
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix

_BYTES_PER_VALUE = 80
"""A distinct value as a text."""
_BYTES_PER_ROW = 64
"""A sample in the columns of its row, step and value."""
_SERIES_PER_CHECK = 10_000


def count_values(expr: AggregateExpr, matrix: Matrix, label: str, budget: QueryBudget) -> Matrix:
    """How many members of each group have a value; each distinct value becomes a series.

    The value is set as `label`. Raises ExecutionError if the result would have more cells than
    `budget` allows samples, or take too many bytes.
    """
    budget.check_bytes(int(matrix.present.sum()) * _BYTES_PER_ROW)
    rows, steps = np.nonzero(matrix.present)
    distinct, value_of = _distinct_values(matrix.values[rows, steps], matrix.histograms, budget)

    def check(n_series: int) -> None:
        budget.check_time()
        # The counts exist twice, as integers and as floats.
        budget.check_size(n_series * matrix.present.shape[1], 2 * BYTES_PER_CELL)
        budget.check_bytes(n_series * BYTES_PER_LABELS)

    labels, series_of = _result_series(expr, matrix.labels, label, rows, distinct, value_of, check)
    shape = len(labels), matrix.present.shape[1]
    check(len(labels))
    budget.keep(len(labels) * BYTES_PER_LABELS)
    cells = np.bincount(series_of * shape[1] + steps, minlength=shape[0] * shape[1])
    counts = cells.reshape(shape)
    return Matrix.of(labels, counts.astype(np.float64), counts > 0)


def _distinct_values(
    values: FloatArray, histograms: HistogramColumns | None, budget: QueryBudget
) -> tuple[list[str], IntArray]:
    """The distinct values as label values, and the index of each value among them."""
    if histograms is None or not (is_other := is_histogram(values)).any():
        return _distinct_floats(values, budget)
    distinct, value_of = _distinct_floats(np.where(is_other, 0.0, values), budget)
    places = np.flatnonzero(is_other)
    numbers, number_of = np.unique(histogram_numbers(values[places]), return_inverse=True)
    # Equal histograms have equal texts.
    known: dict[str, int] = {}
    texts = histogram_texts(histograms.take(numbers))
    places_of = np.array([known.setdefault(text, len(known)) for text in texts], np.int64)
    budget.check_bytes(sum(map(len, known)) + len(known) * _BYTES_PER_VALUE)
    value_of[places] = len(distinct) + places_of[number_of]
    return [*distinct, *known], value_of


def _distinct_floats(values: FloatArray, budget: QueryBudget) -> tuple[list[str], IntArray]:
    # Comparing bits keeps -0 and 0 apart; all NaN count as one value.
    bits = np.where(np.isnan(values), np.nan, values).view(np.int64)
    distinct, inverse = np.unique(bits, return_inverse=True)
    budget.check_bytes(len(distinct) * _BYTES_PER_VALUE)
    return [format_decimal(value) for value in distinct.view(np.float64).tolist()], inverse


def _result_series(
    expr: AggregateExpr,
    labels: Sequence[Labels],
    label: str,
    rows: IntArray,
    distinct: Sequence[str],
    value_of: IntArray,
    check: Callable[[int], None],
) -> tuple[list[Labels], IntArray]:
    """The series of the result, by first occurrence, and the index of the series of each sample."""
    if expr.without:
        names = (*expr.grouping, label)
        has_value = label not in (*expr.grouping, METRIC_NAME)
    else:
        names = tuple(name for name in expr.grouping if name != label)
        has_value = True
    grouping = group_series(labels, names, expr.without)
    if not has_value:
        distinct, value_of = ("",), np.zeros_like(value_of)
    pairs, first_of, series_of = np.unique(
        grouping.group_of[rows] * max(len(distinct), 1) + value_of,
        return_index=True,
        return_inverse=True,
    )
    check(len(pairs))
    by_first = np.argsort(first_of, kind="stable")
    found: list[Labels] = []
    for number, pair in enumerate(pairs[by_first].tolist()):
        if number % _SERIES_PER_CHECK == 0:
            check(len(pairs))
        group, value = divmod(pair, len(distinct))
        # An empty value removes the label.
        found.append(grouping.labels[group].with_label(label, distinct[value]))
    place_of = np.empty(len(pairs), np.int64)
    place_of[by_first] = np.arange(len(pairs))
    return found, place_of[series_of]
