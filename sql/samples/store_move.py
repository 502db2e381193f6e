"""Moves the rows of an older installation into blocks.

Rows become arrivals, as if a sender had written them, and the drainer moves these on. A chunk of
rows is dropped when all its rows have arrived, so that a move which is stopped at any moment loses
nothing: it goes on from the last recorded position, and a sample that arrives twice counts once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import PromcompatError
from sql.database.connection_pool import Connection, acquired
from sql.database.copy_format import DecodedSamples, SampleDecoder
from sql.database.database import Database
from sql.database.statements import Statement
from sql.pushdown.sample_statements import histograms_at_statement
from sql.query_loader import load_queries
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    ArrivalLog,
    NewArrival,
    pages_of,
)
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.drainer import DrainOptions
from sql.samples.draining.drains import Drains
from sql.samples.reading.allowance import SampleAllowance, copy_out
from sql.samples.reading.histogram_stream import with_histograms
from sql.samples.storage_options import StoreKind
from sql.samples.store_choice import record_store
from sql.samples.tables.sample_table import SAMPLE_TABLE, SamplePartitions, is_partitioned
from sql.samples.tables.step_limits import limit_step, limited_transaction

_QUERIES: Final = {
    name: text
    for group in ("database", "series", "samples", "maintenance")
    for name, text in load_queries(group).items()
}
_ROWS_AT_ONCE: Final = 500_000
_PAGES_AT_ONCE: Final = 256
_ATTEMPTS: Final = 10


class StoreMoveError(PromcompatError):
    """The rows cannot be moved."""


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How many rows were moved, and about how many there were at first, in all runs together."""

    n_moved: int
    n_expected: int
    chunk: str


@dataclass(slots=True)
class _Chunk:
    """A chunk of rows, and the position behind which its rows were not moved yet."""

    id: int
    name: str
    range_start: str
    range_end: str
    series_id: int
    ts: str
    n_rows: int
    expected_rows: int


