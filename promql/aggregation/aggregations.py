"""The aggregations that reduce each group to one series, for all steps at once.

Rows are folded in their order, as in Prometheus, because a float sum depends on it. A fold holds
one state per group and step, so it needs no more memory than its result.
"""

from collections.abc import Callable, Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.aggregation.grouping import (
    Grouping,
    gathered_blocks,
    gathered_members,
    group_series,
)
from promql.ast import AggregateExpr, unwrap_parens
from promql.numbers.kahan import kahan_add, kahan_add_all, kahan_result
from promql.numbers.value_order import sort_samples
from promql.values.annotation_texts import invalid_quantile
from promql.values.matrix import Annotations, Matrix
from promql.values.row_pieces import take_cells

_Fold = Callable[[Matrix, Grouping], FloatArray]
"""Returns float64 [n_groups, n_steps], meaningful where a member of the group is present."""


def aggregate(
    expr: AggregateExpr, matrix: Matrix, param: FloatArray | None, annotations: Annotations
) -> Matrix:
    """`sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar` or `quantile` of a matrix.

    `param` float64 [n_steps] is the quantile, None for the others.
    """
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    present = _any_member(matrix.present, grouping)
    # Prometheus 3.5 takes the flag of group i from series i.
    drop_name = matrix.drop_name[: len(grouping.labels)]
    if param is None:
        values = _FOLDS[expr.op](matrix, grouping)
    else:
        _warn_of_quantiles(param, expr, annotations)
        values = _quantile(matrix, grouping, param)
    return Matrix(grouping.labels, values, present, drop_name)


def _any_member(mask: BoolArray, grouping: Grouping) -> BoolArray:
    found = np.zeros((len(grouping.labels), mask.shape[1]), bool)
    for groups, rows, steps in grouping.pieces(mask.shape[1], whole=True):
        found[groups, steps] = take_cells(mask, rows, steps).any(axis=1)
    return found


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


def _sum(matrix: Matrix, grouping: Grouping) -> FloatArray:
    sums = np.empty((len(grouping.labels), matrix.values.shape[1]))
    with np.errstate(all="ignore"):
        for groups, rows, steps in grouping.pieces(sums.shape[1]):
            total, compensation, _ = _kahan_totals(matrix, rows, steps)
            sums[groups, steps] = kahan_result(total, compensation)
    return sums


