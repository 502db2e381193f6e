"""The groups of an aggregation, computed once for all steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import (
    EMPTY_LABELS,
    METRIC_NAME,
    IntArray,
    Labels,
    LabelSets,
    PartialLabelSets,
)
from promql.values.label_columns import label_pairs

_SERIES_OF_GROUP = 8
LabelPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Labels of each group, by first occurrence, and the group of each row, int64 [n_series]."""

    labels: list[Labels]
    group_of: IntArray

    def members(self) -> tuple[IntArray, IntArray]:
        """Rows in the order of their groups, and where those of each group start: CSR, int64."""
        counts = np.bincount(self.group_of, minlength=len(self.labels))
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return np.argsort(self.group_of, kind="stable"), starts


def _kept_pairs(names: Sequence[str], without: bool) -> Callable[[Labels], LabelPairs]:
    """A function from a label set to the pairs that `by (names)` or `without (names)` keeps."""
    if without:
        dropped = frozenset((*names, METRIC_NAME))
        return lambda labels: tuple(pair for pair in labels.pairs if pair[0] not in dropped)
    kept = frozenset(names)
    if not kept:
        return lambda labels: ()
    return lambda labels: tuple(pair for pair in labels.pairs if pair[0] in kept)


def group_series(labels: Sequence[Labels], names: Sequence[str], without: bool) -> Grouping:
    """Group label sets by what `by (names)` or `without (names)` keeps of them."""
    if not names and not without:
        only = [EMPTY_LABELS] if labels else []
        return Grouping(only, np.zeros(len(labels), np.int64))
    if not without:
        by = tuple(sorted(set(names)))
        if isinstance(labels, LabelSets):
            return labels.kept(("by", *by), lambda: _group_by(labels, by), _has_few_groups)
        return _group_by(labels, by)
    key_of = _kept_pairs(names, without)
    groups: dict[LabelPairs, int] = {}
    group_of = [groups.setdefault(key_of(row), len(groups)) for row in labels]
    return Grouping([Labels(pairs) for pairs in groups], np.array(group_of, np.int64))


def _has_few_groups(grouping: Grouping) -> bool:
    """Whether the label sets of groups take little memory beside those of the series."""
    return _SERIES_OF_GROUP * len(grouping.labels) <= len(grouping.group_of)


def _group_by(labels: Sequence[Labels], names: Sequence[str]) -> Grouping:
    """Group by the pairs of some labels."""
    if not isinstance(labels, PartialLabelSets):
        return _group_all_by(labels, names)
    # Most have only the labels of their group, which then need not be looked at again.
    if set(names).issuperset(name for one in labels.distinct for name, _ in one.pairs):
        return Grouping(list(labels.distinct), labels.place_of)
    found = _group_all_by(labels.distinct, names)
    return Grouping(found.labels, found.group_of[labels.place_of])


def _group_all_by(labels: Sequence[Labels], names: Sequence[str]) -> Grouping:
    """Group by the pairs of some labels, one column of pairs at a time."""
    keys = list(zip(*(label_pairs(labels, name) for name in names), strict=True))
    groups = {key: group for group, key in enumerate(dict.fromkeys(keys))}
    group_of = np.fromiter(map(groups.__getitem__, keys), np.int64, len(keys))
    return Grouping([Labels(pair for pair in key if pair is not None) for key in groups], group_of)
