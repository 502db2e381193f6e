"""Selections to blocks of samples: one binary COPY each, read by numpy."""

import asyncio
import time
from typing import Final

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import IntArray, Labels, SampleBlock, SeriesSelection
from promql.translator import Statement, samples_statement
from sql.storage.connection_pool import Connection, Pool, acquired
from sql.storage.copy_format import DecodedSamples, SampleDecoder
from sql.storage.series_reader import SeriesReader
from sql.storage.storage_stats import StorageStats

_ROWS_WORTH_A_THREAD: Final = 100_000
"""Decoding and sorting a million rows takes 100 ms; the event loop has writes to answer."""


class SampleReader:
    """Reads the samples of selections."""

    def __init__(
        self,
        pool: Pool,
        series_reader: SeriesReader,
        stats: StorageStats,
        *,
        pushdown: bool,
        max_samples: int,
    ) -> None:
        """`max_samples` bounds one selection (0: no bound)."""
        self._pool = pool
        self._series_reader = series_reader
        self._stats = stats
        self._pushdown = pushdown
        self._max_samples = max_samples

    async def select(self, tenant_id: int, selection: SeriesSelection) -> SampleBlock:
        """The block of one selection; see `promcompat.core.ports.SampleReader`."""
        started = time.perf_counter()
        async with acquired(self._pool) as connection:
            ids = await self._series_reader.matching_ids(connection, tenant_id, selection.matchers)
            if not len(ids):
                return SampleBlock.empty()
            statement = samples_statement(
                selection, ids, pushdown=self._pushdown, max_samples=self._max_samples
            )
            if statement is None:
                return SampleBlock.empty()
            samples = await self._copy_out(connection, statement)
            if not len(samples.series_ids):
                return SampleBlock.empty()
            block = await self._block_of(connection, samples)
        self._stats.selections += 1
        self._stats.samples_selected += len(block.timestamps)
        self._stats.select_seconds += time.perf_counter() - started
        return block

    async def _copy_out(self, connection: Connection, statement: Statement) -> DecodedSamples:
        decoder = SampleDecoder()

        async def feed(chunk: bytes) -> None:
            # Must not raise: asyncpg 0.32 would wait for ever for a stream it no longer reads.
            decoder.feed(chunk)

        await connection.copy_from_query(
            statement.text, *statement.params, output=feed, format="binary"
        )
        if 0 < self._max_samples < decoder.n_rows:
            raise ExecutionError(
                "query processing would load too many samples into memory in query execution"
            )
        if decoder.n_rows < _ROWS_WORTH_A_THREAD:
            return decoder.finish().sorted()
        return await asyncio.to_thread(lambda: decoder.finish().sorted())

    async def _block_of(self, connection: Connection, samples: DecodedSamples) -> SampleBlock:
        starts = np.flatnonzero(np.diff(samples.series_ids, prepend=-1))
        labels = await self._series_reader.labels_of(connection, samples.series_ids[starts])
        return _sorted_by_labels(samples, starts, labels)


def _sorted_by_labels(
    samples: DecodedSamples, starts: IntArray, labels: list[Labels]
) -> SampleBlock:
    """A block whose series are in the order of their labels; rows come in the order of ids."""
    order = sorted(range(len(labels)), key=lambda index: labels[index].pairs)
    lengths = np.diff(starts, append=len(samples.timestamps))
    by_labels = np.asarray(order, np.intp)
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(lengths[by_labels], out=offsets[1:])
    sorted_labels = tuple(labels[index] for index in order)
    if np.all(by_labels[1:] > by_labels[:-1]):
        return SampleBlock(sorted_labels, samples.timestamps, samples.values, offsets)
    shifts = np.repeat(starts[by_labels] - offsets[:-1], lengths[by_labels])
    rows = np.arange(len(samples.timestamps)) + shifts
    return SampleBlock(sorted_labels, samples.timestamps[rows], samples.values[rows], offsets)
