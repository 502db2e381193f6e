"""Drops past days: whole partitions near now, and pages or parts of them far from it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from promcompat.core.errors import StorageUnavailableError
from sql.catalog import MAX_TIMESTAMP_MS, MS_PER_DAY
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.codec.pages import decode_pages
from sql.samples.draining.drain_transaction import drain_transaction
from sql.samples.draining.drainer import Drainer
from sql.samples.draining.page_moves import StoredPage, Written, take_pages, write_pages
from sql.samples.tables.block_table import FAR_DAY, QUERIES, run_rows
from sql.samples.tables.rollup_marks import forget_rolled_days

_PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between attempts, in which drains, compaction and readers proceed."""
_ROWS_AT_ONCE: Final = 5_000
_PAGES_AT_ONCE: Final = 200


class BlockRetention:
    """Drops past days for every tenant, one transaction a day or some pages."""

    def __init__(self, pool: Pool, drainer: Drainer) -> None:
        """`drainer` moves what is still to be drained of the days, so that nothing remains."""
        self._pool = pool
        self._drainer = drainer

    async def drop_before(self, day: int) -> int:
        """Drop every sample before a UTC day (since 1970-01-01); returns how many partitions.

        Samples that arrive during the call may remain until the next one. Raises
        StorageUnavailableError when readers or drains leave no moment for it; a later call goes on
        where this one ended.
        """
        before_ms = day * MS_PER_DAY
        while await self._fetchval("has_undrained_before", before_ms):
            if not (await self._drainer.drain()).n_arrivals:
                raise StorageUnavailableError("another process drains arrivals; try again")
        # First: what is left of a day from now on is read raw.
        await self._repeat(self._forget_rollups, day)
        days = await self._fetchval("block_days_before", day)
        for past_day in days:
            await self._repeat(self._drop_day, past_day)
        while await self._repeat(self._drop_far_rows, before_ms):
            pass
        while await self._repeat(self._clip_far_runs, before_ms):
            pass
        await self._repeat(self._clip_extents, before_ms)
        return len(days)

    async def _fetchval(self, name: str, *args: object) -> Any:
        async with acquired(self._pool) as connection:
            return await connection.fetchval(QUERIES[name], *args)

    async def _repeat(self, step: Callable[[Connection, int], Awaitable[int]], limit: int) -> int:
        """One step in a transaction of its own; repeated while others hold what it needs."""
        for pause_seconds in _PAUSES_SECONDS:
            with suppress(StorageUnavailableError):
                return await self._attempt(step, limit)
            await asyncio.sleep(pause_seconds)
        return await self._attempt(step, limit)

    async def _attempt(self, step: Callable[[Connection, int], Awaitable[int]], limit: int) -> int:
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                raise StorageUnavailableError("another process drains or compacts; try again")
            return await step(connection, limit)

    async def _forget_rollups(self, connection: Connection, day: int) -> int:
        await forget_rolled_days(connection, day)
        return 0

    async def _drop_day(self, connection: Connection, day: int) -> int:
        await connection.execute(QUERIES["log_dropped_day"], day)
        await connection.execute(QUERIES["drop_block_partition"], day)
        await connection.execute(QUERIES["delete_runs_of_day"], day)
        await connection.execute(QUERIES["forget_block_day"], day)
        return 1

    async def _drop_far_rows(self, connection: Connection, before_ms: int) -> int:
        """Delete some far runs and blocks that end before a time; returns how many."""
        n_runs: int = await connection.fetchval(
            QUERIES["delete_far_runs"], before_ms, _ROWS_AT_ONCE
        )
        n_blocks: int = await connection.fetchval(
            QUERIES["delete_far_blocks"], before_ms, _ROWS_AT_ONCE
        )
        return n_runs + n_blocks

    async def _clip_far_runs(self, connection: Connection, before_ms: int) -> int:
        """Rewrite some far runs that begin before a time and end after it; returns how many."""
        rows = await connection.fetch(QUERIES["far_runs_around"], before_ms, _PAGES_AT_ONCE)
        pages = [StoredPage.of(row, is_block=False) for row in rows]
        taken = await take_pages(connection, pages)
        payloads = [payload for _, payload in taken]
        kept = await asyncio.to_thread(
            decode_pages, payloads, None, before_ms - 1, MAX_TIMESTAMP_MS
        )
        written = Written()
        for (page, _), samples in zip(taken, kept, strict=True):
            written.runs += run_rows(page.origin, samples)
        await write_pages(connection, pages, written)
        return len(pages)

    async def _clip_extents(self, connection: Connection, before_ms: int) -> int:
        """Log what is gone of far days, and narrow the bounds of what is left."""
        await connection.execute(QUERIES["log_clipped_extents"], before_ms, FAR_DAY)
        await connection.execute(QUERIES["clip_extents"], before_ms, FAR_DAY)
        return 0
