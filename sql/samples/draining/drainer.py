"""Moves a closed prefix of the arrivals into runs: pages of many series, folded and sorted.

A drain deletes exactly the arrivals that it read, first, and counts them, in the transaction that
inserts their samples. So a second drainer, or one that was frozen and wakes up, cannot store a
sample twice or lose one: whichever comes second finds the rows gone, and changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

import numpy as np

from promcompat.core.errors import PromcompatError
from sql.catalog import MS_PER_DAY
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.codec.pages import decode_pages
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.columns.fold_conflicts import count_conflicts
from sql.samples.draining.drain_transaction import (
    CONTENT_FAULTS,
    PASSING_FAULTS,
    change_exactly,
    drain_transaction,
)
from sql.samples.tables.block_table import (
    FAR_DAY,
    NEAR_DAYS_AHEAD,
    NEAR_DAYS_BACK,
    QUERIES,
    Origin,
    RunRow,
    insert_runs,
    near_and_far,
    run_rows,
)
from sql.samples.tables.rollup_marks import Touched, deleted_by, note_touched, touched_by
from sql.samples.writing.backlog import BYTES_PER_ARRIVAL, BYTES_PER_SAMPLE

_LOGGER: Final = logging.getLogger(__name__)
_KEPT_CHANGES_SECONDS: Final = 2 * 3600.0
_MAX_REFUSED: Final = 8
"""So many arrivals in a row may be set aside because the database refuses what they become."""
_ALL_SERIES: Final = (-(1 << 63), (1 << 63) - 1)
_SAMPLES: Final = 1
_REPLACES: Final = 2
_DELETES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """When a drain begins, and how much one transaction moves.

    Draining starts when the head of undrained samples would take `start_bytes`, or when there are
    `start_arrivals`, and goes on until less than half of that is left: the newest samples stay in
    memory.
    """

    start_bytes: int = 128 * 1024 * 1024
    start_arrivals: int = 20_000
    max_arrivals: int = 4_096
    max_samples: int = 2_000_000
    max_bytes: int = 64 * 1024 * 1024

    def is_reached(self, n_samples: int, n_arrivals: int, share: float) -> bool:
        """Whether so much is undrained, or more, as a share of what starts a drain."""
        n_bytes = BYTES_PER_SAMPLE * n_samples + BYTES_PER_ARRIVAL * n_arrivals
        return n_bytes >= share * self.start_bytes or n_arrivals >= share * self.start_arrivals


@dataclass(slots=True)
class DrainStats:
    """Totals of this process; conflicts are samples that had another value in their place.

    `pages_unreadable` counts queries that needed a stored page which cannot be decoded.
    """

    drains: int = 0
    arrivals_drained: int = 0
    samples_drained: int = 0
    conflicts_resolved: int = 0
    arrivals_set_aside: int = 0
    arrivals_moved_later: int = 0
    drain_seconds: float = 0.0
    merges: int = 0
    merges_given_up: int = 0
    samples_merged: int = 0
    merge_seconds: float = 0.0
    pages_unreadable: int = 0
    rollup_steps: int = 0
    rollups_given_up: int = 0
    samples_rolled_up: int = 0
    rollup_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What one transaction moved. `is_busy`: nothing, because another process drains."""

    n_arrivals: int = 0
    n_samples: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class DrainedArrival:
    """A row of table `arrival` that is being moved."""

    id: int
    tenant_id: int
    kind: int
    n_samples: int
    first_ms: int
    last_ms: int
    payload: bytes


@dataclass(slots=True)
class FoldedArrivals:
    """What a drain stores."""

    runs: list[RunRow] = field(default_factory=list)
    deletions: list[tuple[int, Deletion]] = field(default_factory=list)
    touched: list[Touched] = field(default_factory=list)
    n_conflicts: int = 0

    @property
    def changes(self) -> list[tuple[int, int, int, int, int]]:
        """Tenant, first and last series, first and last ms of what the arrivals changed.

        A process that sees these arrivals only when they are gone learns from it what is new.
        """
        deleted = [
            (tenant_id, *_series_bounds(deletion), deletion.first_ms, deletion.last_ms)
            for tenant_id, deletion in self.deletions
        ]
        return [*((extent[0], *extent[2:]) for extent in self.extents), *deleted]

    @property
    def extents(self) -> list[tuple[int, int, int, int, int, int]]:
        """Tenant, day, first and last series, first and last ms of the runs, by tenant and day."""
        found = []
        key = attrgetter("origin.tenant_id", "origin.day")
        for (tenant_id, day), rows in groupby(sorted(self.runs, key=key), key):
            pages = [row.page for row in rows]
            found.append(
                (
                    tenant_id,
                    day,
                    min(page.first_series for page in pages),
                    max(page.last_series for page in pages),
                    min(page.first_ms for page in pages),
                    max(page.last_ms for page in pages),
                )
            )
        return found


