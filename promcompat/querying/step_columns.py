"""Cuts and joins matrices of range queries along their steps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.model import EvalRange, Labels
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import in_one_pool, with_used_histograms
from promql.values.shapes import take_rows


def take_steps(matrix: Matrix, grid: EvalRange, wanted: EvalRange) -> Matrix:
    """The columns of the steps `wanted`, which are some of those of `grid`; a copy."""
    first = (wanted.start_ms - grid.start_ms) // grid.step_ms
    steps = slice(first, first + wanted.n_steps)
    taken = Matrix(
        matrix.labels,
        matrix.values[:, steps].copy(),
        matrix.present[:, steps].copy(),
        matrix.drop_name,
        matrix.histograms,
    )
    return with_used_histograms(taken)


def drop_empty_rows(matrix: Matrix) -> Matrix:
    """The rows that are present at any step."""
    is_present = matrix.present.any(axis=1)
    if is_present.all():
        return matrix
    return take_rows(matrix, np.flatnonzero(is_present).tolist())


def join_steps(grid: EvalRange, pieces: Sequence[tuple[EvalRange, Matrix]]) -> Matrix:
    """One matrix over `grid`, its rows sorted by labels; where pieces overlap, the later one wins.

    The pieces together have every step of `grid`, and the rows of each piece are sorted.
    """
    labels = _all_labels([matrix.labels for _, matrix in pieces])
    row_of = {series: row for row, series in enumerate(labels)}
    values = np.zeros((len(labels), grid.n_steps))
    present = np.zeros(values.shape, bool)
    moved, histograms = in_one_pool([matrix for _, matrix in pieces])
    for (piece, matrix), cells in zip(pieces, moved, strict=True):
        first = (piece.start_ms - grid.start_ms) // grid.step_ms
        steps = slice(first, first + piece.n_steps)
        if len(matrix.labels) == len(labels):
            values[:, steps] = cells
            present[:, steps] = matrix.present
        else:
            present[:, steps] = False
            rows = np.array([row_of[series] for series in matrix.labels], np.intp)
            values[rows, steps] = cells
            present[rows, steps] = matrix.present
    joined = replace(Matrix.of(labels, values, present), histograms=histograms)
    return drop_empty_rows(with_used_histograms(joined))


def _all_labels(parts: Sequence[Sequence[Labels]]) -> list[Labels]:
    first = list(parts[0])
    if all(list(other) == first for other in parts[1:]):
        return first
    return sorted({labels for part in parts for labels in part}, key=lambda labels: labels.pairs)
