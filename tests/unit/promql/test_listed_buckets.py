"""The bounds of buckets, and the texts of histograms."""

import math
import sys

import numpy as np
import pytest

from promcompat.core.bucket_bounds_kernels import EXPONENTIAL_FRACTIONS, exponential_bound
from promql.histograms.listed_buckets import histogram_texts, listed_buckets
from promql.values.histogram_columns import HistogramColumns
from tests.support.histograms import histogram


def test_fractions_rise_and_are_near_powers_of_two() -> None:
    exact = 0.5 * 2.0 ** (np.arange(256) / 256)
    assert np.abs(EXPONENTIAL_FRACTIONS.view(np.int64) - exact.view(np.int64)).max() <= 5
    assert (np.diff(EXPONENTIAL_FRACTIONS) > 0).all()


@pytest.mark.parametrize(
    ("schema", "index", "bound"),
    [
        (0, 0, 1.0),
        (0, -1, 0.5),
        (1, 1, 1.414213562373095),
        (2, 3, 1.6817928305074288),
        (8, 6, 1.0163783149109528),
        (-4, 1, 65536.0),
        (-4, -1, 2.0**-16),
        (0, 1024, sys.float_info.max),
        (3, 8 * 1024, sys.float_info.max),
        (-4, 64, sys.float_info.max),
        (0, 1025, math.inf),
        (-4, 65, math.inf),
        (8, 256 * 1024 + 1, math.inf),
        (0, -(1 << 40), 0.0),
    ],
)
def test_bounds_are_those_of_prometheus(schema: int, index: int, bound: float) -> None:
    assert exponential_bound(schema, index) == bound


def test_texts_have_the_populated_buckets_from_the_lowest_on() -> None:
    columns = HistogramColumns.joined(
        [
            histogram(count=3, total=4, negative=[(1, 1)], positive=[(0, 2), (1, 0)]),
            histogram(bounds=[1, 2.5], count=9, total=3, positive=[(0, 1), (2, 6)]),
            histogram(
                zero=(0.3, -5), count=12, total=math.nan, positive=[(-1, 2)], negative=[(-1, 1)]
            ),
            histogram(),
        ]
    )
    assert histogram_texts(columns) == [
        "{count:3, sum:4, [-2,-1):1, (0.5,1]:2}",
        "{count:9, sum:3, [-Inf,1]:1, (2.5,+Inf]:6}",
        "{count:12, sum:NaN, [-0.5,-0.25):1, [-0.3,0.3]:-5, (0.25,0.5]:2}",
        "{count:0, sum:0}",
    ]


def test_listed_buckets_do_not_reach_into_the_zero_bucket() -> None:
    columns = histogram(zero=(0.3, 5), positive=[(-1, 2), (3, 0)], negative=[(-1, 1)])
    listed = listed_buckets(columns)
    assert listed.offsets.tolist() == [0, 3]
    assert listed.lowers.tolist() == [-0.5, -0.3, 0.3]
    assert listed.uppers.tolist() == [-0.3, 0.3, 0.5]
    assert listed.counts.tolist() == [1, 5, 2]
    assert listed.closed.tolist() == [1, 3, 0]


def test_listed_buckets_leave_out_a_zero_bucket_with_a_negative_count() -> None:
    listed = listed_buckets(histogram(zero=(0.5, -1), positive=[(3, -2)]))
    assert listed.counts.tolist() == [-2]
