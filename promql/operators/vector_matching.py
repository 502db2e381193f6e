"""Arithmetic and comparisons between instant vectors and scalars.

Match groups are computed once per series. Rows of both sides with the same match group are paired,
and each pair is computed for all steps at once; masks find the steps at which Prometheus fails.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import ExecutionError
from promcompat.core.model import METADATA_LABELS, BoolArray, FloatArray, IntArray, Labels
from promcompat.core.texts.strconv import quote
from promql.ast import TRIM_OPERATORS, Cardinality, PositionRange, VectorMatching
from promql.budget import BYTES_PER_CELL, BYTES_PER_LABELS, QueryBudget
from promql.numbers.float_arithmetic import (
    apply_arithmetic,
    apply_comparison,
    is_comparison,
    makes_other_metric,
)
from promql.operators.fill import filled, filled_again, present_groups
from promql.operators.histogram_operators import (
    MixedCells,
    annotate_mixed,
    compute_mixed,
    mixed_cells,
)
from promql.operators.match_groups import MatchGroups, find_match_groups, match_group_labels
from promql.values.matrix import Annotations, Matrix, ScalarGrid
from promql.values.name_removal import drop_names
from promql.values.row_pieces import cell_pieces, map_cells, take_cells

_NOT_EXPLICIT = (
    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
)
_NOT_UNIQUE = "multiple matches for labels: grouping labels must ensure unique matches"


@dataclass(frozen=True, slots=True)
class VectorOperator:
    """An operator of which one operand at least is a vector; `delayed` is delayed name removal.

    `annotations` takes what there is to tell of the expression at `pos`, and `budget` limits what
    the results take.
    """

    op: str
    matching: VectorMatching
    return_bool: bool
    delayed: bool
    annotations: Annotations
    pos: PositionRange
    budget: QueryBudget


def scalar_operation(op: str, lhs: ScalarGrid, rhs: ScalarGrid) -> ScalarGrid:
    """`lhs op rhs` of two scalars; a comparison gives 1 or 0.

    Raises ExecutionError for an operator of histograms.
    """
    if op in TRIM_OPERATORS:
        raise ExecutionError(f"operator {quote(op)} not allowed for Scalar operations")
    if is_comparison(op):
        return ScalarGrid(apply_comparison(op, lhs.values, rhs.values).astype(np.float64))
    return ScalarGrid(apply_arithmetic(op, lhs.values, rhs.values))


def vector_scalar_operation(
    lhs: Matrix | ScalarGrid, rhs: Matrix | ScalarGrid, operator: VectorOperator
) -> Matrix:
    """`lhs op rhs` with one vector; a comparison keeps the samples of the vector that pass.

    Raises ExecutionError if two rows have equal labels after their names are removed.
    """
    op = operator.op
    vector = lhs if isinstance(lhs, Matrix) else rhs
    assert isinstance(vector, Matrix)
    result = replace(_with_scalar(vector, lhs.values, rhs.values, operator), histograms=None)
    cells = mixed_cells(
        op,
        lhs.values,
        rhs.values,
        vector.present,
        lhs.histograms if isinstance(lhs, Matrix) else None,
        rhs.histograms if isinstance(rhs, Matrix) else None,
    )
    if cells is not None:
        result, _ = _with_mixed(result, cells, operator)
    is_other_metric = operator.return_bool or makes_other_metric(op)
    return drop_names(result, operator.delayed) if is_other_metric else result


def _with_scalar(
    vector: Matrix, left: FloatArray, right: FloatArray, operator: VectorOperator
) -> Matrix:
    """The results for floats; the cells of histograms are meaningless."""
    op = operator.op
    if op in TRIM_OPERATORS:
        return replace(vector, values=vector.values.copy(), present=vector.present.copy())
    if not is_comparison(op):
        values = map_cells(partial(apply_arithmetic, op), vector.values.shape, left, right)
        return replace(vector, values=values)
    kept = apply_comparison(op, left, right)
    if operator.return_bool:
        return replace(vector, values=kept.astype(np.float64))
    return replace(vector, present=vector.present & kept)


def _with_mixed(
    result: Matrix, cells: MixedCells, operator: VectorOperator
) -> tuple[Matrix, BoolArray]:
    """A result of floats with those of mixed cells, and where these have no result.

    Raises ExecutionError if the histograms take too much memory.
    """
    operator.budget.check_bytes(cells.n_bytes())
    mixed = compute_mixed(operator.op, cells, return_bool=operator.return_bool)
    annotate_mixed(operator.op, cells, mixed, operator.annotations, operator.pos)
    values, present = result.values.copy(), result.present.copy()
    values[cells.rows, cells.steps] = mixed.values
    present[cells.rows, cells.steps] = mixed.kept
    failed = np.zeros(present.shape, bool)
    failed[cells.rows, cells.steps] = ~mixed.matched
    mended = replace(result, values=values, present=present, histograms=mixed.histograms)
    return mended, failed


def vector_operation(lhs: Matrix, rhs: Matrix, operator: VectorOperator) -> Matrix:
    """`lhs op rhs` of two vectors, one row per pair of matching series; labels may repeat.

    Raises ExecutionError with Prometheus' text if the matching is many-to-many at a step, or
    many-to-one without `group_left` or `group_right`, or if the pairs take too much memory.
    """
    matching, budget = operator.matching, operator.budget
    active = _active_steps(lhs, rhs, matching)
    swapped = matching.card is Cardinality.ONE_TO_MANY
    sent = lhs if swapped else rhs
    if matching.fills:
        lhs, rhs = filled(lhs, rhs, matching, budget)
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
    if matching.fill_left is not None and _has_mixed(many, one, operator.op):
        many, added = _filled_where_failed(pairs, sent, groups, operator, swapped)
        pairs = _pair_rows(many, np.concatenate((groups.lhs, added)), one, one_groups)
    result, matched = _compute(pairs, operator, swapped)
    crowded = _first_crowded(result, matched, pairs, matching)
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
    step = _first_shared_step(present, group_of)
    if step == present.shape[1]:
        return _Duplicate(step)
    seen: dict[int, int] = {}
    for row in np.flatnonzero(present[:, step]).tolist():
        earlier = seen.setdefault(int(group_of[row]), row)
        if earlier != row:
            return _Duplicate(step, row, earlier)
    raise AssertionError("unreachable")


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
    if len(distinct(group_of)) == len(group_of):
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
    merged = Matrix(labels, values, present, np.zeros(len(labels), bool), one.histograms)
    return merged, group_of[firsts]


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


def _compute(pairs: _Pairs, operator: VectorOperator, swapped: bool) -> tuple[Matrix, BoolArray]:
    """The result of each pair, and where there is one, even if a comparison does not keep it."""
    shape = len(pairs.many_rows), pairs.many.values.shape[1]
    values, present = np.empty(shape), np.empty(shape, bool)
    matched = np.empty(shape, bool)
    for rows, steps in cell_pieces(*shape):
        many_rows, one_rows = pairs.many_rows[rows], pairs.one_rows[rows]
        many = take_cells(pairs.many.values, many_rows, steps)
        one = take_cells(pairs.one.values, one_rows, steps)
        left, right = (one, many) if swapped else (many, one)
        values[rows, steps], kept = _apply(operator, left, right)
        both = take_cells(pairs.many.present, many_rows, steps)
        both &= take_cells(pairs.one.present, one_rows, steps)
        matched[rows, steps] = both
        present[rows, steps] = both & kept
    drop_name = np.full(shape[0], operator.return_bool and operator.delayed)
    result = Matrix(_result_labels(pairs, operator), values, present, drop_name)
    if cells := _mixed_pairs(pairs, operator, swapped, matched):
        result, failed = _with_mixed(result, cells, operator)
        matched &= ~failed
    return result, matched


def _filled_where_failed(
    pairs: _Pairs, sent: Matrix, groups: MatchGroups, operator: VectorOperator, swapped: bool
) -> tuple[Matrix, IntArray]:
    """The many side, filled where its match groups have no result with what was `sent`.

    Also returns the groups of the rows that are new. Which pairs have no result is known only from
    trying them.
    """
    _, matched = _compute(pairs, replace(operator, annotations=Annotations()), swapped)
    succeeded = np.zeros((groups.count, matched.shape[1]), bool)
    np.logical_or.at(succeeded, pairs.groups, matched)
    sent_groups = groups.rhs[: len(sent.labels)]
    failed = present_groups(sent, sent_groups, groups.count) & ~succeeded
    return filled_again(pairs.many, failed, sent, sent_groups, operator.matching)


def _has_mixed(many: Matrix, one: Matrix, op: str) -> bool:
    """Whether there may be pairs that operators of floats cannot compute."""
    return not (many.histograms is one.histograms is None) or op in TRIM_OPERATORS


def _mixed_pairs(
    pairs: _Pairs, operator: VectorOperator, swapped: bool, matched: BoolArray
) -> MixedCells | None:
    many, one = pairs.many, pairs.one
    if not _has_mixed(many, one, operator.op):
        return None
    sides = (many, pairs.many_rows), (one, pairs.one_rows)
    (left, left_rows), (right, right_rows) = reversed(sides) if swapped else sides
    return mixed_cells(
        operator.op,
        left.values[left_rows],
        right.values[right_rows],
        matched,
        left.histograms,
        right.histograms,
    )


def _apply(
    operator: VectorOperator, left: FloatArray, right: FloatArray
) -> tuple[FloatArray, BoolArray | bool]:
    if operator.op in TRIM_OPERATORS:
        return left, False
    if not is_comparison(operator.op):
        return apply_arithmetic(operator.op, left, right), True
    kept = apply_comparison(operator.op, left, right)
    return (kept.astype(np.float64), True) if operator.return_bool else (left, kept)


def _result_labels(pairs: _Pairs, operator: VectorOperator) -> list[Labels]:
    matching = operator.matching
    # Labels that are included come later, so that `group_left (__name__)` gives a name.
    is_other_metric = makes_other_metric(operator.op) or (
        operator.return_bool and not operator.delayed
    )
    return [
        _with_included(_base_labels(many, matching, is_other_metric), one, matching.include)
        for many, one in _label_pairs(pairs)
    ]


def _label_pairs(pairs: _Pairs) -> list[tuple[Labels, Labels]]:
    rows = zip(pairs.many_rows.tolist(), pairs.one_rows.tolist(), strict=True)
    return [(pairs.many.labels[many], pairs.one.labels[one]) for many, one in rows]


def _base_labels(labels: Labels, matching: VectorMatching, is_other_metric: bool) -> Labels:
    """The labels kept of the many side; those of its metric only if the result is of it, too."""
    if matching.card is not Cardinality.ONE_TO_ONE:
        return labels.without_metadata() if is_other_metric else labels
    if matching.on:
        kept = set(matching.labels)
        return labels.only(kept - METADATA_LABELS if is_other_metric else kept)
    if is_other_metric:
        return labels.without((*matching.labels, *METADATA_LABELS))
    return labels.without(matching.labels) if matching.labels else labels


def _with_included(labels: Labels, one: Labels, include: tuple[str, ...]) -> Labels:
    if not include:
        return labels
    kept = [pair for pair in labels.pairs if pair[0] not in include]
    return Labels([*kept, *((name, one.get(name)) for name in set(include))])


def _first_crowded(
    result: Matrix, matched: BoolArray, pairs: _Pairs, matching: VectorMatching
) -> int:
    """The first step with two results where one is allowed, n_steps if there is none.

    A comparison that is false is a result, too. One-to-one matching allows one result per match
    group, grouping one per group and label set.
    """
    place_of = pairs.groups
    if matching.card is not Cardinality.ONE_TO_ONE:
        places: dict[tuple[int, Labels], int] = {}
        keys = zip(pairs.groups.tolist(), result.labels, strict=True)
        place_of = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    return _first_shared_step(matched, place_of)


def _first_shared_step(present: BoolArray, place_of: IntArray) -> int:
    """The first step at which two rows are at one place; the number of steps if there is none."""
    n_steps: int = present.shape[1]
    if len(distinct(place_of)) == len(place_of):
        return n_steps
    order = np.argsort(place_of, kind="stable")
    firsts = np.flatnonzero(np.diff(place_of[order], prepend=-1))
    counts = np.add.reduceat(present[order], firsts, axis=0, dtype=np.int64)
    steps = np.flatnonzero((counts > 1).any(axis=0))
    return int(steps[0]) if len(steps) else n_steps
