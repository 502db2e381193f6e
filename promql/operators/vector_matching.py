"""Arithmetic and comparisons between instant vectors and scalars.

Match groups are computed once per series. Rows of both sides with the same match group are paired,
and each pair is computed for all steps at once; masks find the steps at which Prometheus fails.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import METADATA_LABELS, BoolArray, FloatArray, IntArray, Labels
from promql.ast import Cardinality, VectorMatching
from promql.budget import BYTES_PER_CELL, BYTES_PER_LABELS, QueryBudget
from promql.numbers.float_arithmetic import apply_arithmetic, apply_comparison, is_comparison
from promql.operators.fill import filled
from promql.operators.match_groups import find_match_groups, match_group_labels
from promql.values.matrix import Matrix, ScalarGrid
from promql.values.name_removal import drop_names
from promql.values.row_pieces import cell_pieces, map_cells, take_cells

_NOT_EXPLICIT = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)
_NOT_UNIQUE = "multiple matches for labels: grouping labels must ensure unique matches"


@dataclass(frozen=True, slots=True)
class VectorOperator:
    """An operator between vectors; `delayed` is delayed name removal."""

    op: str
    matching: VectorMatching
    return_bool: bool
    delayed: bool


def scalar_operation(op: str, lhs: ScalarGrid, rhs: ScalarGrid) -> ScalarGrid:
    """`lhs op rhs` of two scalars; a comparison gives 1 or 0."""
    if is_comparison(op):
        return ScalarGrid(apply_comparison(op, lhs.values, rhs.values).astype(np.float64))
    return ScalarGrid(apply_arithmetic(op, lhs.values, rhs.values))


def vector_scalar_operation(
    op: str, lhs: Matrix | ScalarGrid, rhs: Matrix | ScalarGrid, return_bool: bool, delayed: bool
) -> Matrix:
    """`lhs op rhs` with one vector; a comparison keeps the samples of the vector that pass.

    Raises ExecutionError if two rows have equal labels after their names are removed.
    """
    vector = lhs if isinstance(lhs, Matrix) else rhs
    assert isinstance(vector, Matrix)
    left = vector.values if isinstance(lhs, Matrix) else lhs.values
    right = vector.values if isinstance(rhs, Matrix) else rhs.values
    if not is_comparison(op):
        values = map_cells(partial(apply_arithmetic, op), vector.values.shape, left, right)
        return drop_names(replace(vector, values=values), delayed)
    kept = apply_comparison(op, left, right)
    if return_bool:
        return drop_names(replace(vector, values=kept.astype(np.float64)), delayed)
    return replace(vector, present=vector.present & kept)


def vector_operation(
    lhs: Matrix, rhs: Matrix, operator: VectorOperator, budget: QueryBudget
) -> Matrix:
    """`lhs op rhs` of two vectors, one row per pair of matching series; labels may repeat.

    Raises ExecutionError with Prometheus' text if the matching is many-to-many at a step, or
    many-to-one without `group_left` or `group_right`, or if the pairs take too much memory.
    """
    matching = operator.matching
    active = _active_steps(lhs, rhs, matching)
    if matching.fills:
        lhs, rhs = filled(lhs, rhs, matching, budget)
    swapped = matching.card is Cardinality.ONE_TO_MANY
    many, one = (rhs, lhs) if swapped else (lhs, rhs)
    groups = find_match_groups(many, one, matching)
    duplicates = _first_duplicate(one.present & active, groups.rhs)
    side = "left" if swapped else "right"
    if duplicates.step < len(active) and not active[: duplicates.step].any():
        # No earlier step can fail, so the rows need not be paired.
        raise ExecutionError(_duplicate_text(lhs if swapped else rhs, duplicates, matching, side))
    one, one_groups = _merge_one_side(one, groups.rhs, matching)
    _check_pairs(groups.lhs, one_groups, len(active), budget)
    pairs = _pair_rows(many, groups.lhs, one, one_groups)
    result = _compute(pairs, operator, swapped)
    crowded = _first_crowded(result, pairs, matching)
    if duplicates.step < len(active) and duplicates.step <= crowded:
        raise ExecutionError(_duplicate_text(lhs if swapped else rhs, duplicates, matching, side))
    if crowded < len(active):
        one_to_one = matching.card is Cardinality.ONE_TO_ONE
        raise ExecutionError(_NOT_EXPLICIT if one_to_one else _NOT_UNIQUE)
    return result


def _active_steps(lhs: Matrix, rhs: Matrix, matching: VectorMatching) -> BoolArray:
    """The steps at which Prometheus computes anything, and may fail: where a side has no samples,
    only if missing ones are filled in.
    """
    left: BoolArray = np.logical_or.reduce(lhs.present, axis=0)
    right: BoolArray = np.logical_or.reduce(rhs.present, axis=0)
    return left | right if matching.fills else left & right


@dataclass(frozen=True, slots=True)
class _Duplicate:
    """The first step at which two rows of the "one" side are in one group, and these rows."""

    step: int
    row: int = 0
    earlier_row: int = 0


def _first_duplicate(present: BoolArray, group_of: IntArray) -> _Duplicate:
    n_steps = present.shape[1]
    if len(np.unique(group_of)) == len(group_of):
        return _Duplicate(n_steps)
    counts = np.zeros((int(group_of.max()) + 1, n_steps), np.int64)
    np.add.at(counts, group_of, present)
    steps = np.flatnonzero((counts > 1).any(axis=0))
    if not len(steps):
        return _Duplicate(n_steps)
    seen: dict[int, int] = {}
    for row in np.flatnonzero(present[:, steps[0]]).tolist():
        earlier = seen.setdefault(int(group_of[row]), row)
        if earlier != row:
            return _Duplicate(int(steps[0]), row, earlier)
    return _Duplicate(n_steps)


def _duplicate_text(one: Matrix, found: _Duplicate, matching: VectorMatching, side: str) -> str:
    labels = one.labels[found.row]
    group = match_group_labels(labels, matching)
    both = f"{labels}, {one.labels[found.earlier_row]}"
    return (
        f"found duplicate series for the match group {group} on the {side} hand-side of the "
        f"operation: [{both}];many-to-many matching not allowed: matching labels must be unique "
        "on one side"
    )


def _merge_one_side(
    one: Matrix, group_of: IntArray, matching: VectorMatching
) -> tuple[Matrix, IntArray]:
    """Merge rows with equal group and equal included labels.

    Such series follow each other in time (a restarted pod): at each step at most one of them
    matches a row of the other side, and the result is the same for all of them.
    """
    if len(np.unique(group_of)) == len(group_of):
        return one, group_of
    keys: dict[tuple[int, tuple[str, ...]], int] = {}
    target = np.array(
        [
            keys.setdefault((group, tuple(map(labels.get, matching.include))), len(keys))
            for group, labels in zip(group_of.tolist(), one.labels, strict=True)
        ]
    )
    _, firsts = np.unique(target, return_index=True)
    values = np.zeros((len(firsts), one.values.shape[1]))
    present = np.zeros(values.shape, bool)
    rows, steps = np.nonzero(one.present)
    values[target[rows], steps] = one.values[rows, steps]
    present[target[rows], steps] = True
    labels = [one.labels[row] for row in firsts.tolist()]
    return Matrix.of(labels, values, present), group_of[firsts]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Paired rows and their match groups, int64 [n_pairs] each."""

    many: Matrix
    one: Matrix
    many_rows: IntArray
    one_rows: IntArray
    groups: IntArray


