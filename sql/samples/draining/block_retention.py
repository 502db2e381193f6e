"""Drops what no reader sees any longer: partitions of past days, and parts of what is far from now.

Every step is a transaction of its own, and a call that is stopped goes on with what is left.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.draining.class_moves import classes_left_too_early
from sql.samples.draining.drain_transaction import in_drain_transaction
from sql.samples.draining.page_moves import (
    StoredPage,
    Written,
    samples_of,
    take_pages,
    write_pages,
)
from sql.samples.tables.block_table import QUERIES as BLOCK_QUERIES
from sql.samples.tables.block_table import run_rows
from sql.samples.tables.retention_classes import FOREVER, QUERIES, days_of_class
from sql.samples.tables.rollup_marks import (
    Touched,
    forget_rolled_days,
    note_dropped_slot,
    note_touched,
)
from sql.samples.tables.slots import FAR_SLOT, N_CLASSES, class_of_slot, day_of_slot
from sql.times import MS_PER_DAY

_ROWS_AT_ONCE: Final = 5_000
_PAGES_AT_ONCE: Final = 200
_FIRST_SERIES: Final = -(1 << 63)
_DAYS_OF_WAITING: Final = 7


_FarQuestion = tuple[int, list[str], list[int], int]
"""A tenant, its metrics with a retention of their own, from when on (Unix ms) these are kept, and
from when on all others are."""


@dataclass(frozen=True, slots=True)
class FarLimit:
    """The longest retention of a tenant that has far samples, of all its metrics."""

    tenant_id: int
    days: int


class BlockRetention:
    """Drops past samples of every tenant; `default_days` is how long the service keeps them.

    `outlived_by_rollups`: rollups are kept longer, so they stay when their samples go. A partition
    then waits for its rollups, up to a week.
    """

    def __init__(self, pool: Pool, *, outlived_by_rollups: bool = False) -> None:
        self._pool = pool
        self._is_outlived = outlived_by_rollups

    async def expired_slots(self, default_days: int, now_ms: int) -> list[int]:
        """The slots whose samples nobody sees any more, the oldest first."""
        kept = {one: days_of_class(one, default_days) for one in range(N_CLASSES)}
        first_days = {one: first_kept_ms(days, now_ms) for one, days in kept.items()}
        columns = [
            (one, kept_from_ms // MS_PER_DAY)
            for one, kept_from_ms in first_days.items()
            if kept_from_ms is not None
        ]
        if not columns:
            return []
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(QUERIES["expired_slots"], *zip(*columns, strict=True))
            slots = [row["slot"] for row in rows]
            if not self._is_outlived:
                return slots
            waiting = await connection.fetchval(QUERIES["slots_without_rollups"], slots)
        waits_from = {one: first_day - _DAYS_OF_WAITING for one, first_day in columns}
        return [
            slot
            for slot in slots
            if slot not in waiting or day_of_slot(slot) < waits_from[class_of_slot(slot)]
        ]

    async def slots_to_keep(self, default_days: int) -> set[int]:
        """The slots with samples that are yet to be moved into a class which is kept longer."""
        async with acquired(self._pool) as connection:
            left = await classes_left_too_early(connection, default_days)
            columns = [one[0] for one in left], [one[1] for one in left]
            rows = await connection.fetch(QUERIES["slots_of_classes"], *columns)
        return {row["slot"] for row in rows}

    async def first_kept_day(self, default_days: int, now_ms: int) -> int | None:
        """The first UTC day of which any metric keeps samples; None if it is the first of all."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(QUERIES["retentions"])
        days = [default_days, *(row["retention_days"] for row in rows)]
        return None if FOREVER in days else _kept_from(max(days), now_ms) // MS_PER_DAY

    async def drop(self, slot: int, first_kept_day: int | None = None) -> int:
        """Drop a slot with its partition; returns 1.

        The rollups of days before `first_kept_day` go with it. Raises StorageUnavailableError when
        readers leave no moment for it.
        """

        async def step(connection: Connection) -> int:
            if not self._is_outlived:
                await note_dropped_slot(connection, slot)
            await connection.execute(BLOCK_QUERIES["log_dropped_slot"], slot)
            await connection.execute(BLOCK_QUERIES["drop_block_partition"], slot)
            await connection.execute(BLOCK_QUERIES["delete_runs_of_slot"], slot)
            await connection.execute(BLOCK_QUERIES["forget_block_slot"], slot)
            if first_kept_day is not None and not self._is_outlived:
                await forget_rolled_days(connection, first_kept_day)
            await connection.execute(QUERIES["ask_for_orphans"])
            return 1

        return await in_drain_transaction(self._pool, step)

    async def far_limits(self, default_days: int) -> list[FarLimit]:
        """The tenants with samples far from now that are not all kept forever."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(QUERIES["far_limits"], default_days)
        return [FarLimit(*row) for row in rows]

    async def count_far(self, limit: FarLimit, default_days: int, now_ms: int) -> int:
        """How many pages `clip_far` would delete or rewrite."""
        question = await self._far_question(limit.tenant_id, default_days, now_ms)
        of_runs = _kept_from(limit.days, now_ms)
        async with acquired(self._pool) as connection:
            n_pages: int = await connection.fetchval(QUERIES["count_far_pages"], *question, of_runs)
        return n_pages

    async def clip_far(self, limit: FarLimit, default_days: int, now_ms: int) -> int:
        """Delete what a tenant no longer keeps of its far samples; returns how many pages.

        Blocks go with the retention of their metric. Runs have many metrics: they go, or lose their
        samples, with the longest retention of the tenant.
        """
        question = await self._far_question(limit.tenant_id, default_days, now_ms)
        n_pages = await self._delete_far_blocks(question)
        before_ms = first_kept_ms(limit.days, now_ms)
        if before_ms is None:
            return n_pages
        for step in (self._delete_far_runs, self._clip_far_runs):
            clipping = partial(step, tenant_id=limit.tenant_id, before_ms=before_ms)
            while n := await in_drain_transaction(self._pool, clipping):
                n_pages += n
        if n_pages:
            narrowing = partial(self._narrow_extent, tenant_id=limit.tenant_id, before_ms=before_ms)
            await in_drain_transaction(self._pool, narrowing)
        return n_pages

    async def _far_question(self, tenant_id: int, default_days: int, now_ms: int) -> _FarQuestion:
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(QUERIES["retentions"])
        days = {row["metric_name"]: row["retention_days"] for row in rows if row[0] == tenant_id}
        of_others = days.pop("", default_days)
        limits = [_kept_from(one, now_ms) for one in days.values()]
        return tenant_id, list(days), limits, _kept_from(of_others, now_ms)

    async def _delete_far_blocks(self, question: _FarQuestion) -> int:
        n_blocks, first_series = 0, _FIRST_SERIES
        while True:
            deleting = partial(self._delete_some_blocks, question=question, first=first_series)
            n_deleted, last_series = await in_drain_transaction(self._pool, deleting)
            n_blocks += n_deleted
            if n_deleted < _ROWS_AT_ONCE:
                return n_blocks
            first_series = last_series

    async def _delete_some_blocks(
        self, connection: Connection, question: _FarQuestion, first: int
    ) -> tuple[int, int]:
        """Delete some far blocks of series from `first` on: how many, and the last series."""
        row = await connection.fetchrow(
            QUERIES["delete_far_blocks"], *question, _ROWS_AT_ONCE, first
        )
        n_blocks, bounds, counts = row[0], row[1:5], row[5:]
        if n_blocks:
            gone = [-count for count in counts]
            await connection.execute(BLOCK_QUERIES["count_blocks"], question[0], FAR_SLOT, *gone)
            await self._note_gone(connection, Touched(question[0], *bounds))
        return n_blocks, bounds[1]

    async def _delete_far_runs(
        self, connection: Connection, *, tenant_id: int, before_ms: int
    ) -> int:
        """Delete some far runs that end before a time; returns how many."""
        n_runs, *bounds = await connection.fetchrow(
            QUERIES["delete_far_runs"], tenant_id, before_ms, _ROWS_AT_ONCE
        )
        if n_runs:
            await self._note_gone(connection, Touched(tenant_id, *bounds))
        return int(n_runs)

    async def _clip_far_runs(
        self, connection: Connection, *, tenant_id: int, before_ms: int
    ) -> int:
        """Rewrite some far runs that begin before a time and end after it; returns how many."""
        rows = await connection.fetch(
            QUERIES["far_runs_around"], tenant_id, before_ms, _PAGES_AT_ONCE
        )
        pages = [StoredPage.of(row, is_block=False) for row in rows]
        taken = await take_pages(connection, pages)
        kept = await asyncio.to_thread(samples_of, taken, before_ms - 1)
        written = Written()
        for (page, _), samples in zip(taken, kept, strict=True):
            written.runs += run_rows(page.origin, samples)
        await write_pages(connection, pages, written)
        if pages:
            await self._note_gone(connection, _touched_by_clip(pages, before_ms))
        return len(pages)

    async def _note_gone(self, connection: Connection, touched: Touched) -> None:
        """Note samples that are being deleted: rollups may no longer hold, and series be orphans.

        It is logged too: a query that began before, under a longer retention, has to begin again.
        """
        if not self._is_outlived:
            await note_touched(connection, [touched])
        changed = ([one] for one in touched.bounds)
        await connection.execute(BLOCK_QUERIES["insert_changes"], *changed, None)
        await connection.execute(QUERIES["ask_for_orphans"])

    async def _narrow_extent(
        self, connection: Connection, *, tenant_id: int, before_ms: int
    ) -> None:
        """Narrow the bounds of a tenant's far samples, and tell the caches of services."""
        scope = before_ms, FAR_SLOT, tenant_id
        await connection.execute(BLOCK_QUERIES["log_clipped_extents"], *scope)
        await connection.execute(BLOCK_QUERIES["clip_extents"], *scope)
        if not self._is_outlived:
            await forget_rolled_days(connection, before_ms // MS_PER_DAY, tenant_id)


def first_kept_ms(days: int, now_ms: int) -> int | None:
    """The first time that is kept for so many days; None if everything is."""
    return None if days == FOREVER else now_ms - days * MS_PER_DAY


def _kept_from(days: int, now_ms: int) -> int:
    kept_from_ms = first_kept_ms(days, now_ms)
    return -(1 << 63) if kept_from_ms is None else kept_from_ms


def _touched_by_clip(pages: Sequence[StoredPage], before_ms: int) -> Touched:
    """What goes of pages of one tenant before a time."""
    return Touched(
        pages[0].origin.tenant_id,
        min(page.first_series for page in pages),
        max(page.last_series for page in pages),
        min(page.first_ms for page in pages),
        before_ms - 1,
    )
