"""The log of arrivals on real databases: its order, what it refuses, and what a reader learns."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
import pytest

from promcompat.core.alerting.thresholds import BreachLevel, LevelChange
from promcompat.core.errors import OverloadedError, StaleKnowledgeError
from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.database.storage_stats import StorageStats
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    ArrivalLog,
    NewArrival,
    OvertakenError,
    SampleChange,
    SyncAnswer,
    deletion_of,
    pages_of,
)
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.writing.backlog import Backlog, BacklogLimits
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
MANY_BYTES = 1 << 30
APPEND_ONE = """
    SELECT append_arrivals(
        $1, '{}', '{}', NULL, '{1}', '{1}', '{1}', '{1}', '{1}', '{1}', '{1}',
        ARRAY['\\x00'::bytea], '{}', '{}', '{}', '{}'
    )
"""


def pages(
    tenant: int, ids: Iterable[int], at: int = T0, kind: ArrivalKind = ArrivalKind.SAMPLES
) -> list[NewArrival]:
    """One sample of each series, with the value of its id."""
    series = np.array(list(ids), np.int64)
    samples = SeriesSamples(
        series,
        np.arange(len(series) + 1),
        np.full(len(series), at),
        series.astype(np.float64),
    )
    return pages_of(tenant, samples, kind)


class Log(ArrivalLog):
    """A log with the database it belongs to."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.log_pool, database.guard)
        self.database = database

    def now(self, **conditions: object) -> AppendConditions:
        """What is known now."""
        return AppendConditions(version=self.database.guard.version, **conditions)  # type: ignore[arg-type]

    async def add(self, arrivals: Sequence[NewArrival]) -> list[int]:
        return await self.append(arrivals, self.now())

    async def read(
        self, after: int = 0, after_change: int = 0, max_bytes: int = MANY_BYTES
    ) -> SyncAnswer:
        async with acquired(self.database.log_pool) as connection:
            return await self.sync(connection, after, after_change, max_bytes)


@asynccontextmanager
async def opened_log(url: str) -> AsyncIterator[Log]:
    database = await Database.open(url)
    try:
        yield Log(database)
    finally:
        await database.close()


@pytest.fixture
async def log(database_url: str) -> AsyncIterator[Log]:
    async with opened_log(database_url) as log:
        yield log


async def test_what_is_appended_is_what_the_next_sync_reads(log: Log) -> None:
    empty = await log.read()
    assert (empty.last_id, empty.arrivals, empty.changes) == (0, [], [])
    assert empty.is_complete
    assert not empty.has_change_gap
    first = await log.add(pages(7, range(10_000)))
    second = await log.add(pages(8, [3], T0 + 5, ArrivalKind.REPLACEMENTS))
    assert len(first) == 2
    answer = await log.read()
    assert [arrival.id for arrival in answer.arrivals] == [*first, *second]
    assert answer.last_id == second[-1]
    last = answer.arrivals[-1]
    assert (last.tenant_id, last.kind, last.n_samples) == (8, ArrivalKind.REPLACEMENTS, 1)
    assert (last.first_series, last.last_series, last.first_ms, last.last_ms) == (
        *(3, 3),
        *(T0 + 5, T0 + 5),
    )
    decoded = decode_pages([arrival.payload for arrival in answer.arrivals[:2]])
    assert np.concatenate([part.values for part in decoded]).tolist() == list(range(10_000))
    assert [arrival.id for arrival in (await log.read(first[-1])).arrivals] == second


async def test_sync_is_bounded_in_bytes_and_says_so(log: Log) -> None:
    ids = [(await log.add(pages(1, range(100), T0 + at)))[0] for at in range(5)]
    size = len((await log.read()).arrivals[0].payload)
    answer = await log.read(max_bytes=2 * size)
    assert [arrival.id for arrival in answer.arrivals] == ids[:2]
    assert not answer.is_complete
    assert answer.last_id == ids[-1]
    answer = await log.read(ids[1], max_bytes=1)
    assert [arrival.id for arrival in answer.arrivals] == [ids[2]]
    answer = await log.read(ids[2], max_bytes=2 * size)
    assert [arrival.id for arrival in answer.arrivals] == ids[3:]
    assert answer.is_complete


