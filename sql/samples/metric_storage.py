"""Puts together what a process needs to store samples and to find their series."""

from dataclasses import dataclass
from functools import partial
from typing import Final, Self, assert_never

from promcompat.core.corrections import CorrectionRepository
from promcompat.core.ports import MaintenanceRepository
from sql.caching.series_cache import LabelsCache, SeriesCache, run_in_thread
from sql.database.connection_pool import acquired
from sql.database.database import Database, DatabaseOptions
from sql.database.storage_stats import StorageStats
from sql.definitions.sample_lookup import SampleLookup
from sql.definitions.threshold_watch import ThresholdWatch
from sql.pushdown.read_planner import PLAIN_PROBE_US, TIMESCALEDB_PROBE_US, ReadPlanner
from sql.query_loader import load_queries
from sql.samples.corrections.repository import PostgresCorrections
from sql.samples.corrections.steps import CorrectionSources
from sql.samples.draining.drains import Drains
from sql.samples.head.head import Head
from sql.samples.reading.block_reader import BlockReader
from sql.samples.reading.drained_cache import DrainedCacheStats
from sql.samples.reading.drained_reader import DrainedReader
from sql.samples.reading.kept_times import Retentions
from sql.samples.reading.list_reader import PostgresSampleListReader
from sql.samples.reading.probes import SnapshotProbes
from sql.samples.reading.row_reader import RowReader
from sql.samples.storage_options import StorageOptions, StoreKind
from sql.samples.store_choice import choose_store
from sql.samples.stores.arrival_store import ArrivalStore, SampleSources
from sql.samples.stores.block_steps import block_steps
from sql.samples.stores.maintenance_repository import StepMaker, StoreMaintenance
from sql.samples.stores.rollup_work import Rollups
from sql.samples.stores.row_steps import row_steps
from sql.samples.stores.store_steps import UnusedSeries
from sql.samples.tables.retention_classes import FOREVER
from sql.samples.tables.sample_table import SAMPLE_TABLE, SamplePartitions, is_partitioned
from sql.samples.writing.backlog import Backlog
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.series.catalogue import PostgresCatalogue
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import SeriesResolver
from sql.series.series_access import SeriesAccess
from sql.series.starts import SeriesStarts

