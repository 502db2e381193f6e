"""Which labels make series many: counts of label values and of series."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np

from promcompat.core.label_counts import LabelCounts
from promcompat.core.model import METRIC_NAME, IntArray, Labels

Largest = list[tuple[str, int]]
"""Some names and their numbers: the largest first, equal ones by name."""


@dataclass(frozen=True, slots=True)
class LabelCardinality:
    """The values of one label, and how many series have each."""

    name: str
    series_by_value: Mapping[str, int]

    @property
    def n_series(self) -> int:
        """How many series have the label."""
        return sum(self.series_by_value.values())


def count_values(series: Iterable[Labels]) -> Counter[str]:
    """The number of distinct values of each label name."""
    counts: Counter[str] = Counter()
    for name, _ in {pair for labels in series for pair in labels}:
        counts[name] += 1
    return counts


def count_series(series: Sequence[Labels], names: Iterable[str]) -> list[LabelCardinality]:
    """The values of each of these labels, those of most series first."""
    found = [
        LabelCardinality(name, Counter(value for labels in series if (value := labels.get(name))))
        for name in dict.fromkeys(names)
    ]
    return sorted(found, key=lambda label: (-label.n_series, label.name))


def largest(counts: Mapping[str, int], limit: int) -> Largest:
    """The largest counts, at most `limit` of them."""
    return _largest_of(counts.items(), limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesStatistics:
    """How many series and labels (names with a value) there are, and the largest numbers.

    Bytes are those of the values of a name, in all series.
    """

    n_series: int
    n_labels: int
    series_by_metric_name: Largest
    values_by_label_name: Largest
    bytes_by_label_name: Largest
    series_by_label: Largest


def series_statistics(counts: LabelCounts, limit: int) -> SeriesStatistics:
    """The statistics of counted series, at most `limit` of each."""
    names, name_of, values = counts.names, counts.name_of, counts.values
    n_values = np.bincount(name_of, minlength=len(names))
    n_bytes = np.zeros(len(names), np.int64)
    np.add.at(n_bytes, name_of, counts.value_bytes * counts.series_with)
    is_metric = np.array([name == METRIC_NAME for name in names], np.bool_)[name_of]
    metrics = _candidates(counts.series_with, np.flatnonzero(is_metric), limit)
    labels = _candidates(counts.series_with, np.arange(len(name_of)), limit)
    by_metric = [(values[row], n) for row, n in metrics]
    by_label = [(f"{names[name_of[row]]}={values[row]}", n) for row, n in labels]
    return SeriesStatistics(
        n_series=counts.n_series,
        n_labels=len(name_of),
        series_by_metric_name=_largest_of(by_metric, limit),
        values_by_label_name=largest(dict(zip(names, n_values.tolist(), strict=True)), limit),
        bytes_by_label_name=largest(dict(zip(names, n_bytes.tolist(), strict=True)), limit),
        series_by_label=_largest_of(by_label, limit),
    )


def _candidates(numbers: IntArray, rows: IntArray, limit: int) -> list[tuple[int, int]]:
    """Those of the rows that may be among the `limit` largest, with their numbers.

    Of many labels few are: most have one series each.
    """
    found = numbers[rows]
    if len(rows) > limit:
        is_large = found >= np.partition(found, -limit)[-limit]
        rows, found = rows[is_large], found[is_large]
    return list(zip(rows.tolist(), found.tolist(), strict=True))


def _largest_of(items: Iterable[tuple[str, int]], limit: int) -> Largest:
    return nsmallest(limit, items, key=lambda item: (-item[1], item[0]))
