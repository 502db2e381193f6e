"""Answers of queries, by which two engines are compared to the bit."""

from collections import defaultdict

import numpy as np

from promcompat.core.model import Labels
from promql.histograms.listed_buckets import histogram_texts
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import histogram_samples


def answer_bits(value: object) -> dict[Labels, tuple[bytes, bytes, list[str]]]:
    """Floats by their bits, which samples there are, and the texts of histograms."""
    assert isinstance(value, Matrix)
    texts: defaultdict[int, list[str]] = defaultdict(list)
    if (samples := histogram_samples(value)) is not None:
        shown = histogram_texts(samples.columns)
        for row, number in zip(samples.rows.tolist(), samples.numbers.tolist(), strict=True):
            texts[row].append(shown[number])
    return {
        labels: (np.where(np.isnan(row), np.nan, row)[present].tobytes(), present.tobytes(),
                 texts[number])
        for number, (labels, row, present) in enumerate(
            zip(value.labels, value.values, value.present, strict=True)
        )
    }  # fmt: skip
