"""Pages of the sample codec: any samples come back to the bit, and no bytes do harm."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.histograms.columns import histogram_cells
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import DICTIONARY
from sql.samples.codec.histogram_kernels import BUCKETS
from sql.samples.codec.page_decoding import CorruptPageError, decode_joined, decode_pages
from sql.samples.codec.page_encoding import Page, encode_pages
from sql.samples.codec.page_kernels import (
    DICTIONARY_VERSION,
    MAX_MS,
    MAX_SAMPLES,
    MIN_MS,
    SECTION_SIZE_BYTES,
)
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from tests.support.formats.remote_write import WireHistogram, columns_of
from tests.support.numbered_histograms import assert_same_histograms
from tests.support.storage.sample_columns import samples_of, samples_with_histograms, series_samples

LARGE = 1 << 30
T0 = 1_700_000_000_000


def one_page(samples: SeriesSamples) -> Page:
    [page] = encode_pages(samples, MAX_SAMPLES, LARGE)
    return page


def payloads(pages: Sequence[Page]) -> list[bytes]:
    return [page.payload for page in pages]


def assert_same(found: SeriesSamples, expected: SeriesSamples) -> None:
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_array_equal(found.timestamps, expected.timestamps)
    cells = found.values, found.histograms
    assert_same_histograms(cells, (expected.values, expected.histograms))


ANY_SAMPLES = series_samples() | samples_with_histograms()


@given(ANY_SAMPLES)
def test_samples_come_back_to_the_bit(samples: SeriesSamples) -> None:
    [found] = decode_pages([one_page(samples).payload])
    assert_same(found, samples)


@given(
    ANY_SAMPLES,
    st.integers(1, 40),
    st.integers(1, 400),
    st.booleans(),
)
def test_pages_are_cut_within_their_bounds(
    samples: SeriesSamples, max_samples: int, max_bytes: int, per_series: bool
) -> None:
    pages = encode_pages(samples, max_samples, max_bytes, per_series)
    assert_same(decode_joined(payloads(pages)), samples)
    for page, found in zip(pages, decode_pages(payloads(pages)), strict=True):
        assert page.n_samples == len(found) <= max_samples
        assert len(page.payload) <= max_bytes or page.n_samples == 1
        assert (page.first_series, page.last_series) == (found.ids[0], found.ids[-1])
        assert (page.first_ms, page.last_ms) == (found.timestamps.min(), found.timestamps.max())
        assert not per_series or len(found.ids) == 1


@given(ANY_SAMPLES, st.data())
def test_only_wanted_series_and_times_are_decoded(
    samples: SeriesSamples, data: st.DataObject
) -> None:
    wanted = _drawn_ids(samples.ids, data)
    times = [MIN_MS - 1, *samples.timestamps.tolist(), MAX_MS]
    start_ms, end_ms = data.draw(st.sampled_from(times)), data.draw(st.sampled_from(times))
    pages = payloads(encode_pages(samples, 50, LARGE))
    expected = replace(
        samples_of(
            [
                (series, [(t, v) for t, v in rows if start_ms < t <= end_ms])
                for series, rows in _rows(samples)
                if series in wanted
            ]
        ),
        histograms=samples.histograms,
    )
    assert_same(decode_joined(pages, wanted, start_ms, end_ms), expected)


def _drawn_ids(ids: IntArray, data: st.DataObject) -> IntArray:
    """Some of the ids and some others, ascending."""
    drawn = data.draw(st.sets(st.sampled_from([*ids.tolist(), -5, 5, 77])))
    return np.array(sorted(drawn), np.int64)


def _rows(samples: SeriesSamples) -> list[tuple[int, list[tuple[int, float]]]]:
    bits = samples.values.view(np.int64)
    return [
        (int(series), list(zip(samples.timestamps[a:b].tolist(), bits[a:b].tolist(), strict=True)))
        for series, a, b in zip(samples.ids, samples.offsets[:-1], samples.offsets[1:], strict=True)
    ]


def test_nothing_is_no_page() -> None:
    assert encode_pages(NO_SAMPLES, 10, 10) == []
    assert decode_pages([]) == []
    assert_same(decode_joined([]), NO_SAMPLES)


@pytest.mark.parametrize("time_ms", [MIN_MS - 1, MAX_MS + 1, 2**62])
def test_times_outside_of_the_calendar_are_refused(time_ms: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        encode_pages(samples_of([(1, [(time_ms, 0)])]), 10, LARGE)


def test_a_constant_series_takes_a_few_bytes_whatever_its_length() -> None:
    rows = [(T0 + 15_000 * i, _bits(1.5)) for i in range(8192)]
    assert len(one_page(samples_of([(2**60, rows)])).payload) < 50


def test_a_stale_marker_makes_a_page_little_larger() -> None:
    rows = [(T0 + 15_000 * i, _bits(float(i))) for i in range(1000)]
    plain = len(one_page(samples_of([(1, rows)])).payload)
    rows[500] = (rows[500][0], 0x7FF0000000000002)
    assert len(one_page(samples_of([(1, rows)])).payload) <= plain + 30


@pytest.mark.parametrize("n_patterns", [2, 256, 257])
def test_a_few_distinct_values_take_a_byte_each_at_most(n_patterns: int) -> None:
    rng = np.random.default_rng(6)
    patterns = [_bits(value) for value in rng.random(n_patterns - 1) * 1e-30]
    patterns.append(_bits(float("nan")))
    places = np.append(np.arange(n_patterns), rng.integers(0, n_patterns, 8192 - n_patterns))
    rows = [(T0 + 1000 * i, patterns[place]) for i, place in enumerate(places.tolist())]
    samples = samples_of([(1, rows)])
    page = one_page(samples)
    has_dictionary = page.payload[0] == DICTIONARY_VERSION
    assert has_dictionary == (n_patterns <= 256)
    assert not has_dictionary or len(page.payload) < 8192 + 8 * n_patterns + 200
    assert_same(decode_pages([page.payload])[0], samples)


@pytest.mark.parametrize("is_counted_wrong", [True, False])
def test_a_dictionary_without_the_pattern_of_a_value_is_refused(is_counted_wrong: bool) -> None:
    """The second byte counts the three patterns, and the last one has places of two bits."""
    patterns = [_bits(float("nan")), _bits(0.1), _bits(1e300)]
    rows = [(T0 + 1000 * i, patterns[i * i % 7 % 3]) for i in range(96)]
    page = bytearray(one_page(samples_of([(1, rows)])).payload)
    count_at = page.index(bytes([DICTIONARY, len(patterns) - 1])) + 1
    page[count_at if is_counted_wrong else -1] = 255
    with pytest.raises(CorruptPageError, match=r"too early|contradict"):
        decode_pages([resealed(bytes(page))])


def test_series_scraped_together_share_their_times() -> None:
    rng = np.random.default_rng(5)
    times = T0 + 15_000 * np.arange(40) + rng.integers(-5000, 5000, 40)
    rows = [(int(t), _bits(float(rng.integers(100)))) for t in times]
    sizes = [
        len(one_page(samples_of([(k, rows) for k in range(1, n + 1)])).payload) for n in (1, 101)
    ]
    assert (sizes[1] - sizes[0]) / 100 < 50


def test_pages_are_joined_in_the_order_of_series_and_time() -> None:
    """Blocks of several series follow each other by time, and each has all of its series."""
    rows = {series: [(T0 + n, series + n) for n in range(6)] for series in (1, 2, 3)}
    pages = [
        one_page(samples_of([(series, rows[series][begin : begin + 2]) for series in chosen]))
        for begin, chosen in ((4, (1, 3)), (0, (1, 2, 3)), (2, (2, 3)))
    ]
    joined = decode_joined(payloads(pages), None, T0, T0 + 4)
    expected = [(1, [rows[1][1], rows[1][4]]), (2, rows[2][1:4]), (3, rows[3][1:5])]
    assert_same(joined, samples_of(expected))


def test_pages_whose_times_alternate_are_not_joined() -> None:
    pages = [one_page(samples_of([(1, [(T0 + n, 0), (T0 + n + 2, 0)])])) for n in (0, 1)]
    with pytest.raises(ValueError, match="within the same times"):
        decode_joined(payloads(pages))


def _bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def resealed(page: bytes) -> bytes:
    """The bytes with the checksum that belongs to them."""
    checksum = zlib.crc32(page[:1] + page[5:])
    return page[:1] + checksum.to_bytes(4, "little") + page[5:]


def test_the_checksum_is_crc_32() -> None:
    page = one_page(samples_of([(1, [(T0, 0)])])).payload
    assert resealed(page) == page


@given(ANY_SAMPLES, st.data())
def test_any_flipped_bit_is_noticed(samples: SeriesSamples, data: st.DataObject) -> None:
    page = bytearray(one_page(samples).payload)
    bit = data.draw(st.integers(0, 8 * len(page) - 1))
    page[bit >> 3] ^= 1 << (bit & 7)
    with pytest.raises(CorruptPageError):
        decode_pages([bytes(page)])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(page: bytes) -> None:
    with pytest.raises(CorruptPageError) as caught:
        decode_pages([one_page(samples_of([(1, [(T0, 0)])])).payload, page])
    assert caught.value.index == 1


@settings(max_examples=300)
@given(ANY_SAMPLES, st.data())
def test_damage_under_a_right_checksum_is_refused_or_read_as_samples(
    samples: SeriesSamples, data: st.DataObject
) -> None:
    page = bytearray(one_page(samples).payload)
    for _ in range(data.draw(st.integers(1, 4))):
        page[data.draw(st.integers(0, len(page) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(page[: data.draw(st.integers(len(page) // 2, len(page)))])
    try:
        [found] = decode_pages([resealed(damaged)])
    except CorruptPageError:
        return
    assert len(found) <= MAX_SAMPLES
    assert (found.ids[1:] > found.ids[:-1]).all()
    for a, b in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert (np.diff(found.timestamps[a:b]) > 0).all()


def test_a_section_with_too_few_buckets_for_its_groups_is_refused() -> None:
    """Three histograms of 20 buckets each, of a section that says that it has 20 in all."""
    one = WireHistogram(schema=3, positive_spans=[(0, 20)], positive=[1] * 20, count=20)
    samples = replace(
        samples_of([(1, [(T0 + place, 0) for place in range(3)])]),
        values=histogram_cells(np.arange(3)),
        histograms=columns_of([one] * 3),
    )
    page = bytearray(one_page(samples).payload)
    section = len(page) - SECTION_SIZE_BYTES - int.from_bytes(page[-SECTION_SIZE_BYTES:], "little")
    assert page[section + BUCKETS] == 60
    page[section + BUCKETS] = 20
    with pytest.raises(CorruptPageError):
        decode_pages([resealed(bytes(page))])


def test_a_page_of_histograms_that_begin_within_its_head_is_refused() -> None:
    page = bytes.fromhex("03d7862d0700010101000e05000000")
    assert resealed(page) == page
    with pytest.raises(CorruptPageError):
        decode_pages([page])
