"""Selections to blocks of samples: one binary COPY each, read by numpy."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from promcompat.core.errors import ExecutionError
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from promql.budget import (
    BYTES_PER_LABELS,
    BYTES_PER_SAMPLE,
    TOO_MANY_SAMPLES,
    MemoryTakenError,
    too_much_memory,
)
from sql.caching.late_writes import ReadState
from sql.caching.selector_cache import LabelledSeries, ResolvedSelector, SelectorKey
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.copy_format import SampleDecoder
from sql.database.statements import Statement, inline_parameters
from sql.database.storage_stats import StorageStats
from sql.pushdown.read_planner import ReadPlanner
from sql.pushdown.rules import Partial
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, counted_samples
from sql.samples.reading.sample_cache import CachedSamples, SampleCache
from sql.series.reader import SeriesReader

T = TypeVar("T")
RequestT = TypeVar("RequestT")
_ROWS_WORTH_A_THREAD: Final = 100_000
"""Decoding and sorting a million rows takes 100 ms, which would delay writes."""
_READS_AT_ONCE: Final = 8
"""Concurrent reads of one query. The pool serves callers in turn: a query of 5,000 selectors that
requested all its connections at once kept others waiting for 20 s."""


class RowReader:
    """Reads the samples of selections."""

    def __init__(
        self,
        pool: Pool,
        series_reader: SeriesReader,
        stats: StorageStats,
        planner: ReadPlanner,
        cache: SampleCache,
        *,
        max_samples: int,
        max_bytes: int = 0,
        now_ms: Callable[[], int],
    ) -> None:
        """`max_samples`, `max_bytes` bound all selections of one query together (0: no bound).

        `now_ms` is the clock that decides which samples are old enough for the cache.
        """
        self._pool = pool
        self._series_reader = series_reader
        self._stats = stats
        self._planner = planner
        self._cache = cache
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._now_ms = now_ms

    async def select(
        self,
        tenant_id: int,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
    ) -> list[SampleBlock]:
        """The blocks of a query's selections; see `promcompat.core.ports.SampleReader`."""
        allowance = SampleAllowance(self._max_samples, self._max_bytes, check_bytes)
        async with acquired(self._pool) as connection:
            state = await self._series_reader.read_state(
                connection,
                tenant_id,
                min((selection.start_ms for selection in selections), default=0),
                max((selection.end_ms for selection in selections), default=0),
                self._now_ms(),
            )
            requests = [
                SelectionRequest(tenant_id, selection, state, allowance) for selection in selections
            ]
            if len(requests) == 1:
                return [await self._select(connection, requests[0])]
        # The connection is returned first: queries waiting for more would block each other.
        return await gather_reads(self._select_on_own_connection, requests)

    async def _select_on_own_connection(self, request: "SelectionRequest") -> SampleBlock:
        async with acquired(self._pool) as connection:
            return await self._select(connection, request)

    async def _select(self, connection: Connection, request: "SelectionRequest") -> SampleBlock:
        started = time.perf_counter()
        block = await self._read_block(connection, request)
        self._stats.selections += 1
        self._stats.samples_selected += len(block.timestamps)
        self._stats.select_seconds += time.perf_counter() - started
        return block

    async def _read_block(self, connection: Connection, request: "SelectionRequest") -> SampleBlock:
        selector = await self._series_reader.resolve(
            connection,
            request.tenant_id,
            request.selection.matchers,
            request.state.generation,
        )
        if not len(selector.ids):
            return SampleBlock.empty()
        samples = await self._samples_of(connection, request, selector)
        if not len(samples):
            return SampleBlock.empty()
        return await self._block_of(connection, request, samples, selector)

    async def _samples_of(
        self, connection: Connection, request: "SelectionRequest", selector: ResolvedSelector
    ) -> SeriesSamples:
        if not self._cache.is_enabled:
            return (await self._read_planned(connection, request, selector))[0]
        cached = self._cache.get(request.key, request.selection, request.state)
        if cached is not None:
            return await self._read_rest(connection, request, selector, cached)
        samples, is_all = await self._read_planned(connection, request, selector)
        if is_all:
            self._cache.add(request.key, request.selection, samples, request.state)
        return samples

    async def _read_planned(
        self, connection: Connection, request: "SelectionRequest", selector: ResolvedSelector
    ) -> tuple[SeriesSamples, bool]:
        """The samples that the answer depends on, and whether these are all samples selected."""
        read = await self._planner.plan(connection, request.selection, selector.ids)
        if read.partial is not None and read.statement is not None:
            return await self._read_partials(
                connection, request, read.statement, read.partial
            ), False
        samples = await self._copy_out(connection, read.statement, request.allowance)
        return samples, read.choice.thinning is None

    async def _read_partials(
        self,
        connection: Connection,
        request: "SelectionRequest",
        statement: Statement,
        partial: Partial,
    ) -> SeriesSamples:
        """Samples that stand for all, and every sample of series where that is not exact."""
        decoder = SampleDecoder(is_numbered=True)
        request.allowance.watch(decoder)
        await copy_out(connection, statement, decoder, request.allowance)
        samples, whole_ids = await _run_in_thread(
            lambda: counted_samples(decoder.finish().sorted(), partial), decoder.n_rows
        )
        if not len(whole_ids):
            return samples
        whole = self._planner.whole(request.selection, whole_ids)
        return samples.then(await self._copy_out(connection, whole, request.allowance))

    async def _read_rest(
        self,
        connection: Connection,
        request: "SelectionRequest",
        selector: ResolvedSelector,
        cached: CachedSamples,
    ) -> SeriesSamples:
        """The samples of a selection that begins with cached ones."""
        selection, state = request.selection, request.state
        rest = replace(selection, start_ms=min(cached.until_ms, selection.end_ms))
        statement = self._planner.whole(rest, selector.ids)
        later = await self._copy_out(connection, statement, request.allowance)

        def joined() -> tuple[SeriesSamples, CachedSamples | None]:
            first = cached.samples.between(selection.start_ms, selection.end_ms)
            return first.then(later), self._cache.extended(cached, selection, later, state)

        samples, extended = await _run_in_thread(joined, len(cached.samples))
        if extended is not None:
            self._cache.put(request.key, extended)
        request.allowance.add(len(samples) - len(later))
        return samples

    async def _copy_out(
        self, connection: Connection, statement: Statement | None, allowance: "SampleAllowance"
    ) -> SeriesSamples:
        if statement is None:
            return NO_SAMPLES
        decoder = SampleDecoder()
        allowance.watch(decoder)
        await copy_out(connection, statement, decoder, allowance)
        return await _run_in_thread(lambda: SeriesSamples.read(decoder), decoder.n_rows)

    async def _block_of(
        self,
        connection: Connection,
        request: "SelectionRequest",
        samples: SeriesSamples,
        selector: ResolvedSelector,
    ) -> SampleBlock:
        labels = selector.labels_of(samples.ids)
        if labels is None:
            request.allowance.add_series(len(samples.ids))
            labels = tuple(await self._series_reader.labels_of(connection, samples.ids))
            known = LabelledSeries(samples.ids, labels)
            self._series_reader.remember_labels(request.key, selector, known)
        return samples.as_block(labels)


