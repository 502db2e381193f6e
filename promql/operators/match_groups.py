"""The match groups of a binary operator: series with equal values of the matched labels."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import METRIC_NAME, IntArray, Labels
from promql.ast import VectorMatching
from promql.values.matrix import Matrix


@dataclass(frozen=True, slots=True)
class MatchGroups:
    """The group of each row of both sides, int64 [n_series]; there are `count` groups."""

    lhs: IntArray
    rhs: IntArray
    count: int


def find_match_groups(lhs: Matrix, rhs: Matrix, matching: VectorMatching) -> MatchGroups:
    """Number the match groups of two vectors, those of lhs first."""
    key_of = group_key(matching)
    numbers: dict[Hashable, int] = {}
    left = [numbers.setdefault(key_of(row), len(numbers)) for row in lhs.labels]
    right = [numbers.setdefault(key_of(row), len(numbers)) for row in rhs.labels]
    return MatchGroups(np.array(left, np.int64), np.array(right, np.int64), len(numbers))


def group_key(matching: VectorMatching) -> Callable[[Labels], Hashable]:
    """A function from a label set to a key that identifies its match group."""
    if matching.on:
        names = frozenset(matching.labels)
        return lambda labels: tuple(pair for pair in labels.pairs if pair[0] in names)
    ignored = frozenset((*matching.labels, METRIC_NAME))
    return lambda labels: tuple(pair for pair in labels.pairs if pair[0] not in ignored)


def match_group_labels(labels: Labels, matching: VectorMatching) -> Labels:
    """The labels of the match group, for error texts."""
    if matching.on:
        return labels.only(matching.labels)
    return labels.without((*matching.labels, METRIC_NAME))