def _kahan_totals(
    matrix: Matrix, rows: IntArray, steps: slice
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The sum of members `rows` [g, size], its compensation, and their number: [g, n_steps]."""
    total = np.full((len(rows), steps.stop - steps.start), -0.0)
    compensation, count = np.zeros(total.shape), np.zeros(total.shape)
    for values, present in gathered_blocks(rows, steps, matrix):
        # Adding -0.0 changes nothing, not even the sign of a zero.
        terms = np.where(present, values, -0.0)
        total, compensation = kahan_add_all(total, compensation, terms)
        count += present.sum(axis=0)
    return total, compensation, count


def _avg(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The sum by the count, or the incremental mean where the sum would overflow."""
    means = np.empty((len(grouping.labels), matrix.values.shape[1]))
    with np.errstate(all="ignore"):
        for groups, rows, steps in grouping.pieces(means.shape[1]):
            total, compensation, count = _kahan_totals(matrix, rows, steps)
            found = total / count + compensation / count
            odd = ~np.isfinite(total)
            if odd.any():
                found = np.where(odd, _careful_means(matrix, rows, steps), found)
            means[groups, steps] = found
    return means


def _careful_means(matrix: Matrix, rows: IntArray, steps: slice) -> FloatArray:
    """The means of the members `rows` [g, size], where a sum overflows: [g, n_steps].

    As in Prometheus, members are summed until the sum would be infinite, and from there on an
    incremental mean is kept.
    """
    shape = len(rows), steps.stop - steps.start
    count, total, compensation, mean = (np.zeros(shape) for _ in range(4))
    incremental = np.zeros(shape, bool)
    for x, here in gathered_members(rows, steps, matrix):
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
    found = np.empty((len(grouping.labels), matrix.values.shape[1]))
    for groups, rows, steps in grouping.pieces(found.shape[1], whole=True):
        members = np.where(
            take_cells(matrix.present, rows, steps), take_cells(matrix.values, rows, steps), np.nan
        )
        best = pick(members)
        is_zero = best == 0
        if is_zero.any() and (np.signbit(members) & (members == 0)).any():
            # 0 and -0 are equal, so the first of them counts; fmin and fmax may return either.
            first = (members == 0).argmax(axis=1)[:, None, :]
            zeros = np.take_along_axis(members, first, axis=1)[:, 0, :]
            best = np.where(is_zero, zeros, best)
        found[groups, steps] = best
    return found


def _min(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The least member; NaN only where every member is NaN."""
    return _extreme(matrix, grouping, lambda members: np.fmin.reduce(members, axis=1))


def _max(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The greatest member; NaN only where every member is NaN."""
    return _extreme(matrix, grouping, lambda members: np.fmax.reduce(members, axis=1))


def _count(matrix: Matrix, grouping: Grouping) -> FloatArray:
    counts = np.empty((len(grouping.labels), matrix.present.shape[1]))
    for groups, rows, steps in grouping.pieces(counts.shape[1], whole=True):
        counts[groups, steps] = take_cells(matrix.present, rows, steps).sum(axis=1)
    return counts


def _group(matrix: Matrix, grouping: Grouping) -> FloatArray:
    return np.ones((len(grouping.labels), matrix.present.shape[1]))


def _stdvar(matrix: Matrix, grouping: Grouping) -> FloatArray:
    """The population variance by Welford's method (Knuth, TAOCP 2, 4.2.2)."""
    variances = np.empty((len(grouping.labels), matrix.present.shape[1]))
    with np.errstate(all="ignore"):
        for groups, rows, steps in grouping.pieces(variances.shape[1]):
            variances[groups, steps] = _welford(matrix, rows, steps)
    return variances


def _welford(matrix: Matrix, rows: IntArray, steps: slice) -> FloatArray:
    count, mean, squares = (np.zeros((len(rows), steps.stop - steps.start)) for _ in range(3))
    for x, here in gathered_members(rows, steps, matrix):
        count += here
        delta = x - mean
        new_mean = mean + delta / count
        # The mean of the first member is exactly its value; x - x is NaN if that is infinite.
        new_mean = np.where(count == 1, x, new_mean)
        growth = np.where(count == 1, x - x, delta * (x - new_mean))
        mean = np.where(here, new_mean, mean)
        squares = np.where(here, squares + growth, squares)
    return squares / count


def _stddev(matrix: Matrix, grouping: Grouping) -> FloatArray:
    with np.errstate(invalid="ignore"):
        return np.sqrt(_stdvar(matrix, grouping))


def _quantile(matrix: Matrix, grouping: Grouping, quantiles: FloatArray) -> FloatArray:
    """The quantile of the present members of each group, interpolated: float64 [n_groups, n_steps].

    NaN sorts below every number. `quantiles` has one quantile per step: below 0 gives -Inf, above 1
    gives +Inf, and NaN gives NaN.
    """
    results = np.empty((len(grouping.labels), len(quantiles)))
    for groups, rows, steps in grouping.pieces(len(quantiles), whole=True):
        present = take_cells(matrix.present, rows, steps)
        values = np.where(present, take_cells(matrix.values, rows, steps), np.nan)
        nan_counts = (np.isnan(values) & present).sum(axis=1)
        values = sort_samples(values)
        results[groups, steps] = _interpolate(
            values, present.sum(axis=1), nan_counts, quantiles[steps]
        )
    results[:, quantiles < 0] = -np.inf
    results[:, quantiles > 1] = np.inf
    results[:, np.isnan(quantiles)] = np.nan
    return results


def _interpolate(
    ordered: FloatArray,
    counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    nan_counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    quantiles: FloatArray,
) -> FloatArray:
    """`ordered` [g, size, n_steps] has numbers first, then NaN; the counts are [g, n_steps]."""
    usable = np.where((quantiles >= 0) & (quantiles <= 1), quantiles, 0.0)
    rank = usable * (counts - 1)
    lower = np.maximum(np.floor(rank), 0)
    upper = np.minimum(counts - 1, lower + 1)
    weight = rank - np.floor(rank)

    def at(index: FloatArray) -> FloatArray:
        # NaN sorts below the numbers, but comes after them in the array.
        place = np.clip(index - nan_counts, 0, ordered.shape[1] - 1).astype(np.intp)
        picked = np.take_along_axis(ordered, place[:, None, :], axis=1)[:, 0, :]
        return np.where(index < nan_counts, np.nan, picked)

    with np.errstate(all="ignore"):
        return at(lower) * (1 - weight) + at(upper) * weight


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
