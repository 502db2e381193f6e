"""The chunks (or partitions) of rows, and the hours of `metrics_hourly` that are computed of them.

Unless stated otherwise, a call is one transaction. All raise StorageUnavailableError and
QueryTimeoutError; a later call may still succeed.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Connection
from sql.database.driver_errors import translated_errors
from sql.query_loader import load_queries
from sql.samples.tables.retention_classes import QUERIES as RETENTION_QUERIES
from sql.samples.tables.step_limits import CLIENT_SECONDS, limit_step, limited_transaction
from sql.times import MS_PER_HOUR

_QUERIES: Final = {**load_queries("maintenance"), **load_queries("samples")}
_PAUSES_SECONDS: Final = (0.5, 1.0)
"""Pauses between attempts to drop a chunk, in which readers and writers proceed."""
_MAX_STALE_DAYS: Final = 10_000


@dataclass(frozen=True, slots=True)
class SampleChunk:
    """The samples in `[start_ms, end_ms)`, Unix milliseconds, which are dropped as a whole.

    `id` is the database's own; `name` is for people.
    """

    id: int
    name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class StaleHours:
    """Hours of one tenant and day whose samples changed after they were computed.

    Hours count from 1970-01-01 and ascend.
    """

    tenant_id: int
    hours: Sequence[int]


class RowChunks:
    """Works on one connection, within time limits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fit_edition(self) -> None:
        """Adapt `metrics_hourly` and policies to the capabilities of the database."""
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["ensure_metrics_hourly"])

    async def all(self) -> list[SampleChunk]:
        """Every chunk, the oldest first."""
        with translated_errors():
            rows = await self._connection.fetch(_QUERIES["sample_chunks"])
        return [SampleChunk(*row) for row in rows]

    async def empty(self, ends_before_ms: int) -> list[SampleChunk]:
        """The chunks that end before a time and contain no sample."""
        async with limited_transaction(self._connection):
            rows = await self._connection.fetch(_QUERIES["empty_sample_chunks"], ends_before_ms)
        empty = {row["id"] for row in rows}
        return [chunk for chunk in await self.all() if chunk.id in empty]

    async def drop(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        """Drop a chunk, with `only_empty` only if it has no sample; whether it was dropped.

        It locks out all readers and writers briefly, and gives up soon if one of them takes long;
        therefore it is attempted several times.
        """
        for pause_seconds in _PAUSES_SECONDS:
            with suppress(StorageUnavailableError):
                return await self._drop(chunk, only_empty=only_empty)
            await asyncio.sleep(pause_seconds)
        return await self._drop(chunk, only_empty=only_empty)

    async def _drop(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        async with limited_transaction(self._connection):
            is_dropped = bool(await self._fetchval("drop_sample_chunk", chunk.id, only_empty))
            if is_dropped and not only_empty:
                await self._connection.execute(RETENTION_QUERIES["ask_for_orphans"])
        return is_dropped

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        """Hours that were computed before their samples changed, none before `first_ms`.

        At most 10,000 days of tenants at once.
        """
        async with limited_transaction(self._connection):
            await self._connection.execute(_QUERIES["collect_stale_hours"], first_ms)
            rows = await self._connection.fetch(_QUERIES["stale_hours"], _MAX_STALE_DAYS)
        return [StaleHours(*row) for row in rows]

    async def compute_again(self, stale: StaleHours) -> None:
        """Compute hours again from the current samples."""
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
        """The Unix ms up to which hours are computed; None if none are."""
        with translated_errors():
            before_ms: int | None = await self._fetchval("hourly_progress")
        return before_ms

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        """Compute the hours of a time range, which starts and ends on the hour."""
        if await self._uses_aggregate():
            await self._refresh_aggregate(start_ms, end_ms)
            return await self.hours_are_computed(end_ms)
        async with limited_transaction(self._connection):
            for name in ("delete_hours", "insert_hours"):
                await self._execute(name, start_ms, end_ms, None, None)
            await self._execute("set_hourly_progress", end_ms)

    async def hours_are_computed(self, before_ms: int) -> None:
        """Record that every hour before this time with samples is computed."""
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
