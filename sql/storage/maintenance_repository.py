"""The PostgreSQL side of `promcompat.core.ports.MaintenanceRepository`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from promcompat.core.definitions import RetainedMetric
from promcompat.core.ports import MaintenanceRepository
from sql.query_loader import load_queries
from sql.storage.connection_pool import Connection, acquired, read_again
from sql.storage.database import Database

_QUERIES: Final = load_queries("maintenance")
_SERIES_PER_STATEMENT: Final = 500
"""Each statement is a transaction of its own: a long one would keep vacuum from its work."""


class PostgresMaintenanceRepository:
    """What maintenance does to the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[bool]:
        """Hold the lock of maintenance; see the port."""
        async with acquired(self._database.read_pool) as connection:
            is_held: bool = await connection.fetchval(_QUERIES["try_maintenance_lock"])
            try:
                yield is_held
            finally:
                if is_held:
                    await _release(connection)

    @read_again
    async def retained_metrics(self) -> list[RetainedMetric]:
        """Metrics with a retention; see the port."""
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["retained_metrics"])
        return [RetainedMetric(*row) for row in rows]

    async def delete_expired(self, metric: RetainedMetric, before_ms: int) -> int:
        """Delete old samples of a metric; see the port."""
        n_deleted = 0
        async with acquired(self._database.write_pool) as connection:
            rows = await connection.fetch(
                _QUERIES["series_of_metric"], metric.tenant_id, metric.name
            )
            ids = [row["id"] for row in rows]
            for start in range(0, len(ids), _SERIES_PER_STATEMENT):
                n_deleted += await connection.fetchval(
                    _QUERIES["delete_expired_samples"],
                    ids[start : start + _SERIES_PER_STATEMENT],
                    before_ms,
                    metric.tenant_id,
                )
        return n_deleted


async def _release(connection: Connection) -> None:
    """Give the lock of a session back; one that may still hold it must not go on in the pool."""
    try:
        await connection.fetchval(_QUERIES["release_maintenance_lock"])
    except BaseException:
        connection.terminate()
        raise


def _conforms(repository: PostgresMaintenanceRepository) -> MaintenanceRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
