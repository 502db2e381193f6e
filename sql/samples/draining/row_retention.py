"""Deletes the rows of metrics that are kept for a shorter time than the chunks they are in.

A chunk has rows of all metrics, so it is dropped after the longest retention there is. Rows that
nobody sees any more before that are deleted chunk by chunk, some series in a transaction. The table
`row_retention` says up to when that is done, so that a run only works on what has expired since.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import QueryTimeoutError, StorageUnavailableError
from sql.database.connection_pool import Connection
from sql.database.driver_errors import translated_errors
from sql.query_loader import load_queries
from sql.samples.tables.retention_classes import FOREVER, QUERIES
from sql.samples.tables.step_limits import CLIENT_SECONDS, limited_transaction
from sql.times import MS_PER_DAY, MS_PER_HOUR

_ROW_QUERIES: Final = load_queries("samples")
_PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
_SERIES_AT_ONCE: Final = 100
"""With a day to a chunk and samples every 15 s, half a million rows in a transaction."""


@dataclass(frozen=True, slots=True)
class ExpiredRows:
    """The rows of a metric ('': all others of the tenant) that are no longer kept.

    All before `deleted_before_ms` are deleted, and those up to `before_ms` are due. `is_own`: a
    tenant or a definition says how long they are kept, not the service.
    """

    tenant_id: int
    metric_name: str
    deleted_before_ms: int
    before_ms: int
    is_own: bool

    @property
    def subject(self) -> str:
        """What it is about, for people."""
        tenant = f"tenant {self.tenant_id}"
        return f"metric {self.metric_name!r} of {tenant}" if self.metric_name else tenant


@dataclass(frozen=True, slots=True)
class RowRetention:
    """Works on one connection; one process at a time does."""

    connection: Connection
    default_days: int
    now_ms: int

    async def longest_days(self) -> int:
        """The longest retention there is, in days (FOREVER: no end)."""
        with translated_errors():
            rows = await self.connection.fetch(QUERIES["retentions"])
        days = [self.default_days, *(row["retention_days"] for row in rows)]
        return FOREVER if FOREVER in days else max(days)

    async def due(self) -> list[ExpiredRows]:
        """What is kept for a shorter time than the chunks, and has expired since the last run."""
        longest = await self.longest_days()
        with translated_errors():
            rows = await self.connection.fetch(QUERIES["row_retentions"], self.default_days)
        found = [
            ExpiredRows(
                row["tenant_id"],
                row["metric_name"],
                row["deleted_before_ms"],
                self._before_ms(row["days"]),
                row["is_own"],
            )
            for row in rows
            if row["days"] not in (FOREVER, longest)
        ]
        return [one for one in found if one.deleted_before_ms < one.before_ms]

    def _before_ms(self, days: int) -> int:
        """A full hour, so that `metrics_hourly` never shows a part of one."""
        return (self.now_ms - days * MS_PER_DAY) // MS_PER_HOUR * MS_PER_HOUR

    async def count(self, expired: ExpiredRows) -> int:
        """How many rows `delete` would delete."""
        ids = await self._series_of(expired)
        n_rows = 0
        for bounds in await self._chunks_of(expired):
            for start in range(0, len(ids), _SERIES_AT_ONCE):
                async with limited_transaction(self.connection):
                    some = ids[start : start + _SERIES_AT_ONCE]
                    n_rows += await self._fetchval("count_expired_rows", some, *bounds)
        return n_rows

    async def delete(self, expired: ExpiredRows) -> int:
        """Delete the rows; returns how many.

        Raises StorageUnavailableError and QueryTimeoutError; a later call goes on.
        """
        key = expired.tenant_id, expired.metric_name
        await self._begin(expired)
        ids, n_rows = await self._series_of(expired), 0
        for bounds in await self._chunks_of(expired):
            n_rows += await self._delete_within(expired, bounds, ids)
        async with limited_transaction(self.connection):
            await self.connection.execute(QUERIES["end_row_deletion"], *key)
            if n_rows:
                await self.connection.execute(QUERIES["ask_for_orphans"])
        return n_rows

    async def _begin(self, expired: ExpiredRows) -> None:
        """Note what is being deleted, between drains: later ones note when they add such rows."""
        for pause_seconds in _PAUSES_SECONDS:
            with suppress(StorageUnavailableError):
                return await self._note(expired)
            await asyncio.sleep(pause_seconds)
        return await self._note(expired)

    async def _note(self, expired: ExpiredRows) -> None:
        key = expired.tenant_id, expired.metric_name
        async with limited_transaction(self.connection):
            await self.connection.execute(_ROW_QUERIES["lock_drains"])
            await self.connection.execute(QUERIES["begin_row_deletion"], *key, expired.before_ms)

    async def _series_of(self, expired: ExpiredRows) -> Sequence[int]:
        with translated_errors():
            ids: Sequence[int] = await self.connection.fetchval(
                QUERIES["series_kept_alike"], expired.tenant_id, expired.metric_name
            )
        return ids

    async def _chunks_of(self, expired: ExpiredRows) -> list[tuple[int, int]]:
        """The first and last ms of the chunks that rows may have to be deleted from."""
        bounds = expired.deleted_before_ms, expired.before_ms - 1
        with translated_errors():
            rows = await self.connection.fetch(_ROW_QUERIES["row_chunks"], *bounds)
        return [(row["first_ms"], row["last_ms"]) for row in rows]

    async def _delete_within(
        self, expired: ExpiredRows, bounds: tuple[int, int], ids: Sequence[int]
    ) -> int:
        """Delete within a chunk; fewer series at a time when it takes too long."""
        start, size, n_rows = 0, _SERIES_AT_ONCE, 0
        while start < len(ids):
            some = ids[start : start + size]
            try:
                async with limited_transaction(self.connection):
                    n_rows += await self._fetchval(
                        "delete_rows", some, expired.tenant_id, *bounds, expired.is_own
                    )
            except QueryTimeoutError:
                if size == 1:
                    raise
                size //= 2
            else:
                start += size
        return n_rows

    async def _fetchval(self, name: str, *args: object) -> int:
        n_rows: int = await self.connection.fetchval(
            _ROW_QUERIES[name], *args, timeout=CLIENT_SECONDS
        )
        return n_rows
