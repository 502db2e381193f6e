"""The load generator's bodies are what a sender would have encoded."""

from collections import defaultdict

import numpy as np
import pytest
import snappy

from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from tests.benchmarks.ingest_batches import make_batches
from tests.benchmarks.payload import INTERVAL_MS, fleet_labels
from tests.benchmarks.snappy_template import encode_times, make_template
from tests.support.factories import encode_field, encode_labels, encode_varint

N_SERIES = 300


def test_each_body_carries_its_own_times_and_values() -> None:
    prefixes = [encode_labels(fleet_labels(number, "fleet")) for number in range(N_SERIES)]
    template = make_template(prefixes)
    rng = np.random.default_rng(7)
    for start_ms in (1 << 35, 1_700_000_000_000, (1 << 42) - N_SERIES):
        times = start_ms + np.arange(N_SERIES)
        values = rng.normal(size=N_SERIES)
        request = WriteRequest.FromString(snappy.decompress(template.body(times, values)))
        series = [TimeSeries.FromString(each) for each in request.timeseries]
        read = [(sample.timestamp, sample.value) for each in series for sample in each.samples]
        assert read == list(zip(times.tolist(), values.view(np.uint64).tolist(), strict=True))
        assert [
            b"".join(encode_field(1, label) for label in each.labels) for each in series
        ] == prefixes


def test_batches_go_on_where_the_last_ones_of_their_series_ended() -> None:
    start_ms, sent = 1_700_000_000_000, defaultdict(list)
    for body, n_samples in make_batches(4, 2, 3, 6, start_ms):
        request = WriteRequest.FromString(snappy.decompress(body))
        series = [TimeSeries.FromString(each) for each in request.timeseries]
        assert sum(len(each.samples) for each in series) == n_samples == 6
        for each in series:
            sent[tuple(each.labels)] += [(one.timestamp, one.value) for one in each.samples]
    assert len(sent) == 4
    for samples in sent.values():
        times, bits = np.array(samples, np.uint64).T
        assert len(times) == 9
        assert start_ms <= times[0] < start_ms + 1_000
        assert (np.diff(times) == INTERVAL_MS).all()
        assert (np.diff(bits.view(np.float64)) >= 0).all()


@pytest.mark.parametrize("time_ms", [1 << 35, 1_700_000_000_000, (1 << 42) - 1])
def test_time_is_a_varint_of_six_bytes(time_ms: int) -> None:
    assert encode_times(np.array([time_ms])).tobytes() == encode_varint(time_ms)
