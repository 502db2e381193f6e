"""Moves arrivals into the rows of table `sample`; see `drainer`.

Rows have arrived before everything that is undrained. So a drain stores what a fold leaves of the
arrivals where no row is, and replaces rows where arrivals replace samples. A deletion is moved
alone, after everything before it: its rows are deleted step by step, while it is still an arrival
that readers apply.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import QueryTimeoutError, StorageUnavailableError
from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.copy_format import SampleRows
from sql.query_loader import load_queries
from sql.samples.columns.fold import Deletion, count_conflicts, fold
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.drain_transaction import drain_transaction
from sql.samples.draining.drainer import (
    DELETES,
    ArrivalRow,
    Change,
    DrainTarget,
    Moved,
    UnpreparedError,
    change_of,
    deletion_of,
    note_changes,
    pieces_of,
)
from sql.samples.tables.block_table import QUERIES as DRAIN_QUERIES
from sql.samples.tables.block_table import by_day
from sql.samples.tables.retention_classes import QUERIES as RETENTION_QUERIES
from sql.samples.tables.sample_table import (
    SAMPLE_TABLE,
    STAGING_TABLE,
    SamplePartitions,
    encode_rows,
    unix_days,
)
from sql.times import MS_PER_DAY, MS_PER_HOUR

_QUERIES: Final = load_queries("samples")
_MAX_DAYS: Final = 64
"""A transaction locks each chunk and its index; the server's lock table is finite."""
_ROWS_AT_ONCE: Final = 200_000
"""If one row of these is stored already, all are staged: 120,000 rows/s instead of 400,000."""
_COPY_CHUNK_BYTES: Final = 1 << 20
_SERIES_AT_ONCE: Final = 100
"""Of a deletion: with a day to a chunk and samples every 15 s, half a million rows in a step."""
_HOUR_NOTED_AFTER_MS: Final = 50 * 60_000
"""Maintenance computes an hour when it ended an hour ago; the ten minutes are for slow drains."""
_MAX_CHANGED_DAYS: Final = 100


