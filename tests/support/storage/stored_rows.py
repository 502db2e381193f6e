"""The same as `tests.support.storage.stored_blocks` for drains into the rows of table `sample`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np

from promcompat.core.histograms.columns import histogram_cells
from sql.database.connection_pool import PoolOptions, acquired, open_pool
from sql.samples.codec.histogram_rows import decode_histogram_rows
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.draining.arrivals_aside import ArrivalsAside
from sql.samples.draining.drainer import Drainer
from sql.samples.draining.row_drain import RowTarget
from sql.samples.tables.sample_table import SamplePartitions, is_partitioned
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS
from tests.support.numbered_histograms import model_bits
from tests.support.storage.stored_blocks import Key, StoredBlocks, dict_of, samples_of

_ROWS = """
SELECT series_id, floor(extract(epoch FROM ts) * 1000)::bigint, float8send(value), histogram
FROM sample WHERE series_id = ANY($1::bigint[])
"""


def _bits_of(row: asyncpg.Record) -> int:
    """The bits of a value, or those that stand for a histogram in models."""
    if row[3] is None:
        return int.from_bytes(row[2])
    histogram = decode_histogram_rows(row[3], np.array([len(row[3])]))
    return int(model_bits(histogram_cells(np.zeros(1, np.int64)), histogram)[0])


@dataclass
class StoredRows(StoredBlocks):
    """One process's view of a database; what the block store has of its own is not used."""

    is_partitioned: bool = False

    def __post_init__(self) -> None:
        partitions = SamplePartitions() if self.is_partitioned else None
        target = RowTarget(self.pool, partitions, self.clock)
        self.drainer = Drainer(self.pool, self.options, self.stats, target)
        self.aside = ArrivalsAside(self.pool, target, self.stats)

    async def clear(self) -> None:
        """Delete everything."""
        async with acquired(self.pool) as connection:
            await connection.execute(
                "DELETE FROM arrival; DELETE FROM sample; DELETE FROM row_extent; "
                "DELETE FROM sample_change; DELETE FROM hourly_change"
            )

    async def rows(self, wanted: Sequence[int]) -> dict[Key, int]:
        """The rows: value bits by series and ms."""
        async with acquired(self.pool) as connection:
            found = await connection.fetch(_ROWS, list(wanted))
        return {(row[0], row[1]): _bits_of(row) for row in found}

    async def read(
        self,
        tenant_id: int,
        wanted: Sequence[int],
        start_ms: int = MIN_TIMESTAMP_MS - 1,
        end_ms: int = MAX_TIMESTAMP_MS,
    ) -> dict[Key, int]:
        """What a query sees of everything appended: value bits by series and ms."""
        ids = np.array(sorted(wanted), np.int64)
        async with (
            acquired(self.pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            through = await connection.fetchval("SELECT drained_through FROM drain_state")
            found = await connection.fetch(_ROWS, ids.tolist())
            arrivals = await connection.fetch(
                "SELECT id, kind, first_ms, last_ms, payload FROM arrival WHERE tenant_id = $1 "
                "ORDER BY id",
                tenant_id,
            )
        rows = {(row[0], row[1]): _bits_of(row) for row in found if start_ms < row[1] <= end_ms}
        pieces = [Piece(samples_of(rows), 0, through, False)] if rows else []
        deletions = []
        for arrival_id, kind, first_ms, last_ms, payload in arrivals:
            if kind == 3:
                deleted = np.frombuffer(payload, ">i8").astype(np.int64) if payload else None
                deletions.append(Deletion(arrival_id, deleted, first_ms, last_ms))
            else:
                (samples,) = decode_pages([payload], ids, start_ms, end_ms)
                pieces.append(Piece(samples, arrival_id, arrival_id, kind == 2))
        return dict_of(fold(pieces, deletions))


@asynccontextmanager
async def stored_rows(url: str, **options: Any) -> AsyncIterator[StoredRows]:
    """Arrivals and rows of a migrated database."""
    pool = await open_pool(url, PoolOptions(max_size=4))
    try:
        async with acquired(pool) as connection:
            is_plain = await is_partitioned(connection)
        yield StoredRows(pool, is_partitioned=is_plain, **options)
    finally:
        await pool.close()
