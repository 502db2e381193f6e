"""Removal of metric names, at once or, with delayed name removal, at the end of the query.

Prometheus removes all metadata of a metric (`__name__`, `__type__`, `__unit__`), because none of
it applies to the result. Two rows may then have equal labels. Prometheus merges them step by step,
and fails if both are present at one. After a range function it fails even if the two are never
present at the same step. `merge` says which of the two applies.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import (
    BoolArray,
    IntArray,
    Labels,
    LabelSets,
    PartialLabelSets,
)
from promql.values.matrix import Matrix, ScalarGrid, StringValue, Value, Windows
from promql.values.row_pieces import cell_pieces, take_cells
from promql.values.shapes import take_rows

SAME_LABELSET = "vector cannot contain metrics with the same labelset"


def drop_names(matrix: Matrix, delayed: bool, merge: bool = True) -> Matrix:
    """Remove the metric name of every row, or with `delayed` mark every row for removal.

    Raises ExecutionError if rows then have equal labels; with `merge` only if two of them are
    present at the same step.
    """
    if delayed:
        return replace(matrix, drop_name=np.ones(len(matrix.labels), bool))
    named = replace(
        matrix,
        labels=_without_metadata(matrix.labels),
        drop_name=np.zeros(len(matrix.labels), bool),
    )
    return merge_rows(named) if merge else reject_same_labels(named)


def _without_metadata(rows: Sequence[Labels]) -> Sequence[Labels]:
    def remove() -> LabelSets:
        if isinstance(rows, PartialLabelSets):
            return rows.changed(Labels.without_metadata)
        return LabelSets([labels.without_metadata() for labels in rows])

    return rows.kept("without metadata", remove) if isinstance(rows, LabelSets) else remove()


def are_distinct(rows: Sequence[Labels]) -> bool:
    """Whether no two label sets are equal; partial ones are of distinct series, so they differ."""

    def compare() -> bool:
        return isinstance(rows, PartialLabelSets) or len(set(rows)) == len(rows)

    return rows.kept("are distinct", compare) if isinstance(rows, LabelSets) else compare()


def apply_delayed_names(matrix: Matrix) -> Matrix:
    """Remove the metric names of marked rows, once, at the end of the query.

    Raises ExecutionError if two rows then have equal labels and are present at the same step.
    """
    if not matrix.drop_name.any():
        return matrix
    labels = _without_marked_names(matrix.labels, matrix.drop_name)
    cleared = np.zeros(len(labels), bool)
    return merge_rows(replace(matrix, labels=labels, drop_name=cleared))


def finish(value: Value, delayed_name_removal: bool) -> Value:
    """The value of a whole query after the delayed removal of names.

    Raises ExecutionError if two series then have equal labels and are present at the same step.
    """
    if not delayed_name_removal:
        return value
    match value:
        case Matrix():
            return merge_rows(apply_delayed_names(value))
        case Windows():
            labels = _without_marked_names(value.block.labels, value.drop_name)
            filled = np.flatnonzero((value.hi > value.lo).any(axis=1)).tolist()
            if len({labels[row] for row in filled}) != len(filled):
                raise ExecutionError(SAME_LABELSET)
            return replace(value, block=replace(value.block, labels=tuple(labels)))
        case ScalarGrid() | StringValue():
            return value


def _without_marked_names(rows: Sequence[Labels], is_marked: BoolArray) -> list[Labels]:
    return [
        labels.without_metadata() if marked else labels
        for labels, marked in zip(rows, is_marked.tolist(), strict=True)
    ]


def reject_same_labels(matrix: Matrix) -> Matrix:
    """The matrix itself. Raises ExecutionError if two rows with a sample have equal labels."""
    if are_distinct(matrix.labels):
        return matrix
    matrix = take_rows(matrix, np.flatnonzero(matrix.present.any(axis=1)).tolist())
    if not are_distinct(matrix.labels):
        raise ExecutionError(SAME_LABELSET)
    return matrix


def merge_rows(matrix: Matrix) -> Matrix:
    """Merge rows with equal labels into the first of them.

    Raises ExecutionError if two of them are present at the same step.
    """
    if are_distinct(matrix.labels):
        return matrix
    first_row: dict[Labels, int] = {}
    target = np.array([first_row.setdefault(row, len(first_row)) for row in matrix.labels])
    order = np.argsort(target, kind="stable")
    sizes = np.bincount(target)
    firsts = np.cumsum(sizes) - sizes
    merged = take_rows(matrix, order[firsts].tolist())
    # Add the second row of each label set, then the third, …
    rank = np.arange(len(order)) - np.repeat(firsts, sizes)
    by_rank = order[np.argsort(rank, kind="stable")]
    for rows in np.split(by_rank, np.cumsum(np.bincount(rank))[:-1])[1:]:
        _merge_into(merged, target[rows], matrix, rows)
    return merged


def _merge_into(merged: Matrix, target: IntArray, matrix: Matrix, rows: IntArray) -> None:
    """Add `rows` [n] of `matrix` to the distinct rows `target` [n] of `merged`, in place."""
    for part, steps in cell_pieces(len(rows), matrix.present.shape[1]):
        source, goal = rows[part], target[part]
        added = take_cells(matrix.present, source, steps)
        known = take_cells(merged.present, goal, steps)
        if (added & known).any():
            raise ExecutionError(SAME_LABELSET)
        merged.present[goal, steps] = added | known
        kept = take_cells(merged.values, goal, steps)
        merged.values[goal, steps] = np.where(added, matrix.values[source, steps], kept)
