"""The PostgreSQL side of `promcompat.core.ports.MetricRepository`."""

from collections.abc import Callable, Collection, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from promcompat.core.errors import (
    OverloadedError,
    QueryTimeoutError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.label_limits import DEFAULT_LABEL_LIMITS, LabelLimits
from promcompat.core.model import (
    BoolArray,
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promcompat.core.ports import CheckBytes, MatcherSets, MetricRepository, any_bytes
from promql.budget import DEFAULT_MAX_BYTES
from sql.caching.late_writes import clamp_day, wall_clock_ms
from sql.caching.series_cache import UNKNOWN_ID, LabelsCache, SeriesCache
from sql.catalog import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS
from sql.database.connection_pool import acquired, read_again
from sql.database.copy_format import SampleRows
from sql.database.database import Database, DatabaseOptions
from sql.database.installation_guard import (
    StaleKnowledgeError,
)
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.pushdown.read_planner import PLAIN_PROBE_US, TIMESCALEDB_PROBE_US, ReadPlanner
from sql.pushdown.rule_choice import PushdownMode
from sql.query_loader import load_queries
from sql.samples.block_cache import BlockCache
from sql.samples.committer import SampleCommitter
from sql.samples.list_reader import PostgresSampleListReader
from sql.samples.probes import RowProbes
from sql.samples.read_explainer import ReadExplainer
from sql.samples.reader import SampleReader
from sql.samples.sample_cache import SampleCache
from sql.samples.sample_table import SAMPLE_TABLE, SamplePartitions, is_partitioned
from sql.samples.server_timestamps import RecentStamps
from sql.samples.writer import GroupCommitOptions, SampleWriter
from sql.series.catalogue import SeriesCatalogue
from sql.series.metadata import MetadataStore
from sql.series.reader import SeriesReader
from sql.series.resolver import ResolvedBatch, SeriesResolver

T = TypeVar("T")
_QUERIES: Final = load_queries("samples")
_WRITE_ATTEMPTS: Final = 3
_BLOCKS_SHARE: Final = 8
"""Of what is kept of samples, the part for selections of the present moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """What can be set of the storage adapter; every queue and cache has a bound.

    `max_waiting_rows` bounds the rows of all unanswered writes together. `series_cache_bytes` is
    for all that is remembered of series: keys, labels, selectors and lists. `max_samples` and
    `max_memory_bytes` bound one query, `sample_cache_bytes` what is kept of samples that were read
    (0: nothing).
    `now_ms` is the clock that says which samples come late. A sample older than
    `alert_max_sample_age_ms` when it is written raises no alert of a threshold (0: of any age).
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


class PostgresMetricRepository:
    """Samples, series and metadata in PostgreSQL, with or without TimescaleDB."""

    def __init__(
        self, database: Database, options: StorageOptions, *, creates_partitions: bool
    ) -> None:
        """Use `open`."""
        self.database = database
        self.stats = StorageStats()
        write_pool, read_pool, guard = database.write_pool, database.read_pool, database.guard
        self._max_waiting_rows = options.max_waiting_rows
        eighth = options.series_cache_bytes // 8
        self._series_cache = SeriesCache(3 * eighth)
        self._labels_cache = labels_cache = LabelsCache(3 * eighth)
        self._metadata = MetadataStore(write_pool, read_pool)
        self.threshold_watch = ThresholdWatch(
            write_pool, options.now_ms, options.alert_max_sample_age_ms
        )
        self._resolver = SeriesResolver(
            write_pool,
            self._series_cache,
            labels_cache,
            self.stats,
            self.threshold_watch,
            options.label_limits,
            guard,
        )
        self._partitions = SamplePartitions() if creates_partitions else None
        committer = SampleCommitter(write_pool, self._partitions, self.stats, guard, options.now_ms)
        self._recent_stamps = RecentStamps()
        self._writer = SampleWriter(committer, options.group_commit, self.stats)
        self._series_reader = SeriesReader(
            labels_cache, self.stats, eighth, database.options.query_timeout_seconds, guard
        )
        self._catalogue = SeriesCatalogue(database, self._series_reader, RowProbes(), eighth)
        block_bytes = options.sample_cache_bytes // _BLOCKS_SHARE
        sample_cache = SampleCache(options.sample_cache_bytes - block_bytes, self.stats)
        planner = _read_planner(options, sample_cache.most_samples, is_plain=creates_partitions)
        self._sample_reader = SampleReader(
            read_pool,
            self._series_reader,
            self.stats,
            planner,
            sample_cache,
            BlockCache(block_bytes, self.stats),
            max_samples=options.max_samples,
            max_bytes=options.max_memory_bytes,
            now_ms=options.now_ms,
        )
        self._read_explainer = ReadExplainer(
            read_pool, self._series_reader, planner, max_samples=options.max_samples
        )
        guard.subscribe(self._forget)

    @classmethod
    async def open(
        cls,
        dsn: str,
        options: StorageOptions | None = None,
        database_options: DatabaseOptions | None = None,
    ) -> "PostgresMetricRepository":
        """Connect to a migrated database.

        Raises DatabaseRefusedError when that can never succeed, and StorageUnavailableError when
        it does not answer now or is not migrated.
        """
        database = await Database.open(dsn, database_options)
        try:
            async with acquired(database.write_pool) as connection:
                creates_partitions = await is_partitioned(connection)
        except BaseException:
            await database.close()
            raise
        return cls(database, options or StorageOptions(), creates_partitions=creates_partitions)

    async def close(self) -> None:
        """Answer all waiting writes, then disconnect."""
        await self._writer.close()
        await self.database.close()

    def _forget(self, removed: Collection[int] | None) -> None:
        self._series_cache.forget(removed)
        if removed is not None:
            return
        self._labels_cache.clear()
        self.threshold_watch.forget()
        if self._partitions is not None:
            self._partitions.forget()

    def known_series(self, tenant: str) -> Container[bytes]:
        """The live container of series keys that need no decoding; see the port."""
        return self._series_cache.tenant(tenant)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; see the port for what is raised when."""
        n_rows = len(batch)
        if (
            self.stats.rows_waiting > 0
            and self.stats.rows_waiting + n_rows > self._max_waiting_rows
        ):
            raise OverloadedError("too many samples are waiting to be written")
        self.stats.rows_waiting += n_rows
        try:
            await self._write_known(tenant, batch)
        except QueryTimeoutError as exc:
            raise StorageUnavailableError("the database did not finish the write in time") from exc
        finally:
            self.stats.rows_waiting -= n_rows

    async def _write_known(self, tenant: str, batch: WriteBatch) -> None:
        """Write; again when what was known of series had to be forgotten meanwhile."""
        for _ in range(_WRITE_ATTEMPTS - 1):
            with suppress(StaleKnowledgeError):
                return await self._write_admitted(tenant, batch)
        return await self._write_admitted(tenant, batch)

    async def _write_admitted(self, tenant: str, batch: WriteBatch) -> None:
        version = self.database.guard.version
        tenant_id = await self.database.tenants.find_or_create(tenant)
        if batch.metadata:
            await self._metadata.store(tenant_id, batch.metadata)
        if not len(batch):
            return
        in_bounds = (batch.timestamps >= MIN_TIMESTAMP_MS) & (batch.timestamps <= MAX_TIMESTAMP_MS)
        resolved = await self._resolver.resolve(
            tenant, tenant_id, batch, is_storable=in_bounds, version=version
        )
        rows, kept, rejection = _storable_rows(resolved, batch, in_bounds, version)
        if rejection is None:
            await self._write_rows(rows)
            return
        refused = dict.fromkeys(sorted({*range(len(batch))} - {*kept}), rejection)
        self.stats.rows_rejected += len(refused)
        try:
            if kept:
                await self._write_rows(rows)
        except WriteRejectedError as exc:
            raise exc.of_larger_batch(kept, refused) from exc
        raise WriteRejectedError(rejection, refused=refused)

    async def _write_rows(self, rows: SampleRows) -> None:
        rows = self._recent_stamps.assign(rows)
        changes = await self.threshold_watch.check(rows)
        try:
            await self._writer.write(rows, changes)
        except WriteRejectedError:
            self.threshold_watch.committed(changes)
            raise
        self.threshold_watch.committed(changes)

    @read_again
    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
    ) -> list[SampleBlock]:
        """One block for each selection, fetched side by side; see the port."""

        async def read() -> list[SampleBlock]:
            tenant_id = await self.database.tenants.find(tenant)
            if tenant_id is None:
                return [SampleBlock.empty() for _ in selections]
            return await self._sample_reader.select(tenant_id, selections, check_bytes)

        return await self.database.guard.in_one_epoch(read)

    @read_again
    async def explain_select(
        self, tenant: str, selections: Sequence[SeriesSelection], depth: ExplanationDepth
    ) -> list[SelectionExplanation]:
        """How each selection is read; see the port."""

        async def explain() -> list[SelectionExplanation]:
            tenant_id = await self.database.tenants.find(tenant)
            return await self._read_explainer.explain(tenant_id, selections, depth)

        return await self.database.guard.in_one_epoch(explain)

    @read_again
    async def late_writes(self, tenant: str, first_day: int, last_day: int) -> dict[int, int]:
        """How often days of samples were changed late; see `LateWriteReader`."""

        async def read() -> dict[int, int]:
            tenant_id = await self.database.tenants.find(tenant)
            if tenant_id is None:
                return {}
            first, last = clamp_day(first_day), clamp_day(last_day)
            async with acquired(self.database.read_pool) as connection:
                row = await connection.fetchrow(_QUERIES["late_writes"], tenant_id, first, last)
            self.database.guard.check_read(row["epoch"])
            return dict(zip(row["days"] or (), row["late_writes"] or (), strict=True))

        return await self.database.guard.in_one_epoch(read)

    @read_again
    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        """Label sets of live series; see the port."""
        found = await self.database.guard.in_one_epoch(
            lambda: self._catalogue.series(tenant, matcher_sets, start_ms, end_ms)
        )
        return _limited(found, limit)

    @read_again
    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """Times of the first and last sample; see the port."""
        tenant_id = await self.database.tenants.find(tenant)
        if tenant_id is None:
            return None
        async with acquired(self.database.read_pool) as connection:
            first_ms, last_ms = await connection.fetchrow(_QUERIES["sample_bounds"], tenant_id)
        return None if first_ms is None else (first_ms, last_ms)

    @read_again
    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        """Label names of live series; see the port."""
        found = await self.database.guard.in_one_epoch(
            lambda: self._catalogue.label_names(tenant, matcher_sets, start_ms, end_ms)
        )
        return _limited(found, limit)

    @read_again
    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        """Values of one label among live series; see the port."""
        found = await self.database.guard.in_one_epoch(
            lambda: self._catalogue.label_values(tenant, name, matcher_sets, start_ms, end_ms)
        )
        return _limited(found, limit)

    @read_again
    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """Metadata of one family or all; see the port."""
        tenant_id = await self.database.tenants.find(tenant)
        return [] if tenant_id is None else await self._metadata.list(tenant_id, family)

    def sample_list_reader(self) -> PostgresSampleListReader:
        """What lists single samples and metric names of this database."""
        return PostgresSampleListReader(
            self.database, self._catalogue.matching_ids, self._series_reader.labels_of
        )

    async def ping(self) -> None:
        """Returns when the database answers; see the port."""
        await self.database.readiness.check()


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


def _limited(values: list[T], limit: int) -> list[T]:
    return values[:limit] if limit > 0 else values


def _conforms(repository: PostgresMetricRepository) -> MetricRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
