"""The aggregations that reduce each group to one series, for all steps at once."""

from collections.abc import Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray
from promql.aggregation import fold_kernels
from promql.aggregation.fold_kernels import N_STATES, fold_groups, group_quantiles
from promql.aggregation.grouping import Grouping, group_series
from promql.ast import AggregateExpr, unwrap_parens
from promql.values.annotation_texts import invalid_quantile
from promql.values.matrix import Annotations, Matrix
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


def aggregate(
    expr: AggregateExpr, matrix: Matrix, param: FloatArray | None, annotations: Annotations
) -> Matrix:
    """`sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar` or `quantile` of a matrix.

    `param` float64 [n_steps] is the quantile, None for the others.
    """
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    shape = len(grouping.labels), matrix.present.shape[1]
    values, present = np.empty(shape), np.empty(shape, bool)
    if param is None:
        _fold(_FOLDS[expr.op], matrix, grouping, values, present)
    else:
        _warn_of_quantiles(param, expr, annotations)
        _fill_quantiles(matrix, grouping, param, values, present)
    # Prometheus 3.5 takes the flag of group i from series i.
    return Matrix(grouping.labels, values, present, matrix.drop_name[: len(grouping.labels)])


def _warn_of_quantiles(
    quantiles: FloatArray, expr: AggregateExpr, annotations: Annotations
) -> None:
    pos = expr.pos if expr.param is None else unwrap_parens(expr.param).pos
    if np.isnan(quantiles).any():
        annotations.warn(invalid_quantile(np.nan), pos)
    if quantiles.max(initial=-np.inf) > 1:
        annotations.warn(invalid_quantile(float(quantiles.max())), pos)
    if quantiles.min(initial=np.inf) < 0:
        annotations.warn(invalid_quantile(float(quantiles.min())), pos)


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
