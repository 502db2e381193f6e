"""The store that keeps one row for each sample; see `promcompat.core.ports.Store`."""

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.core.errors import (
    OverloadedError,
    QueryTimeoutError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.label_limits import DEFAULT_LABEL_LIMITS, LabelLimits
from promcompat.core.model import BoolArray, SampleBlock, SeriesSelection, WriteBatch
from promcompat.core.ports import CheckBytes, LateWriteReader, Store, any_bytes
from promql.budget import DEFAULT_MAX_BYTES
from sql.caching.late_writes import clamp_day, wall_clock_ms
from sql.caching.series_cache import UNKNOWN_ID, SeriesCache
from sql.catalog import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, TimeBounds
from sql.database.connection_pool import acquired, read_again
from sql.database.copy_format import SampleRows
from sql.database.database import Database
from sql.database.installation_guard import StaleKnowledgeError
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.pushdown.read_planner import PLAIN_PROBE_US, TIMESCALEDB_PROBE_US, ReadPlanner
from sql.pushdown.rule_choice import PushdownMode
from sql.query_loader import load_queries
from sql.samples.committer import SampleCommitter
from sql.samples.deletion import delete_samples
from sql.samples.read_explainer import ReadExplainer
from sql.samples.reader import RowReader
from sql.samples.sample_cache import SampleCache
from sql.samples.sample_table import SAMPLE_TABLE, SamplePartitions
from sql.samples.server_timestamps import RecentStamps
from sql.samples.writer import GroupCommitOptions, SampleWriter
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import ResolvedBatch, SeriesResolver

_QUERIES: Final = load_queries("samples")
_WRITE_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """The limits of queues, caches and queries, and how selections are read.

    `max_waiting_rows` bounds the rows of all unanswered writes together. `series_cache_bytes` is
    for everything cached of series: keys, labels, selectors and lists. `max_samples` and
    `max_memory_bytes` bound one query, `sample_cache_bytes` the cached samples (0: no cache).
    `now_ms` is the clock that decides which samples are late. A sample older than
    `alert_max_sample_age_ms` when it is written raises no threshold alert (0: no limit).
    """

    group_commit: GroupCommitOptions = field(default_factory=GroupCommitOptions)
    max_waiting_rows: int = 500_000
    series_cache_bytes: int = 1 << 30
    label_limits: LabelLimits = DEFAULT_LABEL_LIMITS
    max_samples: int = 50_000_000
    max_memory_bytes: int = DEFAULT_MAX_BYTES
    sample_cache_bytes: int = 256 << 20
    pushdown: PushdownMode = PushdownMode.AUTO
    now_ms: Callable[[], int] = wall_clock_ms
    alert_max_sample_age_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAccess:
    """How a store finds the series of what it writes and reads."""

    known_keys: SeriesCache
    resolver: SeriesResolver
    reader: SeriesReader
    metadata: MetadataWriter


class RowStore:
    """Samples as rows of a hypertable or of a table with a partition for each day."""

    def __init__(
        self,
        database: Database,
        series: SeriesAccess,
        threshold_watch: ThresholdWatch,
        stats: StorageStats,
        options: StorageOptions,
        *,
        creates_partitions: bool,
    ) -> None:
        """`creates_partitions`: the table is a plain one, see `sample_table.is_partitioned`."""
        self._database = database
        self._series = series
        self._threshold_watch = threshold_watch
        self._stats = stats
        self._max_waiting_rows = options.max_waiting_rows
        self._recent_stamps = RecentStamps()
        partitions = SamplePartitions() if creates_partitions else None
        self._writer = _sample_writer(database, partitions, stats, options)
        sample_cache = SampleCache(options.sample_cache_bytes, stats)
        planner = _read_planner(options, sample_cache.most_samples, is_plain=creates_partitions)
        self._reader = RowReader(
            database.read_pool,
            series.reader,
            stats,
            planner,
            sample_cache,
            max_samples=options.max_samples,
            max_bytes=options.max_memory_bytes,
            now_ms=options.now_ms,
        )
        self._explainer = ReadExplainer(
            database.read_pool, series.reader, planner, max_samples=options.max_samples
        )

    async def close(self) -> None:
        """Answer all waiting writes and refuse further ones."""
        await self._writer.close()

    def known_series(self, tenant: str) -> Container[bytes]:
        """The live container of the cached series keys; see the port."""
        return self._series.known_keys.tenant(tenant)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; see the port."""
        n_rows = len(batch)
        if (
            self._stats.rows_waiting > 0
            and self._stats.rows_waiting + n_rows > self._max_waiting_rows
        ):
            raise OverloadedError("too many samples are waiting to be written")
        self._stats.rows_waiting += n_rows
        try:
            await self._write_known(tenant, batch)
        except QueryTimeoutError as exc:
            raise StorageUnavailableError("the database did not finish the write in time") from exc
        finally:
            self._stats.rows_waiting -= n_rows

    async def _write_known(self, tenant: str, batch: WriteBatch) -> None:
        """Write; repeat when cached ids had to be dropped meanwhile."""
        for _ in range(_WRITE_ATTEMPTS - 1):
            with suppress(StaleKnowledgeError):
                return await self._write_admitted(tenant, batch)
        return await self._write_admitted(tenant, batch)

    async def _write_admitted(self, tenant: str, batch: WriteBatch) -> None:
        version = self._database.guard.version
        tenant_id = await self._database.tenants.find_or_create(tenant)
        if batch.metadata:
            await self._series.metadata.store(tenant_id, batch.metadata)
        if not len(batch):
            return
        in_bounds = (batch.timestamps >= MIN_TIMESTAMP_MS) & (batch.timestamps <= MAX_TIMESTAMP_MS)
        resolved = await self._series.resolver.resolve(
            tenant, tenant_id, batch, is_storable=in_bounds, version=version
        )
        rows, kept, rejection = _storable_rows(resolved, batch, in_bounds, version)
        if rejection is None:
            await self._write_rows(rows)
            return
        refused = dict.fromkeys(sorted({*range(len(batch))} - {*kept}), rejection)
        self._stats.rows_rejected += len(refused)
        try:
            if kept:
                await self._write_rows(rows)
        except WriteRejectedError as exc:
            raise exc.of_larger_batch(kept, refused) from exc
        raise WriteRejectedError(rejection, refused=refused)

    async def _write_rows(self, rows: SampleRows) -> None:
        rows = self._recent_stamps.assign(rows)
        changes = await self._threshold_watch.check(rows)
        try:
            await self._writer.write(rows, changes)
        except WriteRejectedError:
            self._threshold_watch.committed(changes)
            raise
        self._threshold_watch.committed(changes)

    @read_again
    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
    ) -> list[SampleBlock]:
        """One block for each selection, fetched side by side; see the port."""

        async def read() -> list[SampleBlock]:
            tenant_id = await self._database.tenants.find(tenant)
            if tenant_id is None:
                return [SampleBlock.empty() for _ in selections]
            return await self._reader.select(tenant_id, selections, check_bytes)

        return await self._database.guard.in_one_epoch(read)

    @read_again
    async def explain_select(
        self, tenant: str, selections: Sequence[SeriesSelection], depth: ExplanationDepth
    ) -> list[SelectionExplanation]:
        """How each selection is read; see the port."""

        async def explain() -> list[SelectionExplanation]:
            tenant_id = await self._database.tenants.find(tenant)
            return await self._explainer.explain(tenant_id, selections, depth)

        return await self._database.guard.in_one_epoch(explain)

    async def delete(self, tenant: str, selection: SeriesSelection) -> int:
        """Delete the samples of a selection; see the port."""
        bounds = TimeBounds.clamp(selection.start_ms + 1, selection.end_ms)
        tenant_id, ids = await self._database.guard.in_one_epoch(
            lambda: self._matching_ids(tenant, selection)
        )
        if tenant_id is None or bounds.is_empty:
            return 0
        async with acquired(self._database.write_pool) as connection:
            return await delete_samples(connection, tenant_id, ids, bounds)

    @read_again
    async def _matching_ids(
        self, tenant: str, selection: SeriesSelection
    ) -> tuple[int | None, list[int]]:
        """The tenant's id (None if it never wrote) and those of the selected series."""
        tenant_id, reader = await self._database.tenants.find(tenant), self._series.reader
        if tenant_id is None:
            return None, []
        async with acquired(self._database.read_pool) as connection:
            generation = await reader.generation(connection, tenant_id)
            found = await reader.resolve(connection, tenant_id, selection.matchers, generation)
        return tenant_id, found.ids.tolist()

    @read_again
    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """Times of the first and last sample; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return None
        async with acquired(self._database.read_pool) as connection:
            first_ms, last_ms = await connection.fetchrow(_QUERIES["sample_bounds"], tenant_id)
        return None if first_ms is None else (first_ms, last_ms)

    @read_again
    async def late_writes(self, tenant: str, first_day: int, last_day: int) -> dict[int, int]:
        """How often samples of each day were changed late; see `LateWriteReader`."""

        async def read() -> dict[int, int]:
            tenant_id = await self._database.tenants.find(tenant)
            if tenant_id is None:
                return {}
            first, last = clamp_day(first_day), clamp_day(last_day)
            async with acquired(self._database.read_pool) as connection:
                row = await connection.fetchrow(_QUERIES["late_writes"], tenant_id, first, last)
            self._database.guard.check_read(row["epoch"])
            return dict(zip(row["days"] or (), row["late_writes"] or (), strict=True))

        return await self._database.guard.in_one_epoch(read)

    async def ping(self) -> None:
        """Returns when the database answers; see the port."""
        await self._database.readiness.check()


def _sample_writer(
    database: Database,
    partitions: SamplePartitions | None,
    stats: StorageStats,
    options: StorageOptions,
) -> SampleWriter:
    if partitions is not None:
        database.guard.on_step_back(partitions.forget)
    committer = SampleCommitter(
        database.write_pool, partitions, stats, database.guard, options.now_ms
    )
    return SampleWriter(committer, options.group_commit, stats)


def _read_planner(options: StorageOptions, rows_kept: int, *, is_plain: bool) -> ReadPlanner:
    return ReadPlanner(
        SAMPLE_TABLE,
        options.pushdown,
        probe_us=PLAIN_PROBE_US if is_plain else TIMESCALEDB_PROBE_US,
        rows_kept=rows_kept,
        max_samples=options.max_samples,
        max_bytes=options.max_memory_bytes,
        now_ms=options.now_ms,
    )


def _storable_rows(
    resolved: ResolvedBatch, batch: WriteBatch, in_bounds: BoolArray, version: int
) -> tuple[SampleRows, Sequence[int], str | None]:
    """The rows that can be stored, their places in the batch, and why the others cannot."""
    rows = SampleRows(
        resolved.series_ids,
        batch.timestamps,
        batch.values.view(np.uint64),
        batch.server_timed,
        version,
    )
    is_storable = in_bounds & (resolved.series_ids != UNKNOWN_ID)
    if is_storable.all():
        return rows, range(len(batch)), None
    rejection = "out of bounds" if not in_bounds.all() else resolved.rejection
    kept = np.flatnonzero(is_storable)
    return rows.take(kept), kept.tolist(), rejection


def _conforms(store: RowStore) -> tuple[Store, LateWriteReader]:
    """Checked by mypy: the store has the shape of its ports."""
    return store, store
