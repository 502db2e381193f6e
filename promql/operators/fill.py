"""The fill modifiers of binary operators: samples in place of those that one side does not have."""

from dataclasses import replace

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from promql.ast import Cardinality, VectorMatching
from promql.budget import BYTES_PER_CELL, QueryBudget
from promql.operators.match_groups import find_match_groups, match_group_labels
from promql.values.matrix import Matrix


def filled(
    lhs: Matrix, rhs: Matrix, matching: VectorMatching, budget: QueryBudget
) -> tuple[Matrix, Matrix]:
    """Both operands, each with a row for every match group that it lacks at some steps.

    The row has the labels of the match group, and the fill value where only the other side has a
    sample. Raises ExecutionError if the rows take too much memory.
    """
    groups = find_match_groups(lhs, rhs, matching)
    budget.check_bytes(2 * groups.count * lhs.values.shape[1] * BYTES_PER_CELL)
    left = present_groups(lhs, groups.lhs, groups.count)
    right = present_groups(rhs, groups.rhs, groups.count)
    for_lhs, for_rhs = matching.fill_left, matching.fill_right
    if matching.card is Cardinality.ONE_TO_MANY:
        # Prometheus 3.14 swaps the operands of `group_right`, but not their fill values.
        for_lhs, for_rhs = for_rhs, for_lhs
    filled_lhs, filled_rhs = lhs, rhs
    if for_lhs is not None:
        filled_lhs = _with_rows(lhs, right & ~left, rhs, groups.rhs, matching, for_lhs)
    if for_rhs is not None:
        filled_rhs = _with_rows(rhs, left & ~right, lhs, groups.lhs, matching, for_rhs)
    return filled_lhs, filled_rhs


def filled_again(
    many: Matrix, failed: BoolArray, one: Matrix, one_groups: IntArray, matching: VectorMatching
) -> tuple[Matrix, IntArray]:
    """The many side with rows of its fill value where it `failed` [n_groups, n_steps].

    There the operator has no result for any sample of the match group, as of a histogram and a
    float, and Prometheus fills it in as if it were missing. Also returns the groups of the rows.
    """
    assert matching.fill_left is not None
    groups = np.flatnonzero(failed.any(axis=1))
    return _with_rows(many, failed, one, one_groups, matching, matching.fill_left), groups


def present_groups(side: Matrix, group_of: IntArray, n_groups: int) -> BoolArray:
    """Whether a side has a sample of each group at each step, [n_groups, n_steps]."""
    present = np.zeros((n_groups, side.present.shape[1]), bool)
    np.logical_or.at(present, group_of, side.present)
    return present


def _with_rows(
    side: Matrix,
    missing: BoolArray,
    other: Matrix,
    other_groups: IntArray,
    matching: VectorMatching,
    value: float,
) -> Matrix:
    groups = np.flatnonzero(missing.any(axis=1))
    present_groups, firsts = np.unique(other_groups, return_index=True)
    rows = firsts[np.searchsorted(present_groups, groups)]
    labels = [match_group_labels(other.labels[row], matching) for row in rows.tolist()]
    added = missing[groups]
    return replace(
        side,
        labels=[*side.labels, *labels],
        values=np.concatenate((side.values, np.full(added.shape, value))),
        present=np.concatenate((side.present, added)),
        drop_name=np.concatenate((side.drop_name, np.zeros(len(groups), bool))),
    )
