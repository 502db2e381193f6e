"""Native histograms for tests, written as their fields."""

from collections.abc import Sequence

import numpy as np

from promql.values.histogram_columns import Buckets, HistogramColumns

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


def _buckets(side: Side) -> Buckets:
    return Buckets(
        np.array([0, len(side)]),
        np.array([index for index, _ in side], np.int64),
        np.array([count for _, count in side], np.float64),
    )
