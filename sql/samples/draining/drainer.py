"""Moves a closed prefix of the arrivals to where samples are stored for good: runs, or rows.

A drain deletes exactly the arrivals that it read, first, and counts them, in the transaction that
inserts their samples. So a second drainer, or one that was frozen and wakes up, cannot store a
sample twice or lose one: whichever comes second finds the rows gone, and changes nothing.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from promcompat.core.errors import PromcompatError
from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.columns.fold import Deletion, Piece
from sql.samples.draining.drain_transaction import (
    CONTENT_FAULTS,
    PASSING_FAULTS,
    change_exactly,
    drain_transaction,
)
from sql.samples.tables.block_table import QUERIES
from sql.samples.writing.backlog import bytes_in_memory, undrained

T = TypeVar("T")
_LOGGER: Final = logging.getLogger(__name__)
_KEPT_CHANGES_SECONDS: Final = 2 * 3600.0
_MAX_REFUSED: Final = 8
"""Arrivals in a row that may be set aside because the database refuses what they become."""
_MAX_PREPARATIONS: Final = 4
_ALL_SERIES: Final = (-(1 << 63), (1 << 63) - 1)
_SAMPLES: Final = 1
_REPLACES: Final = 2
DELETES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOptions:
    """When a drain begins, and how much one transaction moves.

    Draining starts when the head of undrained samples would take `start_bytes`, or when there are
    `start_arrivals`, and goes on until less than half of that is left: the newest samples stay in
    memory. A drain takes some 70 bytes of memory for each of its samples. `max_bytes` are unpacked
    bytes, of which only histograms have so many.
    """

    start_bytes: int = 128 * 1024 * 1024
    start_arrivals: int = 20_000
    max_arrivals: int = 4_096
    max_samples: int = 1_000_000
    max_bytes: int = 64 * 1024 * 1024

    def is_reached(self, n_bytes: int, n_arrivals: int, share: float) -> bool:
        """Whether so much is undrained, or more, as a share of what starts a drain."""
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
    """What one transaction moved. `is_busy`: nothing, because another process drains.

    `n_bytes` is the memory that it took in the head.
    """

    n_arrivals: int = 0
    n_samples: int = 0
    n_bytes: int = 0
    is_busy: bool = False

    @classmethod
    def of(cls, arrivals: "Sequence[ArrivalRow]") -> "DrainResult":
        """The result of moving these arrivals."""
        return cls(
            len(arrivals),
            sum(arrival.n_samples for arrival in arrivals),
            sum(bytes_in_memory(arrival.n_samples, arrival.payload) for arrival in arrivals),
        )


@dataclass(frozen=True, slots=True)
class ArrivalRow:
    """An arrival as a drain reads it; bounds are inclusive."""

    id: int
    tenant_id: int
    kind: int
    n_samples: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    payload: bytes


Change = tuple[int, int, int, int, int]
"""Tenant, first and last series, first and last ms of samples that changed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a prefix of the arrivals.

    `n_conflicts` are samples that were left out because another value counts in their place.
    """

    n_conflicts: int
    changes: Sequence[Change]


class UnpreparedError(Exception):
    """The arrivals cannot be moved in one transaction before `prepare` was called.

    `prepare` works in transactions of its own, none of which changes an answer.
    """

    def __init__(self, prepare: Callable[[], Awaitable[None]]) -> None:
        super().__init__("the arrivals need more than one transaction")
        self.prepare = prepare


class DrainTarget(Protocol):
    """Where drains move samples. `store` is the store that it belongs to."""

    store: str

    def prefix(self, arrivals: Sequence[ArrivalRow], drained_through: int) -> Sequence[ArrivalRow]:
        """The first of these undrained arrivals, which one transaction moves; at least one."""
        ...

    async def move(
        self, connection: Connection, arrivals: Sequence[ArrivalRow], drained_through: int
    ) -> Moved:
        """Store a prefix of the undrained arrivals.

        Raises UnpreparedError, and then nothing of this transaction stays.
        """
        ...

    async def passed(self, connection: Connection, arrival: ArrivalRow) -> None:
        """Note that samples are being set aside, which may be moved later."""
        ...

    async def move_aside(self, connection: Connection, arrival: ArrivalRow) -> bool:
        """Store an arrival that was set aside, in its place in the order; False if it stays.

        Raises UnpreparedError as `move`.
        """
        ...

    async def committed(self) -> None:
        """Called after the transaction of `move` or `move_aside`."""
        ...


class Drainer:
    """Drains arrivals. Any number of processes may try; one at a time succeeds."""

    def __init__(
        self, pool: Pool, options: DrainOptions, stats: DrainStats, target: DrainTarget
    ) -> None:
        self._pool = pool
        self._options = options
        self._stats = stats
        self._target = target
        self._max_arrivals = options.max_arrivals
        self._taken: list[int] = []
        self._n_refused = 0

    async def drain_due(self) -> int:
        """Drain if enough is undrained, until less than half is left; returns how many samples."""
        n_bytes, n_arrivals = await self._undrained()
        n_drained, share = 0, 1.0
        while self._options.is_reached(n_bytes, n_arrivals, share):
            result = await self.drain()
            if not result.n_arrivals:
                break
            share = 0.5
            n_bytes -= result.n_bytes
            n_arrivals -= result.n_arrivals
            n_drained += result.n_samples
        return n_drained

    async def drain_all(self, before_ms: int | None = None) -> int:
        """Drain everything that has arrived by now; returns how many samples.

        With `before_ms`, only until no sample before that time is left of it. What arrives
        meanwhile is for the next call: while samples come, there would be no end.
        """
        _, n_arrivals = await self._undrained()
        n_drained = 0
        while n_arrivals > 0 and await self._has_samples(before_ms):
            result = await self.drain()
            if not result.n_arrivals:
                break
            n_arrivals -= result.n_arrivals
            n_drained += result.n_samples
        return n_drained

    async def drain(self) -> DrainResult:
        """Drain the oldest arrivals in one transaction; what cannot be moved is set aside.

        Raises StorageUnavailableError or QueryTimeoutError, and then a later call may succeed.
        """
        while True:
            self._taken = []
            try:
                result = await prepared(self._drain) or DrainResult(is_busy=True)
            except PASSING_FAULTS:
                raise
            except CONTENT_FAULTS as exc:
                self._check_blame(exc)
                if len(self._taken) == 1:
                    return await self.set_aside(self._taken[0])
                # Half of the batch may do, in the end all but one.
                self._max_arrivals = len(self._taken) // 2
            else:
                self._max_arrivals = min(2 * self._max_arrivals, self._options.max_arrivals)
                self._n_refused = 0
                return result

    def _check_blame(self, exc: Exception) -> None:
        """Raise the fault again unless the arrivals of the batch are likely to be its cause.

        The database may refuse one arrival. If it refuses one after the other, something else is
        the cause, such as a newer schema.
        """
        fields = {"arrivals": len(self._taken), "reason": str(exc)}
        _LOGGER.warning("arrivals cannot be drained", extra=fields)
        if isinstance(exc, PromcompatError) and len(self._taken) == 1:
            self._n_refused += 1
        if not self._taken or self._n_refused > _MAX_REFUSED:
            raise exc

    async def _undrained(self) -> tuple[int, int]:
        """The memory of what is undrained, and how many arrivals that are."""
        async with acquired(self._pool) as connection:
            found = (await undrained(connection)).values()
        return sum(one.n_bytes for one in found), sum(one.n_arrivals for one in found)

    async def _has_samples(self, before_ms: int | None) -> bool:
        """Whether samples before a time (None: anything) may be undrained."""
        if before_ms is None:
            return True
        async with acquired(self._pool) as connection:
            found: bool = await connection.fetchval(QUERIES["has_undrained_before"], before_ms)
        return found

    async def _drain(self) -> DrainResult:
        started = time.perf_counter()
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                return DrainResult(is_busy=True)
            drained_through = await drain_position(connection, self._target)
            if drained_through is None:
                return DrainResult(is_busy=True)
            arrivals = await self._take(connection, drained_through)
            if not arrivals:
                return DrainResult()
            moved = await self._target.move(connection, arrivals, drained_through)
            await note_changes(connection, moved.changes, arrivals[-1].id)
            await change_exactly(connection, "advance_drain", 1, drained_through, arrivals[-1].id)
        await self._target.committed()
        result = DrainResult.of(arrivals)
        self._count(result, moved.n_conflicts, started)
        return result

    async def _take(self, connection: Connection, drained_through: int) -> Sequence[ArrivalRow]:
        """The next arrivals, which are deleted."""
        options = self._options
        rows = await connection.fetch(
            QUERIES["next_arrivals"],
            drained_through,
            self._max_arrivals,
            options.max_samples,
            options.max_bytes,
        )
        arrivals = [ArrivalRow(*row) for row in rows]
        if not arrivals:
            return arrivals
        chosen = self._target.prefix(arrivals, drained_through)
        self._taken = [arrival.id for arrival in chosen]
        await change_exactly(connection, "delete_arrivals", len(chosen), self._taken)
        return chosen

    async def set_aside(self, arrival_id: int) -> DrainResult:
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
            arrival = ArrivalRow(*row)
            await change_exactly(connection, "set_arrival_aside", 1, arrival.id)
            if arrival.kind != DELETES:
                await self._target.passed(connection, arrival)
            await change_exactly(connection, "advance_drain", 1, drained_through, arrival.id)
        self._stats.arrivals_set_aside += 1
        _LOGGER.error("an arrival was set aside", extra={"arrival": arrival.id})
        self._max_arrivals = self._options.max_arrivals
        return DrainResult.of([arrival])

    def _count(self, result: DrainResult, n_conflicts: int, started: float) -> None:
        self._stats.drains += 1
        self._stats.arrivals_drained += result.n_arrivals
        self._stats.samples_drained += result.n_samples
        self._stats.conflicts_resolved += n_conflicts
        self._stats.drain_seconds += time.perf_counter() - started


async def prepared(move: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `move`, which is repeated after each preparation that it asks for.

    None if another process drains in between.
    """
    for _ in range(_MAX_PREPARATIONS):
        try:
            return await move()
        except UnpreparedError as exc:
            with suppress(UnpreparedError):
                await exc.prepare()
    return None


