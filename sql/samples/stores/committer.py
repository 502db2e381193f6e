"""One commit of sorted rows: COPY first; with duplicates, only of what is not stored yet."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import BoolArray, IntArray
from promcompat.core.thresholds import LevelChange
from sql.caching.late_writes import LateWrites, late_writes, wall_clock_ms
from sql.catalog import MS_PER_DAY
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.copy_format import SampleRows, encode_samples, encode_staged_samples
from sql.database.installation_guard import InstallationGuard, is_out_of_date
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import insert_breaches
from sql.query_loader import load_queries
from sql.samples.tables.sample_table import (
    SAMPLE_COLUMNS,
    SAMPLE_TABLE,
    STAGING_COLUMNS,
    STAGING_TABLE,
    SamplePartitions,
    unix_days,
)
from sql.samples.writing.duplicates import Conflict, override_stored
from sql.samples.writing.server_timestamps import move_past_stored

_QUERIES: Final = load_queries("samples")
MAX_DAYS_PER_TRANSACTION: Final = 64
"""A transaction locks each chunk and its index; the server's lock table is finite."""
_MAX_ATTEMPTS: Final = 4
_MAX_MOVES: Final = 20
"""How often rows timed by the server may meet samples that others store at the same moment."""
_SLACK_MS: Final = 120_000
"""How long storing rows may take before it is checked again whether they came late."""
_COPY_CHUNK_BYTES: Final = 1 << 20