async def test_arrivals_set_aside_come_with_every_sync(database_url: str, log: Log) -> None:
    ids = [(await log.add(pages(1, [at])))[0] for at in range(4)]
    async with connected(database_url) as admin:
        await admin.execute("UPDATE arrival SET is_aside = true WHERE id = $1", ids[1])
        await admin.execute("DELETE FROM arrival WHERE id = $1", ids[0])
        await admin.execute("UPDATE drain_state SET drained_through = $1", ids[1])
    for after in (0, ids[0], ids[1], ids[3]):
        answer = await log.read(after)
        assert answer.drained_through == ids[1]
        assert [arrival.id for arrival in answer.arrivals if arrival.is_aside] == [ids[1]]
        others = [arrival.id for arrival in answer.arrivals if not arrival.is_aside]
        assert others == [later for later in ids[2:] if later > after]
        assert answer.is_complete


async def test_changes_of_drains_come_once_and_a_gap_is_reported(
    database_url: str, log: Log
) -> None:
    async with connected(database_url) as admin:
        for at in range(3):
            await admin.execute(
                "INSERT INTO sample_change"
                " (drained_through, tenant_id, first_series, last_series, first_ms, last_ms)"
                " VALUES (9, 1, 2, 3, $1, $2)",
                T0 + at,
                T0 + at + 10,
            )
        answer = await log.read()
        numbers = [change.id for change in answer.changes]
        assert [change.first_ms for change in answer.changes] == [T0, T0 + 1, T0 + 2]
        assert answer.changes[0] == SampleChange(numbers[0], 1, 2, 3, T0, T0 + 10, 9)
        assert answer.last_change == numbers[-1]
        assert not answer.has_change_gap
        later = await log.read(after_change=numbers[1])
        assert [change.id for change in later.changes] == numbers[2:]
        await admin.execute("DELETE FROM sample_change WHERE id <= $1", numbers[1])
        await admin.execute("UPDATE drain_state SET changes_pruned_through = $1", numbers[1])
    assert (await log.read(after_change=numbers[0])).has_change_gap
    assert not (await log.read(after_change=numbers[1])).has_change_gap


async def test_more_changes_than_an_answer_holds_are_a_gap(database_url: str, log: Log) -> None:
    async with connected(database_url) as admin:
        await admin.execute(
            "INSERT INTO sample_change (tenant_id, first_series, last_series, first_ms, last_ms)"
            " SELECT 1, 2, 3, 4, 5 FROM generate_series(1, 5000)"
        )
    answer = await log.read()
    assert answer.has_change_gap
    assert not (await log.read(after_change=answer.last_change)).has_change_gap


# -- R1: one order -----------------------------------------------------------------------------


async def test_ids_become_visible_in_order_and_readers_miss_nothing(
    database_url: str, log: Log
) -> None:
    """Writers append as fast as they can; a reader asks for what is above the last id it has."""
    acknowledged: set[int] = set()
    is_done = False

    async def append(writer: int) -> None:
        async with opened_log(database_url) as own:
            for at in range(60):
                acknowledged.update(await own.add(pages(writer, range(at % 7 * 400 + 1))))

    async def read_all() -> list[int]:
        async with opened_log(database_url) as own:
            seen: list[int] = []
            while True:
                was_done, before = is_done, set(acknowledged)
                answer = await own.read(seen[-1] if seen else 0)
                seen += [arrival.id for arrival in answer.arrivals]
                assert before <= set(seen), "an acknowledged append is missing"
                if was_done:
                    return seen
                await asyncio.sleep(0.001)

    reading = [asyncio.create_task(read_all()) for _ in range(2)]
    await asyncio.gather(*(append(writer) for writer in range(4)))
    is_done = True
    for seen in await asyncio.gather(*reading):
        assert seen == sorted(acknowledged)


async def test_append_waits_for_the_commit_of_the_one_before(database_url: str, log: Log) -> None:
    """Without the lock the second id would be visible before the first."""
    (earlier,) = await log.add(pages(1, [1]))
    async with connected(database_url) as slow:
        epoch = log.database.guard.known_epoch
        transaction = slow.transaction()
        await transaction.start()
        (first,) = await slow.fetchval(APPEND_ONE, epoch)
        second = asyncio.create_task(log.add(pages(1, [2])))
        await asyncio.sleep(0.2)
        assert not second.done()
        assert (await log.read()).last_id == earlier
        await transaction.commit()
    assert (await second)[0] > first
    assert len((await log.read()).arrivals) == 3


async def test_append_in_an_older_snapshot_is_refused(database_url: str, log: Log) -> None:
    async with connected(database_url) as connection:
        with pytest.raises(asyncpg.RaiseError, match="READ COMMITTED"):
            async with connection.transaction(isolation="repeatable_read"):
                await connection.execute(APPEND_ONE, log.database.guard.known_epoch)


