"""`and`, `or` and `unless`: which samples stay is decided by the match groups of the other side."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from promql.ast import VectorMatching
from promql.operators.match_groups import MatchGroups, find_match_groups
from promql.values.matrix import Matrix


def apply_set_operator(op: str, lhs: Matrix, rhs: Matrix, matching: VectorMatching) -> Matrix:
    """`lhs op rhs`. The rows of `or` are those of lhs, then those of rhs; labels may repeat."""
    return _OPERATORS[op](lhs, rhs, find_match_groups(lhs, rhs, matching))


def _and(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return with_present(lhs, lhs.present & matched)


def _unless(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return with_present(lhs, lhs.present & ~matched)


def _or(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(lhs.present, groups.lhs, groups.count)[groups.rhs]
    return stack((lhs, with_present(rhs, rhs.present & ~matched)))


_OPERATORS: Mapping[str, Callable[[Matrix, Matrix, MatchGroups], Matrix]] = {
    "and": _and,
    "or": _or,
    "unless": _unless,
}


def _any_present(present: BoolArray, group_of: IntArray, n_groups: int) -> BoolArray:
    """Whether any row of a group is present: bool [n_groups, n_steps]."""
    found = np.zeros((n_groups, present.shape[1]), bool)
    groups, present_groups = present_by_group(present, group_of)
    found[groups] = present_groups
    return found


def present_by_group(present: BoolArray, group_of: IntArray) -> tuple[IntArray, BoolArray]:
    """The groups that have rows, int64 [n], and whether any of these is present, [n, n_steps]."""
    if not len(present):
        return group_of, present
    order = np.argsort(group_of, kind="stable")
    groups, starts = np.unique(group_of[order], return_index=True)
    return groups, np.logical_or.reduceat(present[order], starts, axis=0)


def with_present(matrix: Matrix, present: BoolArray) -> Matrix:
    """The matrix with samples at other steps."""
    return Matrix(matrix.labels, matrix.values, present, matrix.drop_name, matrix.histograms)


def stack(parts: Sequence[Matrix]) -> Matrix:
    """The rows of all, in their order; labels may repeat."""
    histograms = None
    if any(part.histograms is not None for part in parts):
        histograms = np.concatenate(
            [
                np.full(part.values.shape, None, np.object_)
                if part.histograms is None
                else part.histograms
                for part in parts
            ]
        )
    return Matrix(
        [labels for part in parts for labels in part.labels],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.drop_name for part in parts]),
        histograms,
    )
