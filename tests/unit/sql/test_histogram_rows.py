"""Histograms as rows of bytes, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.histograms.columns import Histograms
from sql.samples.codec.histogram_rows import decode_histogram_rows, encode_histogram_rows
from tests.support.histograms import columns_of, histogram_columns, histogram_of


@given(histograms=histogram_columns())
def test_decoding_gives_every_bit_back(histograms: Histograms) -> None:
    rows, lengths = encode_histogram_rows(histograms)
    assert columns_of(decode_histogram_rows(rows, lengths)) == columns_of(histograms)


def test_bytes_are_those_of_the_layout() -> None:
    """They are stored, so they stay readable."""
    integers = histogram_of(
        schema=-1,
        hint=2,
        zero_threshold=0.5,
        zero_count=1,
        count=200,
        sum_=1.0,
        positive_spans=[(-1, 2)],
        positive=[100, 99],
    )
    floats = histogram_of(
        schema=-53, is_float=True, count=2.0, positive_spans=[(0, 1)], positive=[2.0], bounds=[1.0]
    )
    rows, lengths = encode_histogram_rows(Histograms.joined([integers, floats]))
    assert rows[: lengths[0]].hex(" ") == (
        "01 02 01 bf c0 03 01 c8 01 bf e0 03 01 00 02 00 00 01 02 c8 01 01"
    )
    assert rows[lengths[0] :].hex(" ") == "01 04 69 00 00 40 00 01 00 01 00 01 00 01 40 bf e0 03"


def test_no_histograms_are_no_bytes() -> None:
    nothing = decode_histogram_rows(b"", np.empty(0, np.int64))
    assert len(nothing) == 0
    assert encode_histogram_rows(nothing)[0] == b""


@given(
    damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 3),
    histograms=histogram_columns(max_size=2),
)
def test_damaged_bytes_are_refused_or_read_as_histograms(
    damage: list[tuple[int, int]], cut: int, histograms: Histograms
) -> None:
    rows, lengths = encode_histogram_rows(histograms)
    changed = bytearray(rows)
    for place, byte in damage:
        changed[place % len(changed)] = byte
    lengths = lengths - np.array([cut] + [0] * (len(lengths) - 1))
    try:
        found = decode_histogram_rows(bytes(changed[cut:]), lengths)
    except StorageUnavailableError:
        return
    assert len(found) == len(histograms)


def test_a_row_that_ends_within_a_number_is_refused() -> None:
    rows, _ = encode_histogram_rows(histogram_of(count=300))
    with pytest.raises(StorageUnavailableError, match="a stored histogram is damaged"):
        decode_histogram_rows(rows[:6], np.array([6]))


@pytest.mark.parametrize("length", [0, 1, 3, 127])
def test_spans_that_place_other_buckets_than_there_are_are_refused(length: int) -> None:
    histogram = histogram_of(count=2, positive_spans=[(4, 2)], positive=[1, 1])
    rows, lengths = encode_histogram_rows(histogram)
    place = rows.rindex(bytes([8, 2]))
    damaged = rows[: place + 1] + bytes([length]) + rows[place + 2 :]
    assert len(decode_histogram_rows(rows, lengths)) == 1
    with pytest.raises(StorageUnavailableError, match="a stored histogram is damaged"):
        decode_histogram_rows(damaged, lengths)
