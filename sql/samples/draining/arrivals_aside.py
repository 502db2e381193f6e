"""The arrivals that drains set aside: moved later if they can be, shown, and dropped by a person.

A drain passes an arrival that it cannot move. A later version, or a database that has been mended,
may move it. Its samples then go into runs of their own, in their place in the order of arrival: so
nothing is merged across an arrival while it is set aside (see `next_job`). Or they become rows.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Pool, acquired
from sql.samples.draining.drain_transaction import (
    CONTENT_FAULTS,
    PASSING_FAULTS,
    ChangedMeanwhileError,
    change_exactly,
    drain_transaction,
)
from sql.samples.draining.drainer import (
    ArrivalRow,
    DrainStats,
    DrainTarget,
    drain_position,
    prepared,
)
from sql.samples.tables.block_table import QUERIES
from sql.samples.tables.retention_classes import QUERIES as RETENTION_QUERIES
from sql.samples.tables.rollup_marks import Touched, note_touched

_LOGGER: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArrivalAside:
    """An arrival set aside; times are Unix ms, inclusive. `tenant` is None if it is gone."""

    id: int
    tenant: str | None
    kind: int
    n_samples: int
    first_ms: int
    last_ms: int
    n_bytes: int
    appended_at: datetime


@dataclass(frozen=True, slots=True)
class RetryResult:
    """How many arrivals were moved, and how many are still set aside.

    `is_busy`: some were not tried because another process drained.
    """

    n_moved: int
    n_left: int
    is_busy: bool


class ArrivalsAside:
    """Works on arrivals set aside; several processes may do so."""

    def __init__(self, pool: Pool, target: DrainTarget, stats: DrainStats) -> None:
        """`pool` is for writing; `target` is where drains move samples."""
        self._pool = pool
        self._target = target
        self._stats = stats

    async def retry(self) -> RetryResult:
        """Move what can be moved now, each arrival in a transaction of its own.

        Raises StorageUnavailableError or QueryTimeoutError, and then a later call goes on.
        """
        n_moved, n_left, after_id = 0, 0, -1
        while True:
            async with drain_transaction(self._pool) as connection:
                if connection is None:
                    return RetryResult(n_moved, n_left, is_busy=True)
                row = await connection.fetchrow(QUERIES["arrival_aside"], after_id)
            if row is None:
                return RetryResult(n_moved, n_left, is_busy=False)
            is_moved = await self._try(ArrivalRow(*row))
            n_moved, n_left = n_moved + is_moved, n_left + (not is_moved)
            after_id = row["id"]

    async def list(self) -> list[ArrivalAside]:
        """What is set aside, in the order of arrival. Raises StorageUnavailableError."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(QUERIES["arrivals_aside"])
        return [ArrivalAside(*row) for row in rows]

    async def drop(self, arrival_id: int) -> bool:
        """Delete an arrival and its samples; False if no such arrival is set aside.

        Raises StorageUnavailableError, also while another process drains.
        """
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                raise StorageUnavailableError("another process drains or compacts; try again")
            row = await connection.fetchrow(QUERIES["drop_arrival_aside"], arrival_id)
            if row is None:
                return False
            await connection.execute(QUERIES["insert_changes"], *([one] for one in row), None)
            await note_touched(connection, [Touched(*row)])
            await connection.execute(RETENTION_QUERIES["ask_for_orphans"])
            await connection.execute(QUERIES["settle_levels"], row["tenant_id"], arrival_id)
        _LOGGER.warning("an arrival that was set aside was dropped", extra={"arrival": arrival_id})
        return True

    async def _try(self, arrival: ArrivalRow) -> bool:
        """Move an arrival; False if it stays, or is gone."""
        try:
            is_moved = await prepared(partial(self._move, arrival))
        except ChangedMeanwhileError:
            return False
        except PASSING_FAULTS:
            raise
        except CONTENT_FAULTS as exc:
            fields = {"arrival": arrival.id, "reason": str(exc)}
            _LOGGER.warning("an arrival stays set aside", extra=fields)
            return False
        if not is_moved:
            return False
        self._stats.arrivals_moved_later += 1
        _LOGGER.info("an arrival that was set aside was moved", extra={"arrival": arrival.id})
        await self._target.committed()
        return True

    async def _move(self, arrival: ArrivalRow) -> bool:
        async with drain_transaction(self._pool) as connection:
            if connection is None or await drain_position(connection, self._target) is None:
                return False
            if not await self._target.move_aside(connection, arrival):
                return False
            await change_exactly(connection, "delete_arrivals", 1, [arrival.id])
        return True
