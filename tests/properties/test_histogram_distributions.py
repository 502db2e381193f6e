"""Quantiles, fractions and trims of a histogram describe one and the same distribution."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promql.histograms.arithmetic import add, trimmed
from promql.histograms.bucket_kernels import view_of
from promql.histograms.listed_buckets import listed_buckets
from promql.histograms.statistics_kernels import fractions, quantiles
from promql.values.histogram_columns import HistogramColumns
from tests.support.histograms import histogram

counts = st.integers(1, 1000).map(float)
indices = st.integers(-20, 20)
sides = st.dictionaries(indices, counts, max_size=6).map(lambda side: sorted(side.items()))


@st.composite
def exponential(draw: st.DrawFn) -> HistogramColumns:
    """A histogram with at least one observation and no zero bucket."""
    positive, negative = draw(sides.filter(bool)), draw(sides)
    count = sum(n for _, n in (*positive, *negative))
    return histogram(
        draw(st.integers(-2, 5)), count=count, total=1.0, positive=positive, negative=negative
    )


@st.composite
def custom(draw: st.DrawFn) -> HistogramColumns:
    """A histogram with custom buckets that have finite bounds."""
    bounds = sorted(draw(st.sets(st.integers(1, 100), min_size=2, max_size=6)))
    side = [(index, draw(counts)) for index in range(1, len(bounds))]
    return histogram(
        bounds=[float(bound) for bound in bounds],
        count=sum(n for _, n in side),
        total=1.0,
        positive=side,
    )


histograms = st.one_of(exponential(), custom())
limits = st.floats(-1e6, 1e6, allow_subnormal=False)


def quantile(columns: HistogramColumns, q: float) -> float:
    result, notes = np.empty(1), np.empty(1, np.uint8)
    totals = columns.counts, columns.sums
    quantiles(view_of(columns), *totals, np.zeros(1, np.int64), np.array([q]), result, notes)
    return float(result[0])


def share_up_to(columns: HistogramColumns, limit: float) -> float:
    result, has_nan = np.empty(1), np.empty(1, bool)
    row, low, high = np.zeros(1, np.int64), np.array([-math.inf]), np.array([limit])
    fractions(view_of(columns), columns.counts, columns.sums, row, low, high, result, has_nan)
    return float(result[0])


@given(columns=histograms, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_quantiles_rise_within_the_bounds(
    columns: HistogramColumns, shares: tuple[float, float]
) -> None:
    low, high = (quantile(columns, q) for q in sorted(shares))
    buckets = listed_buckets(columns)
    assert low <= high or math.isclose(low, high)
    slack = 1e-9 * max(1.0, abs(float(buckets.lowers[0])), abs(float(buckets.uppers[-1])))
    assert buckets.lowers[0] - slack <= low
    assert high <= buckets.uppers[-1] + slack


@given(columns=histograms, limit=limits)
def test_both_parts_of_a_trim_are_the_whole(columns: HistogramColumns, limit: float) -> None:
    at = np.array([limit])
    below, above = (trimmed(columns, at, keeps_below=keeps) for keeps in (True, False))
    assert math.isclose(below.counts[0] + above.counts[0], columns.counts[0])
    share = below.counts[0] / columns.counts[0]
    assert math.isclose(share, share_up_to(columns, limit), rel_tol=1e-9, abs_tol=1e-9)
    joined = add(below, above).histograms
    assert joined.positive.indices.tolist() == columns.positive.indices.tolist()
    np.testing.assert_allclose(joined.positive.counts, columns.positive.counts)
    np.testing.assert_allclose(joined.negative.counts, columns.negative.counts)
