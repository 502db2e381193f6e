"""Doing maintenance in tests, and holding `metrics_hourly` against the samples themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import numpy as np

from promcompat.core.model import IntArray
from promcompat.core.ports import MaintenanceSteps
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from sql.query_loader import load_queries
from sql.samples.stores.maintenance_repository import StoreSteps
from sql.samples.stores.row_steps import chunk_steps
from sql.samples.stores.store_steps import SeriesRemoval

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS + 20 * 60_000
"""Twenty minutes past an hour."""

_QUERIES = load_queries("samples")
_OF_SAMPLES = """
SELECT time_bucket('1 hour', timestamp) AS bucket, tenant_id, name, count(*) AS count,
    avg(value) AS avg, min(value) AS min, max(value) AS max, sum(value) AS sum
FROM metrics GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_OF_HOURS = """
SELECT bucket, tenant_id, name, count, avg, min, max, sum
FROM metrics_hourly ORDER BY bucket, tenant_id, name
"""


class _OneConnection:
    """Maintenance of rows on a given connection; nobody else holds the lock."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        yield StoreSteps(SeriesRemoval(self._connection, self), chunk_steps)

    async def among(self, tenant_ids: IntArray, series_ids: IntArray) -> IntArray:
        """Series without rows: nothing is undrained."""
        used = await self._connection.fetchval(_QUERIES["rows_exist"], series_ids.tolist())
        return np.setdiff1d(series_ids, np.array(used, np.int64))


async def do_maintenance(
    connection: asyncpg.Connection, *, retention_days: int = 0, now_ms: int = NOW_MS
) -> MaintenanceReport:
    """One run, in which nothing fails."""
    service = MaintenanceService(_OneConnection(connection), retention_days, lambda: now_ms)
    report = await service.run_once()
    assert report.failures == []
    return report


async def hours_of_samples(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """The aggregation that `metrics_hourly` stands for, over the samples that SQL users see."""
    return list(await connection.fetch(_OF_SAMPLES))


async def hours_shown(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    """What `metrics_hourly` says."""
    return list(await connection.fetch(_OF_HOURS))


async def assert_hours_agree(connection: asyncpg.Connection) -> None:
    """`metrics_hourly` shows the aggregation over all samples there are."""
    expected = await hours_of_samples(connection)
    assert expected
    assert await hours_shown(connection) == expected
