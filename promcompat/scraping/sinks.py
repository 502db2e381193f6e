"""Where scraped samples go: the store of this process, or a service elsewhere by remote write."""

import asyncio
import logging
from typing import Final, Self

import aiohttp
import numpy as np
import snappy

from promcompat.configuration.settings import TENANT_HEADER
from promcompat.core.errors import PromcompatError, StorageUnavailableError, WriteRejectedError
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.core.texts.secrets import Redactor, public_url, url_secrets
from promcompat.metrics.exemplar_service import ExemplarService
from promcompat.metrics.metric_service import MetricService
from promcompat.outgoing.client import system_context
from promcompat.remote_read.histogram_chunks import TimedHistograms
from promcompat.remote_write.remote_pb2 import (
    Exemplar,
    Label,
    MetricMetadata,
    Sample,
    TimeSeries,
    WriteRequest,
)
from promcompat.remote_write.series_key import encode_series_key
from promcompat.scraping.delivery import SampleSink
from promcompat.scraping.series_cache import ScrapedBatch
from promcompat.telemetry.scraping import ScrapeMetrics
from promcompat.version import promcompat_version

_LOGGER = logging.getLogger(__name__)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_MAX_ANSWER_BYTES: Final = 1024
_MAX_REQUEST_ROWS: Final = 5_000
_TRY_AGAIN: Final = frozenset([408, 429])


class StoreSink(SampleSink):
    """The store of this process, for one tenant."""

    def __init__(
        self,
        metrics: MetricService,
        exemplars: ExemplarService,
        tenant: str,
        counters: ScrapeMetrics,
    ) -> None:
        self._metrics = metrics
        self._exemplars = exemplars
        self._tenant = tenant
        self._counters = counters

    async def store(self, batch: ScrapedBatch) -> None:
        """See the port."""
        known = self._metrics.known_series(self._tenant)
        rows, left_out = await asyncio.to_thread(
            batch.columns.to_batch, known, self._metrics.label_limits(self._tenant)
        )
        n_stored, n_duplicates, n_refused = len(rows), 0, left_out.number
        try:
            if len(rows) or rows.metadata:
                await self._metrics.write(self._tenant, rows)
        except WriteRejectedError as exc:
            n_duplicates = len(exc.rows)
            n_refused += len(exc.refused)
            n_stored -= len(exc.rows) + len(exc.refused)
        # Samples are counted at the end: a batch whose exemplars have to wait is stored again.
        n_lost_exemplars = await self._store_exemplars(batch)
        self._counters.samples_stored.inc(n_stored)
        self._counters.samples_refused.inc(n_refused)
        self._counters.count("duplicates", n_duplicates)
        self._counters.count("exemplars_out_of_order", n_lost_exemplars)

    async def _store_exemplars(self, batch: ScrapedBatch) -> int:
        """How many exemplars were refused. Raises StorageUnavailableError."""
        if not batch.exemplars:
            return 0
        try:
            appended = await self._exemplars.write(self._tenant, batch.exemplars)
        except StorageUnavailableError:
            raise
        except PromcompatError as exc:
            _LOGGER.warning("scraped exemplars refused", extra={"reason": str(exc)})
            return len(batch.exemplars)
        return len(appended.out_of_order) + len(appended.invalid)


class RemoteWriteSink(SampleSink):
    """A service that takes remote write 1.0, for the time of a block."""

    def __init__(self, url: str, tenant: str, counters: ScrapeMetrics) -> None:
        """Without a tenant no header names one."""
        self._url = url
        self._redactor = Redactor(url_secrets(url))
        self._counters = counters
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "User-Agent": f"promcompat/{promcompat_version()}",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        if tenant:
            self._headers[TENANT_HEADER] = tenant
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=system_context())
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_reason: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def store(self, batch: ScrapedBatch) -> None:
        """See the port."""
        n_rows = len(batch.columns.series)
        for first in range(0, max(1, n_rows), _MAX_REQUEST_ROWS):
            body = await asyncio.to_thread(encode_request, batch, first, first + _MAX_REQUEST_ROWS)
            n_sent = min(n_rows - first, _MAX_REQUEST_ROWS)
            if refusal := await self._post(body):
                # What a service refuses is often one sample of many; it stores the others.
                _LOGGER.warning("scraped samples refused", extra={"reason": refusal})
                self._counters.samples_refused.inc(n_sent)
            else:
                self._counters.samples_stored.inc(n_sent)

    async def _post(self, body: bytes) -> str:
        """Why a request was refused for good; `""` when it was accepted."""
        assert self._session is not None
        try:
            async with self._session.post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                if 200 <= response.status < 300:
                    return ""
                text = (await response.content.read(_MAX_ANSWER_BYTES)).decode(errors="replace")
                reason = self._redactor.hide(f"answered {response.status}: {text.strip()}")
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            reason = self._redactor.hide(connection_fault(exc))
            raise StorageUnavailableError(f"{public_url(self._url)}: {reason}") from None
        if response.status >= 500 or response.status in _TRY_AGAIN:
            raise StorageUnavailableError(f"{public_url(self._url)}: {reason}")
        return f"{public_url(self._url)}: {reason}"


def encode_request(batch: ScrapedBatch, first: int, end: int) -> bytes:
    """The compressed request for some rows of a batch; the first one has all that is not a row.

    A key of a series is the beginning of its message.
    """
    samples = _samples(batch, first, end)
    series = [
        key + sample.SerializeToString()
        for key, sample in zip(batch.columns.keys[first:end], samples, strict=True)
    ]
    if first:
        return bytes(snappy.compress(WriteRequest(timeseries=series).SerializeToString()))
    request = WriteRequest(timeseries=[*series, *_exemplars(batch)], metadata=_metadata(batch))
    return bytes(snappy.compress(request.SerializeToString()))


def _samples(batch: ScrapedBatch, first: int, end: int) -> list[TimeSeries]:
    """The sample of each row, without labels."""
    values, times = batch.columns.values[first:end], batch.columns.timestamps[first:end]
    pairs = zip(values.view("u8").tolist(), times.tolist(), strict=True)
    samples = [TimeSeries(samples=[Sample(value=bits, timestamp=time)]) for bits, time in pairs]
    rows = np.flatnonzero(is_histogram(values))
    if len(rows) and batch.columns.histograms is not None:
        found = batch.columns.histograms.take(histogram_numbers(values[rows]))
        for row, message in zip(rows, TimedHistograms(found, times[rows]).messages(), strict=True):
            samples[row] = TimeSeries(histograms=[message])
    return samples


def _exemplars(batch: ScrapedBatch) -> list[bytes]:
    found = []
    for item in batch.exemplars:
        labels = [
            Label(name=name.encode(), value=value.encode()) for name, value in item.exemplar.labels
        ]
        exemplar = Exemplar(
            labels=labels, value=item.exemplar.value, timestamp=item.exemplar.timestamp_ms
        )
        series = TimeSeries(exemplars=[exemplar.SerializeToString()])
        found.append(encode_series_key(item.series.pairs) + series.SerializeToString())
    return found


def _metadata(batch: ScrapedBatch) -> list[MetricMetadata]:
    return [
        MetricMetadata(
            type=entry.type.upper(),
            metric_family_name=entry.family.encode(),
            help=entry.help.encode(),
            unit=entry.unit.encode(),
        )
        for entry in batch.columns.metadata
    ]