async def test_ids_stay_above_what_was_drained(database_url: str, log: Log) -> None:
    """A back-up may bring the state of drains, and not the arrivals."""
    ahead = 1 << 60
    async with connected(database_url) as admin:
        await admin.execute("UPDATE drain_state SET drained_through = $1", ahead)
    first, second = [(await log.add(pages(1, [1])))[0] for _ in range(2)]
    assert ahead < first < second
    assert [arrival.id for arrival in (await log.read(ahead)).arrivals] == [first, second]


async def test_append_is_durable_whatever_the_role_says(database_url: str) -> None:
    role_setting = "ALTER ROLE CURRENT_USER SET synchronous_commit = off"
    async with connected(database_url) as admin:
        await admin.execute(role_setting)
        try:
            async with connected(database_url) as session, session.transaction():
                epoch = await session.fetchval(
                    "SELECT concat(database_epoch(), '/', removal_position())"
                )
                assert await session.fetchval("SHOW synchronous_commit") == "off"
                await session.execute(APPEND_ONE, epoch)
                assert await session.fetchval("SHOW synchronous_commit") == "on"
        finally:
            await admin.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")


async def test_append_returns_when_the_log_is_on_disk(database_url: str) -> None:
    """The server forgets an answer that came earlier when it crashes; the role does not wait."""
    role_setting = "ALTER ROLE CURRENT_USER SET synchronous_commit = off"
    noise = np.random.default_rng(1).random(8_000)
    samples = SeriesSamples(np.arange(8_000), np.arange(8_001), np.full(8_000, T0), noise)
    (arrival,) = pages_of(1, samples, ArrivalKind.SAMPLES)
    async with connected(database_url) as admin:
        await admin.execute(role_setting)
        try:
            async with opened_log(database_url) as log:
                before = await admin.fetchval("SELECT pg_current_wal_insert_lsn()")
                await log.add([arrival])
                flushed = await admin.fetchval(
                    "SELECT pg_current_wal_flush_lsn() - $1::pg_lsn", before
                )
        finally:
            await admin.execute("ALTER ROLE CURRENT_USER RESET synchronous_commit")
    assert flushed > len(arrival.payload)


# -- what an append refuses ---------------------------------------------------------------------


async def test_append_after_series_were_removed_is_refused(database_url: str, log: Log) -> None:
    """R7: its ids were looked up before."""
    conditions = log.now()
    await log.append(pages(1, [1]), conditions)
    async with connected(database_url) as admin:
        await admin.execute("INSERT INTO tenant (name) VALUES ('red')")
        await admin.execute(
            "INSERT INTO series (tenant_id, metric_name, labels, fingerprint)"
            " SELECT id, 'm', '{}', substr(sha256('m'), 1, 16) FROM tenant"
        )
        await admin.execute("DELETE FROM series")
    with pytest.raises(StaleKnowledgeError):
        await log.append(pages(1, [1]), conditions)
    await log.append(pages(1, [1]), log.now())
    assert len((await log.read()).arrivals) == 2


async def test_removal_of_series_waits_for_a_running_append(database_url: str, log: Log) -> None:
    async with connected(database_url) as slow, connected(database_url) as admin:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(APPEND_ONE, log.database.guard.known_epoch)
        removing = asyncio.create_task(admin.execute("SELECT lock_series()"))
        await asyncio.sleep(0.2)
        assert not removing.done()
        await transaction.commit()
        await removing


async def test_append_whose_milliseconds_may_be_taken_is_refused(log: Log) -> None:
    read_through = (await log.read()).last_id
    await log.add(pages(1, [5, 9], T0))
    await log.add(pages(2, [7], T0))
    for tenant, series, at in [(1, 5, T0), (1, 7, T0)]:
        with pytest.raises(OvertakenError):
            await log.append(pages(tenant, [series], at), log.now(read_through=read_through))
    for tenant, series, at in [(1, 4, T0), (1, 10, T0), (1, 7, T0 + 1), (3, 7, T0)]:
        await log.append(pages(tenant, [series], at), log.now(read_through=read_through))
    read_through = (await log.read()).last_id
    await log.append(pages(1, [7], T0), log.now(read_through=read_through))


