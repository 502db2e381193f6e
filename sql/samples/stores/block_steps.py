"""The steps of maintenance of the block store, in their order; see `MaintenanceStep`.

Each may be stopped at any moment: the next run goes on with what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.maintenance import MaintenanceTask, StepNotes
from promcompat.core.ports import MaintenanceStep
from sql.database.connection_pool import Pool, acquired
from sql.samples.draining.block_retention import BlockRetention, first_kept_ms
from sql.samples.draining.class_moves import ClassMoves, due_changes, moving_classes
from sql.samples.draining.drains import Drains
from sql.samples.draining.rollup_retention import RollupRetention
from sql.samples.stores.rollup_work import Rollups
from sql.samples.stores.store_steps import AsideStep, OrphanStep, SeriesRemoval
from sql.samples.tables.block_table import QUERIES as BLOCK_QUERIES
from sql.samples.tables.slots import class_of_slot, day_of_slot, slot_of
from sql.times import MS_PER_DAY

_MOST_TRANSACTIONS: Final = 1_000
"""The most merges or rollups of a run, so that the other steps do not wait for a backlog."""
_DAYS_AHEAD: Final = 1
"""What is made of a day before it begins; a drain makes what is missing."""


@dataclass(frozen=True, slots=True)
class DrainStep(MaintenanceStep):
    """Moves arrivals into runs: when there are many, or some that no reader sees any longer."""

    pool: Pool
    drains: Drains
    task: MaintenanceTask
    name: str = "drain"
    unit: str = "samples"

    async def plan(self) -> int:
        """How many samples wait for a drain."""
        async with acquired(self.pool) as connection:
            return await self.drains.count_undrained(connection)

    async def run(self, notes: StepNotes) -> int:
        """Drain; returns how many samples."""
        n_samples = await self.drains.drainer.drain_due()
        kept_from_ms = first_kept_ms(self.task.retention_days, self.task.now_ms)
        if kept_from_ms is not None:
            n_samples += await self.drains.drainer.drain_all(kept_from_ms)
        return n_samples


@dataclass(frozen=True, slots=True)
class MergeStep(MaintenanceStep):
    """Merges runs and blocks, and works off deletions, unless another process does."""

    pool: Pool
    drains: Drains
    name: str = "merge"
    unit: str = "merges"

    async def plan(self) -> int:
        """How many tenants and slots have something to merge."""
        async with acquired(self.pool) as connection:
            return await self.drains.count_merges(connection)

    async def run(self, notes: StepNotes) -> int:
        """Merge until nothing is left to do; returns how many transactions that took."""
        for n_merges in range(_MOST_TRANSACTIONS):
            if await self.drains.compact_step():
                return n_merges
        return _MOST_TRANSACTIONS


@dataclass(frozen=True, slots=True)
class RollupStep(MaintenanceStep):
    """Rolls up the days that have ended, and again those whose samples have changed since."""

    rollups: Rollups
    name: str = "rollup"
    unit: str = "days"

    async def plan(self) -> int:
        """How many days of tenants are due."""
        return await self.rollups.count_due()

    async def run(self, notes: StepNotes) -> int:
        """Roll up; returns how many days of tenants were due and no longer are."""
        n_due = await self.rollups.count_due()
        await self.rollups.run(_MOST_TRANSACTIONS)
        return max(0, n_due - await self.rollups.count_due())


@dataclass(frozen=True, slots=True)
class ClassStep(MaintenanceStep):
    """Gives metrics the retention classes that fit them, and moves their samples."""

    pool: Pool
    moves: ClassMoves
    task: MaintenanceTask
    name: str = "retention classes"
    unit: str = "metrics"

    async def plan(self) -> int:
        """How many metrics get another class, or have samples that are still to be moved."""
        async with acquired(self.pool) as connection:
            changes = await due_changes(connection, self.task.retention_days)
            return len(changes) + len(await moving_classes(connection))

    async def run(self, notes: StepNotes) -> int:
        """Assign and move; returns how many metrics are where they should be now."""
        n_metrics = await self.moves.assign(self.task.retention_days)
        async with acquired(self.pool) as connection:
            found = await moving_classes(connection)
        for moving in found:
            subject = f"metric {moving.metric_name!r} of tenant {moving.tenant_id}"
            await notes.attempt(subject, self.moves.move(moving))
        return max(n_metrics, len(found))


@dataclass(frozen=True, slots=True)
class RetainStep(MaintenanceStep):
    """Drops the partitions of past days, and what is no longer kept of days far from now."""

    retention: BlockRetention
    task: MaintenanceTask
    name: str = "retain"
    unit: str = "partitions"

    async def plan(self) -> int:
        """How many partitions are due."""
        task = self.task
        return len(await self.retention.expired_slots(task.retention_days, task.now_ms))

    async def run(self, notes: StepNotes) -> int:
        """Drop them one by one; returns how many."""
        n_dropped, scope = 0, (self.task.retention_days, self.task.now_ms)
        first_day = await self.retention.first_kept_day(*scope)
        kept = await self.retention.slots_to_keep(self.task.retention_days)
        for slot in await self.retention.expired_slots(*scope):
            if slot in kept:
                continue
            subject = f"day {day_of_slot(slot)} of class {class_of_slot(slot)}"
            n_dropped += await notes.attempt(subject, self.retention.drop(slot, first_day)) or 0
        return n_dropped


@dataclass(frozen=True, slots=True)
class FarStep(MaintenanceStep):
    """Deletes what is no longer kept of the days far from now, tenant by tenant."""

    retention: BlockRetention
    task: MaintenanceTask
    name: str = "retain far days"
    unit: str = "pages"

    async def plan(self) -> int:
        """How many pages are due."""
        task, n_pages = self.task, 0
        for limit in await self.retention.far_limits(task.retention_days):
            n_pages += await self.retention.count_far(limit, task.retention_days, task.now_ms)
        return n_pages

    async def run(self, notes: StepNotes) -> int:
        """Delete; returns how many pages."""
        task, n_pages = self.task, 0
        for limit in await self.retention.far_limits(task.retention_days):
            clipping = self.retention.clip_far(limit, task.retention_days, task.now_ms)
            n_pages += await notes.attempt(f"tenant {limit.tenant_id}", clipping) or 0
        return n_pages


@dataclass(frozen=True, slots=True)
class RollupRetentionStep(MaintenanceStep):
    """Deletes rollups that outlived their samples and are past their own retention."""

    retention: RollupRetention
    task: MaintenanceTask
    name: str = "retain rollups"
    unit: str = "rows"

    async def plan(self) -> int:
        """How many rows are due."""
        due = await self.retention.due(self.task.retention_days, self.task.now_ms)
        return sum([await self.retention.count(expired) for expired in due])

    async def run(self, notes: StepNotes) -> int:
        """Delete them, tenant by tenant; returns how many."""
        n_rows = 0
        for expired in await self.retention.due(self.task.retention_days, self.task.now_ms):
            deleting = self.retention.delete(expired)
            n_rows += await notes.attempt(f"tenant {expired.tenant_id}", deleting) or 0
        return n_rows


@dataclass(frozen=True, slots=True)
class PartitionStep(MaintenanceStep):
    """Makes the partitions of tomorrow, for the classes that have one of today."""

    pool: Pool
    task: MaintenanceTask
    name: str = "partitions ahead"
    unit: str = "partitions"

    async def plan(self) -> int:
        """How many are missing."""
        return len(await self._missing())

    async def run(self, notes: StepNotes) -> int:
        """Make them; returns how many."""
        missing = await self._missing()
        for slot in missing:
            async with acquired(self.pool) as connection, connection.transaction():
                await connection.execute(BLOCK_QUERIES["add_block_slots"], [slot])
                await connection.execute(BLOCK_QUERIES["create_block_partition"], slot)
        return len(missing)

    async def _missing(self) -> list[int]:
        today = self.task.now_ms // MS_PER_DAY
        bounds = slot_of(today), slot_of(today + _DAYS_AHEAD + 1)
        async with acquired(self.pool) as connection:
            found = await connection.fetchval(BLOCK_QUERIES["slots_between"], *bounds)
        wanted = {
            slot_of(today + _DAYS_AHEAD, class_of_slot(slot))
            for slot in found
            if day_of_slot(slot) == today
        }
        return sorted(wanted - set(found))


def block_steps(
    pool: Pool,
    drains: Drains,
    rollups: Rollups,
    rollup_days: int | None,
    removal: SeriesRemoval,
    task: MaintenanceTask,
) -> Sequence[MaintenanceStep]:
    """Every step, in the order in which they run: each finds what those before it have left.

    `rollup_days` is how long rollups are kept (0: forever; None: as long as samples).
    """
    retention = BlockRetention(pool, outlived_by_rollups=rollup_days is not None)
    outliving: tuple[MaintenanceStep, ...] = ()
    if rollup_days is not None:
        outliving = (RollupRetentionStep(RollupRetention(pool, rollup_days), task),)
    return (
        DrainStep(pool, drains, task),
        AsideStep(pool, drains),
        MergeStep(pool, drains),
        RollupStep(rollups),
        ClassStep(pool, ClassMoves(pool), task),
        RetainStep(retention, task),
        FarStep(retention, task),
        *outliving,
        OrphanStep(removal, is_forced=task.is_first),
        PartitionStep(pool, task),
    )
