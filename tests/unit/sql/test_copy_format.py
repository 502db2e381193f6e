"""Columns to PostgreSQL's binary COPY format and back."""

import struct

import numpy as np
import pytest

from promcompat.core.model import STALE_NAN_BITS
from sql.database.copy_format import (
    DecodedSamples,
    SampleDecoder,
    SampleRows,
    encode_samples,
)
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

ROWS = SampleRows(
    np.array([1, 2, 2**62], np.int64),
    np.array([MIN_TIMESTAMP_MS, 0, MAX_TIMESTAMP_MS], np.int64),
    np.array([STALE_NAN_BITS, 1 << 63, 0xFFF8_0000_DEAD_BEEF], np.uint64),
)


def decode(stream: bytes, chunk_size: int) -> DecodedSamples:
    decoder = SampleDecoder()
    for start in range(0, len(stream), chunk_size):
        decoder.feed(stream[start : start + chunk_size])
    return decoder.finish()


def test_encode_samples_writes_the_documented_bytes() -> None:
    rows = SampleRows(
        np.array([7], np.int64), np.array([946_684_800_001], np.int64), np.array([1], np.uint64)
    )
    tuple_bytes = struct.pack(">hiqiqiQ", 3, 8, 7, 8, 1000, 8, 1)
    assert encode_samples(rows) == b"PGCOPY\n\xff\r\n\0" + bytes(8) + tuple_bytes + b"\xff\xff"


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_decoder_gives_back_exact_columns(chunk_size: int) -> None:
    samples = decode(encode_samples(ROWS), chunk_size)
    assert samples.series_ids.tolist() == ROWS.series_ids.tolist()
    assert samples.timestamps.tolist() == ROWS.timestamps.tolist()
    assert samples.values.view(np.uint64).tolist() == ROWS.bits.tolist()


def test_decoder_of_an_empty_stream_gives_empty_columns() -> None:
    samples = decode(encode_samples(ROWS.take(slice(0, 0))), 1000)
    assert len(samples.series_ids) == len(samples.timestamps) == len(samples.values) == 0


def test_sorted_orders_by_series_and_time_and_keeps_rows_together() -> None:
    ids = np.array([2, 1, 2, 1], np.int64)
    times = np.array([5, 9, 3, 8], np.int64)
    samples = DecodedSamples(ids, times, np.array([25.0, 19.0, 23.0, 18.0])).sorted()
    assert samples.series_ids.tolist() == [1, 1, 2, 2]
    assert samples.timestamps.tolist() == [8, 9, 3, 5]
    assert samples.values.tolist() == [18.0, 19.0, 23.0, 25.0]


def test_sorted_leaves_sorted_rows_alone() -> None:
    samples = DecodedSamples(np.array([1, 1, 2]), np.array([1, 2, 1]), np.zeros(3))
    assert samples.sorted() is samples


def test_concatenate_keeps_the_order_of_parts() -> None:
    joined = SampleRows.concatenate([ROWS, ROWS.take(slice(0, 1))])
    assert joined.series_ids.tolist() == [1, 2, 2**62, 1]
    assert len(joined) == 4
