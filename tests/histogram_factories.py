"""Native histograms for tests, written as their fields."""

from collections.abc import Sequence

import numpy as np

from promql.values.histogram_columns import Buckets, HistogramColumns
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import with_histograms
from tests.factories import make_labels

Side = Sequence[tuple[int, float]]
"""The index and the count of each bucket."""


def histogram(
    schema: int = 0,
    *,
    count: float = 0,
    total: float = 0,
    positive: Side = (),
    negative: Side = (),
    zero: tuple[float, float] = (0, 0),
    bounds: Sequence[float] | None = None,
    hint: int = 0,
) -> HistogramColumns:
    """One histogram; `zero` is the threshold and the count of the zero bucket."""
    return HistogramColumns(
        np.array([schema if bounds is None else -53]),
        np.array([hint]),
        np.array([float(zero[0])]),
        np.array([float(zero[1])]),
        np.array([float(count)]),
        np.array([float(total)]),
        _buckets(positive),
        _buckets(negative),
        np.array([-1 if bounds is None else 0]),
        () if bounds is None else (tuple(bounds),),
    )


def histogram_vector(*cells: HistogramColumns, **labels: str) -> Matrix:
    """Series `h` with one histogram each at one step; a label `n` tells them apart."""
    names = [make_labels("h", n=str(n), **labels) for n in range(len(cells))]
    shape = len(cells), 1
    floats = Matrix.of(names, np.zeros(shape), np.zeros(shape, bool))
    rows = np.arange(len(cells))
    return with_histograms(floats, rows, np.zeros_like(rows), HistogramColumns.joined(cells))


def _buckets(side: Side) -> Buckets:
    return Buckets(
        np.array([0, len(side)]),
        np.array([index for index, _ in side], np.int64),
        np.array([count for _, count in side], np.float64),
    )