async def drain_position(connection: Connection, target: DrainTarget) -> int | None:
    """The last arrival that was drained; None if the database has moved to the other store.

    Drains of that store then take the arrivals.
    """
    position = await connection.fetchrow(QUERIES["drain_position"])
    if position["store"] not in (None, target.store):
        return None
    drained_through: int = position["drained_through"]
    return drained_through


async def note_changes(
    connection: Connection, changes: Sequence[Change], through: int | None
) -> None:
    """Log what a drain changed, and forget what was logged long ago.

    A process that learns of these arrivals only when they are gone knows from it what is new.
    `through` is the last arrival of the drain; None if readers may not have seen the arrivals.
    """
    if changes:
        columns = zip(*changes, strict=True)
        await connection.execute(QUERIES["insert_changes"], *columns, through)
    await connection.execute(QUERIES["prune_changes"], _KEPT_CHANGES_SECONDS)


def change_of(tenant_id: int, deletion: Deletion) -> Change:
    """What a deletion changed."""
    ids = deletion.series_ids
    bounds = _ALL_SERIES if ids is None else (int(ids[0]), int(ids[-1]))
    return (tenant_id, *bounds, deletion.first_ms, deletion.last_ms)


def pieces_of(arrivals: Sequence[ArrivalRow]) -> list[Piece]:
    """The samples of arrivals, each a piece. Raises CorruptPageError, and ValueError.

    The latter for arrivals of a later version.
    """
    kinds = {arrival.kind for arrival in arrivals} - {_SAMPLES, _REPLACES}
    if kinds:
        raise ValueError(f"arrivals of kind {min(kinds)} are for a later version of promcompat")
    decoded = decode_pages([arrival.payload for arrival in arrivals])
    return [
        Piece(samples, arrival.id, arrival.id, arrival.kind == _REPLACES)
        for arrival, samples in zip(arrivals, decoded, strict=True)
    ]


def deletion_of(arrival: ArrivalRow) -> Deletion:
    """The deletion that an arrival is."""
    ids: IntArray | None = None
    if arrival.payload:
        ids = np.frombuffer(arrival.payload, ">i8").astype(np.int64)
    return Deletion(arrival.id, ids, arrival.first_ms, arrival.last_ms)
