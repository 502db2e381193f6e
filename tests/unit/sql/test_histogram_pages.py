"""A page with histograms that this release wrote stays readable."""

from dataclasses import replace

import numpy as np

from promcompat.core.histograms.columns import histogram_cells, is_histogram, usual_nans
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.codec.page_kernels import HISTOGRAM_VERSION
from sql.samples.columns.series_samples import SeriesSamples
from tests.support.formats.remote_write import WireHistogram, columns_of, same_histograms

T0 = 1_700_000_000_000
PAGE = bytes.fromhex(
    "032613901c0004020115010504150103fe60200068e5cf8b01983a022420000040000000000048fd7f00000000"
    "0048fd7f000000000000f83f000000000048fd7f030203020400090002150103c8050101200000800108000000"
    "00000000f037050102011501013100000104100001010105001000fe028c1000010271150102ff050101050101"
    "1000020104022010fa00190520690500000002250302110202011200008003080002030000000000000c400000"
    "00000000e03f000000000000084081000000"
)
"""Series 5 has a histogram, one with another layout 15 seconds later, and a float; series 9 has a
histogram with custom buckets, whose counts are floats."""
EXPONENTIAL = WireHistogram(
    schema=3,
    count=7,
    sum=2.5,
    zero_threshold=2.0**-128,
    zero_count=1,
    positive_spans=[(-2, 2), (1, 1)],
    positive=[1, 2, 3],
    hint=2,
)
HISTOGRAMS = [
    EXPONENTIAL,
    EXPONENTIAL.but(count=12, sum=4.75, positive_spans=[(-2, 4)], positive=[1, 3, 2, 5]),
    WireHistogram(
        schema=-53,
        count=3.5,
        sum=9.0,
        positive_spans=[(0, 2)],
        positive=[0.5, 3],
        custom_values=[0.1, 5],
        hint=3,
        is_float=True,
    ),
]


def test_a_page_of_version_3_means_the_same_in_every_release() -> None:
    assert PAGE[0] == HISTOGRAM_VERSION
    [found] = decode_pages([PAGE])
    assert found.ids.tolist() == [5, 9]
    assert found.offsets.tolist() == [0, 3, 4]
    assert (found.timestamps - T0).tolist() == [0, 15_000, 30_000, 0]
    assert is_histogram(found.values).tolist() == [True, True, False, True]
    assert found.values[2] == 1.5
    assert found.histograms is not None
    assert same_histograms(found.histograms, columns_of(HISTOGRAMS))
    assert [page.payload for page in encode_pages(found, 100, 1 << 20)] == [PAGE]


def test_a_cell_of_samples_without_histograms_is_stored_as_nan() -> None:
    [found] = decode_pages([PAGE])
    stray = replace(found, histograms=None)
    [read] = decode_pages([page.payload for page in encode_pages(stray, 100, 1 << 20)])
    assert read.histograms is None
    bits = read.values.view("int64").tolist()
    nan = usual_nans(1).view("int64").tolist()
    assert bits == [*nan, *nan, *found.values[2:3].view("int64").tolist(), *nan]


def test_pages_of_histograms_are_nearly_as_large_as_they_may_be() -> None:
    """How many fit is judged before: a page that is too large would be encoded again, in halves."""
    n, rng = 4_000, np.random.default_rng(1)
    wide = EXPONENTIAL.but(zero_count=0, positive_spans=[(0, 20)])
    histograms = columns_of(
        [
            wide.but(count=int(buckets.sum()), positive=buckets.tolist())
            for buckets in rng.integers(0, 1 << 13, (n, 20))
        ]
    )
    numbers = np.arange(n)
    samples = SeriesSamples(
        numbers, np.arange(n + 1), T0 + numbers, histogram_cells(numbers), histograms=histograms
    )
    sizes = [len(page.payload) for page in encode_pages(samples, 8_192, 1 << 16)]
    assert len(sizes) > 1
    assert min(sizes[:-1]) > 0.75 * (1 << 16)
