"""The size of values, and values with fewer rows or more steps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import label_sets_at
from promql.budget import BYTES_PER_CELL
from promql.values.matrix import Matrix, ScalarGrid, StringValue, Value, Windows
from promql.values.matrix_histograms import histogram_weights
from promql.values.row_pieces import CellT


def sample_count(value: Value) -> int:
    """The number of samples of a value."""
    if not isinstance(value, Matrix):
        return 0
    n_present = int(np.count_nonzero(value.present))
    if value.histograms is None:
        return n_present
    return n_present + int(histogram_weights(value).sum())


def byte_count(value: Value) -> int:
    """The bytes of the arrays of a value."""
    match value:
        case Matrix():
            histograms = value.histograms
            n_bytes = 0 if histograms is None else histograms.n_bytes
            return int(value.values.size) * BYTES_PER_CELL + n_bytes
        case ScalarGrid():
            return int(value.values.nbytes)
        case Windows():
            return int(value.lo.nbytes + value.hi.nbytes)
        case StringValue():
            return 0


def take_rows(matrix: Matrix, rows: Sequence[int]) -> Matrix:
    """The rows of these indices, in this order."""
    index = np.asarray(rows, np.intp)
    return Matrix(
        label_sets_at(matrix.labels, rows),
        matrix.values[index],
        matrix.present[index],
        matrix.drop_name[index],
        matrix.histograms,
    )


def without_empty_rows(matrix: Matrix) -> Matrix:
    """Drop rows without a sample: in Prometheus such a series does not exist."""
    kept = matrix.present.any(axis=1)
    return matrix if kept.all() else take_rows(matrix, np.flatnonzero(kept).tolist())


def repeat_step(value: Value, n_steps: int) -> Value:
    """The value of a grid of one step, at each of `n_steps` steps."""
    match value:
        case Matrix():
            return Matrix(
                value.labels,
                _repeated(value.values, n_steps),
                _repeated(value.present, n_steps),
                value.drop_name,
                value.histograms,
            )
        case ScalarGrid():
            return ScalarGrid(np.repeat(value.values, n_steps))
        case StringValue() | Windows():
            return value


def _repeated(column: NDArray[CellT], n_steps: int) -> NDArray[CellT]:
    """The only column of a matrix, n_steps times."""
    # np.repeat holds the whole result twice for a while.
    wide = np.empty((len(column), n_steps), column.dtype)
    wide[:] = column
    return wide