class SampleCommitter:
    """Writes rows so that they are committed when `commit` returns."""

    def __init__(
        self,
        pool: Pool,
        partitions: SamplePartitions | None,
        stats: StorageStats,
        guard: InstallationGuard,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`partitions` is None on a hypertable, which makes its chunks itself."""
        self._guard = guard
        self._now_ms = now_ms
        self._pool = pool
        self._partitions = partitions
        self._stats = stats
        self._expects_duplicates = False

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange] = ()) -> list[Conflict]:
        """Store rows of any order and age; returns those whose place held other bits.

        Each of `changes` goes into the outbox in the transaction of its row.

        Of equal keys within `rows` the first one counts. Rows of many days go in several
        transactions: if a later one fails the error is raised, and the sender's retry finds the
        rows of the earlier ones equal. Rows timed by the server never conflict. They go last, so
        that a retry after a failure of the others does not store them twice.
        Raises StorageUnavailableError, and StaleKnowledgeError when the ids may be gone.
        """
        order = np.lexsort((rows.timestamps, rows.series_ids))
        timed: NDArray[np.intp] | None = None
        if rows.server_timed is not None:
            is_timed = rows.server_timed[order]
            order, timed = order[~is_timed], order[is_timed]
        sent = replace(rows, server_timed=None)
        conflicts: list[Conflict] = []
        async with acquired(self._pool) as connection:
            if len(order):
                for piece in _split_by_days(rows.timestamps, order):
                    found = await self._commit_piece(
                        connection, sent.take(piece), _changes_of(piece, changes)
                    )
                    conflicts += [Conflict(int(piece[c.row]), c.existing) for c in found]
            if timed is not None:
                own = [
                    (row, change)
                    for change in changes
                    for row in np.flatnonzero(timed == change.row)
                ]
                await self._commit_server_timed(connection, rows.take(timed), own)
        return conflicts

    async def _commit_server_timed(
        self,
        connection: Connection,
        rows: SampleRows,
        changes: Sequence[tuple[np.intp, LevelChange]],
    ) -> None:
        """Store rows sorted by key, each at the next free millisecond of its series.

        `changes` come with the row that each belongs to and get its final time. A sample at the
        time of one of the rows refuses the whole COPY; then the rows are moved and tried again.
        """
        for _ in range(_MAX_MOVES):
            final = [
                replace(change, timestamp_ms=int(rows.timestamps[row])) for row, change in changes
            ]
            with suppress(asyncpg.UniqueViolationError):
                await self._commit_piece(connection, rows, final)
                return
            is_stored, _ = await self._compare_with_stored(connection, rows)
            rows = await move_past_stored(connection, rows, is_stored)
        raise StorageUnavailableError("too many concurrent samples of the same series; try again")

    async def _commit_piece(
        self, connection: Connection, rows: SampleRows, changes: Sequence[LevelChange]
    ) -> list[Conflict]:
        """Store a piece; try again after a failure that can be repaired here.

        A session carries the epoch that the process knew when the session was last set. That epoch
        is never newer than the one these ids were looked up in, and each attempt checks it first.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            self._guard.require(rows.known_version)
            try:
                if self._partitions is not None:
                    await self._partitions.ensure(connection, unix_days(rows.timestamps))
                if not changes:
                    return await self._store_in_time(connection, rows)
                async with connection.transaction():
                    await insert_breaches(connection, changes)
                    return await self._store_in_time(connection, rows)
            except asyncpg.PostgresError as exc:
                if attempt == _MAX_ATTEMPTS or not await self._put_right(connection, rows, exc):
                    raise
        raise AssertionError("unreachable")

    async def _put_right(
        self, connection: Connection, rows: SampleRows, exc: asyncpg.PostgresError
    ) -> bool:
        """Whether the next attempt to store rows may succeed, after what can be done for it."""
        if is_out_of_date(exc):
            await self._guard.catch_up(connection, rows.known_version)
            return True
        if isinstance(exc, asyncpg.CheckViolationError) and self._partitions is not None:
            # No partition for a row: it was dropped since we made it.
            self._partitions.forget()
            return True
        if isinstance(exc, asyncpg.InternalServerError):
            # TimescaleDB's COPY chooses a chunk before it waits for the lock; then it was gone.
            return self._partitions is None
        return isinstance(exc, asyncpg.TransactionRollbackError)

    async def _store_in_time(self, connection: Connection, rows: SampleRows) -> list[Conflict]:
        """Store rows, and invalidate the cached results of their times.

        Samples of the last minutes are not cached (`late_writes`), so they need no count. If the
        statement takes so long that they may be cached by now, they are counted before the answer.
        """
        late = late_writes(rows, self._now_ms())
        if late is not None:
            async with connection.transaction():
                conflicts = await self._store_by_policy(connection, rows)
                await self._count(connection, late)
            return conflicts
        conflicts = await self._store_by_policy(connection, rows)
        missed = late_writes(rows, self._now_ms() - _SLACK_MS)
        if missed is not None:
            await self._count(connection, missed)
        return conflicts

    async def _store_by_policy(self, connection: Connection, rows: SampleRows) -> list[Conflict]:
        """Store rows; where the last sample of a time counts, conflicts replace what is stored."""
        if rows.server_timed is not None:
            await self._copy(connection, rows)
            return []
        conflicts = await self._store(connection, rows)
        return await override_stored(connection, rows, conflicts) if conflicts else conflicts

    async def _store(self, connection: Connection, rows: SampleRows) -> list[Conflict]:
        """Rows sorted by key, into one COPY; with duplicates of stored rows the COPY is refused.

        While batches keep having duplicates (a sender repeats what it sent) stored rows are
        looked up first and only the others copied; the first batch without one ends that. Rows
        per second with all, a sixth and none stored: this way 300k, 200k, 200k; by staging all
        120k, 60k, 60k; a lone COPY 400k.
        """
        if not self._expects_duplicates:
            try:
                return await self._copy_first_of_each_key(connection, rows)
            except asyncpg.UniqueViolationError:
                self._expects_duplicates = True
        is_stored, conflicts = await self._compare_with_stored(connection, rows)
        self._expects_duplicates = bool(is_stored.any())
        self._stats.duplicate_commits += self._expects_duplicates
        others = np.flatnonzero(~is_stored)
        if not len(others):
            return conflicts
        try:
            found = await self._copy_first_of_each_key(connection, rows.take(others))
        except asyncpg.UniqueViolationError:
            # Somebody else stored one of these keys since we looked.
            return await self._stage(connection, rows)
        return conflicts + [Conflict(int(others[c.row]), c.existing) for c in found]

    async def _compare_with_stored(
        self, connection: Connection, rows: SampleRows
    ) -> tuple[BoolArray, list[Conflict]]:
        """Which rows have a stored sample of their key, and those of them with other bits."""
        columns = rows.series_ids.tolist(), rows.timestamps.tolist()
        bounds = int(rows.timestamps.min()), int(rows.timestamps.max())
        found = await connection.fetch(_QUERIES["stored_samples"], *columns, *bounds)
        at = np.fromiter((row["ordinal"] - 1 for row in found), np.intp, len(found))
        stored = np.frombuffer(b"".join(row["bits"] for row in found), ">u8").astype(np.uint64)
        is_stored = np.zeros(len(rows), np.bool_)
        is_stored[at] = True
        values = stored.view(np.float64)
        different = np.flatnonzero(stored != rows.bits[at]).tolist()
        return is_stored, [Conflict(int(at[index]), float(values[index])) for index in different]

    async def _copy_first_of_each_key(
        self, connection: Connection, rows: SampleRows
    ) -> list[Conflict]:
        repeats = _repeats_of_sorted(rows)
        first = rows.take(np.flatnonzero(~repeats))
        if connection.is_in_transaction():
            async with connection.transaction():  # A savepoint, to go on from when refused.
                await self._copy(connection, first)
        else:
            await self._copy(connection, first)
        return _conflicts_within(rows, repeats)

    async def _copy(self, connection: Connection, rows: SampleRows) -> None:
        await connection.copy_to_table(
            SAMPLE_TABLE,
            source=_in_chunks(encode_samples(rows)),
            columns=SAMPLE_COLUMNS,
            format="binary",
        )

    async def _count(self, connection: Connection, late: LateWrites) -> None:
        self._stats.late_commits += 1
        await connection.execute(_QUERIES["count_late_writes"], *late.columns())

    async def _stage(self, connection: Connection, rows: SampleRows) -> list[Conflict]:
        """The way that always works, whatever others store at the same time."""
        self._stats.staged_commits += 1
        async with connection.transaction():
            await connection.execute(_QUERIES["create_staging"])
            await connection.copy_to_table(
                STAGING_TABLE,
                source=_in_chunks(encode_staged_samples(rows)),
                columns=STAGING_COLUMNS,
                format="binary",
            )
            await connection.execute(_QUERIES["insert_staged_samples"])
            bounds = int(rows.timestamps.min()), int(rows.timestamps.max())
            found = await connection.fetch(_QUERIES["staged_conflicts"], *bounds)
        return [Conflict(row["row_number"], row["existing"]) for row in found]


def spans_many_days(rows: SampleRows) -> bool:
    """Whether rows may take many transactions, one after the other: minutes, for years of days."""
    span_ms = int(rows.timestamps.max()) - int(rows.timestamps.min())
    return span_ms >= MAX_DAYS_PER_TRANSACTION * MS_PER_DAY


def _changes_of(piece: NDArray[np.intp], changes: Sequence[LevelChange]) -> Sequence[LevelChange]:
    """The changes whose row is in a piece of the rows, in their order."""
    if not changes:
        return ()
    is_in = np.isin([change.row for change in changes], piece)
    return [change for change, here in zip(changes, is_in, strict=True) if here]


async def _in_chunks(stream: bytes) -> AsyncIterator[memoryview]:
    view = memoryview(stream)
    for start in range(0, len(view), _COPY_CHUNK_BYTES):
        yield view[start : start + _COPY_CHUNK_BYTES]


def _split_by_days(timestamps: IntArray, order: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Cut a sort order into orders of at most `MAX_DAYS_PER_TRANSACTION` distinct days each."""
    days = timestamps[order] // MS_PER_DAY
    distinct = np.unique(days)
    if len(distinct) <= MAX_DAYS_PER_TRANSACTION:
        return [order]
    piece_of_row = np.searchsorted(distinct, days) // MAX_DAYS_PER_TRANSACTION
    return [order[piece_of_row == piece] for piece in range(int(piece_of_row.max()) + 1)]


def _repeats_of_sorted(rows: SampleRows) -> BoolArray:
    """Which rows have the key of the row before them."""
    repeats = np.zeros(len(rows), np.bool_)
    repeats[1:] = (rows.series_ids[1:] == rows.series_ids[:-1]) & (
        rows.timestamps[1:] == rows.timestamps[:-1]
    )
    return repeats


def _conflicts_within(rows: SampleRows, repeats: BoolArray) -> list[Conflict]:
    """Repeated rows whose bits differ from the first row of their key, which was stored."""
    if not repeats.any():
        return []
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(rows))))
    stored = rows.bits[first]
    values = stored.view(np.float64)
    return [
        Conflict(row, float(values[row])) for row in np.flatnonzero(stored != rows.bits).tolist()
    ]
