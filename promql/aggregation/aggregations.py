"""The aggregations that reduce each group to one series, for all steps at once."""

from collections.abc import Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray
from promql.aggregation import fold_kernels
from promql.aggregation.fold_kernels import N_STATES, fold_groups, group_quantiles
from promql.aggregation.grouping import Grouping, group_series
from promql.aggregation.histogram_sums import add_histograms
from promql.ast import AggregateExpr, unwrap_parens
from promql.values.annotation_texts import ignored_in_aggregation, invalid_quantile
from promql.values.matrix import Annotations, Matrix
from promql.values.matrix_histograms import histogram_samples, without_histograms
from promql.values.row_pieces import step_pieces

_FOLDS: Mapping[str, int] = {
    "sum": fold_kernels.SUM,
    "avg": fold_kernels.AVG,
    "min": fold_kernels.MIN,
    "max": fold_kernels.MAX,
    "count": fold_kernels.COUNT,
    "group": fold_kernels.GROUP,
    "stddev": fold_kernels.DEVIATION,
    "stdvar": fold_kernels.VARIANCE,
}

_OF_ANY_SAMPLE = frozenset(("count", "group"))
_OF_HISTOGRAMS = frozenset(("sum", "avg"))


def aggregate(
    expr: AggregateExpr, matrix: Matrix, param: FloatArray | None, annotations: Annotations
) -> Matrix:
    """`sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar` or `quantile` of a matrix.

    `param` float64 [n_steps] is the quantile, None for the others. Histograms count for `count` and
    `group`, and have sums and averages of their own; the others leave them out.
    """
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    samples = None if expr.op in _OF_ANY_SAMPLE else histogram_samples(matrix)
    if samples is None:
        return _of_floats(expr, matrix, grouping, param, annotations)
    floats = _of_floats(expr, without_histograms(matrix), grouping, param, annotations)
    if expr.op in _OF_HISTOGRAMS:
        return add_histograms(expr, matrix, samples, grouping, floats, annotations)
    annotations.info(ignored_in_aggregation(expr.op), unwrap_parens(expr.expr).pos)
    return floats


def _of_floats(
    expr: AggregateExpr,
    matrix: Matrix,
    grouping: Grouping,
    param: FloatArray | None,
    annotations: Annotations,
) -> Matrix:
    shape = len(grouping.labels), matrix.present.shape[1]
    values, present = np.empty(shape), np.empty(shape, bool)
    if param is None:
        _fold(_FOLDS[expr.op], matrix, grouping, values, present)
    else:
        _warn_of_quantiles(param, expr, annotations)
        _fill_quantiles(matrix, grouping, param, values, present)
    return Matrix(grouping.labels, values, present, _drops_name(matrix, grouping))


def _drops_name(matrix: Matrix, grouping: Grouping) -> BoolArray:
    """Whether any member of each group has a name that is to be removed."""
    drops = np.zeros(len(grouping.labels), bool)
    drops[grouping.group_of[matrix.drop_name]] = True
    return drops


def _warn_of_quantiles(
    quantiles: FloatArray, expr: AggregateExpr, annotations: Annotations
) -> None:
    pos = expr.pos if expr.param is None else unwrap_parens(expr.param).pos
    if np.isnan(quantiles).any():
        annotations.warn(invalid_quantile(np.nan), pos)
    # NaN hides every other value but an infinity, as Go's `math.Max` and `math.Min` have it.
    greatest = np.inf if np.isposinf(quantiles).any() else quantiles.max(initial=-np.inf)
    least = -np.inf if np.isneginf(quantiles).any() else quantiles.min(initial=np.inf)
    if greatest > 1:
        annotations.warn(invalid_quantile(float(greatest)), pos)
    if least < 0:
        annotations.warn(invalid_quantile(float(least)), pos)


def _fold(
    operation: int, matrix: Matrix, grouping: Grouping, values: FloatArray, present: BoolArray
) -> None:
    n_groups, n_steps = values.shape
    cells, mask = np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present)
    # Few steps at a time keep the states of all groups small, and near the processor.
    for steps in step_pieces(n_groups, n_steps):
        states = np.zeros((N_STATES, n_groups, steps.stop - steps.start))
        fold_groups(operation, cells, mask, grouping.group_of, steps.start, states, values, present)


def _fill_quantiles(
    matrix: Matrix,
    grouping: Grouping,
    quantiles: FloatArray,
    values: FloatArray,
    present: BoolArray,
) -> None:
    members, starts = grouping.members()
    group_quantiles(
        np.ascontiguousarray(matrix.values),
        np.ascontiguousarray(matrix.present),
        members,
        starts,
        np.ascontiguousarray(quantiles),
        np.empty(3 * int(np.diff(starts).max(initial=0))),
        values,
        present,
    )
