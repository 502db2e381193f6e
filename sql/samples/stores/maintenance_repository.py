"""The PostgreSQL side of `promcompat.core.ports.MaintenanceRepository`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from promcompat.core.maintenance import MaintenanceTask
from promcompat.core.ports import MaintenanceRepository, MaintenanceStep, MaintenanceSteps
from sql.database.connection_pool import Connection, Pool, acquired
from sql.query_loader import load_queries
from sql.samples.stores.store_steps import SeriesRemoval, UnusedSeries

_QUERIES: Final = load_queries("maintenance")

StepMaker = Callable[[SeriesRemoval, MaintenanceTask], Sequence[MaintenanceStep]]
"""Makes the steps of a store, in their order. The removal of series has the connection that holds
the lock of maintenance."""


class StoreMaintenance(MaintenanceRepository):
    """Maintenance of a database, which one process at a time does."""

    def __init__(self, pool: Pool, unused: UnusedSeries, make_steps: StepMaker) -> None:
        """`pool` is for writing."""
        self._pool = pool
        self._unused = unused
        self._make_steps = make_steps

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        """Hold the lock of maintenance; see the port."""
        async with maintenance_lock(self._pool) as connection:
            if connection is None:
                yield None
            else:
                yield StoreSteps(SeriesRemoval(connection, self._unused), self._make_steps)


@dataclass(frozen=True, slots=True)
class StoreSteps(MaintenanceSteps):
    """The steps of a store, while the lock is held."""

    removal: SeriesRemoval
    make_steps: StepMaker

    def ordered(self, task: MaintenanceTask) -> Sequence[MaintenanceStep]:
        """The steps in their order; see the port."""
        return self.make_steps(self.removal, task)


@asynccontextmanager
async def maintenance_lock(pool: Pool) -> AsyncIterator[Connection | None]:
    """Hold the lock of maintenance; None when another process holds it.

    The lock ends with its session, so it ends when the connection is lost.
    """
    async with acquired(pool) as connection:
        if not await connection.fetchval(_QUERIES["try_maintenance_lock"]):
            yield None
            return
        try:
            yield connection
        finally:
            await _release(connection)


async def _release(connection: Connection) -> None:
    """Release the lock; a session that may still hold it must not return to the pool."""
    try:
        await connection.fetchval(_QUERIES["release_maintenance_lock"])
    except BaseException:
        connection.terminate()
        raise
