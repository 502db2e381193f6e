"""Puts together what a process needs to store samples and to find their series."""

from dataclasses import dataclass
from typing import Protocol, Self, assert_never

from promcompat.core.corrections import CorrectionRepository
from promcompat.core.ports import ChangeReader, MaintenanceRepository, Store
from sql.caching.series_cache import LabelsCache, SeriesCache
from sql.database.connection_pool import acquired
from sql.database.database import Database, DatabaseOptions
from sql.database.storage_stats import StorageStats
from sql.definitions.sample_lookup import SampleLookup
from sql.definitions.threshold_watch import ThresholdWatch
from sql.samples.corrections.repository import PostgresCorrections
from sql.samples.corrections.steps import CorrectionSources
from sql.samples.draining.drains import Drains
from sql.samples.head.head import Head
from sql.samples.reading.block_lookup import BlockLookup
from sql.samples.reading.block_probes import BlockProbes
from sql.samples.reading.list_reader import PostgresSampleListReader
from sql.samples.reading.row_lookup import RowLookup
from sql.samples.reading.row_probes import RowProbes
from sql.samples.storage_options import StorageOptions, StoreKind
from sql.samples.store_choice import choose_store
from sql.samples.stores.block_maintenance import BlockMaintenanceRepository
from sql.samples.stores.block_store import BlockSources, BlockStore
from sql.samples.stores.maintenance_repository import PostgresMaintenanceRepository
from sql.samples.stores.rollup_work import Rollups
from sql.samples.stores.row_store import RowStore
from sql.samples.tables.sample_table import is_partitioned
from sql.samples.writing.backlog import Backlog
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.series_access import SeriesAccess
from sql.series.catalogue import PostgresCatalogue, SampleProbes
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import SeriesResolver


class SampleStore(Store, ChangeReader, Protocol):
    """A store that can be closed."""

    async def close(self) -> None:
        """Answer all waiting writes and refuse further ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStorage:
    """The samples, series and metadata of one database, each behind its own port.

    `head` has undrained arrivals in memory, `drains` moves them into blocks, and `corrections` are
    such arrivals; None in the row store.
    """

    database: Database
    store: SampleStore
    catalogue: PostgresCatalogue
    sample_lists: PostgresSampleListReader
    sample_lookup: SampleLookup
    maintenance: MaintenanceRepository
    corrections: CorrectionRepository | None
    head: Head | None
    drains: Drains | None
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
    watch: ThresholdWatch
    series: SeriesAccess

    @classmethod
    def of(cls, database: Database, options: StorageOptions, lookup: SampleLookup) -> Self:
        stats = StorageStats()
        watch = ThresholdWatch(
            database.write_pool, lookup, options.now_ms, options.alert_max_sample_age_ms
        )
        database.guard.on_step_back(watch.forget)
        series = _series_access(database, watch, stats, options)
        return cls(database, options, stats, watch, series)

    def storage(
        self,
        store: SampleStore,
        probes: SampleProbes,
        lookup: RowLookup | BlockLookup,
        maintenance: MaintenanceRepository,
        sources: BlockSources | None = None,
        drains: Drains | None = None,
        rollups: Rollups | None = None,
    ) -> MetricStorage:
        """The storage around a store."""
        database, reader = self.database, self.series.reader
        eighth = self.options.series_cache_bytes // 8
        catalogue = PostgresCatalogue(database, reader, probes, eighth)
        return MetricStorage(
            database=database,
            store=store,
            catalogue=catalogue,
            sample_lists=PostgresSampleListReader(
                database, lookup, catalogue.matching_ids, reader.labels_of
            ),
            sample_lookup=lookup,
            maintenance=maintenance,
            corrections=None
            if sources is None or drains is None
            else PostgresCorrections(
                self._correction_sources(sources), catalogue.matching_ids, drains
            ),
            head=None if sources is None else sources.head,
            drains=drains,
            rollups=rollups,
            threshold_watch=self.watch,
            stats=self.stats,
        )

    def _correction_sources(self, sources: BlockSources) -> CorrectionSources:
        pool, guard = self.database.write_pool, self.database.guard
        policies = DuplicatePolicies(pool)
        guard.on_step_back(policies.forget_all)
        return CorrectionSources(
            series=self.series,
            log=sources.log,
            snapshots=sources.snapshots,
            policies=policies,
            backlog=Backlog(pool, self.options.backlog, self.stats),
        )


def _row_storage(
    database: Database, options: StorageOptions, creates_partitions: bool
) -> MetricStorage:
    lookup = RowLookup(database.read_pool)
    shared = _Shared.of(database, options, lookup)
    return shared.storage(
        RowStore(
            shared.series,
            shared.watch,
            shared.stats,
            options,
            creates_partitions=creates_partitions,
        ),
        RowProbes(database.read_pool, shared.series.reader),
        lookup,
        PostgresMaintenanceRepository(database),
    )


def _block_storage(database: Database, options: StorageOptions) -> MetricStorage:
    drains = Drains.of(database.write_pool, options.drains, options.now_ms)
    rollups = Rollups(database.write_pool, drains.drainer, drains.stats, options.now_ms)
    sources = BlockSources.of(database, options.max_head_bytes, drains.stats)
    shared = _Shared.of(database, options, sources.lookup)
    return shared.storage(
        BlockStore(shared.series, sources, shared.watch, shared.stats, options),
        BlockProbes(database.read_pool, sources.snapshots, shared.series.reader),
        sources.lookup,
        BlockMaintenanceRepository(database, sources, drains),
        sources,
        drains,
        rollups,
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
    guard, known_keys, labels = database.guard, SeriesCache(4 * eighth), LabelsCache(2 * eighth)
    guard.subscribe(known_keys.forget)
    guard.on_step_back(labels.clear)
    return SeriesAccess(
        database=database,
        known_keys=known_keys,
        resolver=SeriesResolver(
            database.write_pool, known_keys, stats, watch, options.label_limits, guard
        ),
        reader=SeriesReader(labels, stats, eighth, database.options.query_timeout_seconds, guard),
        metadata=MetadataWriter(database.write_pool),
    )
