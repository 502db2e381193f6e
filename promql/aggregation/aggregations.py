"""The aggregations that make one series of each group, for all steps at once.

Rows are folded in their order, as Prometheus does, because a float sum depends on it. Each fold
holds one state per group and step, so it needs no more memory than its result.
"""

from collections.abc import Callable, Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.aggregation.grouping import Grouping, group_series
from promql.aggregation.quantiles import quantile_of_members
from promql.annotation_texts import invalid_quantile
from promql.ast import AggregateExpr
from promql.functions.function_calls import floats_only
from promql.numbers.kahan import kahan_add, kahan_result
from promql.values import Annotations, Matrix

_Fold = Callable[[Matrix, Grouping], FloatArray]
"""Values float64 [n_groups, n_steps], meaningful where a member is present."""


def aggregate(
    expr: AggregateExpr, matrix: Matrix, param: FloatArray | None, annotations: Annotations
) -> Matrix:
    """`sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar` or `quantile` of a matrix.

    `param` float64 [n_steps] is the quantile, None for the others.
    """
    matrix = floats_only(matrix)
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    present = _any_member(matrix.present, grouping)
    drop_name = _any_member(matrix.drop_name[:, None], grouping)[:, 0]
    if param is None:
        values = _FOLDS[expr.op](matrix, grouping)
    else:
        _warn_of_quantiles(param, expr, annotations)
        values = quantile_of_members(matrix, grouping, param)
    return Matrix(grouping.labels, values, present, drop_name)


def _any_member(mask: BoolArray, grouping: Grouping) -> BoolArray:
    found = np.zeros((len(grouping.labels), mask.shape[1]), bool)
    for groups, rows in grouping.blocks():
        found[groups] = mask[rows].any(axis=1)
    return found


def _warn_of_quantiles(
    quantiles: FloatArray, expr: AggregateExpr, annotations: Annotations
) -> None:
    pos = expr.pos if expr.param is None else expr.param.pos
    if np.isnan(quantiles).any():
        annotations.warn(invalid_quantile(np.nan), pos)
    if quantiles.max(initial=-np.inf) > 1:
        annotations.warn(invalid_quantile(float(quantiles.max())), pos)
    if quantiles.min(initial=np.inf) < 0:
        annotations.warn(invalid_quantile(float(quantiles.min())), pos)


def _sum(matrix: Matrix, grouping: Grouping) -> FloatArray:
    return kahan_result(*_kahan_totals(matrix, grouping))


def _kahan_totals(matrix: Matrix, grouping: Grouping) -> tuple[FloatArray, FloatArray]:
    """The running sum of each group after its last member, and its compensation."""
    # Adding -0.0 changes nothing, not even the sign of a zero, so it stands for an absent sample.
    terms = np.where(matrix.present, matrix.values, -0.0)
    shape = len(grouping.labels), terms.shape[1]
    totals, compensations = np.empty(shape), np.empty(shape)
    with np.errstate(all="ignore"):
        for groups, rows in grouping.blocks():
            total = np.full((len(groups), shape[1]), -0.0)
            compensation = np.zeros(total.shape)
            for member in rows.T:
                total, compensation = kahan_add(total, compensation, terms[member])
            totals[groups], compensations[groups] = total, compensation
    return totals, compensations


