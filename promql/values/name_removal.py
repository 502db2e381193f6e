"""Functions and operators remove the metric name: at once, or marked now and removed at the end.

Prometheus removes the whole metadata of a metric (`__name__`, `__type__`, `__unit__`), since none
of it holds for the result any more. Two rows may have equal labels afterwards. Prometheus merges
them step by step where a function works on instant vectors, and refuses them, even when they never
meet at a step, where one works on whole series: range functions, unary minus, `label_replace`,
`label_join` and the end of a query with delayed removal. `merge` says which of the two applies.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, IntArray, Labels
from promql.values.matrix import Matrix, ScalarGrid, StringValue, Value, Windows
from promql.values.row_pieces import CellT, cell_pieces, take_cells
from promql.values.shapes import take_rows

SAME_LABELSET = "vector cannot contain metrics with the same labelset"


def drop_names(matrix: Matrix, delayed: bool, merge: bool = True) -> Matrix:
    """Remove the metric name of every row, or mark every row for the end when `delayed`.

    Raises ExecutionError when rows then have equal labels: with `merge` if two of them are present
    at one step, without it (a function of whole series) in any case.
    """
    if delayed:
        return replace(matrix, drop_name=np.ones(len(matrix.labels), bool))
    named = replace(
        matrix,
        labels=[labels.without_metadata() for labels in matrix.labels],
        drop_name=np.zeros(len(matrix.labels), bool),
    )
    return merge_rows(named) if merge else reject_same_labels(named)


def apply_delayed_names(matrix: Matrix) -> Matrix:
    """Remove the metric name of the rows that are marked; to be done once, at the query's end.

    Raises ExecutionError when two rows then have equal labels, at whatever steps they are present.
    """
    if not matrix.drop_name.any():
        return matrix
    labels = [
        row.without_metadata() if dropped else row
        for row, dropped in zip(matrix.labels, matrix.drop_name.tolist(), strict=True)
    ]
    cleared = np.zeros(len(labels), bool)
    return reject_same_labels(replace(matrix, labels=labels, drop_name=cleared))


def finish(value: Value, delayed_name_removal: bool) -> Value:
    """The value of a whole query, with the names removed whose removal was delayed.

    Raises ExecutionError when two series then have equal labels.
    """
    if not delayed_name_removal:
        return value
    match value:
        case Matrix():
            return reject_same_labels(apply_delayed_names(value))
        case Windows():
            rows = Matrix(
                value.block.labels,
                np.zeros(value.lo.shape),
                value.hi > value.lo,
                value.drop_name,
            )
            labels = reject_same_labels(apply_delayed_names(rows)).labels
            return replace(value, block=replace(value.block, labels=tuple(labels)))
        case ScalarGrid() | StringValue():
            return value


def reject_same_labels(matrix: Matrix) -> Matrix:
    """The matrix itself; ExecutionError when two rows with a sample have equal labels."""
    if len(set(matrix.labels)) == len(matrix.labels):
        return matrix
    matrix = take_rows(matrix, np.flatnonzero(matrix.present.any(axis=1)).tolist())
    if len(set(matrix.labels)) != len(matrix.labels):
        raise ExecutionError(SAME_LABELSET)
    return matrix


def merge_rows(matrix: Matrix) -> Matrix:
    """Make rows of equal labels one row, at the place of the first of them.

    Raises ExecutionError when two of them are present at one step.
    """
    if len(set(matrix.labels)) == len(matrix.labels):
        return matrix
    first_row: dict[Labels, int] = {}
    target = np.array([first_row.setdefault(row, len(first_row)) for row in matrix.labels])
    order = np.argsort(target, kind="stable")
    sizes = np.bincount(target)
    firsts = np.cumsum(sizes) - sizes
    merged = take_rows(matrix, order[firsts].tolist())
    # The second row of each label set, then the third, ...
    rank = np.arange(len(order)) - np.repeat(firsts, sizes)
    by_rank = order[np.argsort(rank, kind="stable")]
    for rows in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])[1:]:
        _merge_into(merged, target[rows], matrix, rows)
    return merged


def _merge_into(merged: Matrix, target: IntArray, matrix: Matrix, rows: IntArray) -> None:
    """Add `rows` of a matrix, [n], to the rows `target`, all different, of another in place."""
    for part, steps in cell_pieces(len(rows), matrix.present.shape[1]):
        source, goal = rows[part], target[part]
        added = take_cells(matrix.present, source, steps)
        known = take_cells(merged.present, goal, steps)
        if (added & known).any():
            raise ExecutionError(SAME_LABELSET)
        merged.present[goal, steps] = added | known
        _replace_cells(merged.values, goal, steps, added, matrix.values[source, steps])
        if merged.histograms is not None and matrix.histograms is not None:
            found = matrix.histograms[source, steps]
            _replace_cells(merged.histograms, goal, steps, added, found)


def _replace_cells(
    cells: NDArray[CellT], rows: IntArray, steps: slice, where: BoolArray, by: NDArray[CellT]
) -> None:
    cells[rows, steps] = np.where(where, by, take_cells(cells, rows, steps))
