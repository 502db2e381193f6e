"""Selections to blocks of samples: one binary COPY each, read by numpy."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import IntArray, Labels, SampleBlock, SeriesSelection
from promql.budget import TOO_MANY_SAMPLES
from promql.translator import Statement
from sql.storage.connection_pool import Connection, Pool, acquired
from sql.storage.copy_format import DecodedSamples, SampleDecoder
from sql.storage.copy_query import inline_parameters
from sql.storage.read_planner import ReadPlanner
from sql.storage.selector_cache import LabelOrder, ResolvedSelector
from sql.storage.series_reader import SeriesReader
from sql.storage.storage_stats import StorageStats

T = TypeVar("T")
_ROWS_WORTH_A_THREAD: Final = 100_000
"""Decoding and sorting a million rows takes 100 ms; the event loop has writes to answer."""


class SampleReader:
    """Reads the samples of selections."""

    def __init__(
        self,
        pool: Pool,
        series_reader: SeriesReader,
        stats: StorageStats,
        planner: ReadPlanner,
        *,
        max_samples: int,
    ) -> None:
        """`max_samples` bounds all selections of one query together (0: no bound)."""
        self._pool = pool
        self._series_reader = series_reader
        self._stats = stats
        self._planner = planner
        self._max_samples = max_samples

    async def select(
        self, tenant_id: int, selections: Sequence[SeriesSelection]
    ) -> list[SampleBlock]:
        """The blocks of a query's selections; see `promcompat.core.ports.SampleReader`."""
        allowance = SampleAllowance(self._max_samples)
        async with acquired(self._pool) as connection:
            generation = await self._series_reader.generation(connection, tenant_id)
            if len(selections) == 1:
                request = SelectionRequest(tenant_id, selections[0], generation, allowance)
                return [await self._select(connection, request)]
        # The connection is given back first: queries that wait for each other's would be stuck.
        return await gather_reads(
            [
                self._select_aside(SelectionRequest(tenant_id, one, generation, allowance))
                for one in selections
            ]
        )

    async def _select_aside(self, request: "SelectionRequest") -> SampleBlock:
        async with acquired(self._pool) as connection:
            return await self._select(connection, request)

    async def _select(self, connection: Connection, request: "SelectionRequest") -> SampleBlock:
        started = time.perf_counter()
        selector = await self._series_reader.resolve(
            connection, request.tenant_id, request.selection.matchers, request.generation
        )
        if not len(selector.ids):
            return SampleBlock.empty()
        read = await self._planner.plan(connection, request.selection, selector.ids)
        if read.statement is None:
            return SampleBlock.empty()
        samples = await self._copy_out(connection, read.statement, request.allowance)
        if not len(samples.series_ids):
            return SampleBlock.empty()
        block = await self._block_of(connection, samples, selector)
        self._stats.selections += 1
        self._stats.samples_selected += len(block.timestamps)
        self._stats.select_seconds += time.perf_counter() - started
        return block

    async def _copy_out(
        self, connection: Connection, statement: Statement, allowance: "SampleAllowance"
    ) -> DecodedSamples:
        decoder = SampleDecoder()
        allowance.watch(decoder)
        await copy_out(connection, statement, decoder, allowance)
        if decoder.n_rows < _ROWS_WORTH_A_THREAD:
            return decoder.finish().sorted()
        return await asyncio.to_thread(lambda: decoder.finish().sorted())

    async def _block_of(
        self, connection: Connection, samples: DecodedSamples, selector: ResolvedSelector
    ) -> SampleBlock:
        starts = np.flatnonzero(np.diff(samples.series_ids, prepend=-1))
        ids = samples.series_ids[starts]
        order = selector.order_of(ids)
        if order is None:
            order = _order_by_labels(ids, await self._series_reader.labels_of(connection, ids))
            selector.order = order
        return _sorted_by_labels(samples, starts, order)


@dataclass(frozen=True, slots=True)
class SelectionRequest:
    """One selection of a query, at a generation of the tenant's series read for this query."""

    tenant_id: int
    selection: SeriesSelection
    generation: int
    allowance: "SampleAllowance"


class SampleAllowance:
    """How many samples all selections of one query may still bring, counted while they arrive."""

    def __init__(self, max_samples: int) -> None:
        """`max_samples` 0 sets no bound."""
        self._max_samples = max_samples
        self._decoders: list[SampleDecoder] = []

    def watch(self, decoder: SampleDecoder) -> None:
        """Count what a decoder has."""
        self._decoders.append(decoder)

    @property
    def is_exceeded(self) -> bool:
        """Whether too many have come."""
        if self._max_samples <= 0:
            return False
        return sum(decoder.n_rows for decoder in self._decoders) > self._max_samples


async def copy_out(
    connection: Connection,
    statement: Statement,
    decoder: SampleDecoder,
    allowance: SampleAllowance,
) -> None:
    """Feed a statement's rows to a decoder; the server stops once the allowance is exceeded.

    Raises ExecutionError in Prometheus' words then.
    """
    text = inline_parameters(statement)

    async def feed(chunk: bytes) -> None:
        # Must not raise: asyncpg 0.32 would wait for ever for a stream it no longer reads. A
        # cancellation it hands on to the server.
        decoder.feed(chunk)
        if allowance.is_exceeded:
            copying.cancel()

    copying = asyncio.ensure_future(connection.copy_from_query(text, output=feed, format="binary"))
    try:
        await copying
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is None or current.cancelling() or not allowance.is_exceeded:
            raise
    if allowance.is_exceeded:
        raise ExecutionError(TOO_MANY_SAMPLES)


async def gather_reads(reads: Sequence[Awaitable[T]]) -> list[T]:
    """All results, in order; the first failure cancels the rest, and with them their SQL."""
    tasks = [asyncio.ensure_future(read) for read in reads]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _order_by_labels(ids: IntArray, labels: list[Labels]) -> LabelOrder:
    order = sorted(range(len(labels)), key=lambda index: labels[index].pairs)
    return LabelOrder(ids, np.asarray(order, np.int64), tuple(labels[index] for index in order))


def _sorted_by_labels(samples: DecodedSamples, starts: IntArray, order: LabelOrder) -> SampleBlock:
    """A block whose series are in the order of their labels; rows come in the order of ids."""
    lengths = np.diff(starts, append=len(samples.timestamps))
    by_labels = order.by_labels
    offsets = np.zeros(len(by_labels) + 1, np.int64)
    np.cumsum(lengths[by_labels], out=offsets[1:])
    if np.all(by_labels[1:] > by_labels[:-1]):
        return SampleBlock(order.labels, samples.timestamps, samples.values, offsets)
    shifts = np.repeat(starts[by_labels] - offsets[:-1], lengths[by_labels])
    rows = np.arange(len(samples.timestamps)) + shifts
    return SampleBlock(order.labels, samples.timestamps[rows], samples.values[rows], offsets)
