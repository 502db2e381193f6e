"""Puts together what a process needs to store samples and to find their series."""

from dataclasses import dataclass

from sql.caching.series_cache import LabelsCache, SeriesCache
from sql.database.connection_pool import acquired
from sql.database.database import Database, DatabaseOptions
from sql.database.storage_stats import StorageStats
from sql.definitions.sample_lookup import SampleLookup
from sql.definitions.threshold_watch import ThresholdWatch
from sql.samples.list_reader import PostgresSampleListReader
from sql.samples.probes import RowProbes
from sql.samples.row_lookup import RowLookup
from sql.samples.row_store import RowStore
from sql.samples.sample_table import is_partitioned
from sql.samples.series_access import SeriesAccess
from sql.samples.storage_options import StorageOptions
from sql.samples.store_choice import choose_store
from sql.series.catalogue import PostgresCatalogue
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import SeriesResolver


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricStorage:
    """The samples, series and metadata of one database, each behind its own port."""

    database: Database
    store: RowStore
    catalogue: PostgresCatalogue
    sample_lists: PostgresSampleListReader
    sample_lookup: SampleLookup
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
        return _build(database, chosen, creates_partitions)

    async def close(self) -> None:
        """Answer all waiting writes, then disconnect."""
        await self.store.close()
        await self.database.close()


def _build(database: Database, options: StorageOptions, creates_partitions: bool) -> MetricStorage:
    stats, lookup = StorageStats(), RowLookup(database.read_pool)
    watch = ThresholdWatch(
        database.write_pool, lookup, options.now_ms, options.alert_max_sample_age_ms
    )
    database.guard.on_step_back(watch.forget)
    eighth = options.series_cache_bytes // 8
    series = _series_access(database, watch, stats, options, eighth)
    probes = RowProbes(database.read_pool, series.reader)
    catalogue = PostgresCatalogue(database, series.reader, probes, eighth)
    return MetricStorage(
        database=database,
        store=RowStore(series, watch, stats, options, creates_partitions=creates_partitions),
        catalogue=catalogue,
        sample_lists=PostgresSampleListReader(
            database, lookup, catalogue.matching_ids, series.reader.labels_of
        ),
        sample_lookup=lookup,
        threshold_watch=watch,
        stats=stats,
    )


def _series_access(
    database: Database,
    watch: ThresholdWatch,
    stats: StorageStats,
    options: StorageOptions,
    eighth: int,
) -> SeriesAccess:
    """Keys get three eighths of the memory for series, and so do labels."""
    guard, known_keys, labels = database.guard, SeriesCache(3 * eighth), LabelsCache(3 * eighth)
    guard.subscribe(known_keys.forget)
    guard.on_step_back(labels.clear)
    return SeriesAccess(
        database=database,
        known_keys=known_keys,
        resolver=SeriesResolver(
            database.write_pool, known_keys, labels, stats, watch, options.label_limits, guard
        ),
        reader=SeriesReader(labels, stats, eighth, database.options.query_timeout_seconds, guard),
        metadata=MetadataWriter(database.write_pool),
    )
