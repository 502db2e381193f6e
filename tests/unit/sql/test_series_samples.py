"""Cutting and joining samples by series, against the same done one by one."""

import tracemalloc
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sql.database import copy_format
from sql.database.copy_format import DecodedSamples, SampleDecoder, SampleRows, encode_samples
from sql.samples.columns import series_samples
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples

Rows = list[tuple[int, int]]
ROWS = st.sets(st.tuples(st.integers(0, 6), st.integers(-20, 20)), max_size=60).map(sorted)


def samples_of(rows: Rows) -> SeriesSamples:
    ids = np.array([series_id for series_id, _ in rows], np.int64)
    times = np.array([time_ms for _, time_ms in rows], np.int64)
    return SeriesSamples.of(DecodedSamples(ids, times, (ids * 1000 + times).astype(np.float64)))


def rows_of(samples: SeriesSamples) -> Rows:
    assert (np.diff(samples.offsets) > 0).all()
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    assert samples.values.tolist() == (ids * 1000 + samples.timestamps).tolist()
    return list(zip(ids.tolist(), samples.timestamps.tolist(), strict=True))


@given(ROWS, st.integers(-22, 22), st.integers(-22, 22))
def test_between_keeps_what_lies_within(rows: Rows, start_ms: int, end_ms: int) -> None:
    expected = [row for row in rows if start_ms < row[1] <= end_ms]
    assert rows_of(samples_of(rows).between(start_ms, end_ms)) == expected


@given(ROWS, st.integers(-22, 22))
def test_then_joins_what_was_cut_at_a_time(rows: Rows, time_ms: int) -> None:
    earlier = samples_of([row for row in rows if row[1] <= time_ms])
    later = samples_of([row for row in rows if row[1] > time_ms])
    assert rows_of(earlier.then(later)) == rows


def test_all_of_it_shares_memory() -> None:
    samples = samples_of([(1, 1), (1, 2), (4, 1)])
    assert samples.between(0, 2) is samples
    assert samples.then(NO_SAMPLES) is samples
    assert NO_SAMPLES.then(samples) is samples


def decoder_of(rows: Rows, chunk_size: int = 100) -> SampleDecoder:
    ids = np.array([series_id for series_id, _ in rows], np.int64)
    times = np.array([time_ms for _, time_ms in rows], np.int64)
    values = (ids * 1000 + times).astype(np.float64)
    stream = encode_samples(SampleRows(ids, times, values.view(np.uint64)))
    decoder = SampleDecoder()
    for start in range(0, len(stream), chunk_size):
        decoder.feed(stream[start : start + chunk_size])
    return decoder


@given(ROWS, st.randoms(use_true_random=False), st.integers(-20, 20), st.sampled_from([1, 7, 100]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_read_in_any_order(
    monkeypatch: pytest.MonkeyPatch, rows: Rows, random: Random, time_ms: int, piece: int
) -> None:
    monkeypatch.setattr(copy_format, "_DECODED_BYTES", 38 * piece)
    monkeypatch.setattr(series_samples, "_ROWS_AT_ONCE", piece)
    shuffled = random.sample(rows, len(rows))
    # As partitions give them: series by series, in one partition after the other.
    in_partitions = sorted(rows, key=lambda row: (row[1] > time_ms, row))
    for ordered in (rows, shuffled, in_partitions):
        assert rows_of(SeriesSamples.read(decoder_of(ordered))) == rows


def test_reading_takes_little_more_than_the_rows() -> None:
    n_series, n_samples = 400, 1_000
    ids = np.tile(np.repeat(np.arange(n_series), n_samples // 2), 2)
    times = np.concatenate(
        [np.tile(np.arange(0, 500), n_series), np.tile(np.arange(500, 1000), n_series)]
    )
    stream = encode_samples(SampleRows(ids, times, np.zeros(len(ids), np.uint64)))
    tracemalloc.start()
    try:
        decoder = SampleDecoder()
        for start in range(0, len(stream), 1 << 16):
            decoder.feed(stream[start : start + (1 << 16)])
        samples = SeriesSamples.read(decoder)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples.offsets.tolist() == list(range(0, len(ids) + 1, n_samples))
    # The columns of the stream, one more of them, and the piece that is decoded.
    assert peak_bytes < 36 * len(ids) + 8_000_000
