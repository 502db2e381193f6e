"""Arrivals, drains, compaction and reads of a test database, and a plain model of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection, Pool, PoolOptions, acquired, open_pool
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.arrivals_aside import ArrivalsAside
from sql.samples.draining.block_drain import BlockTarget
from sql.samples.draining.block_retention import BlockRetention
from sql.samples.draining.class_moves import (
    ClassMoves,
    assign_class,
    changes_between,
    moving_classes,
)
from sql.samples.draining.compaction import Compactor
from sql.samples.draining.drain_transaction import drain_transaction
from sql.samples.draining.drainer import Drainer, DrainOptions, DrainStats
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.block_reader import BlockReader
from sql.samples.reading.drained_reader import DrainedQuestion
from sql.samples.tables.slots import slot_of
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS
from tests.support.numbered_histograms import model_bits, numbered

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
TODAY = NOW_MS // DAY_MS
Key = tuple[int, int]

_INSERT = """
INSERT INTO arrival (
    id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, payload
)
SELECT coalesce(max(a.id), 0) + 1, $1, $2, $3, $4, $5, $6, $7, $8
FROM (SELECT id FROM arrival UNION ALL SELECT drained_through FROM drain_state) AS a
"""

# The series 1 to 3 of a new tenant: the last one is of the metric `long`, the others of `m`.
SERIES_OF_METRICS = """
WITH owner AS (
    INSERT INTO tenant (id, name) OVERRIDING SYSTEM VALUE VALUES ($1, 'red') RETURNING id
)
INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint) OVERRIDING SYSTEM VALUE
SELECT n, owner.id, CASE n WHEN 3 THEN 'long' ELSE 'm' END, '{}', decode(md5(n::text), 'hex')
FROM owner, generate_series(1, 3) AS n
"""


@dataclass
class Clock:
    """A clock that tests set."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class StoredBlocks:
    """One process's view of a database; `another` makes a second process."""

    pool: Pool
    clock: Clock = field(default_factory=Clock)
    stats: DrainStats = field(default_factory=DrainStats)
    options: DrainOptions = field(default_factory=DrainOptions)
    step_samples: int = 2_000_000

    def __post_init__(self) -> None:
        self.reader = BlockReader(self.stats)
        target = BlockTarget(self.pool, self.clock)
        self.drainer = Drainer(self.pool, self.options, self.stats, target)
        self.aside = ArrivalsAside(self.pool, target, self.stats)
        self.retention = BlockRetention(self.pool)
        self.moves = ClassMoves(self.pool, series_at_once=1)
        self.compactor = Compactor(self.pool, self.stats, self.clock, self.step_samples)

    async def clear(self) -> None:
        """Delete everything."""
        async with acquired(self.pool) as connection:
            await connection.execute(
                "DELETE FROM arrival; DELETE FROM sample_run; DELETE FROM sample_block; "
                "DELETE FROM sample_deletion; DELETE FROM drained_extent; "
                "DELETE FROM block_slot; DELETE FROM sample_change; DELETE FROM retention_class; "
                "DELETE FROM rollup_day; DELETE FROM rollup_mark; DELETE FROM sample_rollup; "
                "DELETE FROM sample_hour; DELETE FROM rollup_deletion"
            )

    async def append(
        self, tenant_id: int, samples: Mapping[Key, int], *, replaces: bool = False
    ) -> None:
        """Append an arrival of samples: value bits by series and ms."""
        (page,) = encode_pages(samples_of(samples), len(samples), 1 << 30)
        row = (2 if replaces else 1, page.n_samples, page.first_series, page.last_series)
        await self.insert(tenant_id, *row, page.first_ms, page.last_ms, page.payload)

    async def delete(
        self, tenant_id: int, series_ids: Sequence[int] | None, first_ms: int, last_ms: int
    ) -> None:
        """Append a deletion."""
        payload = b"" if series_ids is None else np.array(series_ids, ">i8").tobytes()
        await self.insert(tenant_id, 3, 0, 0, 0, first_ms, last_ms, payload)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool."""
        async with acquired(self.pool) as connection:
            yield connection

    async def insert(self, *row: object) -> None:
        """Append an arrival of any columns."""
        async with acquired(self.pool) as connection:
            await connection.execute(_INSERT, *row)

    async def fetchval(self, statement: str, *args: object) -> int:
        """The number that a statement answers."""
        async with acquired(self.pool) as connection:
            value: int = await connection.fetchval(statement, *args)
        return value

    async def drain_after_kill(self) -> None:
        """Drain everything, as soon as the server has noticed that a killed drain is gone."""
        while (result := await self.drainer.drain()).is_busy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if result.n_arrivals:
            await self.drainer.drain_all()

    async def set_next_aside(self) -> None:
        """Let the next drain set the oldest arrival aside, and pass it."""
        oldest = await self.fetchval(
            "SELECT min(id) FROM arrival WHERE id > (SELECT drained_through FROM drain_state)"
        )
        if oldest is not None:
            await self.drainer.set_aside(oldest)

    async def drop_before(self, day: int) -> int:
        """Drop what came before a UTC day, of any class; returns how many partitions."""
        await self.drainer.drain_all()
        now_ms = (day + 1) * DAY_MS
        async with acquired(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT slot FROM block_slot WHERE slot < $1 ORDER BY slot", slot_of(day)
            )
        slots = [row["slot"] for row in rows]
        for slot in slots:
            await self.retention.drop(slot)
        for limit in await self.retention.far_limits(1):
            await self.retention.clip_far(limit, 1, now_ms)
        return len(slots)

    async def keep(self, tenant_id: int, metric: str, retention_class: int) -> None:
        """Give a metric another class (empty: its tenant), unless it has to wait."""
        async with drain_transaction(self.pool) as connection:
            assert connection is not None
            rows = await connection.fetch(
                "SELECT tenant_id, metric_name, class, moved_through IS NOT NULL"
                " FROM retention_class"
            )
            assigned = {(row[0], row[1]): row[2] for row in rows}
            aside = await connection.fetch("SELECT tenant_id FROM arrival WHERE is_aside")
            moving = {(row[0], row[1]) for row in rows if row[3]} | {(row[0], "") for row in aside}
            wanted = assigned | {(tenant_id, metric): retention_class}
            for change in changes_between(wanted, assigned, moving):
                await assign_class(connection, change)

    async def move_one(self) -> None:
        """Move what is stored of one metric into its class."""
        async with acquired(self.pool) as connection:
            moving = await moving_classes(connection)
        if moving:
            await self.moves.move(moving[0])

    async def compact_all(self) -> int:
        """Compact until nothing is left to do; returns how many steps that took."""
        n_steps = 0
        while not (await self.compactor.compact()).is_done:
            n_steps += 1
            assert n_steps < 300, "compaction does not end"
        return n_steps

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
            question = DrainedQuestion(tenant_id, ids, start_ms, end_ms, 0)
            stored = await self.reader.read(connection, question, SampleAllowance(0))
            arrivals = await connection.fetch(
                "SELECT id, kind, first_ms, last_ms, payload FROM arrival WHERE tenant_id = $1 "
                "ORDER BY id",
                tenant_id,
            )
        pieces, deletions = list(stored.pieces), list(stored.deletions)
        for arrival_id, kind, first_ms, last_ms, payload in arrivals:
            if kind == 3:
                deleted = np.frombuffer(payload, ">i8").astype(np.int64) if payload else None
                deletions.append(Deletion(arrival_id, deleted, first_ms, last_ms))
            else:
                (samples,) = decode_pages([payload], ids, start_ms, end_ms)
                pieces.append(Piece(samples, arrival_id, arrival_id, kind == 2))
        return dict_of(fold(pieces, deletions))


@dataclass
class Model:
    """The same by a plain dictionary: value bits by tenant, series and ms."""

    samples: dict[tuple[int, int, int], int] = field(default_factory=dict)

    def append(self, tenant_id: int, samples: Mapping[Key, int], *, replaces: bool = False) -> None:
        for (series_id, time_ms), bits in samples.items():
            key = (tenant_id, series_id, time_ms)
            if replaces or key not in self.samples:
                self.samples[key] = bits

    def delete(
        self, tenant_id: int, series_ids: Sequence[int] | None, first_ms: int, last_ms: int
    ) -> None:
        for key in list(self.samples):
            is_wanted = series_ids is None or key[1] in series_ids
            if key[0] == tenant_id and is_wanted and first_ms <= key[2] <= last_ms:
                del self.samples[key]

    def drop_before(self, day: int) -> None:
        self.samples = {key: v for key, v in self.samples.items() if key[2] >= day * DAY_MS}

    def read(
        self,
        tenant_id: int,
        wanted: Sequence[int],
        start_ms: int = MIN_TIMESTAMP_MS - 1,
        end_ms: int = MAX_TIMESTAMP_MS,
    ) -> dict[Key, int]:
        return {
            (series_id, time_ms): bits
            for (tenant, series_id, time_ms), bits in self.samples.items()
            if tenant == tenant_id and series_id in wanted and start_ms < time_ms <= end_ms
        }


def samples_of(samples: Mapping[Key, int]) -> SeriesSamples:
    """Value bits by series and ms as columns."""
    keys = sorted(samples)
    ids: IntArray = np.array([key[0] for key in keys], np.int64)
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))
    cells = numbered(np.array([samples[key] for key in keys], np.uint64))
    return SeriesSamples(
        ids[starts],
        np.append(starts, len(ids)),
        np.array([key[1] for key in keys], np.int64),
        cells.values,
        histograms=cells.histograms,
    )


def dict_of(samples: SeriesSamples) -> dict[Key, int]:
    """Columns as value bits by series and ms."""
    ids = np.repeat(samples.ids, np.diff(samples.offsets)).tolist()
    bits = model_bits(samples.values, samples.histograms).tolist()
    return dict(zip(zip(ids, samples.timestamps.tolist(), strict=True), bits, strict=True))


@asynccontextmanager
async def stored_blocks(url: str, **options: object) -> AsyncIterator[StoredBlocks]:
    """Arrivals and blocks of a migrated database."""
    pool = await open_pool(url, PoolOptions(max_size=4))
    try:
        yield StoredBlocks(pool, **options)  # type: ignore[arg-type]
    finally:
        await pool.close()
