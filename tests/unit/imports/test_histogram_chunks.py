"""Chunks of native histograms of Prometheus, read as columns."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.histograms.columns import Histograms, Ragged, is_histogram
from promcompat.core.model import is_stale
from promcompat.imports.tsdb.histogram_chunks import DamagedChunkError, decode_histogram_chunk
from tests.support.formats.prometheus_blocks import histogram_chunk
from tests.support.histograms import columns_of, histogram_columns, histogram_of


@st.composite
def chunks(draw: st.DrawFn) -> tuple[list[int], Histograms]:
    """Times, and as many histograms of one layout."""
    first = draw(histogram_columns(max_size=1))
    n = draw(st.integers(1, 6))
    times = sorted(draw(st.sets(st.integers(-(2**40), 2**45), min_size=n, max_size=n)))
    repeated = Histograms.joined([first] * n)
    words = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300)

    def drawn(like: np.ndarray) -> np.ndarray:
        size = len(like)
        return np.array(draw(st.lists(words, min_size=size, max_size=size)), np.int64)

    hints = np.full(n, 2, np.uint8)
    hints[0] = 0
    return times, replace(
        repeated,
        hints=hints,
        counts=drawn(repeated.counts),
        zero_counts=drawn(repeated.zero_counts),
        sums=drawn(repeated.counts).view(np.float64),
        positive=Ragged(repeated.positive.offsets, drawn(repeated.positive.cells)),
        negative=Ragged(repeated.negative.offsets, drawn(repeated.negative.cells)),
    )


@given(chunk=chunks())
def test_every_bit_of_a_chunk_is_read(chunk: tuple[list[int], Histograms]) -> None:
    times, histograms = chunk
    is_float = bool(histograms.is_float[0])
    found_times, cells = decode_histogram_chunk(
        histogram_chunk(times, histograms), is_float=is_float
    )
    assert found_times.tolist() == times
    assert is_histogram(cells.values).all()
    assert cells.histograms is not None
    assert columns_of(cells.histograms) == columns_of(histograms)


@pytest.mark.parametrize("is_float", [False, True])
def test_a_stale_marker_is_a_float(is_float: bool) -> None:
    one = histogram_of(
        is_float=is_float, count=7, sum_=2.5, positive_spans=[(1, 2)], positive=[3, 4]
    )
    histograms = Histograms.joined([one] * 3)
    content = histogram_chunk([10, 20, 30], histograms, stale=[2])
    times, cells = decode_histogram_chunk(content, is_float=is_float)
    assert times.tolist() == [10, 20, 30]
    assert is_stale(cells.values).tolist() == [False, False, True]
    assert cells.histograms is not None
    assert len(cells.histograms) == 2


def test_every_sample_of_a_gauge_is_one() -> None:
    histograms = Histograms.joined([histogram_of(count=1), histogram_of(count=2)])
    _, cells = decode_histogram_chunk(histogram_chunk([1, 2], histograms, flags=3), is_float=False)
    assert cells.histograms is not None
    assert cells.histograms.hints.tolist() == [3, 3]


@given(chunk=chunks(), cut=st.integers(1, 40), is_float=st.booleans())
def test_what_is_cut_is_damaged(
    chunk: tuple[list[int], Histograms], cut: int, is_float: bool
) -> None:
    """Whatever follows from the bytes, nothing outside of them is read."""
    content = histogram_chunk(*chunk)
    try:
        times, cells = decode_histogram_chunk(
            content[: max(4, len(content) - cut)], is_float=is_float
        )
    except DamagedChunkError:
        return
    assert len(times) == len(cells.values)
