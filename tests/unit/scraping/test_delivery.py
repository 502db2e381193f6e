"""Scraped samples wait while the sink does not answer, and what is lost is counted."""

import asyncio
from typing import Any

import pytest
import snappy
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.core.errors import BadDataError, StorageUnavailableError
from promcompat.core.exemplars import Exemplar, SeriesExemplar
from promcompat.core.model import Labels, MetricMetadata
from promcompat.remote_write.remote_pb2 import WriteRequest
from promcompat.remote_write.series_key import encode_series_key
from promcompat.scraping import delivery, sinks
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.series_cache import Rows, ScrapedBatch, ScrapedSeries, batch_of
from promcompat.scraping.sinks import RemoteWriteSink, encode_request
from promcompat.telemetry.telemetry import Telemetry
from tests.support.waiting import until


def batch(*names: str) -> ScrapedBatch:
    rows = Rows()
    for number, name in enumerate(names):
        labels = Labels.of({"__name__": name})
        rows.add(ScrapedSeries(encode_series_key(labels.pairs), labels), number, float(number))
    return batch_of(rows, {})


class Sink:
    """Fails as it is told to, then keeps what it gets."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.keys: list[bytes] = []

    async def store(self, batch: ScrapedBatch) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.keys += batch.columns.keys


async def test_samples_are_stored_in_their_order_after_an_outage() -> None:
    telemetry, sink = Telemetry(), Sink(StorageUnavailableError("away"), OSError("a fault of ours"))
    queue = Delivery(sink, telemetry.scrapes)
    queue.put(batch("a"))
    queue.put(batch("b", "c"))
    await until(lambda: not sink.failures)
    queue.put(batch("d"))
    await queue.close(5)
    # The first attempt is repeated; the second one ends with a fault that no repetition mends.
    assert sink.keys == batch("d").columns.keys
    assert lost(telemetry) == 3


async def test_what_is_refused_for_good_is_lost_and_the_rest_goes_on() -> None:
    telemetry, sink = Telemetry(), Sink(BadDataError("no"))
    queue = Delivery(sink, telemetry.scrapes)
    queue.put(batch("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.put(batch("b"))
    await queue.close(5)
    assert (sink.keys, lost(telemetry)) == (batch("b").columns.keys, 1)


async def test_the_oldest_samples_are_dropped_when_the_queue_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_MAX_WAITING", 2)
    telemetry, sink = Telemetry(), Sink()
    queue = Delivery(sink, telemetry.scrapes)
    for name in "abcd":
        queue.put(batch(name))
    await queue.close(5)
    assert (sink.keys, lost(telemetry)) == (batch("c", "d").columns.keys, 2)


async def test_the_log_has_the_sum_of_what_a_full_queue_dropped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "_MAX_WAITING", 2)
    queue = Delivery(Sink(), Telemetry().scrapes)
    for name in "abcdef":
        queue.put(batch(name))
    await queue.close(5)
    assert [vars(record)["samples"] for record in caplog.records] == [1, 3]


async def test_batches_that_wait_are_stored_together_up_to_a_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "_MAX_BATCH", 3)
    sizes: list[int] = []

    class CountingSink(Sink):
        async def store(self, batch: ScrapedBatch) -> None:
            sizes.append(batch.weight)

    queue = Delivery(CountingSink(), Telemetry().scrapes)
    for names in ("ab", "c", "de", "fghi", "j"):
        queue.put(batch(*names))
    await queue.close(5)
    assert sizes == [3, 2, 4, 1]


async def test_a_batch_that_is_being_stored_at_the_end_is_lost_once() -> None:
    class Slow(Sink):
        async def store(self, batch: ScrapedBatch) -> None:
            await asyncio.sleep(60)

    telemetry = Telemetry()
    queue = Delivery(Slow(), telemetry.scrapes)
    queue.put(batch("a"))
    await queue.close(0.01)
    assert lost(telemetry) == 1


async def test_what_waits_at_the_end_is_counted_as_lost() -> None:
    telemetry = Telemetry()
    queue = Delivery(Sink(*[StorageUnavailableError("away")] * 99), telemetry.scrapes)
    queue.put(batch("a"))
    await asyncio.sleep(0)
    queue.put(batch("b"))
    await queue.close(0.01)
    assert lost(telemetry) == 2


def lost(telemetry: Telemetry) -> float:
    return counted(telemetry, "lost")


def counted(telemetry: Telemetry, what: str) -> float:
    value: Any = telemetry.registry.get_sample_value(f"promcompat_scrape_samples_{what}_total")
    return float(value)


async def test_a_refused_request_does_not_keep_the_rest_of_a_scrape_from_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sinks, "_MAX_REQUEST_ROWS", 1)
    statuses = iter([204, 400, 204, 503])

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=next(statuses))

    telemetry = Telemetry()
    async with RawTestServer(answer, host="127.0.0.1") as server:
        url = str(server.make_url("/api/v1/write"))
        async with RemoteWriteSink(url, "", telemetry.scrapes) as sink:
            await sink.store(batch("a", "b", "c"))
            assert (counted(telemetry, "stored"), counted(telemetry, "refused")) == (2, 1)
            with pytest.raises(StorageUnavailableError, match="answered 503"):
                await sink.store(batch("d"))


def test_a_remote_write_request_has_rows_metadata_and_exemplars() -> None:
    rows = batch("a", "b").columns
    labels = Labels.of({"__name__": "a"})
    exemplars = [SeriesExemplar(labels, Exemplar(Labels.of({"id": "1"}), 2.0, 3))]
    found = ScrapedBatch(rows, exemplars)
    metadata = (MetricMetadata("a", "gauge", "Help.", "s"),)
    full = ScrapedBatch(batch_of(Rows(), {}, metadata).columns, exemplars)
    request = WriteRequest.FromString(snappy.decompress(encode_request(full, 0, 9)))
    assert [(m.type, m.metric_family_name, m.unit) for m in request.metadata] == [(2, b"a", b"s")]
    for first, names in ((0, ["a", "b"]), (1, ["b"])):
        body = snappy.decompress(encode_request(found, first, 9))
        keys = list(WriteRequest.FromString(body).timeseries)
        assert len(keys) == len(names) + (first == 0)
