"""Statistics of counted labels."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.label_counts import LabelCounts
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.metrics.cardinality import Largest, series_statistics

TEXTS = st.text("ab=ü", min_size=1, max_size=3)
LABEL_SETS = st.lists(st.dictionaries(TEXTS | st.just(METRIC_NAME), TEXTS).map(Labels.of))


def ordered(counts: Counter[str]) -> Largest:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@given(label_sets=LABEL_SETS, limit=st.integers(1, 8))
def test_statistics_are_those_of_the_label_sets(label_sets: list[Labels], limit: int) -> None:
    counts = Counter(label for labels in label_sets for label in labels)
    found = series_statistics(LabelCounts.of(len(label_sets), counts), limit)
    n_bytes: Counter[str] = Counter()
    for labels in label_sets:
        for name, value in labels:
            n_bytes[name] += len(value.encode())
    metrics = Counter(name for labels in label_sets if (name := labels.get(METRIC_NAME)))
    assert (found.n_series, found.n_labels) == (len(label_sets), len(counts))
    assert found.series_by_metric_name == ordered(metrics)[:limit]
    assert found.values_by_label_name == ordered(Counter(name for name, _ in counts))[:limit]
    assert found.bytes_by_label_name == ordered(n_bytes)[:limit]
    texts = [(f"{name}={value}", n) for (name, value), n in counts.items()]
    assert found.series_by_label == sorted(texts, key=lambda item: (-item[1], item[0]))[:limit]