class StoreMove:
    """Moves all rows, step by step, while no service uses the database."""

    def __init__(
        self,
        database: Database,
        drains: Drains,
        row_drains: Drains,
        report: Callable[[MoveProgress], None],
        rows_at_once: int = _ROWS_AT_ONCE,
    ) -> None:
        """`drains` are those of blocks, `row_drains` those of rows.

        `report` is called after each step of at most `rows_at_once` rows.
        """
        self._database = database
        self._drains = drains
        self._row_drains = row_drains
        self._log = ArrivalLog(database.write_pool, database.guard)
        self._report = report
        self._rows_at_once = rows_at_once

    @classmethod
    async def of(
        cls,
        database: Database,
        options: DrainOptions,
        now_ms: Callable[[], int],
        report: Callable[[MoveProgress], None],
        rows_at_once: int = _ROWS_AT_ONCE,
    ) -> "StoreMove":
        """The move of a database, with drains of its own."""
        pool = database.write_pool
        async with acquired(pool) as connection:
            partitions = SamplePartitions() if await is_partitioned(connection) else None
        row_drains = Drains.into_rows(pool, options, now_ms, partitions)
        drains = Drains.into_blocks(pool, options, now_ms)
        return cls(database, drains, row_drains, report, rows_at_once)

    async def run(self) -> int:
        """Move everything; returns how many rows this call moved. It may be repeated at any time.

        From its start on the database is one of the store `blocks`: services with the store `rows`
        are refused, and others until no row is left. Raises StoreMoveError, and what the database
        raises.
        """
        async with acquired(self._database.write_pool) as connection:
            await self._choose_blocks(connection)
            chunks = [_Chunk(*row) for row in await connection.fetch(_QUERIES["moved_chunks"])]
        n_moved = 0
        for chunk in chunks:
            n_moved += await self._move_chunk(chunk, chunks)
        await self._drains.drainer.drain_all()
        await self._drains.compact()
        return n_moved

    async def _choose_blocks(self, connection: Connection) -> None:
        """Record the new store, when no arrival is left that belongs to the rows before it."""
        guard = self._database.guard
        for _ in range(_ATTEMPTS):
            found = await connection.fetchrow(_QUERIES["store_in_use"])
            if found["store"] != StoreKind.BLOCKS:
                await self._row_drains.drainer.drain_all()
            if await self._record_blocks(connection):
                break
        else:
            raise StoreMoveError(
                "samples keep arriving for the store `rows`: stop the services, and run promcompat "
                "migrate-store again"
            )
        guard.expect_store(StoreKind.BLOCKS)
        await guard.refresh(connection)
        await guard.tell(connection)

    async def _record_blocks(self, connection: Connection) -> bool:
        """Record the store; False if samples arrived since the last drain."""
        async with connection.transaction():
            # Nobody appends or drains meanwhile.
            await connection.execute(_QUERIES["lock_series"])
            await connection.execute(_QUERIES["lock_drains"])
            found = await connection.fetchrow(_QUERIES["store_in_use"])
            if found["store"] == StoreKind.BLOCKS:
                return True
            if found["is_undrained"]:
                return False
            if found["has_blocks"]:
                raise StoreMoveError(
                    "the store of the database is `rows`, but it has blocks too; its record of "
                    "the store (table installation) was changed by hand"
                )
            await connection.execute(_QUERIES["forget_row_extents"])
            await record_store(connection, StoreKind.BLOCKS)
            return True

    async def _move_chunk(self, chunk: _Chunk, chunks: list[_Chunk]) -> int:
        """Move the rows of a chunk that are left, and drop it."""
        n_moved = 0
        while True:
            rows = await self._next_rows(chunk)
            if not len(rows.series_ids):
                break
            await self._append(await self._samples_of(rows))
            await self._record(chunk, rows)
            n_moved += len(rows.series_ids)
            self._report(_progress(chunk, chunks))
            await self._drains.drainer.drain_due()
        await self._drop(chunk)
        return n_moved

    async def _next_rows(self, chunk: _Chunk) -> DecodedSamples:
        """The next rows in order; none is of the same series and millisecond as a later one."""
        position = chunk.series_id, chunk.ts, chunk.range_start, chunk.range_end
        statement = Statement(_QUERIES["rows_to_move"], (*position, self._rows_at_once))
        decoder, allowance = SampleDecoder(), SampleAllowance(0)
        allowance.watch(decoder)
        async with acquired(self._database.write_pool) as connection:
            await limit_step(connection, is_local=False)
            await copy_out(connection, statement, decoder, allowance)
        rows = decoder.finish().sorted()
        if len(rows.series_ids) < self._rows_at_once:
            return rows
        is_last = (rows.series_ids == rows.series_ids[-1]) & (
            rows.timestamps == rows.timestamps[-1]
        )
        return rows if is_last.all() else rows.take(~is_last)

    async def _samples_of(self, rows: DecodedSamples) -> SeriesSamples:
        """Sorted rows as samples; of several that SQL users wrote in a millisecond the first."""
        is_new = (np.diff(rows.series_ids, prepend=-1) != 0) | (
            np.diff(rows.timestamps, prepend=rows.timestamps[0] - 1) != 0
        )
        samples = SeriesSamples.of(rows if is_new.all() else rows.take(is_new))
        statement_of = partial(histograms_at_statement, SAMPLE_TABLE)
        async with acquired(self._database.write_pool) as connection:
            await limit_step(connection, is_local=False)
            return await with_histograms(connection, samples, SampleAllowance(0), statement_of)

    async def _append(self, samples: SeriesSamples) -> None:
        """Append the samples as arrivals of their tenants."""
        version = self._database.guard.version
        async with acquired(self._database.write_pool) as connection:
            rows = await connection.fetch(_QUERIES["tenants_of_series"], samples.ids.tolist())
        tenant_of = {row["id"]: row["tenant_id"] for row in rows}
        tenants = np.array(
            [tenant_of.get(series_id, 0) for series_id in samples.ids.tolist()], np.int64
        )
        arrivals = list(_arrivals(samples, tenants))
        for first in range(0, len(arrivals), _PAGES_AT_ONCE):
            some = arrivals[first : first + _PAGES_AT_ONCE]
            await self._log.append(some, AppendConditions(version=version))

    async def _record(self, chunk: _Chunk, rows: DecodedSamples) -> None:
        """Record the position of the last of these rows."""
        chunk.series_id = int(rows.series_ids[-1])
        chunk.n_rows += len(rows.series_ids)
        async with acquired(self._database.write_pool) as connection:
            chunk.ts = await connection.fetchval(
                _QUERIES["record_move"],
                chunk.id,
                chunk.series_id,
                int(rows.timestamps[-1]),
                len(rows.series_ids),
            )

    async def _drop(self, chunk: _Chunk) -> None:
        """Drop a chunk whose rows have all arrived, unless rows were added to it meanwhile."""
        async with (
            acquired(self._database.write_pool) as connection,
            limited_transaction(connection),
        ):
            await connection.execute(_QUERIES["lock_rows"])
            bounds = chunk.range_start, chunk.range_end
            n_rows = await connection.fetchval(_QUERIES["count_rows"], *bounds)
            await connection.execute(_QUERIES["forget_move"], chunk.id)
            if n_rows == chunk.n_rows:
                await connection.fetchval(_QUERIES["drop_sample_chunk"], chunk.id, False)
        if n_rows != chunk.n_rows:
            raise StoreMoveError(
                f"{chunk.name} has {n_rows:,} rows, but {chunk.n_rows:,} were moved: something "
                "wrote to the table sample meanwhile; run promcompat migrate-store again"
            )


def _progress(chunk: _Chunk, chunks: list[_Chunk]) -> MoveProgress:
    return MoveProgress(
        sum(one.n_rows for one in chunks),
        sum(max(one.expected_rows, one.n_rows) for one in chunks),
        chunk.name,
    )


def _arrivals(samples: SeriesSamples, tenants: NDArray[np.int64]) -> Iterator[NewArrival]:
    """The samples as pages of each tenant; series that do not exist (tenant 0) are left out."""
    of_rows = np.repeat(tenants, np.diff(samples.offsets))
    for tenant_id in distinct(tenants[tenants > 0]).tolist():
        some = samples.where(of_rows == tenant_id)
        yield from pages_of(tenant_id, some, ArrivalKind.SAMPLES)
