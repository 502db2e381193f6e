"""Requests of native histograms: counters of integers in 20 buckets that grow with each scrape.

A request is encoded once. Counts have a fixed width in it (varints that are longer than they need
be), so that those of each scrape are written over the ones before, and it is compressed again.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import snappy

from promcompat.core.model import IntArray
from tests.benchmarks.payload import INTERVAL_MS
from tests.benchmarks.snappy_template import TIME_BYTES, encode_times
from tests.support.factories import encode_field, encode_labels
from tests.support.formats.remote_write import RequestV2

HISTOGRAM_NAME: Final = "bench_request_duration_seconds"
N_BUCKETS: Final = 20
_COUNT_BYTES, _DELTA_BYTES = 4, 3
_SPANS: Final = ((-5, 8), (2, 12))
_SENTINEL: Final = 0x4A5B_6C7D_0000_0000


def make_histogram_bodies(
    version: int, n_series: int, per_request: int, n_scrapes: int, start_ms: int
) -> Iterator[tuple[bytes, int]]:
    """The bodies of scrapes of remote write 1 or 2, each with its number of histograms."""
    rng = np.random.default_rng(1)
    firsts = range(0, n_series, per_request)
    templates = [_message(version, first, min(per_request, n_series - first)) for first in firsts]
    places = [_places(message) for message in templates]
    # Latencies: most observations are in the middle buckets, some buckets seldom have any.
    speeds = (
        40 * np.exp(-(((np.arange(N_BUCKETS) - 9) / 4) ** 2)) * rng.uniform(0.2, 2, (n_series, 1))
    )
    buckets, sums = rng.poisson(speeds * 20), np.zeros(n_series)
    offsets = rng.integers(0, 1_000, n_series)
    for scrape in range(n_scrapes):
        added = rng.poisson(speeds)
        buckets += added
        sums += (added * 2.0 ** (np.arange(N_BUCKETS) / 8)).sum(axis=1)
        times = start_ms + scrape * INTERVAL_MS + offsets
        histograms = _encode(buckets, sums, times)
        for first, template, starts in zip(firsts, templates, places, strict=True):
            message = np.frombuffer(template, np.uint8).copy()
            cells = starts[:, None] + np.arange(histograms.shape[1])
            message[cells] = histograms[first : first + len(starts)]
            yield snappy.compress(message.tobytes()), len(starts)


def _labels(number: int) -> list[tuple[str, str]]:
    return [
        ("__name__", HISTOGRAM_NAME),
        ("handler", f"/api/{number % 40}"),
        ("instance", f"10.0.{number // 400}.{number // 40 % 10}:9100"),
        ("job", f"job-{number // 40 % 10}"),
    ]


def _message(version: int, first: int, n_series: int) -> bytes:
    """A request whose histograms have the sentinel, and the number of the series, as sums."""
    zeros, times = np.zeros((n_series, N_BUCKETS), np.int64), np.full(n_series, 1 << 41)
    sums = (_SENTINEL + np.arange(n_series)).view(np.float64)
    encoded = [row.tobytes() for row in _encode(zeros, sums, times)]
    if version == 1:
        return b"".join(
            encode_field(1, encode_labels(_labels(first + row)) + encode_field(4, histogram))
            for row, histogram in enumerate(encoded)
        )
    request = RequestV2()
    for row, histogram in enumerate(encoded):
        request.add(_labels(first + row), messages=[histogram])
    return request.message()


def _places(message: bytes) -> IntArray:
    """Where the histograms of a message begin."""
    before_sum, found, place = 1 + _COUNT_BYTES + 1, [], 0
    while True:
        place = message.find((_SENTINEL + len(found)).to_bytes(8, "little"), place)
        if place < 0:
            return np.array(found, np.int64)
        found.append(place - before_sum)


def _encode(buckets: IntArray, sums: np.ndarray, times: IntArray) -> np.ndarray:
    """uint8[n, m]: the message of each histogram."""
    n = len(buckets)
    deltas = np.diff(buckets, axis=1, prepend=0)
    zigzag = (deltas << 1) ^ (deltas >> 63)
    spans = b"".join(
        encode_field(11, bytes([0x08, (offset << 1) ^ (offset >> 63), 0x10, length]))
        for offset, length in _SPANS
    )
    zero_threshold = np.array([2.0**-128]).tobytes()
    encoded_times = encode_times(times)
    assert encoded_times.shape[1] == TIME_BYTES
    parts = [
        b"\x08",
        _padded_varints(buckets.sum(axis=1)[:, None], _COUNT_BYTES),
        b"\x19",
        np.ascontiguousarray(sums).view(np.uint8).reshape(n, 8),
        b"\x20\x06\x29" + zero_threshold + b"\x30\x00" + spans,
        b"\x62" + bytes([N_BUCKETS * _DELTA_BYTES]),
        _padded_varints(zigzag, _DELTA_BYTES),
        b"\x78",
        encoded_times,
    ]
    columns = [
        np.tile(np.frombuffer(part, np.uint8), (n, 1)) if isinstance(part, bytes) else part
        for part in parts
    ]
    return np.concatenate(columns, axis=1)


def _padded_varints(numbers: IntArray, width: int) -> np.ndarray:
    """uint8[n, m * width]: each number as a varint of `width` bytes."""
    assert numbers.max(initial=0) < 1 << 7 * width
    digits = numbers[:, :, None] >> (7 * np.arange(width)) & 0x7F
    digits[:, :, :-1] |= 0x80
    return digits.astype(np.uint8).reshape(len(numbers), -1)
