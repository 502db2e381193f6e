"""The store of arrivals, the head and what is drained; see `promcompat.core.ports.Store`."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.model import IntArray, SampleBlock, SeriesSelection, WriteBatch
from promcompat.core.ports import ChangeReader, CheckBytes, Store, any_bytes
from promcompat.core.series_table import KnownSeries
from promcompat.core.texts.times import format_time_ms
from sql.caching.change_log import ChangeLogState
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.samples.arrivals.arrival_committer import ArrivalCommitter
from sql.samples.arrivals.arrival_log import ArrivalLog
from sql.samples.head.head import Head
from sql.samples.reading.drained_reader import DrainedReader
from sql.samples.reading.kept_times import KeptState, Retentions
from sql.samples.reading.lookup import SnapshotLookup
from sql.samples.reading.newest import first_and_last
from sql.samples.reading.sample_snapshot import ReadPools
from sql.samples.reading.selections import SnapshotSelections
from sql.samples.reading.snapshots import SampleSnapshots
from sql.samples.storage_options import StorageOptions
from sql.samples.tables.retention_classes import FOREVER
from sql.samples.writing.backlog import Backlog
from sql.samples.writing.batch_writer import BatchWriter
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.group_commit import GroupCommit
from sql.series.series_access import SeriesAccess

_LOGGER: Final = logging.getLogger(__name__)
_HEAD_PER_CACHE: Final = 4
"""Drained samples that were read lately may take a quarter of what the head may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSources:
    """What reads of samples share. `drained` reads what is stored for good."""

    log: ArrivalLog
    head: Head
    drained: DrainedReader
    snapshots: SampleSnapshots
    lookup: SnapshotLookup

    @classmethod
    def of(
        cls, database: Database, drained: DrainedReader, options: StorageOptions
    ) -> "SampleSources":
        """The sources of a database."""
        log = ArrivalLog(database.log_pool, database.guard)
        head = Head(log, database.question_pool, database.guard, max_bytes=options.max_head_bytes)
        retentions = Retentions(
            database.read_pool,
            options.retention_days or FOREVER,
            options.now_ms,
            options.rollup_retention_days,
        )
        database.guard.on_step_back(retentions.forget)
        pools = ReadPools(reads=database.read_pool, questions=database.question_pool)
        cache_bytes = options.max_head_bytes // _HEAD_PER_CACHE
        snapshots = SampleSnapshots(pools, head, drained, retentions, cache_bytes)
        database.guard.on_step_back(snapshots.cache.forget)
        lookup = SnapshotLookup(head, snapshots)
        return cls(log=log, head=head, drained=drained, snapshots=snapshots, lookup=lookup)


class ArrivalStore(Store, ChangeReader):
    """Samples as arrivals, which the head has in memory, and as what drains make of them."""

    def __init__(
        self,
        series: SeriesAccess,
        sources: SampleSources,
        threshold_watch: ThresholdWatch,
        stats: StorageStats,
        options: StorageOptions,
    ) -> None:
        self._database = series.database
        self._series = series
        self._stats = stats
        self._sources = sources
        self._writer = _batch_writer(series, sources, threshold_watch, stats, options)
        self._selections = SnapshotSelections(
            series.database.read_pool, series.reader, sources.snapshots, stats, options
        )

    async def close(self) -> None:
        """Answer all waiting writes and refuse further ones."""
        await self._writer.close()
        await self._sources.head.close()

    def known_series(self, tenant: str) -> KnownSeries:
        """The series in the cache; see the port."""
        return self._writer.known_series(tenant)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        """Store a batch; see the port. What nobody will see of it is counted and logged."""
        await self._writer.write_batch(tenant, batch)
        with suppress(StorageUnavailableError):
            await self._tell_unseen(tenant, batch)

    async def count_unseen(self, tenant: str, timestamps: IntArray) -> int:
        """See the port; 0 for a tenant that has written nothing yet."""
        tenant_id = self._database.tenants.known(tenant)
        if tenant_id is None:
            return 0
        return await self._sources.snapshots.unseen(tenant_id, timestamps)

    async def _tell_unseen(self, tenant: str, batch: WriteBatch) -> None:
        if n_unseen := await self.count_unseen(tenant, batch.timestamps):
            self._stats.samples_past_retention += n_unseen
            oldest = format_time_ms(int(batch.timestamps.min()))
            _LOGGER.warning(
                "samples past the retention of their tenant were written: nobody sees them",
                extra={"tenant": tenant, "samples": n_unseen, "oldest": oldest},
            )

    async def ask_ahead(self, tenant: str) -> float:
        """See the port."""
        asked_at = time.monotonic()
        tenant_id = self._database.tenants.known(tenant)
        if tenant_id is not None:
            await self._sources.head.ask_ahead(tenant_id)
        return asked_at

    @read_again
    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """One block for each selection, all of one snapshot; see the port."""

        async def read() -> list[SampleBlock]:
            tenant_id = await self._database.tenants.find(tenant)
            if tenant_id is None:
                return [SampleBlock.empty() for _ in selections]
            return await self._selections.select(tenant_id, selections, check_bytes, asked_at)

        return await self._database.guard.in_one_epoch(read)

    @read_again
    async def explain_select(
        self, tenant: str, selections: Sequence[SeriesSelection], depth: ExplanationDepth
    ) -> list[SelectionExplanation]:
        """How each selection is read; see the port."""

        async def explain() -> list[SelectionExplanation]:
            tenant_id = await self._database.tenants.find(tenant)
            return await self._selections.explain(tenant_id, selections, depth)

        return await self._database.guard.in_one_epoch(explain)

    @read_again
    async def sample_bounds(self, tenant: str) -> tuple[int, int] | None:
        """Times of the first and last sample; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return None
        async with acquired(self._database.read_pool) as connection:
            generation = await self._series.reader.generation(connection, tenant_id)
            every = await self._series.reader.resolve(connection, tenant_id, (), generation)
        return await first_and_last(self._sources.snapshots, tenant_id, every.ids)

    @read_again
    async def sample_state(
        self, tenant: str, start_ms: int, end_ms: int, *, asked_at: float | None = None
    ) -> KeptState:
        """What the head knows of changed samples; see `ChangeReader`."""

        async def read() -> KeptState:
            tenant_id = await self._database.tenants.find(tenant)
            head, tenant_ids = self._sources.head, [] if tenant_id is None else [tenant_id]
            view = await head.view(tenant_ids, asked_at)
            changes = ChangeLogState(head.changes, tenant_id, view.version)
            if tenant_id is None:
                return KeptState(changes, None)
            return KeptState(changes, await self._sources.snapshots.kept(view, tenant_id))

        return await self._database.guard.in_one_epoch(read)

    async def ping(self) -> None:
        """Returns when the database answers; see the port."""
        await self._database.readiness.check()


def _batch_writer(
    series: SeriesAccess,
    sources: SampleSources,
    threshold_watch: ThresholdWatch,
    stats: StorageStats,
    options: StorageOptions,
) -> BatchWriter:
    database = series.database
    policies = DuplicatePolicies(database.write_pool)
    database.guard.on_step_back(policies.forget_all)
    committer = ArrivalCommitter(sources.log, policies, sources.lookup)
    return BatchWriter(
        series,
        threshold_watch,
        GroupCommit(committer, options.group_commit, stats),
        stats,
        options.max_waiting_rows,
        Backlog(database.write_pool, options.backlog, stats),
        options.limits,
    )
