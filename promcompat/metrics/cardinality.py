"""Which labels make series many: counts of label values and of series, of a list of label sets."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from promcompat.core.model import Labels


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


def largest(counts: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The largest counts first, equal ones by name; at most `limit` of them."""
    return nsmallest(limit, counts.items(), key=lambda item: (-item[1], item[0]))
