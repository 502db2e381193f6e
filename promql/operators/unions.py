"""`a or b or c …` with one matching: what each operand adds is found once, and copied once.

Each `or` by itself would copy and group all that is before it, so that a chain of 5,000 selectors
took 80 times as long.
"""

from collections.abc import Container, Hashable

import numpy as np

from promcompat.core.model import IntArray
from promql.ast import BinaryExpr, Expr, VectorMatching
from promql.budget import BYTES_PER_CELL, BYTES_PER_MADE_LABELS
from promql.operators.match_groups import group_key
from promql.operators.set_operators import present_by_group, stack, with_present
from promql.values.matrix import Matrix
from promql.values.shapes import sample_count, without_empty_rows


def united_operands(expr: BinaryExpr, apart: Container[Expr]) -> list[Expr]:
    """The operands of `a or b or c …` with one matching, from the left.

    Other operators have none. The nodes in `apart` are operands whatever they are.
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
    """Takes the operands from the left. `n_samples` and `n_bytes` are what it has of them."""

    def __init__(self, matching: VectorMatching, n_steps: int) -> None:
        self.n_samples = 0
        self.n_bytes = 0
        self._key_of = group_key(matching)
        self._numbers: dict[Hashable, int] = {}
        self._covered = np.zeros((0, n_steps), bool)
        self._parts: list[Matrix] = []

    def add(self, operand: Matrix) -> None:
        """Add the samples of match groups that have none at the same step in operands before."""
        known = len(self._numbers)
        groups = self._groups_of(operand)
        if known:
            rest = with_present(operand, operand.present & ~self._covered[groups])
            operand = without_empty_rows(rest)
            groups = self._groups_of(operand)
        present_groups, present = present_by_group(operand.present, groups)
        self._covered[present_groups] |= present
        self._parts.append(operand)
        n_rows, n_steps = operand.present.shape
        self.n_samples += sample_count(operand)
        self.n_bytes += n_rows * (n_steps * BYTES_PER_CELL + BYTES_PER_MADE_LABELS)

    def matrix(self) -> Matrix:
        """The rows of all operands, in their order; labels may repeat."""
        return stack(self._parts)

    def _groups_of(self, operand: Matrix) -> IntArray:
        """The numbers of the match groups of its rows, int64 [n_series]."""
        numbers, key_of = self._numbers, self._key_of
        groups = [numbers.setdefault(key_of(row), len(numbers)) for row in operand.labels]
        if len(numbers) > len(self._covered):
            room = np.zeros((2 * len(numbers), self._covered.shape[1]), bool)
            room[: len(self._covered)] = self._covered
            self._covered = room
        return np.array(groups, np.int64)
