"""`and`, `or` and `unless`: the match groups of the other side decide which samples stay.

A chain `a or b or c …` with one matching is evaluated at once, see `Union`: if each `or` copied and
grouped everything before it, a chain of 5,000 selectors would take 80 times as long.
"""

from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from promql.ast import BinaryExpr, Expr, VectorMatching
from promql.budget import BYTES_PER_MADE_LABELS
from promql.operators.match_groups import MatchGroups, find_match_groups, group_key
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import joined_values, with_used_histograms
from promql.values.shapes import byte_count, sample_count, without_empty_rows


def apply_set_operator(op: str, lhs: Matrix, rhs: Matrix, matching: VectorMatching) -> Matrix:
    """`lhs op rhs`. The rows of `or` are those of lhs, then those of rhs; labels may repeat."""
    return _OPERATORS[op](lhs, rhs, find_match_groups(lhs, rhs, matching))


def _and(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return replace(lhs, present=lhs.present & matched)


def _unless(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(rhs.present, groups.rhs, groups.count)[groups.lhs]
    return replace(lhs, present=lhs.present & ~matched)


def _or(lhs: Matrix, rhs: Matrix, groups: MatchGroups) -> Matrix:
    matched = _any_present(lhs.present, groups.lhs, groups.count)[groups.rhs]
    return _stack((lhs, replace(rhs, present=rhs.present & ~matched)))


_OPERATORS: Mapping[str, Callable[[Matrix, Matrix, MatchGroups], Matrix]] = {
    "and": _and,
    "or": _or,
    "unless": _unless,
}


def _any_present(present: BoolArray, group_of: IntArray, n_groups: int) -> BoolArray:
    """Whether any row of a group is present: bool [n_groups, n_steps]."""
    found = np.zeros((n_groups, present.shape[1]), bool)
    groups, present_groups = _present_by_group(present, group_of)
    found[groups] = present_groups
    return found


def _present_by_group(present: BoolArray, group_of: IntArray) -> tuple[IntArray, BoolArray]:
    """The groups that have rows, int64 [n], and whether any of these is present, [n, n_steps]."""
    if not len(present):
        return group_of, present
    order = np.argsort(group_of, kind="stable")
    groups, starts = np.unique(group_of[order], return_index=True)
    return groups, np.logical_or.reduceat(present[order], starts, axis=0)


def _stack(parts: Sequence[Matrix]) -> Matrix:
    """The rows of all parts in order; labels may repeat."""
    values, histograms = joined_values(parts)
    return Matrix(
        [labels for part in parts for labels in part.labels],
        values,
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.drop_name for part in parts]),
        histograms,
    )


def united_operands(expr: BinaryExpr, apart: Container[Expr]) -> list[Expr]:
    """The operands of `a or b or c …` with one matching, from the left.

    Other operators have one. A node in `apart` is never taken apart itself.
    """
    operands: list[Expr] = []
    rest: Expr = expr
    while isinstance(rest, BinaryExpr) and rest.op == "or" and rest.matching == expr.matching:
        if rest is not expr and rest in apart:
            break
        operands.append(rest.rhs)
        rest = rest.lhs
    return [rest, *reversed(operands)]


class Union:
    """Takes the operands from the left; `n_samples` and `n_bytes` are the size of the union."""

    def __init__(self, matching: VectorMatching, n_steps: int) -> None:
        self.n_samples = 0
        self.n_bytes = 0
        self._key_of = group_key(matching)
        self._numbers: dict[Hashable, int] = {}
        self._covered = np.zeros((0, n_steps), bool)
        self._parts: list[Matrix] = []

    def add(self, operand: Matrix) -> None:
        """Add the samples whose match group has none at the same step in an earlier operand."""
        known = len(self._numbers)
        groups = self._groups_of(operand)
        if known:
            rest = replace(operand, present=operand.present & ~self._covered[groups])
            operand = with_used_histograms(without_empty_rows(rest))
            groups = self._groups_of(operand)
        present_groups, present = _present_by_group(operand.present, groups)
        self._covered[present_groups] |= present
        self._parts.append(operand)
        self.n_samples += sample_count(operand)
        self.n_bytes += byte_count(operand) + len(operand.labels) * BYTES_PER_MADE_LABELS

    def matrix(self) -> Matrix:
        """The rows of all operands in order; labels may repeat."""
        return _stack(self._parts)

    def _groups_of(self, operand: Matrix) -> IntArray:
        """The match group of each row, int64 [n_series]."""
        numbers, key_of = self._numbers, self._key_of
        groups = [numbers.setdefault(key_of(row), len(numbers)) for row in operand.labels]
        if len(numbers) > len(self._covered):
            room = np.zeros((2 * len(numbers), self._covered.shape[1]), bool)
            room[: len(self._covered)] = self._covered
            self._covered = room
        return np.array(groups, np.int64)
