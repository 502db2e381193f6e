"""Gives metrics their retention classes, and moves what is stored of them into those partitions.

A metric gets another class in one transaction, and drains put its samples there from then on. What
is elsewhere is moved slot by slot, some series in a transaction, with all of their runs and blocks
of the slot. So of a series and day everything in the old slot arrived before everything in the new
one. A metric whose samples are being moved keeps its class until then. No answer changes.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.draining.drain_transaction import (
    CONTENT_FAULTS,
    PASSING_FAULTS,
    in_drain_transaction,
)
from sql.samples.draining.page_moves import (
    StoredPage,
    Written,
    samples_of,
    take_pages,
    write_pages,
)
from sql.samples.tables.block_table import QUERIES as BLOCK_QUERIES
from sql.samples.tables.block_table import BlockRow, RunRow, block_rows, run_rows
from sql.samples.tables.retention_classes import (
    DEFAULT_CLASS,
    QUERIES,
    class_for,
    days_of_class,
    is_longer,
)
from sql.samples.tables.slots import FAR_SLOT, day_of_slot, slot_of

_LOGGER: Final = logging.getLogger(__name__)
_SERIES_AT_ONCE: Final = 2_000
_SAMPLES_AT_ONCE: Final = 2_000_000
OF_TENANT: Final = ""
"""Stands for all metrics of a tenant that have no class of their own."""

MetricKey = tuple[int, str]
"""A tenant and a metric, or OF_TENANT."""


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A metric that gets another class (None: that of its tenant).

    `is_moved`: what is stored of it has to be moved.
    """

    key: MetricKey
    retention_class: int | None
    is_moved: bool


@dataclass(frozen=True, slots=True)
class MovingClass:
    """A metric whose samples are being moved, and the slot up to which they have been."""

    tenant_id: int
    metric_name: str
    retention_class: int
    moved_through: int

    @property
    def key(self) -> MetricKey:
        """The tenant and the metric."""
        return self.tenant_id, self.metric_name


class ClassMoves:
    """Assigns classes, and moves samples; one process at a time does."""

    def __init__(
        self,
        pool: Pool,
        series_at_once: int = _SERIES_AT_ONCE,
        samples_at_once: int = _SAMPLES_AT_ONCE,
    ) -> None:
        """A transaction moves about so many series, from pages with about so many samples.

        Histograms count as several, see `StoredPage.weight`.
        """
        self._pool = pool
        self._series_at_once = series_at_once
        self._samples_at_once = samples_at_once

    async def assign(self, default_days: int) -> int:
        """Give every metric the class that fits its retention; returns how many have changed.

        `default_days` is the retention of the service. Raises StorageUnavailableError.
        """

        async def step(connection: Connection) -> int:
            changes = await due_changes(connection, default_days)
            for change in changes:
                await assign_class(connection, change)
            return len(changes)

        return await in_drain_transaction(self._pool, step)

    async def move(self, moving: MovingClass) -> int:
        """Move everything of a metric; returns how many samples.

        Raises StorageUnavailableError and QueryTimeoutError; a later call goes on with the slot.
        Series with a page that cannot be decoded stay where they are, and are dropped from there.
        """
        n_samples = 0
        while (slot := await self._next_slot(moving)) is not None:
            await self._make_partition(_target(moving, slot))
            n_samples += await self._move_slot(moving, slot)
            await self._note(moving, slot)
            moving = replace(moving, moved_through=slot)
        await self._note(moving, None)
        return n_samples

    async def _next_slot(self, moving: MovingClass) -> int | None:
        scope = moving.tenant_id, moving.moved_through, moving.retention_class
        async with acquired(self._pool) as connection:
            slot: int | None = await connection.fetchval(QUERIES["slot_to_move"], *scope)
        return slot

    async def _make_partition(self, slot: int) -> None:
        """Make a partition in an earlier transaction than its first blocks."""

        async def step(connection: Connection) -> None:
            await connection.execute(BLOCK_QUERIES["add_block_slots"], [slot])
            await connection.execute(BLOCK_QUERIES["create_block_partition"], slot)

        await in_drain_transaction(self._pool, step)

    async def _note(self, moving: MovingClass, slot: int | None) -> None:
        async with acquired(self._pool) as connection:
            await connection.execute(QUERIES["moved_through"], *moving.key, slot)

    async def _move_slot(self, moving: MovingClass, slot: int) -> int:
        n_samples, after = 0, 0
        while len(ids := await self._next_series(moving, slot, after)):
            try:
                n_samples += await in_drain_transaction(
                    self._pool, partial(_move_series, moving=moving, slot=slot, ids=ids)
                )
            except PASSING_FAULTS:
                raise
            except CONTENT_FAULTS as exc:
                fields = {"tenant_id": moving.tenant_id, "slot": slot, "reason": str(exc)}
                _LOGGER.error("samples cannot be moved into their retention class", extra=fields)
            after = int(ids[-1]) + 1
        return n_samples

    async def _next_series(self, moving: MovingClass, slot: int, after: int) -> IntArray:
        """The next series of the metric, whose pages of the slot have not too many samples."""
        async with acquired(self._pool) as connection:
            found = await connection.fetchval(
                QUERIES["series_to_move"], *moving.key, after, self._series_at_once
            )
            scope = moving.tenant_id, slot, found
            pages = await _pages_to_move(connection, scope) if found else []
        ids = np.array(found, np.int64)
        pages.sort(key=attrgetter("first_series"))
        n_samples = np.cumsum([page.weight for page in pages])
        beyond = int(np.searchsorted(n_samples, self._samples_at_once, "right"))
        if beyond == len(pages):
            return ids
        return ids[: max(int(np.searchsorted(ids, pages[beyond].first_series)), 1)]


