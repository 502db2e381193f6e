"""Remote-write bodies of a synthetic fleet, encoded before any clock runs."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import snappy

from promcompat.core.model import FloatArray, Labels
from tests.support.factories import encode_field, encode_labels, encode_varint, make_labels

SAMPLES_PER_REQUEST = 2_000
INTERVAL_MS = 15_000
METRICS_PER_INSTANCE = 50


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A compressed body and how many samples it carries; one shard has always the same series."""

    shard: int
    body: bytes
    n_samples: int


def fleet_labels(number: int, fleet: str) -> Labels:
    """The labels of one of a fleet's series: about as many and as long as exporters have."""
    instance, metric = divmod(number, METRICS_PER_INSTANCE)
    return make_labels(
        f"{fleet}_exporter_metric_{metric:02}_total",
        cluster=f"production-{instance % 3}",
        container="exporter",
        device=f"eth{metric % 8}",
        environment="production",
        instance=f"10.20.{instance // 250}.{instance % 250}:9100",
        job=f"exporter-{instance % 20:02}",
        namespace=f"team-{instance % 40:02}",
        node=f"node-{instance:05}.example.internal",
        region=f"region-{instance % 5}",
    )


class Fleet:
    """Counters of many instances, scraped together every 15 s."""

    def __init__(self, name: str, n_series: int, start_ms: int, seed: int = 1) -> None:
        self.next_scrape_ms = start_ms
        self._rng = np.random.default_rng(seed)
        self._prefixes = [encode_labels(fleet_labels(i, name)) for i in range(n_series)]
        self._values = self._rng.integers(0, 1_000_000, n_series).astype(np.float64)
        self._offsets = self._rng.integers(0, 1_000, n_series)

    def scrape(self, n_scrapes: int) -> list[WriteRequest]:
        """The requests of the next scrapes, in order."""
        return [request for _ in range(n_scrapes) for request in self._scrape_once()]

    def _scrape_once(self) -> Iterator[WriteRequest]:
        self._values += self._rng.integers(0, 500, len(self._values))
        times = self.next_scrape_ms + self._offsets
        self.next_scrape_ms += INTERVAL_MS
        for start in range(0, len(self._prefixes), SAMPLES_PER_REQUEST):
            part = slice(start, start + SAMPLES_PER_REQUEST)
            yield _encode_request(
                start, self._prefixes[part], times[part].tolist(), self._values[part]
            )


def _encode_request(
    shard: int, prefixes: Sequence[bytes], times: Sequence[int], values: FloatArray
) -> WriteRequest:
    messages = [
        encode_field(
            1,
            prefix
            + encode_field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + encode_varint(time)),
        )
        for prefix, time, value in zip(prefixes, times, values.tolist(), strict=True)
    ]
    return WriteRequest(shard, snappy.compress(b"".join(messages)), len(messages))
