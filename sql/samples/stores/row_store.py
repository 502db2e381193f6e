"""The store that keeps one row for each sample; see `promcompat.core.ports.Store`."""

from collections.abc import Sequence
from typing import Final

from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.model import SampleBlock, SeriesSelection, WriteBatch
from promcompat.core.ports import ChangeReader, CheckBytes, Store, any_bytes
from promcompat.core.series_table import KnownSeries
from sql.caching.late_writes import CACHEABLE_AFTER_MS, LateWriteState, clamp_day
from sql.catalog import MS_PER_DAY, TimeBounds
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.pushdown.read_planner import PLAIN_PROBE_US, TIMESCALEDB_PROBE_US, ReadPlanner
from sql.query_loader import load_queries
from sql.samples.reading.read_explainer import ReadExplainer
from sql.samples.reading.reader import RowReader
from sql.samples.reading.sample_cache import SampleCache
from sql.samples.storage_options import StorageOptions
from sql.samples.stores.committer import SampleCommitter, spans_many_days
from sql.samples.tables.deletion import delete_samples
from sql.samples.tables.sample_table import SAMPLE_TABLE, SamplePartitions
from sql.samples.writing.batch_writer import BatchWriter
from sql.samples.writing.series_access import SeriesAccess
from sql.samples.writing.writer import SampleWriter

_QUERIES: Final = load_queries("samples")


class RowStore:
    """Samples as rows of a hypertable or of a table with a partition for each day."""

    def __init__(
        self,
        series: SeriesAccess,
        threshold_watch: ThresholdWatch,
        stats: StorageStats,
        options: StorageOptions,
        *,
        creates_partitions: bool,
    ) -> None:
        """`creates_partitions`: the table is a plain one, see `sample_table.is_partitioned`."""
        database = series.database
        self._database = database
        self._now_ms = options.now_ms
        self._series = series
        partitions = SamplePartitions() if creates_partitions else None
        self._writer = BatchWriter(
            series,
            threshold_watch,
            _sample_writer(database, partitions, stats, options),
            stats,
            options.max_waiting_rows,
        )
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

    def known_series(self, tenant: str) -> KnownSeries:
        """The series in the cache; see the port."""
        return self._writer.known_series(tenant)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; see the port."""
        await self._writer.write_batch(tenant, batch)

    @read_again
    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
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
        tenant_id, ids = await self._series.selected_ids(tenant, selection)
        if tenant_id is None or bounds.is_empty:
            return 0
        async with acquired(self._database.write_pool) as connection:
            return await delete_samples(connection, tenant_id, ids.tolist(), bounds)

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
    async def sample_state(
        self, tenant: str, start_ms: int, end_ms: int, *, asked_at: float | None = None
    ) -> LateWriteState:
        """How often samples were changed late; see `ChangeReader`."""
        # Read the clock before the counts: a write in between then makes an entry smaller or
        # invalid, never wrong.
        settled_ms = self._now_ms() - CACHEABLE_AFTER_MS
        days = clamp_day(start_ms // MS_PER_DAY), clamp_day(end_ms // MS_PER_DAY)

        async def read() -> LateWriteState:
            tenant_id = await self._database.tenants.find(tenant)
            if tenant_id is None:
                return LateWriteState(settled_ms, self._database.guard.epoch_number, {})
            async with acquired(self._database.read_pool) as connection:
                row = await connection.fetchrow(_QUERIES["late_writes"], tenant_id, *days)
            epoch = self._database.guard.check_read(row["epoch"])
            counts = dict(zip(row["days"] or (), row["late_writes"] or (), strict=True))
            return LateWriteState(settled_ms, epoch, counts)

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
    return SampleWriter(committer, options.group_commit, stats, spans_many_days)


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


def _conforms(store: RowStore) -> tuple[Store, ChangeReader]:
    """Checked by mypy: the store has the shape of its ports."""
    return store, store