def _avg(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The sum by the count, or the incremental mean where the sum would overflow."""
    totals, compensations = _kahan_totals(matrix, grouping)
    counts = _count(matrix, grouping)
    with np.errstate(all="ignore"):
        means: FloatArray = totals / counts + compensations / counts
        odd = ~np.isfinite(totals)
        if odd.any():
            steps = np.flatnonzero(odd.any(axis=0))
            values, present = matrix.values[:, steps], matrix.present[:, steps]
            for groups, rows in grouping.blocks():
                exact = _careful_means(values[rows], present[rows])
                means[np.ix_(groups, steps)] = np.where(
                    odd[np.ix_(groups, steps)], exact, means[np.ix_(groups, steps)]
                )
    return means


def _careful_means(values: FloatArray, present: BoolArray) -> FloatArray:
    """The mean over axis 1 by Prometheus' own steps: [g, size, n_steps] -> [g, n_steps].

    It sums until the sum would be infinite and goes on from there with an incremental mean.
    """
    shape = values.shape[0], values.shape[2]
    count, total, compensation, mean = (np.zeros(shape) for _ in range(4))
    incremental = np.zeros(shape, bool)
    for k in range(values.shape[1]):
        x, here = values[:, k], present[:, k]
        first = here & (count == 0)
        more = here & ~first
        count += here
        total = np.where(first, x, total)
        sums, errors = kahan_add(total, compensation, x)
        overflows = more & ~incremental & np.isinf(sums)
        mean = np.where(overflows, total / (count - 1), mean)
        compensation = np.where(overflows, compensation / (count - 1), compensation)
        incremental |= overflows
        direct = more & ~incremental
        ratio = (count - 1) / count
        means, mean_errors = kahan_add(ratio * mean, ratio * compensation, x / count)
        total = np.where(direct, sums, total)
        compensation = np.where(
            direct, errors, np.where(more & incremental, mean_errors, compensation)
        )
        mean = np.where(more & incremental, means, mean)
    return np.where(incremental, mean + compensation, total / count + compensation / count)


def _extreme(
    matrix: Matrix, grouping: Grouping, pick: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    values = np.where(matrix.present, matrix.values, np.nan)
    found = np.empty((len(grouping.labels), values.shape[1]))
    has_negative_zero = bool((np.signbit(values) & (values == 0)).any())
    for groups, rows in grouping.blocks():
        members = values[rows]
        best = pick(members)
        if has_negative_zero:
            # 0 and -0 compare equal, so the first of them stays; fmin and fmax promise neither.
            first = (members == 0).argmax(axis=1)[:, None, :]
            zeros = np.take_along_axis(members, first, axis=1)[:, 0, :]
            best = np.where(best == 0, zeros, best)
        found[groups] = best
    return found


def _min(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """NaN only where every member is NaN."""
    return _extreme(matrix, grouping, lambda members: np.fmin.reduce(members, axis=1))


def _max(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """NaN only where every member is NaN."""
    return _extreme(matrix, grouping, lambda members: np.fmax.reduce(members, axis=1))


def _count(matrix: Matrix, grouping: Grouping) -> FloatArray:
    counts = np.empty((len(grouping.labels), matrix.present.shape[1]))
    for groups, rows in grouping.blocks():
        counts[groups] = matrix.present[rows].sum(axis=1)
    return counts


def _group(matrix: Matrix, grouping: Grouping) -> FloatArray:
    return np.ones((len(grouping.labels), matrix.present.shape[1]))


def _stdvar(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The population variance by Welford's method (Knuth, TAOCP 2, 4.2.2)."""
    variances = np.empty((len(grouping.labels), matrix.present.shape[1]))
    with np.errstate(all="ignore"):
        for groups, rows in grouping.blocks():
            variances[groups] = _welford(matrix, rows)
    return variances


def _welford(matrix: Matrix, rows: IntArray) -> FloatArray:
    count, mean, squares = (np.zeros((len(rows), matrix.values.shape[1])) for _ in range(3))
    for member in rows.T:
        x, here = matrix.values[member], matrix.present[member]
        count += here
        delta = x - mean
        new_mean = mean + delta / count
        # A first member starts at its own value exactly; x - x is NaN for an infinite one.
        new_mean = np.where(count == 1, x, new_mean)
        growth = np.where(count == 1, x - x, delta * (x - new_mean))
        mean = np.where(here, new_mean, mean)
        squares = np.where(here, squares + growth, squares)
    return squares / count


def _stddev(matrix: Matrix, grouping: Grouping) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.sqrt(_stdvar(matrix, grouping))


_FOLDS: Mapping[str, _Fold] = {
    "sum": _sum,
    "avg": _avg,
    "min": _min,
    "max": _max,
    "count": _count,
    "group": _group,
    "stddev": _stddev,
    "stdvar": _stdvar,
}
