"""The quantile of a group of series at each step."""

import numpy as np

from promcompat.core.model import FloatArray
from promql.aggregation.grouping import Grouping
from promql.numbers.value_order import sort_samples
from promql.values.matrix import Matrix
from promql.values.row_pieces import take_cells


def quantile_of_members(matrix: Matrix, grouping: Grouping, quantiles: FloatArray) -> FloatArray:
    """The quantile of the present members of each group: float64 [n_groups, n_steps].

    Between two members it is interpolated linearly; NaN sorts below every number. `quantiles` has
    one quantile per step: below 0 gives -Inf, above 1 gives +Inf and NaN gives NaN.
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
    """`ordered` [g, size, n_steps] has the numbers first, then NaN; the counts are [g, n_steps]."""
    usable = np.where((quantiles >= 0) & (quantiles <= 1), quantiles, 0.0)
    rank = usable * (counts - 1)
    lower = np.maximum(np.floor(rank), 0)
    upper = np.minimum(counts - 1, lower + 1)
    weight = rank - np.floor(rank)

    def at(index: FloatArray) -> FloatArray:
        # The NaN that stand below the numbers are counted, not stored.
        place = np.clip(index - nan_counts, 0, ordered.shape[1] - 1).astype(np.intp)
        picked = np.take_along_axis(ordered, place[:, None, :], axis=1)[:, 0, :]
        return np.where(index < nan_counts, np.nan, picked)

    with np.errstate(all="ignore"):
        return at(lower) * (1 - weight) + at(upper) * weight
