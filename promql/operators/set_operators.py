"""`and`, `or` and `unless`: which samples stay is decided by the match groups of the other side."""

from collections.abc import Callable, Mapping

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from promql.ast import VectorMatching
from promql.operators.match_groups import MatchGroups, find_match_groups
from promql.values import Matrix


def apply_set_operator(op: str, lhs: Matrix, rhs: Matrix, matching: VectorMatching) -> Matrix:
    """`lhs op rhs`. The rows of `or` are those of lhs, then those of rhs; labels may repeat."""
    return _OPERATORS[op](lhs, rhs, find_match_groups(lhs, rhs, matching))


def _and(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return _with_present(lhs, lhs.present & matched)


def _unless(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return _with_present(lhs, lhs.present & ~matched)


def _or(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(lhs.present, groups.lhs, groups.count)[groups.rhs]
    return _stack(lhs, _with_present(rhs, rhs.present & ~matched))


_OPERATORS: Mapping[str, Callable[[Matrix, Matrix, MatchGroups], Matrix]] = {
    "and": _and,
    "or": _or,
    "unless": _unless,
}


def _any_present(present: BoolArray, group_of: IntArray, n_groups: int) -> BoolArray:
    """Whether any row of a group is present: bool [n_groups, n_steps]."""
    found = np.zeros((n_groups, present.shape[1]), bool)
    if len(present):
        order = np.argsort(group_of, kind="stable")
        groups, starts = np.unique(group_of[order], return_index=True)
        found[groups] = np.logical_or.reduceat(present[order], starts, axis=0)
    return found


def _with_present(matrix: Matrix, present: BoolArray) -> Matrix:
    return Matrix(matrix.labels, matrix.values, present, matrix.drop_name, matrix.histograms)


def _stack(upper: Matrix, lower: Matrix) -> Matrix:
    histograms = None
    if upper.histograms is not None or lower.histograms is not None:
        halves = [
            np.full(half.values.shape, None, np.object_)
            if half.histograms is None
            else half.histograms
            for half in (upper, lower)
        ]
        histograms = np.concatenate(halves)
    return Matrix(
        [*upper.labels, *lower.labels],
        np.concatenate((upper.values, lower.values)),
        np.concatenate((upper.present, lower.present)),
        np.concatenate((upper.drop_name, lower.drop_name)),
        histograms,
    )