async def test_append_is_refused_when_a_drain_took_what_was_not_read(
    database_url: str, log: Log
) -> None:
    read_through = (await log.read()).last_id
    (drained,) = await log.add(pages(1, [5]))
    async with connected(database_url) as admin:
        await admin.execute("DELETE FROM arrival")
        await admin.execute("UPDATE drain_state SET drained_through = $1", drained)
    with pytest.raises(OvertakenError):
        await log.append(pages(1, [5]), log.now(read_through=read_through))
    await log.append(pages(1, [5]), log.now(read_through=drained))


async def test_breaches_are_stored_with_their_samples_or_not_at_all(
    database_url: str, log: Log
) -> None:
    change = LevelChange(0, 5, BreachLevel.CRITICAL, 99.5, T0 + 1)
    stale = AppendConditions(version=log.database.guard.version, definitions={1: 4})
    with pytest.raises(Exception, match="definitions changed"):
        await log.append(pages(1, [5], T0 + 1), stale, [change])
    await log.append(pages(1, [5], T0 + 1), log.now(), [change])
    async with connected(database_url) as admin:
        rows = await admin.fetch(
            "SELECT series_id, level, value, (extract(epoch FROM ts) * 1000)::bigint"
            " FROM breach_outbox"
        )
    assert [tuple(row) for row in rows] == [(5, 2, 99.5, T0 + 1)]
    assert len((await log.read()).arrivals) == 1


# -- deletions ----------------------------------------------------------------------------------


async def test_deletions_are_arrivals(log: Log) -> None:
    deletions = [deletion_of(1, np.array([4, 7]), T0, T0 + 9), deletion_of(2, None, -5, T0)]
    await log.add(deletions)
    some, everything = (await log.read()).arrivals
    assert some.deleted_series is not None
    assert some.deleted_series.tolist() == [4, 7]
    assert (some.tenant_id, some.kind, some.first_ms, some.last_ms) == (1, 3, T0, T0 + 9)
    assert (some.first_series, some.last_series) == (4, 7)
    assert everything.deleted_series is None
    assert (everything.tenant_id, everything.first_ms, everything.last_ms) == (2, -5, T0)


# -- R9: back-pressure ---------------------------------------------------------------------------


async def test_writes_are_refused_until_arrivals_are_drained(database_url: str, log: Log) -> None:
    now = 0.0
    limits = BacklogLimits(max_bytes=100_000, max_tenant_bytes=60_000)
    stats = StorageStats()
    backlog = Backlog(log.database.write_pool, limits, stats, lambda: now)
    await backlog.admit(1)
    ids = await log.add(pages(1, range(4_000)))
    await backlog.admit(1)
    now = 1.5
    with pytest.raises(OverloadedError, match="of this tenant") as raised:
        await backlog.admit(1)
    assert raised.value.retry_after_seconds > 1
    assert stats.undrained_bytes == backlog.n_bytes > limits.max_tenant_bytes
    await backlog.admit(2)
    ids += await log.add(pages(2, range(3_000)))
    now = 3.0
    with pytest.raises(OverloadedError, match=r"samples wait"):
        await backlog.admit(3)
    async with connected(database_url) as admin:
        await admin.execute("UPDATE arrival SET is_aside = true WHERE id = $1", ids[0])
        await admin.execute("DELETE FROM arrival WHERE id <> $1", ids[0])
    now = 4.5
    for tenant in (1, 2, 3):
        await backlog.admit(tenant)


# -- R2: the epoch -------------------------------------------------------------------------------


async def test_log_that_was_set_back_is_noticed_and_repeats_no_id(
    database_url: str, log: Log
) -> None:
    """As by a restore into the same database while its connections stay open."""
    await log.add(pages(1, [1]))
    kept = await log.read()
    async with connected(database_url) as admin:
        tables = ("installation", "arrival", "drain_state")
        rows = {table: await admin.fetch(f"TABLE {table}") for table in tables}
        conditions = log.now()
        (lost,) = await log.append(pages(1, [2]), conditions)
        async with admin.transaction():
            for table in tables:
                await admin.execute(f"DELETE FROM {table}")  # noqa: S608
                await admin.copy_records_to_table(
                    table, schema_name="promcompat", records=[tuple(row) for row in rows[table]]
                )
    with pytest.raises(StaleKnowledgeError):
        await log.append(pages(1, [3]), conditions)
    answer = await log.read()
    assert answer.epoch != kept.epoch
    assert [arrival.id for arrival in answer.arrivals] == [kept.last_id]
    (later,) = await log.add(pages(1, [3]))
    assert later > lost