@dataclass(slots=True)
class _Folded:
    """What a prefix of the arrivals stores; `added` leaves rows alone, `replacing` does not.

    `hours` has a tenant, an hour with samples, and whether it may be computed any moment.
    """

    added: list[SeriesSamples] = field(default_factory=list)
    replacing: list[SeriesSamples] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    hours: list[tuple[int, int, bool]] = field(default_factory=list)
    n_conflicts: int = 0

    def note(self, tenant_id: int, samples: SeriesSamples, now_ms: int) -> None:
        """Note what samples of a tenant change."""
        times = samples.timestamps
        hours = distinct(times // MS_PER_HOUR)
        is_old = np.isin(hours, times[times < now_ms - _HOUR_NOTED_AFTER_MS] // MS_PER_HOUR)
        columns = zip(hours.tolist(), is_old.tolist(), strict=True)
        self.hours += [(tenant_id, *hour) for hour in columns]
        if len(unix_days(times)) > _MAX_CHANGED_DAYS:
            self.changes.append(_change(tenant_id, samples))
        else:
            self.changes += [_change(tenant_id, of_day) for _, of_day in by_day(samples)]

    def days(self) -> IntArray:
        """The days that have samples."""
        times = [part.timestamps for part in (*self.added, *self.replacing)]
        return unix_days(np.concatenate(times)) if times else np.empty(0, np.int64)

    def of_days(self, days: IntArray) -> "_Folded":
        """What is stored of some days."""
        return _Folded(
            [_of_days(part, days) for part in self.added],
            [_of_days(part, days) for part in self.replacing],
        )


@dataclass(frozen=True, slots=True)
class _Position:
    """A prefix of the undrained arrivals: those behind `after`, up to `through`."""

    after: int
    through: int


class RowTarget(DrainTarget):
    """Stores rows, in a hypertable or in partitions of a day."""

    store = "rows"

    def __init__(
        self,
        pool: Pool,
        partitions: SamplePartitions | None,
        now_ms: Callable[[], int],
    ) -> None:
        """`partitions` is None on a hypertable, which makes its chunks itself.

        `now_ms` is the clock that decides which hours may have been computed already.
        """
        self._pool = pool
        self._partitions = partitions
        self._now_ms = now_ms
        self._prepared: _Position | None = None
        self._prepared_aside: int | None = None

    def prefix(self, arrivals: Sequence[ArrivalRow], drained_through: int) -> Sequence[ArrivalRow]:
        """Those before the first deletion, or that alone; see `DrainTarget`."""
        if arrivals[0].kind == DELETES:
            return arrivals[:1]
        through = arrivals[-1].id
        if self._prepared is not None and self._prepared.after == drained_through:
            through = min(through, self._prepared.through)
        behind = (
            index
            for index, arrival in enumerate(arrivals)
            if arrival.kind == DELETES or arrival.id > through
        )
        return arrivals[: next(behind, len(arrivals))]

    async def move(
        self, connection: Connection, arrivals: Sequence[ArrivalRow], drained_through: int
    ) -> Moved:
        """Store the arrivals as rows; see `DrainTarget`."""
        position = _Position(drained_through, arrivals[-1].id)
        if arrivals[0].kind == DELETES:
            return await self._move_deletion(connection, arrivals[0], position)
        folded = await asyncio.to_thread(_fold_arrivals, arrivals, self._now_ms())
        n_conflicts = folded.n_conflicts
        if self._prepared != position:
            days = folded.days()
            if len(days) > _MAX_DAYS:
                raise UnpreparedError(partial(self._store_by_days, position, folded, days))
            n_conflicts += await self._store_prepared(connection, folded, days)
        await _note(connection, folded, arrivals)
        return Moved(n_conflicts, folded.changes)

    async def passed(self, connection: Connection, arrival: ArrivalRow) -> None:
        """Widen the bounds of the rows by the arrival, since it may be moved later."""
        await _widen_extents(connection, [arrival])

    async def move_aside(self, connection: Connection, arrival: ArrivalRow) -> bool:
        """Store the samples of an arrival as rows; see `DrainTarget`.

        Rows do not know what arrived before them: they stay, unless the arrival replaces samples. A
        deletion goes when nothing that came before it is set aside any more.
        """
        if arrival.kind == DELETES:
            asked = arrival.tenant_id, arrival.id
            return not await connection.fetchval(_QUERIES["has_older_aside"], *asked)
        folded = await self._fold_aside(connection, arrival)
        if folded is None:
            return False
        if self._prepared_aside != arrival.id:
            days = folded.days()
            if len(days) > _MAX_DAYS:
                raise UnpreparedError(partial(self._store_aside_by_days, arrival, days))
            await self._store_prepared(connection, folded, days)
        await _note(connection, folded, [arrival])
        await note_changes(connection, folded.changes, None)
        return True

    async def _fold_aside(self, connection: Connection, arrival: ArrivalRow) -> _Folded | None:
        """What an arrival that is set aside stores; None if it has to stay, or is gone.

        Of two that may have the same samples, the older one has to become rows first.
        """
        bounds = arrival.first_series, arrival.last_series, arrival.first_ms, arrival.last_ms
        asked = arrival.tenant_id, arrival.id, *bounds
        if not await connection.fetchval(_QUERIES["can_move_aside"], *asked):
            return None
        found = await connection.fetch(_QUERIES["deletions_after"], *asked[:2])
        deletions = [deletion_of(ArrivalRow(*row)) for row in found]
        return await asyncio.to_thread(_fold_arrivals, [arrival], self._now_ms(), deletions)

    async def _store_aside_by_days(self, arrival: ArrivalRow, days: IntArray) -> None:
        """Store the samples of some days after the other, while they are still set aside."""
        for start in range(0, len(days), _MAX_DAYS):
            some = days[start : start + _MAX_DAYS]
            await self._make_partitions(some)
            async with drain_transaction(self._pool) as connection:
                # Deletions may have arrived meanwhile.
                folded = connection and await self._fold_aside(connection, arrival)
                if connection is None or folded is None:
                    return
                await self._store(connection, folded.of_days(some))
        self._prepared_aside = arrival.id

    async def committed(self) -> None:
        """Nothing is left to do; see `DrainTarget`."""

    async def _make_partitions(self, days: IntArray) -> None:
        """In transactions of their own: these lock out others who do the same."""
        if self._partitions is not None:
            async with acquired(self._pool) as connection:
                await self._partitions.ensure(connection, days)

    async def _store_by_days(self, position: _Position, folded: _Folded, days: IntArray) -> None:
        """Store the samples of some days after the other, while they are still arrivals."""
        for start in range(0, len(days), _MAX_DAYS):
            some = days[start : start + _MAX_DAYS]
            await self._make_partitions(some)
            async with self._step(position) as connection:
                if connection is None:
                    return
                await self._store(connection, folded.of_days(some))
        self._prepared = position

    @asynccontextmanager
    async def _step(self, position: _Position) -> AsyncIterator[Connection | None]:
        """A transaction in which a prefix is undrained; None if somebody else drains, or did."""
        async with drain_transaction(self._pool) as connection:
            if connection is not None:
                found = await connection.fetchval(DRAIN_QUERIES["drained_through"])
                if found != position.after:
                    connection = None
            yield connection

    async def _store_prepared(self, connection: Connection, folded: _Folded, days: IntArray) -> int:
        """The same as `_store`, for which partitions have to be there."""
        if self._partitions is not None and not self._partitions.has_all(days):
            raise UnpreparedError(partial(self._make_partitions, days))
        return await self._store(connection, folded)

    async def _store(self, connection: Connection, folded: _Folded) -> int:
        """Insert and replace rows; returns how many samples other rows conflict with."""
        n_conflicts = 0
        try:
            for replaces, parts in ((False, folded.added), (True, folded.replacing)):
                for rows in _pieces_of_rows(parts):
                    n_conflicts += await _insert(connection, rows, replaces=replaces)
        except asyncpg.CheckViolationError as exc:
            if exc.constraint_name is not None:
                raise
            # No partition for a row: it was dropped since we made it.
            if self._partitions is not None:
                self._partitions.forget()
            raise UnpreparedError(partial(self._make_partitions, folded.days())) from exc
        except asyncpg.InternalServerError as exc:
            # TimescaleDB's COPY chooses a chunk before it waits for the lock; then it was gone.
            raise StorageUnavailableError("a chunk of samples was dropped; try again") from exc
        return n_conflicts

    async def _move_deletion(
        self, connection: Connection, arrival: ArrivalRow, position: _Position
    ) -> Moved:
        """End a deletion whose rows are deleted.

        It stays if arrivals before it are set aside, as these have to be read with it.
        """
        if self._prepared != position:
            raise UnpreparedError(partial(self._delete_rows, position, arrival))
        await connection.execute(RETENTION_QUERIES["ask_for_orphans"])
        await connection.execute(
            _QUERIES["keep_deletion_aside"],
            arrival.id,
            arrival.tenant_id,
            arrival.first_series,
            arrival.last_series,
            arrival.first_ms,
            arrival.last_ms,
            arrival.payload,
        )
        return Moved(0, [change_of(arrival.tenant_id, deletion_of(arrival))])

    async def _delete_rows(self, position: _Position, arrival: ArrivalRow) -> None:
        """Delete the rows that a deletion removes, chunk by chunk, some series at a time."""
        deletion, tenant_id = deletion_of(arrival), arrival.tenant_id
        async with acquired(self._pool) as connection:
            times = deletion.first_ms, deletion.last_ms
            chunks = await connection.fetch(_QUERIES["row_chunks"], *times)
            ids: Sequence[int] = (
                await connection.fetchval(_QUERIES["series_of_tenant"], tenant_id)
                if deletion.series_ids is None
                else deletion.series_ids.tolist()
            )
        for first_ms, last_ms in chunks:
            if not await self._delete_within(position, (tenant_id, first_ms, last_ms), ids):
                return
        self._prepared = position

    async def _delete_within(
        self, position: _Position, scope: tuple[int, int, int], ids: Sequence[int]
    ) -> bool:
        """Delete the rows of series in a scope of tenant, first and last ms; False if overtaken."""
        start, size = 0, _SERIES_AT_ONCE
        while start < len(ids):
            try:
                async with self._step(position) as connection:
                    if connection is None:
                        return False
                    some = ids[start : start + size]
                    await connection.fetchval(_QUERIES["delete_rows"], some, *scope, True)
            except QueryTimeoutError:
                if size == 1:
                    raise
                size //= 2
            else:
                start += size
        return True


def _fold_arrivals(
    arrivals: Sequence[ArrivalRow], now_ms: int, deletions: Sequence[Deletion] = ()
) -> _Folded:
    """What arrivals without a deletion among them store; `deletions` are of their one tenant.

    What replaces earlier samples is folded apart from what does not, as it replaces rows too.
    """
    folded = _Folded()
    by_tenant = attrgetter("tenant_id")
    for tenant_id, group in groupby(sorted(arrivals, key=by_tenant), by_tenant):
        pieces = pieces_of(list(group))
        for parts, replaces in ((folded.added, False), (folded.replacing, True)):
            chosen = [piece for piece in pieces if piece.replaces is replaces]
            samples = fold(chosen, deletions)
            if not len(samples):
                continue
            parts.append(samples)
            folded.note(tenant_id, samples, now_ms)
            if not replaces:
                folded.n_conflicts += count_conflicts(chosen, samples)
    return folded


def _change(tenant_id: int, samples: SeriesSamples) -> Change:
    times = samples.timestamps
    series = int(samples.ids[0]), int(samples.ids[-1])
    return (tenant_id, *series, int(times.min()), int(times.max()))


def _of_days(samples: SeriesSamples, days: IntArray) -> SeriesSamples:
    return samples.where(np.isin(samples.timestamps // MS_PER_DAY, days))


def _pieces_of_rows(parts: Sequence[SeriesSamples]) -> Iterator[SampleRows]:
    """The samples of all parts as rows, some at a time."""
    if not parts:
        return
    cells = HistogramCells.joined([HistogramCells(part.values, part.histograms) for part in parts])
    rows = SampleRows(
        np.concatenate([np.repeat(part.ids, np.diff(part.offsets)) for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        cells.values.view(np.uint64),
        histograms=cells.histograms,
    )
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows.take(slice(start, start + _ROWS_AT_ONCE))


async def _insert(connection: Connection, rows: SampleRows, *, replaces: bool) -> int:
    """Store rows; returns how many are left out because other bits are stored in their place.

    Rows are looked up in the table only if one of them is stored already.
    """
    streams = await asyncio.to_thread(lambda: list(encode_rows(rows)))
    try:
        async with connection.transaction():
            await _copy(connection, SAMPLE_TABLE, streams)
        return 0
    except asyncpg.UniqueViolationError:
        pass
    await connection.execute(_QUERIES["create_staging"])
    await connection.execute(_QUERIES["clear_staging"])
    await _copy(connection, STAGING_TABLE, streams)
    if replaces:
        await connection.execute(_QUERIES["replace_staged"])
        return 0
    bounds = int(rows.timestamps.min()), int(rows.timestamps.max())
    n_conflicts: int = await connection.fetchval(_QUERIES["insert_staged"], *bounds)
    return n_conflicts


async def _copy(
    connection: Connection, table: str, streams: Sequence[tuple[Sequence[str], bytes]]
) -> None:
    for columns, stream in streams:
        await connection.copy_to_table(
            table, source=_in_chunks(stream), columns=columns, format="binary"
        )


async def _in_chunks(stream: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(stream)
    for start in range(0, len(view), _COPY_CHUNK_BYTES):
        yield view[start : start + _COPY_CHUNK_BYTES]


async def _note(connection: Connection, folded: _Folded, arrivals: Sequence[ArrivalRow]) -> None:
    """Widen the bounds of the tenants' rows, and note hours that may have been computed."""
    await _widen_extents(connection, arrivals)
    if folded.hours:
        await connection.execute(_QUERIES["note_hours"], *zip(*folded.hours, strict=True))


async def _widen_extents(connection: Connection, arrivals: Sequence[ArrivalRow]) -> None:
    """Widen the bounds of the tenants' rows by those of arrivals.

    Rows that are no longer kept may have been deleted already; these have to go again.
    """
    by_tenant = attrgetter("tenant_id")
    extents = []
    for tenant_id, group in groupby(sorted(arrivals, key=by_tenant), by_tenant):
        own = list(group)
        last_ms = max(arrival.last_ms for arrival in own)
        extents.append((tenant_id, min(arrival.first_ms for arrival in own), last_ms))
    columns = list(zip(*extents, strict=True))
    await connection.execute(_QUERIES["widen_row_extents"], *columns)
    await connection.execute(RETENTION_QUERIES["note_old_rows"], *columns[:2])