async def moving_classes(connection: Connection) -> list[MovingClass]:
    """The metrics whose samples are still being moved."""
    return [MovingClass(*row) for row in await connection.fetch(QUERIES["moving_classes"])]


async def due_changes(connection: Connection, default_days: int) -> list[ClassChange]:
    """The changes of classes that are due.

    A metric that is being moved has to wait, and so has one whose samples are moved with those of
    its tenant: a slot must have samples of at most one earlier class. A tenant waits while some of
    its arrivals are set aside, since they may be drained after later ones.
    """
    wanted, assigned, moving = await _classes(connection, default_days)
    aside = await connection.fetch(BLOCK_QUERIES["tenants_with_arrivals_aside"])
    moving |= {(row["tenant_id"], OF_TENANT) for row in aside}
    return list(changes_between(wanted, assigned, moving))


async def classes_left_too_early(
    connection: Connection, default_days: int
) -> list[tuple[int, int]]:
    """Tenants and classes that have metrics which are to be in one that is kept longer.

    Such changes may have to wait, see `due_changes`; until then nothing may be dropped there.
    """
    wanted, assigned, _ = await _classes(connection, default_days)
    found = set()
    for change in changes_between(wanted, assigned, ()):
        tenant_id, has = change.key[0], _assigned_class(assigned, change.key)
        wants = has if change.retention_class is None else change.retention_class
        if is_longer(days_of_class(wants, default_days), days_of_class(has, default_days)):
            found.add((tenant_id, has))
    return sorted(found)


async def _classes(
    connection: Connection, default_days: int
) -> tuple[dict[MetricKey, int], dict[MetricKey, int], set[MetricKey]]:
    """The classes that metrics want, those that they have, and the metrics that are being moved."""
    wanted: dict[MetricKey, int] = {}
    for tenant_id, name, days in await connection.fetch(QUERIES["retentions"]):
        wanted[tenant_id, name] = class_for(days, default_days)
    assigned: dict[MetricKey, int] = {}
    moving: set[MetricKey] = set()
    rows = await connection.fetch(QUERIES["assigned_classes"])
    for tenant_id, name, retention_class, is_moving in rows:
        assigned[tenant_id, name] = retention_class
        if is_moving:
            moving.add((tenant_id, name))
    return wanted, assigned, moving