def _check_pairs(
    many_groups: IntArray, one_groups: IntArray, n_steps: int, budget: QueryBudget
) -> None:
    n_groups = 1 + max(many_groups.max(initial=0), one_groups.max(initial=0))
    sizes = np.bincount(one_groups, minlength=n_groups)
    n_pairs = int(sizes[many_groups].sum())
    budget.check_bytes(n_pairs * (BYTES_PER_CELL * n_steps + BYTES_PER_LABELS))


def _pair_rows(many: Matrix, many_groups: IntArray, one: Matrix, one_groups: IntArray) -> _Pairs:
    """Every row of the many side with each row of the one side in its group, in order."""
    order = np.argsort(one_groups, kind="stable")
    ordered = one_groups[order]
    first = np.searchsorted(ordered, many_groups, "left")
    counts = np.searchsorted(ordered, many_groups, "right") - first
    many_rows = np.repeat(np.arange(len(many_groups)), counts)
    within = np.arange(len(many_rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    one_rows = order[np.repeat(first, counts) + within]
    return _Pairs(many, one, many_rows, one_rows, many_groups[many_rows])


def _compute(pairs: _Pairs, operator: VectorOperator, swapped: bool) -> Matrix:
    """The result of each pair; present where both sides are, and a comparison holds."""
    shape = len(pairs.many_rows), pairs.many.values.shape[1]
    values, present = np.empty(shape), np.empty(shape, bool)
    for rows, steps in cell_pieces(*shape):
        many_rows, one_rows = pairs.many_rows[rows], pairs.one_rows[rows]
        many = take_cells(pairs.many.values, many_rows, steps)
        one = take_cells(pairs.one.values, one_rows, steps)
        left, right = (one, many) if swapped else (many, one)
        values[rows, steps], kept = _apply(operator, left, right)
        both = take_cells(pairs.many.present, many_rows, steps)
        both &= take_cells(pairs.one.present, one_rows, steps)
        present[rows, steps] = both & kept
    drop_name = np.full(shape[0], operator.return_bool and operator.delayed)
    return Matrix(_result_labels(pairs, operator), values, present, drop_name)


def _apply(
    operator: VectorOperator, left: FloatArray, right: FloatArray
) -> tuple[FloatArray, BoolArray | bool]:
    if not is_comparison(operator.op):
        return apply_arithmetic(operator.op, left, right), True
    kept = apply_comparison(operator.op, left, right)
    return (kept.astype(np.float64), True) if operator.return_bool else (left, kept)


def _result_labels(pairs: _Pairs, operator: VectorOperator) -> list[Labels]:
    matching = operator.matching
    computes = not is_comparison(operator.op)
    found = [
        _with_included(_base_labels(many, matching, computes), one, matching.include)
        for many, one in _label_pairs(pairs)
    ]
    if operator.return_bool and not operator.delayed:
        return [labels.without_metadata() for labels in found]
    return found


def _label_pairs(pairs: _Pairs) -> list[tuple[Labels, Labels]]:
    rows = zip(pairs.many_rows.tolist(), pairs.one_rows.tolist(), strict=True)
    return [(pairs.many.labels[many], pairs.one.labels[one]) for many, one in rows]


def _base_labels(labels: Labels, matching: VectorMatching, computes: bool) -> Labels:
    """The labels kept of the many side; the result of arithmetic is another metric."""
    if matching.card is not Cardinality.ONE_TO_ONE:
        return labels.without_metadata() if computes else labels
    if matching.on:
        return labels.only(set(matching.labels) - METADATA_LABELS if computes else matching.labels)
    if computes:
        return labels.without((*matching.labels, *METADATA_LABELS))
    return labels.without(matching.labels) if matching.labels else labels


def _with_included(labels: Labels, one: Labels, include: tuple[str, ...]) -> Labels:
    if not include:
        return labels
    kept = [pair for pair in labels.pairs if pair[0] not in include]
    return Labels([*kept, *((name, one.get(name)) for name in set(include))])


def _first_crowded(result: Matrix, pairs: _Pairs, matching: VectorMatching) -> int:
    """The first step with two results where one is allowed, n_steps if there is none.

    One-to-one matching allows one result per match group, grouping one per group and label set.
    """
    n_steps: int = result.present.shape[1]
    place_of = pairs.groups
    if matching.card is not Cardinality.ONE_TO_ONE:
        places: dict[tuple[int, Labels], int] = {}
        keys = zip(pairs.groups.tolist(), result.labels, strict=True)
        place_of = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    if len(np.unique(place_of)) == len(place_of):
        return n_steps
    counts = np.zeros((int(place_of.max()) + 1, n_steps), np.int64)
    np.add.at(counts, place_of, result.present)
    steps = np.flatnonzero((counts > 1).any(axis=0))
    return int(steps[0]) if len(steps) else int(n_steps)