class Drainer:
    """Drains arrivals into runs. Any number of processes may try; one at a time does."""

    def __init__(
        self,
        pool: Pool,
        options: DrainOptions,
        stats: DrainStats,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`now_ms` is the clock that decides which days are near now."""
        self._pool = pool
        self._options = options
        self._stats = stats
        self._now_ms = now_ms
        self._max_arrivals = options.max_arrivals
        self._taken: list[int] = []
        self._n_refused = 0

    async def drain_due(self) -> int:
        """Drain if enough is undrained, until less than half is left; returns how many samples."""
        n_samples, n_arrivals = await self._undrained()
        n_drained, share = 0, 1.0
        while self._options.is_reached(n_samples, n_arrivals, share):
            result = await self.drain()
            if not result.n_arrivals:
                break
            share = 0.5
            n_samples -= result.n_samples
            n_arrivals -= result.n_arrivals
            n_drained += result.n_samples
        return n_drained

    async def drain_all(self) -> int:
        """Drain everything that has arrived by now; returns how many samples."""
        n_drained = 0
        while (result := await self.drain()).n_arrivals:
            n_drained += result.n_samples
        return n_drained

    async def drain(self) -> DrainResult:
        """Drain the oldest arrivals in one transaction; what cannot be moved is set aside.

        Raises StorageUnavailableError or QueryTimeoutError, and then a later call may succeed.
        """
        while True:
            self._taken = []
            try:
                result = await self._drain(self._max_arrivals)
            except PASSING_FAULTS:
                raise
            except CONTENT_FAULTS as exc:
                self._check_blame(exc)
                if len(self._taken) == 1:
                    return await self._set_aside(self._taken[0])
                # Half of the batch may do, in the end all but one.
                self._max_arrivals = len(self._taken) // 2
            else:
                self._max_arrivals = min(2 * self._max_arrivals, self._options.max_arrivals)
                self._n_refused = 0
                return result

    def _check_blame(self, exc: Exception) -> None:
        """Raise a fault again for which the arrivals of the batch are hardly to blame.

        The database may refuse one arrival; when it refuses one after the other, the reason is
        another one, such as a newer schema.
        """
        fields = {"arrivals": len(self._taken), "reason": str(exc)}
        _LOGGER.warning("arrivals cannot be drained", extra=fields)
        if isinstance(exc, PromcompatError) and len(self._taken) == 1:
            self._n_refused += 1
        if not self._taken or self._n_refused > _MAX_REFUSED:
            raise exc

    async def _undrained(self) -> tuple[int, int]:
        async with acquired(self._pool) as connection:
            row = await connection.fetchrow(QUERIES["undrained"])
        return row["n_samples"], row["n_arrivals"]

    async def _drain(self, max_arrivals: int) -> DrainResult:
        started = time.perf_counter()
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                return DrainResult(is_busy=True)
            drained_through, arrivals = await self._take(connection, max_arrivals)
            if not arrivals:
                return DrainResult()
            near_days = await self.near_days(connection, arrivals)
            folded = await asyncio.to_thread(fold_arrivals, arrivals, near_days)
            new_days = await store_folded(connection, folded, arrivals[-1].id)
            await change_exactly(connection, "advance_drain", 1, drained_through, arrivals[-1].id)
        await self.make_partitions(new_days)
        n_samples = sum(arrival.n_samples for arrival in arrivals)
        self._count(len(arrivals), n_samples, folded.n_conflicts, started)
        return DrainResult(len(arrivals), n_samples)

    async def make_partitions(self, days: Sequence[int]) -> None:
        """Make partitions before they are needed: compaction fills them later."""
        for day in days:
            async with acquired(self._pool) as connection:
                await connection.execute(QUERIES["create_block_partition"], day)

    async def _take(
        self, connection: Connection, max_arrivals: int
    ) -> tuple[int, list[DrainedArrival]]:
        """The position of the last drain, and the next arrivals, which are deleted."""
        options = self._options
        drained_through = await connection.fetchval(QUERIES["drained_through"])
        rows = await connection.fetch(
            QUERIES["next_arrivals"],
            drained_through,
            max_arrivals,
            options.max_samples,
            options.max_bytes,
        )
        arrivals = [DrainedArrival(*row) for row in rows]
        self._taken = [arrival.id for arrival in arrivals]
        await change_exactly(connection, "delete_arrivals", len(arrivals), self._taken)
        return drained_through, arrivals

    async def near_days(
        self, connection: Connection, arrivals: Sequence[DrainedArrival]
    ) -> Collection[int]:
        """The days with partitions; notes those that get one now. See table `block_day`."""
        known = set(await connection.fetchval(QUERIES["block_days"]))
        today = self._now_ms() // MS_PER_DAY
        first = min(arrival.first_ms for arrival in arrivals) // MS_PER_DAY
        last = max(arrival.last_ms for arrival in arrivals) // MS_PER_DAY
        window = range(max(first, today - NEAR_DAYS_BACK), min(last, today + NEAR_DAYS_AHEAD) + 1)
        return known | set(window)

    async def _set_aside(self, arrival_id: int) -> DrainResult:
        """Leave the oldest arrival where it is: readers read it there, and drains pass it.

        Does nothing if another process has moved it or set it aside meanwhile.
        """
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                return DrainResult(is_busy=True)
            drained_through = await connection.fetchval(QUERIES["drained_through"])
            row = await connection.fetchrow(QUERIES["next_arrivals"], drained_through, 1, 0, 0)
            if row is None or row["id"] != arrival_id:
                return DrainResult(is_busy=True)
            await change_exactly(connection, "set_arrival_aside", 1, row["id"])
            if row["kind"] != _DELETES:
                # Moved later, it must not have times that processes think nothing drained has.
                extent = row["tenant_id"], FAR_DAY, row["first_ms"], row["last_ms"]
                await connection.execute(QUERIES["widen_extents"], *([one] for one in extent))
            await change_exactly(connection, "advance_drain", 1, drained_through, row["id"])
        self._stats.arrivals_set_aside += 1
        _LOGGER.error("an arrival was set aside", extra={"arrival": row["id"]})
        self._max_arrivals = self._options.max_arrivals
        return DrainResult(1, row["n_samples"])

    def _count(self, n_arrivals: int, n_samples: int, n_conflicts: int, started: float) -> None:
        self._stats.drains += 1
        self._stats.arrivals_drained += n_arrivals
        self._stats.samples_drained += n_samples
        self._stats.conflicts_resolved += n_conflicts
        self._stats.drain_seconds += time.perf_counter() - started


def fold_arrivals(arrivals: Sequence[DrainedArrival], near_days: Collection[int]) -> FoldedArrivals:
    """The runs of a closed range of arrivals, whose own deletions are applied.

    What replaces earlier samples is folded apart from what does not: at a time that both have, the
    former counts, whatever came first, also before what other runs hold.
    """
    folded = FoldedArrivals()
    by_tenant = attrgetter("tenant_id")
    for tenant_id, group in groupby(sorted(arrivals, key=by_tenant), by_tenant):
        of_tenant = list(group)
        _check_kinds(of_tenant)
        deletions = [_deletion(arrival) for arrival in of_tenant if arrival.kind == _DELETES]
        folded.deletions += [(tenant_id, deletion) for deletion in deletions]
        for deletion in deletions:
            folded.touched += deleted_by(tenant_id, deletion)
        pieces = _pieces([arrival for arrival in of_tenant if arrival.kind != _DELETES])
        for replaces in (False, True):
            chosen = [piece for piece in pieces if piece.replaces is replaces]
            if not chosen:
                continue
            samples = fold(chosen, deletions)
            if not replaces:
                folded.n_conflicts += count_conflicts(chosen, samples)
            folded.touched += touched_by(tenant_id, samples)
            for day, of_day in near_and_far(samples, near_days):
                first, last = arrivals[0].id, arrivals[-1].id
                origin = Origin(tenant_id, day, 0, replaces, first, last, last)
                folded.runs += run_rows(origin, of_day)
    return folded


def _check_kinds(arrivals: Sequence[DrainedArrival]) -> None:
    kinds = {arrival.kind for arrival in arrivals} - {_SAMPLES, _REPLACES, _DELETES}
    if kinds:
        raise ValueError(f"arrivals of kind {min(kinds)} are for a later version of promcompat")


def _pieces(arrivals: Sequence[DrainedArrival]) -> list[Piece]:
    decoded = decode_pages([arrival.payload for arrival in arrivals])
    return [
        Piece(samples, arrival.id, arrival.id, arrival.kind == _REPLACES)
        for arrival, samples in zip(arrivals, decoded, strict=True)
    ]


def _deletion(arrival: DrainedArrival) -> Deletion:
    ids = np.frombuffer(arrival.payload, ">i8").astype(np.int64) if arrival.payload else None
    return Deletion(arrival.id, ids, arrival.first_ms, arrival.last_ms)


def _series_bounds(deletion: Deletion) -> tuple[int, int]:
    ids = deletion.series_ids
    return _ALL_SERIES if ids is None else (int(ids[0]), int(ids[-1]))


async def store_folded(
    connection: Connection, folded: FoldedArrivals, through: int | None
) -> Sequence[int]:
    """Store what was folded; returns the near days that are new.

    `through` is the last arrival of the drain; None if readers may not have seen the arrivals.
    """
    extents = folded.extents
    near_days = sorted({row.origin.day for row in folded.runs} - {FAR_DAY})
    new_days: Sequence[int] = await connection.fetchval(QUERIES["add_block_days"], near_days)
    await insert_runs(connection, folded.runs)
    if extents:
        tenants, days, _, _, first_ms, last_ms = zip(*extents, strict=True)
        await connection.execute(QUERIES["widen_extents"], tenants, days, first_ms, last_ms)
    if changes := folded.changes:
        columns = zip(*changes, strict=True)
        await connection.execute(QUERIES["insert_changes"], *columns, through)
    await note_touched(connection, folded.touched)
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
    await connection.execute(QUERIES["prune_changes"], _KEPT_CHANGES_SECONDS)
    return new_days
