"""Moves arrivals into runs: pages of many series, folded and sorted; see `drainer`."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from promcompat.core.clock import wall_clock_ms
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.columns.fold import Deletion, count_conflicts, fold
from sql.samples.draining.drainer import (
    DELETES,
    ArrivalRow,
    Change,
    DrainTarget,
    Moved,
    change_of,
    deletion_of,
    note_changes,
    pieces_of,
)
from sql.samples.tables.block_table import (
    NEAR_DAYS_AHEAD,
    NEAR_DAYS_BACK,
    QUERIES,
    Origin,
    RunRow,
    by_slot,
    insert_runs,
    run_rows,
)
from sql.samples.tables.retention_classes import NO_CLASSES, TenantClasses, classes_of
from sql.samples.tables.rollup_marks import (
    Touched,
    deleted_by,
    note_deleted_series,
    note_touched,
    touched_by,
)
from sql.samples.tables.slots import FAR_SLOT
from sql.times import MS_PER_DAY


@dataclass(slots=True)
class _Folded:
    """What a drain stores."""

    runs: list[RunRow] = field(default_factory=list)
    deletions: list[tuple[int, Deletion]] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)
    n_conflicts: int = 0

    @property
    def changes(self) -> list[Change]:
        """What the arrivals changed."""
        deleted = [change_of(*deletion) for deletion in self.deletions]
        return [*((extent[0], *extent[2:]) for extent in self.extents), *deleted]

    @property
    def extents(self) -> list[tuple[int, int, int, int, int, int]]:
        """Tenant, slot, first and last series, first and last ms of runs, by tenant and slot."""
        found = []
        key = attrgetter("origin.tenant_id", "origin.slot")
        for (tenant_id, slot), rows in groupby(sorted(self.runs, key=key), key):
            pages = [row.page for row in rows]
            found.append(
                (
                    tenant_id,
                    slot,
                    min(page.first_series for page in pages),
                    max(page.last_series for page in pages),
                    min(page.first_ms for page in pages),
                    max(page.last_ms for page in pages),
                )
            )
        return found


class BlockTarget(DrainTarget):
    """Stores runs, which compaction makes into blocks."""

    store = "blocks"

    def __init__(self, pool: Pool, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        """`now_ms` is the clock that decides which days are near now."""
        self._pool = pool
        self._now_ms = now_ms
        self._new_slots: Sequence[int] = ()

    def prefix(self, arrivals: Sequence[ArrivalRow], drained_through: int) -> Sequence[ArrivalRow]:
        """All of them; see `DrainTarget`."""
        return arrivals

    async def move(
        self, connection: Connection, arrivals: Sequence[ArrivalRow], drained_through: int
    ) -> Moved:
        """Store the arrivals as runs; see `DrainTarget`."""
        folded = await self._fold(connection, arrivals)
        self._new_slots = await _store(connection, folded)
        return Moved(folded.n_conflicts, folded.changes)

    async def passed(self, connection: Connection, arrival: ArrivalRow) -> None:
        """Widen the bounds of what is drained by the arrival, since it may be moved later."""
        extent = arrival.tenant_id, FAR_SLOT, arrival.first_ms, arrival.last_ms
        await connection.execute(QUERIES["widen_extents"], *([one] for one in extent))

    async def move_aside(self, connection: Connection, arrival: ArrivalRow) -> bool:
        """Store an arrival as runs; see `DrainTarget`."""
        folded = await self._fold(connection, [arrival])
        if await _comes_before_far(connection, arrival, folded):
            return False
        self._new_slots = await _store(connection, folded)
        await note_changes(connection, folded.changes, None)
        await connection.execute(QUERIES["settle_levels"], arrival.tenant_id, arrival.id)
        return True

    async def committed(self) -> None:
        """Make partitions before they are needed: compaction fills them later."""
        slots, self._new_slots = self._new_slots, ()
        for slot in slots:
            async with acquired(self._pool) as connection:
                await connection.execute(QUERIES["create_block_partition"], slot)

    async def _fold(self, connection: Connection, arrivals: Sequence[ArrivalRow]) -> _Folded:
        near_days = await self._near_days(connection, arrivals)
        classes = await _classes_of(connection, arrivals)
        return await asyncio.to_thread(_fold_arrivals, arrivals, near_days, classes)

    async def _near_days(
        self, connection: Connection, arrivals: Sequence[ArrivalRow]
    ) -> Collection[int]:
        """The days that have slots, and those that are near now; see table `block_slot`."""
        known = set(await connection.fetchval(QUERIES["block_days"]))
        today = self._now_ms() // MS_PER_DAY
        first = min(arrival.first_ms for arrival in arrivals) // MS_PER_DAY
        last = max(arrival.last_ms for arrival in arrivals) // MS_PER_DAY
        window = range(max(first, today - NEAR_DAYS_BACK), min(last, today + NEAR_DAYS_AHEAD) + 1)
        return known | set(window)


async def _classes_of(
    connection: Connection, arrivals: Sequence[ArrivalRow]
) -> Mapping[int, TenantClasses]:
    """The retention classes of the series of arrivals, by tenant; see `classes_of`."""
    tenant_ids = list({arrival.tenant_id for arrival in arrivals})
    first = min(arrival.first_series for arrival in arrivals)
    last = max(arrival.last_series for arrival in arrivals)
    return await classes_of(connection, tenant_ids, first, last)


def _fold_arrivals(
    arrivals: Sequence[ArrivalRow],
    near_days: Collection[int],
    classes: Mapping[int, TenantClasses],
) -> _Folded:
    """The runs of a closed range of arrivals, whose own deletions are applied.

    What replaces earlier samples is folded apart from what does not: at a time that both have, the
    former counts, whatever came first, also before what other runs hold.
    """
    folded = _Folded()
    by_tenant = attrgetter("tenant_id")
    for tenant_id, group in groupby(sorted(arrivals, key=by_tenant), by_tenant):
        of_tenant = list(group)
        deletions = [deletion_of(arrival) for arrival in of_tenant if arrival.kind == DELETES]
        folded.deletions += [(tenant_id, deletion) for deletion in deletions]
        for deletion in deletions:
            folded.touched += deleted_by(tenant_id, deletion)
        pieces = pieces_of([arrival for arrival in of_tenant if arrival.kind != DELETES])
        for replaces in (False, True):
            chosen = [piece for piece in pieces if piece.replaces is replaces]
            if not chosen:
                continue
            samples = fold(chosen, deletions)
            if not replaces:
                folded.n_conflicts += count_conflicts(chosen, samples)
            folded.touched += touched_by(tenant_id, samples)
            for one, of_class in classes.get(tenant_id, NO_CLASSES).by_class(samples):
                for slot, of_slot in by_slot(of_class, near_days, one):
                    first, last = arrivals[0].id, arrivals[-1].id
                    origin = Origin(tenant_id, slot, 0, replaces, first, last, last)
                    folded.runs += run_rows(origin, of_slot)
    return folded


async def _comes_before_far(connection: Connection, arrival: ArrivalRow, folded: _Folded) -> bool:
    """Whether later samples of a day that is near now were stored while it was far.

    Of one day, everything far has to arrive before everything near (see table `block_slot`).
    """
    near = [row.page for row in folded.runs if row.origin.slot != FAR_SLOT]
    if not near:
        return False
    bounds = min(page.first_ms for page in near), max(page.last_ms for page in near)
    scope = arrival.tenant_id, arrival.id, *bounds
    is_before: bool = await connection.fetchval(QUERIES["has_later_far_samples"], *scope)
    return is_before


async def _store(connection: Connection, folded: _Folded) -> Sequence[int]:
    """Store what was folded; returns the near slots that are new."""
    extents = folded.extents
    near_slots = sorted({row.origin.slot for row in folded.runs} - {FAR_SLOT})
    new_slots: Sequence[int] = await connection.fetchval(QUERIES["add_block_slots"], near_slots)
    await insert_runs(connection, folded.runs)
    if extents:
        tenants, slots, _, _, first_ms, last_ms = zip(*extents, strict=True)
        await connection.execute(QUERIES["widen_extents"], tenants, slots, first_ms, last_ms)
    await note_touched(connection, folded.touched)
    await note_deleted_series(connection, [deletion for _, deletion in folded.deletions])
    for tenant_id, deletion in folded.deletions:
        ids = None if deletion.series_ids is None else deletion.series_ids.tolist()
        await connection.execute(
            QUERIES["insert_deletion"],
            deletion.arrival_id,
            tenant_id,
            ids,
            deletion.first_ms,
            deletion.last_ms,
        )
    return new_slots
