"""Brings scraped samples to where they are stored, and keeps them while that does not answer."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.core.histograms.columns import HistogramCells
from promcompat.imports.columns import Faults, ImportedColumns
from promcompat.scraping.series_cache import ScrapedBatch
from promcompat.telemetry.scraping import ScrapeMetrics

_LOGGER = logging.getLogger(__name__)
_MAX_WAITING: Final = 2_000_000
"""Samples by weight; about 300 MB, ten minutes of 50,000 series every 15 seconds."""
_MAX_BATCH: Final = 20_000
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_TOLD_EVERY_SECONDS: Final = 60.0


class SampleSink(Protocol):
    """Where scraped samples are stored."""

    async def store(self, batch: ScrapedBatch) -> None:
        """Store a batch; what is refused for good is counted.

        Raises StorageUnavailableError when it is to be tried again, PromcompatError when not.
        """


class Delivery:
    """A bounded queue in front of a sink; while it is full, the oldest samples are dropped."""

    def __init__(self, sink: SampleSink, metrics: ScrapeMetrics) -> None:
        self._sink = sink
        self._metrics = metrics
        self._waiting: deque[ScrapedBatch] = deque()
        self._n_waiting = 0
        self._n_dropped = 0
        self._told_at = -_TOLD_EVERY_SECONDS
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def put(self, batch: ScrapedBatch) -> None:
        """Take a batch; returns at once."""
        self._waiting.append(batch)
        self._n_waiting += batch.weight
        while self._n_waiting > _MAX_WAITING and len(self._waiting) > 1:
            oldest = self._waiting.popleft()
            self._n_waiting -= oldest.weight
            self._drop(oldest)
        self._idle.clear()
        self._arrived.set()
        self._metrics.waiting_samples.set(self._n_waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="deliver scrapes")

    async def close(self, patience_seconds: float) -> None:
        """Deliver what waits, for a limited time."""
        try:
            async with asyncio.timeout(patience_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._tell_dropped()
            for batch in self._waiting:
                self._lose(batch, "the process ends")
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            while self._waiting:
                batch = merged(self._take())
                try:
                    await self._deliver(batch)
                except asyncio.CancelledError:
                    self._lose(batch, "the process ends")
                    raise
            self._tell_dropped()
            self._arrived.clear()
            self._idle.set()

    def _take(self) -> list[ScrapedBatch]:
        """Batches from the front of the queue, in their order, up to a size."""
        taken = [self._waiting.popleft()]
        weight = taken[0].weight
        while self._waiting and weight + self._waiting[0].weight <= _MAX_BATCH:
            taken.append(self._waiting.popleft())
            weight += taken[-1].weight
        self._n_waiting -= weight
        return taken

    async def _deliver(self, batch: ScrapedBatch) -> None:
        pause, reason = _FIRST_PAUSE_SECONDS, ""
        while True:
            try:
                await self._sink.store(batch)
                break
            except StorageUnavailableError as exc:
                if str(exc) != reason:
                    reason = str(exc)
                    _LOGGER.warning("scraped samples wait", extra={"reason": reason})
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            except PromcompatError as exc:
                self._lose(batch, str(exc))
                break
            except Exception:
                # The boundary of the queue: a batch that cannot be stored must not stop the others.
                _LOGGER.exception("scraped samples not stored")
                self._lose(batch, "internal error")
                break
        self._metrics.waiting_samples.set(self._n_waiting)

    def _drop(self, batch: ScrapedBatch) -> None:
        """Drop a batch of a full queue; an outage drops one with each scrape of a target."""
        self._n_dropped += len(batch.columns.series)
        self._metrics.samples_lost.inc(len(batch.columns.series))
        if time.monotonic() - self._told_at >= _TOLD_EVERY_SECONDS:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._n_dropped:
            self._told_at = time.monotonic()
            _tell_lost(self._n_dropped, "the queue is full")
            self._n_dropped = 0

    def _lose(self, batch: ScrapedBatch, reason: str) -> None:
        self._metrics.samples_lost.inc(len(batch.columns.series))
        _tell_lost(len(batch.columns.series), reason)


def _tell_lost(n_samples: int, reason: str) -> None:
    _LOGGER.error("scraped samples lost", extra={"samples": n_samples, "reason": reason})


def merged(batches: Sequence[ScrapedBatch]) -> ScrapedBatch:
    """The samples of batches as one; each row has a key of its own."""
    if len(batches) == 1:
        return batches[0]
    columns = [batch.columns for batch in batches]
    keys = [key for part in columns for key in part.keys]
    cells = HistogramCells.joined([HistogramCells(c.values, c.histograms) for c in columns])
    return ScrapedBatch(
        ImportedColumns(
            keys,
            np.arange(len(keys)),
            np.concatenate([part.timestamps for part in columns]),
            cells.values,
            Faults(),
            metadata=tuple(entry for part in columns for entry in part.metadata),
            histograms=cells.histograms,
        ),
        [exemplar for batch in batches for exemplar in batch.exemplars],
    )
