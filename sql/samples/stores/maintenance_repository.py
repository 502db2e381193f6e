"""The PostgreSQL side of `promcompat.core.ports.MaintenanceRepository`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import numpy as np

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.maintenance import OrphanSeries, RetainedMetric, SampleChunk, StaleHours
from promcompat.core.model import IntArray
from promcompat.core.ports import MaintenanceRepository, MaintenanceSteps
from sql.catalog import MS_PER_HOUR
from sql.database.connection_pool import Connection, Pool, acquired, translated_errors
from sql.database.database import Database
from sql.query_loader import load_queries
from sql.samples.reading.newest import ALL_TIMES
from sql.samples.stores.arrival_store import SampleSources
from sql.samples.tables.step_limits import CLIENT_SECONDS, limit_step, limited_transaction

_QUERIES: Final = {
    **load_queries("maintenance"),
    **load_queries("series"),
    **load_queries("samples"),
}
_LOOKED_AT: Final = 5_000
"""Series whose samples are looked for at once."""
_SERIES_REMOVED_AT_ONCE: Final = 1_000
_PAUSES_SECONDS: Final = (0.5, 1.0)
"""Pauses between attempts to drop a chunk, in which readers and writers proceed."""
_MAX_STALE_DAYS: Final = 10_000


class UnusedSeries(Protocol):
    """Finds series without samples."""

    async def among(self, tenant_ids: IntArray, series_ids: IntArray) -> IntArray:
        """Those of some series (ascending ids, each with its tenant) that have no sample."""
        ...


class SnapshotUnusedSeries:
    """Finds them in one snapshot of the head and of what is drained."""

    def __init__(self, sources: SampleSources) -> None:
        self._sources = sources

    async def among(self, tenant_ids: IntArray, series_ids: IntArray) -> IntArray:
        """Those that have neither a recent nor a drained sample; see `UnusedSeries`."""
        sources, used = self._sources, [np.empty(0, np.int64)]
        tenants = np.unique(tenant_ids).tolist()
        async with sources.snapshots.open_transaction(tenants) as snapshot:
            for tenant_id in tenants:
                some = series_ids[tenant_ids == tenant_id]
                view = await sources.head.complete(
                    snapshot.view, snapshot.connection, tenant_id, some, *ALL_TIMES
                )
                used.append(view.newest(tenant_id, some).ids)
                used.append(
                    await sources.drained.stored_series(snapshot.connection, tenant_id, some)
                )
        return np.setdiff1d(series_ids, np.concatenate(used))


class StoreMaintenance:
    """Maintenance on a connection of the write pool."""

    def __init__(
        self, database: Database, make_steps: Callable[[Connection], MaintenanceSteps]
    ) -> None:
        self._database = database
        self._make_steps = make_steps

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        """Hold the lock of maintenance; see the port."""
        async with maintenance_lock(self._database.write_pool) as connection:
            yield None if connection is None else self._make_steps(connection)


@asynccontextmanager
async def maintenance_lock(pool: Pool) -> AsyncIterator[Connection | None]:
    """Hold the lock of maintenance; None when another process holds it.

    One session holds the lock and does the work, so both end when its connection is lost.
    """
    async with acquired(pool) as connection:
        if not await connection.fetchval(_QUERIES["try_maintenance_lock"]):
            yield None
            return
        try:
            yield connection
        finally:
            await _release(connection)


class SharedSteps:
    """Steps of maintenance that all stores do alike, on one connection, within time limits."""

    def __init__(self, connection: Connection, unused: UnusedSeries) -> None:
        self._connection = connection
        self._unused = unused

    async def fit_edition(self) -> None:
        """Make rollups and policies fit the edition; see the port."""
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["ensure_metrics_hourly"])

    async def retained_metrics(self) -> list[RetainedMetric]:
        """Metrics with a retention; see the port."""
        with translated_errors():
            rows = await self._connection.fetch(_QUERIES["retained_metrics"])
        return [RetainedMetric(*row) for row in rows]

    async def orphan_series(self, after_id: int) -> OrphanSeries | None:
        """Series without samples; see the port."""
        async with limited_transaction(self._connection):
            rows = await self._connection.fetch(_QUERIES["series_after"], after_id, _LOOKED_AT)
        if not rows:
            return None
        tenant_ids, ids = _series_columns(rows)
        orphans = await self._unused.among(tenant_ids, ids)
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
                orphans = await self._unused.among(*_series_columns(rows))
                n_removed += await self._fetchval("remove_series", orphans.tolist())
        return n_removed

    async def _fetchval(self, name: str, *args: object) -> Any:
        return await self._connection.fetchval(_QUERIES[name], *args, timeout=CLIENT_SECONDS)

    async def _execute(self, name: str, *args: object) -> None:
        await self._connection.execute(_QUERIES[name], *args, timeout=CLIENT_SECONDS)


def _series_columns(rows: Sequence[Any]) -> tuple[IntArray, IntArray]:
    """The tenants and the ids of rows, ascending by id."""
    tenant_ids = np.array([row["tenant_id"] for row in rows], np.int64)
    return tenant_ids, np.array([row["id"] for row in rows], np.int64)


class RowMaintenanceSteps(SharedSteps):
    """Steps of maintenance of the store `rows`."""

    def __init__(
        self, connection: Connection, unused: UnusedSeries, drain: Callable[[], Awaitable[object]]
    ) -> None:
        """`drain` moves what has arrived into rows, before chunks go and hours are computed."""
        super().__init__(connection, unused)
        self._drain = drain

    async def fit_edition(self) -> None:
        """Make rollups and policies fit the edition; see the port."""
        await self._drain()
        await super().fit_edition()

    async def drop_days_before(self, before_ms: int) -> int:
        """None: chunks are dropped one by one, with what has arrived for them."""
        await self._drain()
        return 0

    async def chunks(self) -> list[SampleChunk]:
        """Every chunk; see the port."""
        with translated_errors():
            rows = await self._connection.fetch(_QUERIES["sample_chunks"])
        return [SampleChunk(*row) for row in rows]

    async def empty_chunks(self, ends_before_ms: int) -> list[SampleChunk]:
        """Chunks without samples; see the port."""
        async with limited_transaction(self._connection):
            rows = await self._connection.fetch(_QUERIES["empty_sample_chunks"], ends_before_ms)
        empty = {row["id"] for row in rows}
        return [chunk for chunk in await self.chunks() if chunk.id in empty]

    async def drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        """Drop a chunk; see the port.

        It locks out all readers and writers briefly, and gives up soon if one of them takes long;
        therefore it is attempted several times.
        """
        for pause_seconds in _PAUSES_SECONDS:
            with suppress(StorageUnavailableError):
                return await self._drop_chunk(chunk, only_empty=only_empty)
            await asyncio.sleep(pause_seconds)
        return await self._drop_chunk(chunk, only_empty=only_empty)

    async def _drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        async with limited_transaction(self._connection):
            return bool(await self._fetchval("drop_sample_chunk", chunk.id, only_empty))

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        """Hours to be computed again; see the port. At most 10,000 days of tenants at once."""
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["collect_stale_hours"], first_ms)
            rows = await self._connection.fetch(_QUERIES["stale_hours"], _MAX_STALE_DAYS)
        return [StaleHours(*row) for row in rows]

    async def compute_again(self, stale: StaleHours) -> None:
        """Compute hours again; see the port."""
        tenant_id, hours = stale.tenant_id, list(stale.hours)
        start_ms, end_ms = hours[0] * MS_PER_HOUR, (hours[-1] + 1) * MS_PER_HOUR
        if await self._uses_aggregate():
            await self._refresh_aggregate(start_ms, end_ms)
            async with limited_transaction(self._connection):
                await self._connection.execute(_QUERIES["forget_stale_hours"], tenant_id, hours)
            return
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["forget_stale_hours"], tenant_id, hours)
            for name in ("delete_hours", "insert_hours"):
                await self._execute(name, start_ms, end_ms, tenant_id, hours)

    async def hours_computed_before(self) -> int | None:
        """Up to when hours are computed; see the port."""
        with translated_errors():
            before_ms: int | None = await self._fetchval("hourly_progress")
        return before_ms

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        """Compute hours for the first time; see the port."""
        if await self._uses_aggregate():
            await self._refresh_aggregate(start_ms, end_ms)
            return await self.hours_are_computed(end_ms)
        async with limited_transaction(self._connection):
            for name in ("delete_hours", "insert_hours"):
                await self._execute(name, start_ms, end_ms, None, None)
            await self._execute("set_hourly_progress", end_ms)

    async def hours_are_computed(self, before_ms: int) -> None:
        """Nothing is left to compute before a time; see the port."""
        async with limited_transaction(self._connection):
            await self._execute("set_hourly_progress", before_ms)
            await self._connection.execute(_QUERIES["ensure_refresh_policy"])

    async def _uses_aggregate(self) -> bool:
        with translated_errors():
            return bool(await self._fetchval("uses_hourly_aggregate"))

    async def _refresh_aggregate(self, start_ms: int, end_ms: int) -> None:
        """Outside a transaction, as the procedure commits; the limits apply to the session."""
        with translated_errors():
            await limit_step(self._connection, is_local=False)
            await self._execute("refresh_hourly_aggregate", start_ms, end_ms)


async def _release(connection: Connection) -> None:
    """Release the lock; a session that may still hold it must not return to the pool."""
    try:
        await connection.fetchval(_QUERIES["release_maintenance_lock"])
    except BaseException:
        connection.terminate()
        raise


def _conforms(repository: StoreMaintenance) -> MaintenanceRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