@dataclass(frozen=True, slots=True)
class SelectionRequest:
    """One selection of a query, with the state that the query read before its samples."""

    tenant_id: int
    selection: SeriesSelection
    state: ReadState
    allowance: "SampleAllowance"

    @property
    def key(self) -> SelectorKey:
        """The key of the selector in caches."""
        return self.tenant_id, self.selection.matchers


async def _run_in_thread(work: Callable[[], T], n_rows: int) -> T:
    """The result of work on so many rows, done in a thread when it is worth one."""
    if n_rows < _ROWS_WORTH_A_THREAD:
        return work()
    return await asyncio.to_thread(work)


class CountedStream(Protocol):
    """A stream that counts what has arrived."""

    @property
    def n_rows(self) -> int:
        """How many samples."""

    @property
    def n_bytes(self) -> int:
        """How many bytes."""


class SampleAllowance:
    """How much all selections of one query may read, counted while it arrives.

    Bytes are those of the COPY stream, and of the columns of cached samples.
    """

    def __init__(
        self, max_samples: int, max_bytes: int = 0, check_bytes: CheckBytes = any_bytes
    ) -> None:
        """0 sets no bound; `check_bytes` may set another one."""
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._check_bytes = check_bytes
        self._excess: ExecutionError | MemoryTakenError | None = None
        self._decoders: list[CountedStream] = []
        self._n_settled = 0
        self._n_settled_bytes = 0
        self._n_added = 0
        self._n_series = 0

    def add(self, n_samples: int) -> None:
        """Count cached samples; raises ExecutionError when they are too many."""
        self._n_added += n_samples
        self.check()

    def add_series(self, n_series: int) -> None:
        """Count the labels of series; raises ExecutionError when they are too many."""
        self._n_series += n_series
        self.check()

    def watch(self, decoder: CountedStream) -> None:
        """Count the rows of a decoder from now on."""
        self._decoders.append(decoder)

    def settle(self, decoder: CountedStream) -> None:
        """Replace a finished decoder by its totals; a query may have thousands of them."""
        self._decoders.remove(decoder)
        self._n_settled += decoder.n_rows
        self._n_settled_bytes += decoder.n_bytes

    @property
    def is_exceeded(self) -> bool:
        """Whether too much was read."""
        try:
            self.check()
        except (ExecutionError, MemoryTakenError):
            return True
        return False

    def check(self) -> None:
        """Raises ExecutionError when too much was read, MemoryTakenError as a budget does.

        Later calls raise the same: a stream that was cut off is incomplete, even if memory has
        become free again.
        """
        try:
            if self._excess is not None:
                raise self._excess
            if self._has_too_many:
                raise ExecutionError(TOO_MANY_SAMPLES)
            n_bytes = self._n_bytes
            if 0 < self._max_bytes < n_bytes:
                raise ExecutionError(too_much_memory(self._max_bytes))
            self._check_bytes(n_bytes)
        except (ExecutionError, MemoryTakenError) as exc:
            self._excess = exc
            raise

    @property
    def _has_too_many(self) -> bool:
        n_read = self._n_settled + sum(decoder.n_rows for decoder in self._decoders)
        return 0 < self._max_samples < n_read + self._n_added

    @property
    def _n_bytes(self) -> int:
        n_read = self._n_settled_bytes + sum(decoder.n_bytes for decoder in self._decoders)
        return n_read + self._n_added * BYTES_PER_SAMPLE + self._n_series * BYTES_PER_LABELS


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
        # Must not raise: asyncpg 0.32 would wait forever for a stream that it no longer reads. It
        # passes a cancellation on to the server.
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
    allowance.check()
    allowance.settle(decoder)


async def gather_reads(
    read: Callable[[RequestT], Awaitable[T]], requests: Sequence[RequestT]
) -> list[T]:
    """All results, in order; the first failure cancels the rest, and with them their SQL."""
    found: dict[int, T] = {}
    waiting = iter(enumerate(requests))

    async def read_in_turn() -> None:
        for index, request in waiting:
            found[index] = await read(request)

    tasks = [asyncio.ensure_future(read_in_turn()) for _ in requests[:_READS_AT_ONCE]]
    try:
        await asyncio.gather(*tasks)
        return [found[index] for index in range(len(requests))]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
