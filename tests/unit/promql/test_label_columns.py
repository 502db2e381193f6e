"""One label of many series, wherever it stands in each."""

import pytest

from promql.values.label_columns import label_pairs
from tests.support.factories import make_labels

ALIKE = [make_labels("up", job=job, n="1") for job in "abca"]


@pytest.mark.parametrize(
    "labels",
    [
        [],
        ALIKE,
        [*ALIKE, make_labels("up", n="1")],
        [*ALIKE, make_labels("up", instance="x", job="a", n="1")],
        [make_labels("up", n="1"), *ALIKE],
        [make_labels("up", instance="x", job="a", n="1"), *ALIKE, make_labels()],
        [make_labels(job="a"), make_labels(instance="b")],
    ],
)
def test_label_pairs_are_those_of_each_series(labels: list) -> None:
    for name in ("job", "__name__", "n", "absent"):
        expected = [(name, row.get(name)) if row.get(name) else None for row in labels]
        assert label_pairs(labels, name) == expected
