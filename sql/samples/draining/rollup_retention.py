"""Drops rollups that outlived their samples, once their own retention has passed.

Whole UTC days go, tenant by tenant, and of a day only the metrics whose samples are not kept longer
than rollups are. Every step is a transaction of its own, and the next call goes on with the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.draining.drain_transaction import in_drain_transaction
from sql.samples.rollups.rollup_pages import LEVELS
from sql.samples.tables.retention_classes import FOREVER
from sql.samples.tables.retention_classes import QUERIES as RETENTION_QUERIES
from sql.samples.tables.rollup_marks import QUERIES, forget_rolled_days
from sql.samples.tables.slots import first_whole_days
from sql.times import MIN_TIMESTAMP_MS, MS_PER_DAY

_ROWS_AT_ONCE: Final = 5_000
_NO_DAY: Final = MIN_TIMESTAMP_MS // MS_PER_DAY
"""No day is before it; small enough for the database to compute with its hours."""


@dataclass(frozen=True, slots=True)
class ExpiredRollups:
    """What a tenant no longer keeps: days before `first_day`, and those of `metrics`.

    `first_days` are the first days that these metrics keep, all others keep `first_day`; a metric
    that keeps everything has the first day of all.
    """

    tenant_id: int
    first_day: int
    metrics: tuple[str, ...]
    first_days: tuple[int, ...]

    @property
    def forgotten_before(self) -> int:
        """No series of the tenant keeps rollups of the days before this one."""
        return min((self.first_day, *self.first_days))


class RollupRetention:
    """Drops rollups that are kept for `rollup_days` (0: forever), or as long as their samples."""

    def __init__(self, pool: Pool, rollup_days: int) -> None:
        self._pool = pool
        self._rollup_days = rollup_days

    async def due(self, default_days: int, now_ms: int) -> list[ExpiredRollups]:
        """What each tenant with rollups no longer keeps; not tenants that keep everything."""
        async with acquired(self._pool) as connection:
            tenant_ids = await connection.fetchval(QUERIES["tenants_with_rollups"])
            rows = await connection.fetch(RETENTION_QUERIES["retentions"])
        found = []
        for tenant_id in tenant_ids:
            own = {name: days for one, name, days in rows if one == tenant_id}
            others = self._first_day(own.pop("", default_days), now_ms)
            firsts = tuple(self._first_day(days, now_ms) for days in own.values())
            if max((others, *firsts)) > _NO_DAY:
                found.append(ExpiredRollups(tenant_id, others, tuple(own), firsts))
        return found

    def _first_day(self, sample_days: int, now_ms: int) -> int:
        if FOREVER in (sample_days, self._rollup_days):
            return _NO_DAY
        kept_ms = max(now_ms - max(sample_days, self._rollup_days) * MS_PER_DAY, MIN_TIMESTAMP_MS)
        return int(first_whole_days(np.array([kept_ms]))[0])

    async def count(self, expired: ExpiredRollups) -> int:
        """How many rows `delete` would delete."""
        return sum([await self._count(*statement) for statement in _statements(expired)])

    async def delete(self, expired: ExpiredRollups) -> int:
        """Delete the rollups; returns how many rows."""
        if expired.forgotten_before > _NO_DAY:
            await in_drain_transaction(self._pool, partial(_forget, expired=expired))
        n_rows = 0
        for name, parameters in _statements(expired):
            if not await self._count(name, parameters):
                continue  # nothing to hold up drains for
            deleting = partial(_delete, name=name, parameters=parameters)
            while n := await in_drain_transaction(self._pool, deleting):
                n_rows += n
        return n_rows

    async def _count(self, name: str, parameters: tuple[object, ...]) -> int:
        async with acquired(self._pool) as connection:
            n_rows: int = await connection.fetchval(QUERIES[f"count_{name}"], *parameters)
        return n_rows


def _statements(expired: ExpiredRollups) -> Iterator[tuple[str, tuple[object, ...]]]:
    """The statements that find the rows, with their parameters."""
    limits = expired.tenant_id, expired.metrics, expired.first_days, expired.first_day
    yield "expired_hours", limits
    for level in LEVELS:
        yield "expired_rollups", (*limits, level.bucket_seconds, level.period_days)


async def _forget(connection: Connection, *, expired: ExpiredRollups) -> None:
    await forget_rolled_days(connection, expired.forgotten_before, expired.tenant_id)


async def _delete(connection: Connection, *, name: str, parameters: tuple[object, ...]) -> int:
    n_rows: int = await connection.fetchval(QUERIES[f"delete_{name}"], *parameters, _ROWS_AT_ONCE)
    if n_rows:
        await connection.execute(QUERIES["renew_version"], parameters[0])
        await connection.execute(RETENTION_QUERIES["ask_for_orphans"])
    return n_rows