def _assigned_class(assigned: Mapping[MetricKey, int], key: MetricKey) -> int:
    """The class that a metric has: its own, or that of its tenant."""
    return assigned.get(key, assigned.get((key[0], OF_TENANT), DEFAULT_CLASS))


def changes_between(
    wanted: Mapping[MetricKey, int],
    assigned: Mapping[MetricKey, int],
    moving: Collection[MetricKey],
) -> Iterator[ClassChange]:
    """What has to change: metrics before their tenants, or they would be moved with these."""
    keys = sorted({**wanted, **assigned}, key=lambda key: (key[0], key[1] == OF_TENANT, key[1]))
    for key in keys:
        of_tenant = (key[0], OF_TENANT)
        if key in moving or of_tenant in moving:
            continue
        tenant_has = assigned.get(of_tenant, DEFAULT_CLASS)
        wants = wanted.get(key, wanted.get(of_tenant, DEFAULT_CLASS))
        has = _assigned_class(assigned, key)
        if wants != has or (key in wanted and key not in assigned):
            yield ClassChange(key, wants, is_moved=wants != has)
        elif key not in wanted and wants == tenant_has:
            yield ClassChange(key, None, is_moved=False)


async def assign_class(connection: Connection, change: ClassChange) -> None:
    """Make a change, in a transaction that holds the lock of drains."""
    if change.retention_class is None:
        await connection.execute(QUERIES["forget_class"], *change.key)
        return
    nowhere = FAR_SLOT if change.is_moved else None
    await connection.execute(QUERIES["assign_class"], *change.key, change.retention_class, nowhere)


def _target(moving: MovingClass, slot: int) -> int:
    return slot_of(day_of_slot(slot), moving.retention_class)


async def _pages_to_move(
    connection: Connection, scope: tuple[int, int, Sequence[int]]
) -> list[StoredPage]:
    """The pages of a tenant and slot that may have samples of some series."""
    runs = await connection.fetch(QUERIES["runs_to_move"], *scope)
    blocks = await connection.fetch(QUERIES["blocks_to_move"], *scope)
    return [
        *(StoredPage.of(row, is_block=False) for row in runs),
        *(StoredPage.of(row, is_block=True) for row in blocks),
    ]


async def _move_series(
    connection: Connection, moving: MovingClass, slot: int, ids: IntArray
) -> int:
    """Move all runs and blocks of series (ascending ids) from a slot; returns how many samples."""
    scope = moving.tenant_id, slot, ids.tolist()
    pages = await _pages_to_move(connection, scope)
    if not pages:
        return 0
    target = _target(moving, slot)
    taken = await take_pages(connection, pages)
    await connection.execute(QUERIES["receive_samples"], moving.tenant_id, target, slot)
    level = await connection.fetchval(QUERIES["least_level"], moving.tenant_id, target)
    written = await asyncio.to_thread(_moved, taken, ids, target, level)
    await write_pages(connection, pages, written)
    await connection.execute(QUERIES["end_merges"])
    rows: list[RunRow | BlockRow] = [*written.runs, *written.blocks]
    return sum(row.page.n_samples for row in rows if row.origin.slot == target)


def _moved(
    taken: Sequence[tuple[StoredPage, bytes]], ids: IntArray, target: int, level: int
) -> Written:
    """The pages with the samples of some series in another slot, and runs of at least a level."""
    written = Written()
    for (page, _), samples in zip(taken, samples_of(taken), strict=True):
        is_moved = np.repeat(np.isin(samples.ids, ids), np.diff(samples.offsets))
        moved, rest = samples.where(is_moved), samples.where(~is_moved)
        origin = replace(page.origin, slot=target)
        if page.is_block:
            written.blocks += block_rows(origin, moved) + block_rows(page.origin, rest)
        else:
            least = replace(origin, level=max(page.origin.level, level))
            written.runs += run_rows(least, moved) + run_rows(page.origin, rest)
    return written
