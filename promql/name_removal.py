"""Functions and operators remove the metric name: at once, or marked now and removed at the end.

Prometheus removes the whole metadata of a metric (`__name__`, `__type__`, `__unit__`), since none
of it holds for the result any more. Two rows may have equal labels afterwards. Prometheus merges
them step by step where a function works on instant vectors, and refuses them, even when they never
meet at a step, where one works on whole series: range functions, unary minus, `label_replace`,
`label_join` and the end of a query with delayed removal. `merge` says which of the two applies.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels
from promql.values import Matrix

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


def reject_same_labels(matrix: Matrix) -> Matrix:
    """The matrix itself; ExecutionError when two rows with a sample have equal labels."""
    if len(set(matrix.labels)) == len(matrix.labels):
        return matrix
    matrix = take_rows(matrix, np.flatnonzero(matrix.present.any(axis=1)).tolist())
    if len(set(matrix.labels)) != len(matrix.labels):
        raise ExecutionError(SAME_LABELSET)
    return matrix


def take_rows(matrix: Matrix, rows: Sequence[int]) -> Matrix:
    """The rows of these indices, in this order."""
    index = np.asarray(rows, np.intp)
    return Matrix(
        [matrix.labels[row] for row in rows],
        matrix.values[index],
        matrix.present[index],
        matrix.drop_name[index],
        None if matrix.histograms is None else matrix.histograms[index],
    )


def merge_rows(matrix: Matrix) -> Matrix:
    """Make rows of equal labels one row, at the place of the first of them.

    Raises ExecutionError when two of them are present at one step.
    """
    if len(set(matrix.labels)) == len(matrix.labels):
        return matrix
    first_row: dict[Labels, int] = {}
    target = np.array([first_row.setdefault(row, len(first_row)) for row in matrix.labels])
    present = np.zeros((len(first_row), matrix.present.shape[1]), np.intp)
    np.add.at(present, target, matrix.present)
    if present.max(initial=0) > 1:
        raise ExecutionError(SAME_LABELSET)
    firsts = np.unique(target, return_index=True)[1]
    values = np.zeros(present.shape)
    rows, steps = np.nonzero(matrix.present)
    values[target[rows], steps] = matrix.values[rows, steps]
    histograms = None
    if matrix.histograms is not None:
        histograms = np.full(present.shape, None, np.object_)
        histograms[target[rows], steps] = matrix.histograms[rows, steps]
    return Matrix(list(first_row), values, present > 0, matrix.drop_name[firsts], histograms)
