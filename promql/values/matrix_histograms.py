"""The samples of a matrix that are histograms: which, without them, and put into another matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.histograms.columns import (
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix


def are_histograms(matrix: Matrix) -> BoolArray | None:
    """Which samples are histograms, bool [n_series, n_steps]; None if there are none."""
    if matrix.histograms is None:
        return None
    found = matrix.present & is_histogram(matrix.values)
    return found if found.any() else None


def without_histograms(matrix: Matrix) -> Matrix:
    """The samples that are floats, in the same rows."""
    if matrix.histograms is None:
        return matrix
    present = matrix.present & ~is_histogram(matrix.values)
    return replace(matrix, present=present, histograms=None)


@dataclass(frozen=True, slots=True)
class HistogramSamples:
    """The histograms of a matrix, row by row.

    Sample i is at `rows[i]` and `steps[i]`, and is the histogram `numbers[i]` of `columns`.
    """

    rows: IntArray
    steps: IntArray
    numbers: IntArray
    columns: HistogramColumns

    def __len__(self) -> int:
        return len(self.rows)


def histogram_samples(matrix: Matrix) -> HistogramSamples | None:
    """The samples that are histograms; None if there are none."""
    found = are_histograms(matrix)
    if found is None or matrix.histograms is None:
        return None
    rows, steps = np.nonzero(found)
    numbers = histogram_numbers(matrix.values[rows, steps])
    return HistogramSamples(rows, steps, numbers, matrix.histograms)


def with_histograms(
    matrix: Matrix, rows: IntArray, steps: IntArray, columns: HistogramColumns
) -> Matrix:
    """A matrix of floats with histogram i put as the sample at `rows[i]` and `steps[i]`.

    The arrays of the matrix are changed.
    """
    matrix.values[rows, steps] = histogram_cells(np.arange(len(rows)))
    matrix.present[rows, steps] = True
    return replace(matrix, histograms=columns)


def joined_values(parts: Sequence[Matrix]) -> tuple[FloatArray, HistogramColumns | None]:
    """The values of all parts under each other, and the histograms that they refer to."""
    moved, histograms = in_one_pool(parts)
    return np.concatenate(moved), histograms


def in_one_pool(
    parts: Sequence[Matrix],
) -> tuple[list[FloatArray], HistogramColumns | None]:
    """The values of each part, and the histograms that all of them refer to.

    The arrays are those of the parts, except where the numbers of their histograms change.
    """
    pools = [part.histograms for part in parts if part.histograms is not None]
    if not pools:
        return [part.values for part in parts], None
    moved, first = [], 0
    for part in parts:
        values = part.values
        if part.histograms is not None and first:
            # Numbers are the low bits, which no sum carries out of.
            values = values.copy()
            values.view(np.int64)[is_histogram(values)] += first
        moved.append(values)
        first += 0 if part.histograms is None else len(part.histograms)
    return moved, HistogramColumns.joined(pools) if len(pools) > 1 else pools[0]


def histogram_weights(matrix: Matrix) -> IntArray:
    """How many samples more than one each histogram of a matrix counts as, by step [n_steps]."""
    samples = histogram_samples(matrix)
    if samples is None:
        return np.zeros(matrix.present.shape[1], np.int64)
    weights = samples.columns.n_samples_like()[samples.numbers] - 1
    totals = np.bincount(samples.steps, weights, matrix.present.shape[1])
    return totals.astype(np.int64)


def used_histograms(matrix: Matrix, n_histograms: int) -> BoolArray:
    """Which of so many histograms the cells of a matrix refer to, bool [n_histograms]."""
    is_used = np.zeros(n_histograms, bool)
    is_used[histogram_numbers(matrix.values[matrix.present & is_histogram(matrix.values)])] = True
    return is_used


def with_stored_histograms(
    matrix: Matrix, stored: Histograms, *, without_buckets: bool = False
) -> Matrix:
    """A matrix whose cells refer to stored histograms, with those that it needs as columns.

    The array of values is changed.
    """
    found = np.nonzero(matrix.present & is_histogram(matrix.values))
    numbers = histogram_numbers(matrix.values[found])
    if not len(numbers):
        return matrix
    is_used = np.zeros(len(stored), bool)
    is_used[numbers] = True
    matrix.values[found] = histogram_cells((np.cumsum(is_used) - 1)[numbers])
    if without_buckets:
        return replace(matrix, histograms=HistogramColumns.counts_of(stored).take(is_used))
    return replace(matrix, histograms=HistogramColumns.of(stored.take(is_used)))


def with_used_histograms(matrix: Matrix) -> Matrix:
    """The same samples; histograms that none of them refers to are given up."""
    samples = histogram_samples(matrix)
    if samples is None:
        return replace(matrix, histograms=None)
    is_used = np.zeros(len(samples.columns), bool)
    is_used[samples.numbers] = True
    if is_used.all():
        return matrix
    places = np.cumsum(is_used) - 1
    values = matrix.values.copy()
    values[samples.rows, samples.steps] = histogram_cells(places[samples.numbers])
    return replace(matrix, values=values, histograms=samples.columns.take(is_used))