_RETENTION: Final = load_queries("retention")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStorage:
    """The samples, series and metadata of one database, each behind its own port.

    `head` has undrained arrivals in memory, `drains` moves them into blocks or rows, and
    `corrections` are such arrivals. `drained_cache` tells what of the drained ones is in memory.
    """

    database: Database
    store: ArrivalStore
    catalogue: PostgresCatalogue
    sample_lists: PostgresSampleListReader
    sample_lookup: SampleLookup
    maintenance: MaintenanceRepository
    corrections: CorrectionRepository
    head: Head
    drained_cache: DrainedCacheStats
    drains: Drains
    rollups: Rollups | None
    threshold_watch: ThresholdWatch
    stats: StorageStats

    @classmethod
    async def open(
        cls,
        url: str,
        options: StorageOptions | None = None,
        database_options: DatabaseOptions | None = None,
    ) -> "MetricStorage":
        """Connect to a migrated database; errors as in `Database.open` and `choose_store`."""
        chosen = options or StorageOptions()
        database = await Database.open(url, database_options)
        try:
            async with acquired(database.write_pool) as connection:
                kind = await choose_store(connection, chosen.store)
                database.guard.expect_store(kind)
                await database.guard.refresh(connection)
                await database.guard.tell(connection)
                if chosen.retention_days is not None:
                    await connection.execute(
                        _RETENTION["set_service_retention"],
                        chosen.retention_days,
                        chosen.rollup_retention_days,
                    )
                creates_partitions = await is_partitioned(connection)
        except BaseException:
            await database.close()
            raise
        match kind:
            case StoreKind.ROWS:
                return _row_storage(database, chosen, creates_partitions)
            case StoreKind.BLOCKS:
                return _block_storage(database, chosen)
            case _:
                assert_never(kind)

    async def close(self) -> None:
        """Answer all waiting writes, then disconnect."""
        await self.store.close()
        await self.database.close()


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the parts of either store are built from."""

    database: Database
    options: StorageOptions
    stats: StorageStats
    sources: SampleSources
    watch: ThresholdWatch
    series: SeriesAccess

    @classmethod
    def of(cls, database: Database, options: StorageOptions, drained: DrainedReader) -> Self:
        stats = StorageStats()
        sources = SampleSources.of(database, drained, options)
        watch = ThresholdWatch(
            database.write_pool, sources.lookup, options.now_ms, options.alert_max_sample_age_ms
        )
        database.guard.on_step_back(watch.forget)
        series = _series_access(database, watch, stats, options)
        return cls(database, options, stats, sources, watch, series)

    def storage(
        self,
        drains: Drains,
        make_steps: StepMaker,
        rollups: Rollups | None = None,
    ) -> MetricStorage:
        """The storage whose arrivals are drained by `drains`."""
        database, reader, sources = self.database, self.series.reader, self.sources
        eighth = self.options.series_cache_bytes // 8
        probes = SnapshotProbes(database.read_pool, sources.snapshots, reader)
        catalogue = PostgresCatalogue(database, reader, probes, eighth)
        unused = UnusedSeries(sources)
        return MetricStorage(
            database=database,
            store=ArrivalStore(self.series, sources, self.watch, self.stats, self.options),
            catalogue=catalogue,
            sample_lists=PostgresSampleListReader(
                database, sources.lookup, catalogue.matching_ids, reader.labels_of
            ),
            sample_lookup=sources.lookup,
            maintenance=StoreMaintenance(database.write_pool, unused, make_steps),
            corrections=PostgresCorrections(
                self._correction_sources(), catalogue.matching_ids, drains
            ),
            head=sources.head,
            drained_cache=sources.snapshots.cache.stats,
            drains=drains,
            rollups=rollups,
            threshold_watch=self.watch,
            stats=self.stats,
        )

    def _correction_sources(self) -> CorrectionSources:
        pool, guard = self.database.write_pool, self.database.guard
        policies = DuplicatePolicies(pool)
        guard.on_step_back(policies.forget_all)
        return CorrectionSources(
            series=self.series,
            log=self.sources.log,
            snapshots=self.sources.snapshots,
            policies=policies,
            backlog=Backlog(pool, self.options.backlog, self.stats),
        )


def _row_storage(
    database: Database, options: StorageOptions, creates_partitions: bool
) -> MetricStorage:
    partitions = SamplePartitions() if creates_partitions else None
    if partitions is not None:
        database.guard.on_step_back(partitions.forget)
    planner = ReadPlanner(
        SAMPLE_TABLE,
        options.pushdown,
        probe_us=PLAIN_PROBE_US if creates_partitions else TIMESCALEDB_PROBE_US,
        max_samples=options.max_samples,
        max_bytes=options.max_memory_bytes,
        now_ms=options.now_ms,
    )
    drains = Drains.into_rows(database.write_pool, options.drains, options.now_ms, partitions)
    shared = _Shared.of(database, options, RowReader(planner))
    return shared.storage(drains, partial(row_steps, database.write_pool, drains))


def _block_storage(database: Database, options: StorageOptions) -> MetricStorage:
    drains = Drains.into_blocks(database.write_pool, options.drains, options.now_ms)
    rollups = _rollups(database, drains, options)
    shared = _Shared.of(database, options, BlockReader(drains.stats))
    days = options.rollup_retention_days
    steps = partial(block_steps, database.write_pool, drains, rollups, days)
    return shared.storage(drains, steps, rollups)


def _rollups(database: Database, drains: Drains, options: StorageOptions) -> Rollups:
    retentions, rollup_days = None, options.rollup_retention_days
    if rollup_days is not None:
        days = options.retention_days or FOREVER
        retentions = Retentions(database.write_pool, days, options.now_ms, rollup_days)
    return Rollups(
        database.write_pool,
        drains.drainer,
        drains.stats,
        options.now_ms,
        retentions=retentions,
    )


def _series_access(
    database: Database,
    watch: ThresholdWatch,
    stats: StorageStats,
    options: StorageOptions,
) -> SeriesAccess:
    """Keys get half of the memory for series, and labels a quarter.

    A worker needs the key of every series that is written, but labels only of those that are read.
    """
    eighth = options.series_cache_bytes // 8
    guard, labels = database.guard, LabelsCache(2 * eighth)
    known_keys = SeriesCache(4 * eighth, run_in_thread)
    guard.subscribe(known_keys.forget)
    metadata, starts = MetadataWriter(database.write_pool), SeriesStarts(database.write_pool)
    guard.on_step_back(labels.clear)
    guard.on_step_back(metadata.forget)
    guard.on_step_back(starts.forget)
    return SeriesAccess(
        database=database,
        known_keys=known_keys,
        resolver=SeriesResolver(
            database.write_pool, known_keys, stats, watch, options.limits, guard
        ),
        reader=SeriesReader(labels, stats, eighth, database.options.query_timeout_seconds, guard),
        metadata=metadata,
        starts=starts,
    )
