"""The samples of a matrix that are histograms: which, without them, and put into another matrix."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.histograms import histogram_cells, histogram_numbers, is_histogram
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
    values = np.concatenate([part.values for part in parts])
    pools = [part.histograms for part in parts if part.histograms is not None]
    if not pools:
        return values, None
    first_row = first_histogram = 0
    for part in parts:
        cells = values[first_row : first_row + len(part.values)]
        if part.histograms is not None:
            # Numbers are the low bits, which no sum carries out of.
            cells.view(np.int64)[is_histogram(cells)] += first_histogram
            first_histogram += len(part.histograms)
        first_row += len(part.values)
    return values, HistogramColumns.joined(pools) if len(pools) > 1 else pools[0]
