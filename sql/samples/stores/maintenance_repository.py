"""The PostgreSQL side of `promcompat.core.ports.MaintenanceRepository`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.maintenance import OrphanSeries, RetainedMetric, SampleChunk, StaleHours
from promcompat.core.ports import MaintenanceRepository, MaintenanceSteps
from sql.catalog import MS_PER_HOUR
from sql.database.connection_pool import Connection, Pool, acquired, translated_errors
from sql.database.database import Database
from sql.query_loader import load_queries
from sql.samples.tables.deletion import CLIENT_SECONDS, limit_step, limited_transaction

_QUERIES: Final = {**load_queries("maintenance"), **load_queries("samples")}
SERIES_LOOKED_AT: Final = 5_000
_SERIES_REMOVED_AT_ONCE: Final = 1_000
_PAUSES_SECONDS: Final = (0.5, 1.0)
"""Pauses between attempts to drop a chunk, in which readers and writers proceed."""
_MAX_STALE_DAYS: Final = 10_000


class PostgresMaintenanceRepository:
    """Maintenance on a connection of the write pool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        """Hold the lock of maintenance; see the port."""
        async with maintenance_lock(self._database.write_pool) as connection:
            yield None if connection is None else PostgresMaintenanceSteps(connection)


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


class PostgresMaintenanceSteps:
    """Steps of maintenance on one connection, each within time limits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fit_edition(self) -> None:
        """Make rollups and policies fit the edition; see the port."""
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["ensure_metrics_hourly"])

    async def retained_metrics(self) -> list[RetainedMetric]:
        """Metrics with a retention; see the port."""
        with translated_errors():
            rows = await self._connection.fetch(_QUERIES["retained_metrics"])
        return [RetainedMetric(*row) for row in rows]

    async def drop_days_before(self, before_ms: int) -> int:
        """None: the row store drops its chunks one by one."""
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

    async def orphan_series(self, after_id: int) -> OrphanSeries | None:
        """Series without samples; see the port."""
        async with limited_transaction(self._connection):
            row = await self._connection.fetchrow(
                _QUERIES["orphan_series"], after_id, SERIES_LOOKED_AT
            )
        return None if row is None else OrphanSeries(*row)

    async def remove_series(self, series_ids: Sequence[int]) -> int:
        """Remove series; see the port. Writers wait meanwhile, so it removes few at a time."""
        n_removed = 0
        for start in range(0, len(series_ids), _SERIES_REMOVED_AT_ONCE):
            some = series_ids[start : start + _SERIES_REMOVED_AT_ONCE]
            async with limited_transaction(self._connection):
                await self._connection.execute(_QUERIES["lock_series"])
                n_removed += await self._fetchval("remove_series", some)
        return n_removed

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

    async def _fetchval(self, name: str, *args: object) -> Any:
        return await self._connection.fetchval(_QUERIES[name], *args, timeout=CLIENT_SECONDS)

    async def _execute(self, name: str, *args: object) -> None:
        await self._connection.execute(_QUERIES[name], *args, timeout=CLIENT_SECONDS)


async def _release(connection: Connection) -> None:
    """Release the lock; a session that may still hold it must not return to the pool."""
    try:
        await connection.fetchval(_QUERIES["release_maintenance_lock"])
    except BaseException:
        connection.terminate()
        raise


def _conforms(repository: PostgresMaintenanceRepository) -> MaintenanceRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
