"""The maintenance of the block store; see `promcompat.core.ports.MaintenanceRepository`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import numpy as np

from promcompat.core.maintenance import OrphanSeries, RetainedMetric, SampleChunk, StaleHours
from promcompat.core.model import IntArray
from promcompat.core.ports import MaintenanceRepository, MaintenanceSteps
from sql.catalog import MS_PER_DAY
from sql.database.connection_pool import Connection, translated_errors
from sql.database.database import Database
from sql.query_loader import load_queries
from sql.samples.draining.block_retention import BlockRetention
from sql.samples.draining.drains import Drains
from sql.samples.reading.newest import ALL_TIMES
from sql.samples.stores.block_store import BlockSources
from sql.samples.stores.maintenance_repository import (
    SERIES_LOOKED_AT,
    PostgresMaintenanceSteps,
    maintenance_lock,
)
from sql.samples.tables.deletion import limited_transaction

_QUERIES: Final = {
    **load_queries("maintenance"),
    **load_queries("series"),
    **load_queries("samples"),
    "bounds_of_all_samples": load_queries("blocks")["bounds_of_all_samples"],
}
_SERIES_REMOVED_AT_ONCE: Final = 1_000
_NO_HOUR_LEFT_MS: Final = 1 << 62


class BlockMaintenanceRepository:
    """Maintenance on a connection of the write pool, and in snapshots of the block store."""

    def __init__(self, database: Database, sources: BlockSources, drains: Drains) -> None:
        self._database = database
        self._sources = sources
        self._retention = BlockRetention(database.write_pool, drains.drainer)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        """Hold the lock of maintenance; see the port."""
        async with maintenance_lock(self._database.write_pool) as connection:
            if connection is None:
                yield None
            else:
                yield BlockMaintenanceSteps(connection, self._sources, self._retention)


class BlockMaintenanceSteps:
    """Steps of maintenance of the block store.

    `metrics_hourly` computes its hours when somebody reads them, so none are computed here.
    """

    def __init__(
        self, connection: Connection, sources: BlockSources, retention: BlockRetention
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._retention = retention
        self._of_any_store = PostgresMaintenanceSteps(connection)

    async def fit_edition(self) -> None:
        """Make rollups and policies fit the edition; see the port."""
        await self._of_any_store.fit_edition()

    async def retained_metrics(self) -> list[RetainedMetric]:
        """Metrics with a retention; see the port."""
        return await self._of_any_store.retained_metrics()

    async def drop_days_before(self, before_ms: int) -> int:
        """Drop whole UTC days before a time, those far from now too; see the port."""
        return await self._retention.drop_before(before_ms // MS_PER_DAY)

    async def chunks(self) -> list[SampleChunk]:
        """All samples as one chunk, which is never dropped as such; see `drop_days_before`."""
        with translated_errors():
            row = await self._connection.fetchrow(_QUERIES["bounds_of_all_samples"])
        if row["first_ms"] is None:
            return []
        return [SampleChunk(0, "blocks", row["first_ms"], row["last_ms"] + 1)]

    async def empty_chunks(self, ends_before_ms: int) -> list[SampleChunk]:
        """None: compaction leaves no day without samples behind."""
        return []

    async def drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        """Nothing; see `drop_days_before`."""
        return False

    async def orphan_series(self, after_id: int) -> OrphanSeries | None:
        """Series without samples; see the port."""
        async with limited_transaction(self._connection):
            rows = await self._connection.fetch(
                _QUERIES["series_after"], after_id, SERIES_LOOKED_AT
            )
        if not rows:
            return None
        tenant_ids = np.array([row["tenant_id"] for row in rows], np.int64)
        ids = np.array([row["id"] for row in rows], np.int64)
        orphans = await self._without_samples(tenant_ids, ids)
        return OrphanSeries(int(ids[-1]), orphans.tolist())

    async def remove_series(self, series_ids: Sequence[int]) -> int:
        """Remove series; see the port. Writers wait meanwhile, so it removes few at a time.

        What writers appended before they had to wait is in the snapshot that decides.
        """
        n_removed = 0
        for start in range(0, len(series_ids), _SERIES_REMOVED_AT_ONCE):
            some = series_ids[start : start + _SERIES_REMOVED_AT_ONCE]
            async with limited_transaction(self._connection):
                await self._connection.execute(_QUERIES["lock_series"])
                rows = await self._connection.fetch(_QUERIES["tenants_of_series"], some)
                tenant_ids = np.array([row["tenant_id"] for row in rows], np.int64)
                ids = np.array([row["id"] for row in rows], np.int64)
                orphans = await self._without_samples(tenant_ids, ids)
                n_removed += await self._connection.fetchval(
                    _QUERIES["remove_series"], orphans.tolist()
                )
        return n_removed

    async def _without_samples(self, tenant_ids: IntArray, ids: IntArray) -> IntArray:
        """Those of some series (ascending ids) that have neither a recent nor a drained sample."""
        sources, used = self._sources, [np.empty(0, np.int64)]
        tenants = np.unique(tenant_ids).tolist()
        async with sources.snapshots.open_transaction(tenants) as snapshot:
            for tenant_id in tenants:
                some = ids[tenant_ids == tenant_id]
                view = await sources.head.complete(
                    snapshot.view, snapshot.connection, tenant_id, some, *ALL_TIMES
                )
                used.append(view.newest(tenant_id, some).ids)
                used.append(
                    await sources.blocks.stored_series(snapshot.connection, tenant_id, some)
                )
        return np.setdiff1d(ids, np.concatenate(used))

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        """None; see the class."""
        return []

    async def compute_again(self, stale: StaleHours) -> None:
        """Nothing; see the class."""

    async def hours_computed_before(self) -> int | None:
        """The end of time; see the class."""
        return _NO_HOUR_LEFT_MS

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        """Nothing; see the class."""

    async def hours_are_computed(self, before_ms: int) -> None:
        """Nothing; see the class."""


def _conforms(repository: BlockMaintenanceRepository) -> MaintenanceRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
