"""Requests with several samples of each series, as senders of history and of batches make them."""

from collections.abc import Iterator

import numpy as np
import snappy

from tests.benchmarks.payload import INTERVAL_MS, fleet_labels
from tests.benchmarks.snappy_template import SAMPLE_BYTES, encode_samples
from tests.support.factories import encode_field, encode_labels


def make_batches(
    n_series: int, per_request: int, n_scrapes: int, n_requests: int, start_ms: int
) -> Iterator[tuple[bytes, int]]:
    """Remote-write bodies of counters, each with its number of samples.

    A body has the next `n_scrapes` samples of `per_request` series; the one behind it has those of
    the series behind, so that all of `n_series` have as many samples after each round of bodies.
    """
    rng = np.random.default_rng(1)
    values = rng.integers(0, 1_000_000, (n_series, 1))
    offsets = rng.integers(0, 1_000, (n_series, 1))
    firsts = range(0, n_series, per_request)
    templates = [_template(range(first, first + per_request), n_scrapes) for first in firsts]
    scrapes = INTERVAL_MS * np.arange(n_scrapes)
    for number in range(n_requests):
        turn, group = divmod(number, len(templates))
        own = slice(firsts[group], firsts[group] + per_request)
        grown = values[own] + rng.integers(0, 500, (per_request, n_scrapes)).cumsum(axis=1)
        values[own] = grown[:, -1:]
        times = start_ms + turn * n_scrapes * INTERVAL_MS + scrapes + offsets[own]
        message, places = templates[group]
        message[places] = encode_samples(times.ravel(), grown.ravel().astype(float)).ravel()
        yield snappy.compress(message.tobytes()), per_request * n_scrapes


def _template(series: range, n_scrapes: int) -> tuple[np.ndarray, np.ndarray]:
    """A message, and where the bytes of its samples are, those of the first series first."""
    n_bytes = n_scrapes * SAMPLE_BYTES
    parts = [
        encode_field(1, encode_labels(fleet_labels(number, "batches")) + bytes(n_bytes))
        for number in series
    ]
    places = np.cumsum([len(part) for part in parts])[:, None] + np.arange(-n_bytes, 0)
    return np.frombuffer(b"".join(parts), np.uint8).copy(), places.ravel()
