"""The head of a process beside real writers, drains and other processes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg
import numpy as np
import pytest

from promcompat.core.clock import wall_clock_ms
from promcompat.core.histograms.columns import HISTOGRAM_BITS
from promcompat.core.ports import ALL_TIME, ALL_TIME_MS
from sql.database.connection_pool import Connection, acquired
from sql.database.database import Database
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    ArrivalLog,
    NewArrival,
    SyncAnswer,
    deletion_of,
)
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.columns.fold import fold
from sql.samples.draining.block_drain import BlockTarget
from sql.samples.draining.compaction import Compactor
from sql.samples.draining.drainer import Drainer, DrainOptions, DrainStats
from sql.samples.head import head as head_module
from sql.samples.head.head import Head, StaleViewError
from sql.samples.head.view import HeadView
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.block_reader import BlockReader
from sql.samples.reading.drained_reader import DrainedQuestion
from sql.samples.reading.kept_times import Retentions
from sql.samples.reading.sample_snapshot import (
    PiecemealSnapshot,
    ReadPools,
    SampleSnapshot,
    StoredSnapshot,
)
from sql.samples.reading.snapshots import SampleSnapshots
from sql.samples.tables.retention_classes import FOREVER
from tests.support.storage.repositories import connected
from tests.support.storage.sample_model import Rows, rows_of, samples_of

pytestmark = pytest.mark.integration

TENANT = 1
ALL_SERIES = np.arange(0, 100, dtype=np.int64)
HOUR = 3_600_000


class PausingLog(ArrivalLog):
    """A log whose answers to `sync` can be held back on their way to the head."""

    n_syncs = 0
    hold: asyncio.Event | None = None
    is_held: asyncio.Event

    async def sync(
        self,
        connection: Connection,
        after_id: int,
        after_change: int,
        max_bytes: int,
        tenant_ids: Sequence[int] = (),
        drained_through: int = -1,
    ) -> SyncAnswer:
        self.n_syncs += 1
        positions = after_id, after_change
        answer = await super().sync(connection, *positions, max_bytes, tenant_ids, drained_through)
        if (hold := self.hold) is not None:
            self.hold = None
            self.is_held.set()
            await hold.wait()
        return answer

    def hold_next(self) -> asyncio.Event:
        """Hold back the next answer until the returned event is set."""
        self.is_held = asyncio.Event()
        self.hold = asyncio.Event()
        return self.hold


class Replica:
    """A process with a head."""

    def __init__(self, database: Database, max_bytes: int = 1 << 30) -> None:
        self.database = database
        self.log = PausingLog(database.write_pool, database.guard)
        self.head = Head(self.log, database.read_pool, database.guard, max_bytes=max_bytes)

    async def append(
        self, rows: Rows, kind: ArrivalKind = ArrivalKind.SAMPLES, tenant_id: int = TENANT
    ) -> int:
        """Append samples; returns the id of their arrival."""
        [page] = encode_pages(samples_of(rows), 65_536, 1 << 20)
        conditions = AppendConditions(version=self.database.guard.version)
        arrival = NewArrival(
            tenant_id,
            kind,
            page.n_samples,
            page.first_series,
            page.last_series,
            page.first_ms,
            page.last_ms,
            page.payload,
        )
        [arrival_id] = await self.log.append([arrival], conditions)
        return arrival_id

    async def delete(self, series_ids: np.ndarray | None, first_ms: int, last_ms: int) -> None:
        """Delete samples of series (None: all), both times inclusive."""
        deletion = deletion_of(TENANT, series_ids, first_ms, last_ms)
        await self.log.append([deletion], AppendConditions(version=self.database.guard.version))

    async def seen(self) -> Rows:
        """What a query reads: the head and the runs of one snapshot."""
        async with acquired(self.database.read_pool) as connection, snapshot(connection):
            view = await self.head.view_in(connection)
            view = await self.head.complete(view, connection, TENANT, None, *ALL_TIME_MS)
            return await answer(view, connection)


def snapshot(connection: Connection) -> asyncpg.transaction.Transaction:
    """A transaction that reads one snapshot."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def answer(view: HeadView, connection: Connection) -> Rows:
    """The fold of a view and of the runs and blocks that a connection sees."""
    question = DrainedQuestion(TENANT, ALL_SERIES, *ALL_TIME_MS, view.drained_through)
    stored = await BlockReader(DrainStats()).read(connection, question, SampleAllowance(0))
    pieces = [*stored.pieces, *view.samples(TENANT, ALL_SERIES, *ALL_TIME_MS)]
    return rows_of(fold(pieces, [*stored.deletions, *view.deletions(TENANT)]))


def held(view: HeadView, tenant_id: int = TENANT) -> Rows:
    """What is in memory alone."""
    pieces = view.samples(tenant_id, ALL_SERIES, *ALL_TIME_MS)
    return rows_of(fold(pieces, view.deletions(tenant_id)))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    yield database
    await database.close()


@pytest.fixture
async def replica(database: Database) -> AsyncIterator[Replica]:
    replica = Replica(database)
    yield replica
    await replica.head.close()


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[Replica]:
    """Another process."""
    database = await Database.open(database_url)
    yield Replica(database)
    await database.close()


@pytest.fixture
def drain(writer: Replica) -> Callable[[], Awaitable[int]]:
    """Drains everything."""
    pool = writer.database.write_pool
    return Drainer(pool, DrainOptions(), DrainStats(), BlockTarget(pool)).drain_all


async def test_a_view_has_what_any_process_wrote_before(replica: Replica, writer: Replica) -> None:
    assert held(await replica.head.view()) == {}
    await writer.append({(1, 10): 5, (2, 10): 6})
    assert held(await replica.head.view()) == {(1, 10): 5, (2, 10): 6}
    await replica.append({(1, 10): 7, (1, 11): 8})
    await writer.append({(2, 10): 9}, ArrivalKind.REPLACEMENTS)
    await writer.append({(3, 1): 1}, tenant_id=2)
    view = await replica.head.view()
    assert held(view) == {(1, 10): 5, (1, 11): 8, (2, 10): 9}
    assert held(view, 2) == {(3, 1): 1}
    await writer.delete(np.array([1], np.int64), 0, 10)
    assert held(await replica.head.view()) == {(1, 11): 8, (2, 10): 9}


async def test_views_that_come_during_a_sync_share_the_next_one(replica: Replica) -> None:
    hold = replica.log.hold_next()
    early = asyncio.create_task(replica.head.view())
    await replica.log.is_held.wait()
    await replica.append({(1, 10): 5})
    late = [asyncio.create_task(replica.head.view()) for _ in range(20)]
    await asyncio.sleep(0)
    hold.set()
    assert held(await early) == {}
    for view in await asyncio.gather(*late):
        assert held(view) == {(1, 10): 5}
    assert replica.log.n_syncs == 2


async def test_questions_asked_at_one_time_share_a_sync_that_began_since(
    replica: Replica, writer: Replica
) -> None:
    await writer.append({(1, 10): 5})
    asked_at = time.monotonic()
    view = await replica.head.view(asked_at=asked_at)
    await writer.append({(1, 20): 6})
    assert await replica.head.view(asked_at=asked_at) is view
    assert replica.log.n_syncs == 1
    # Whoever asks after the write sees it, and so does whoever needs another tenant's series.
    assert held(await replica.head.view(asked_at=time.monotonic())) == {(1, 10): 5, (1, 20): 6}
    assert (await replica.head.view([TENANT], asked_at)).generations == {TENANT: 0}
    assert replica.log.n_syncs == 3


async def test_a_view_waits_for_the_sync_that_was_begun_for_it(
    replica: Replica, writer: Replica
) -> None:
    await writer.append({(1, 10): 5})
    asked_at = time.monotonic()
    hold = replica.log.hold_next()
    await replica.head.ask_ahead(TENANT)
    await replica.log.is_held.wait()
    ahead = asyncio.create_task(replica.head.view([TENANT], asked_at))
    await asyncio.sleep(0)
    # Whoever asks later, or for another tenant, does not share it.
    late = asyncio.create_task(replica.head.view([TENANT], time.monotonic()))
    other = asyncio.create_task(replica.head.view([TENANT + 1], asked_at))
    await asyncio.sleep(0)
    hold.set()
    assert held(await ahead) == {(1, 10): 5}
    assert await late is await other is not await ahead
    assert replica.log.n_syncs == 2


async def test_what_is_drained_is_bounded_by_the_view_that_learns_of_it(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    nobody = TENANT + 1
    await writer.append({(1, 10): 5, (2, 7): 6})
    assert (await replica.head.view([TENANT])).drained_bounds == {}
    await drain()
    learned = await replica.head.view([TENANT, nobody])
    assert learned.drained_bounds == {TENANT: (7, 10), nobody: None}
    # The next one finds nothing new; a deletion that is worked off is a change.
    assert (await replica.head.view([TENANT])).drained_bounds == {}
    await writer.delete(np.array([1], np.int64), 0, 10)
    await drain()
    assert (await replica.head.view([TENANT])).drained_bounds.keys() == {TENANT}


async def test_no_view_is_shared_once_the_database_was_another_one(replica: Replica) -> None:
    asked_at = time.monotonic()
    await replica.head.view(asked_at=asked_at)
    replica.database.guard.step_back()
    await replica.head.view(asked_at=asked_at)
    assert replica.log.n_syncs == 2


async def test_a_caller_that_gives_up_does_not_disturb_the_others(replica: Replica) -> None:
    hold = replica.log.hold_next()
    callers = [asyncio.create_task(replica.head.view()) for _ in range(2)]
    await replica.log.is_held.wait()
    callers[0].cancel()
    hold.set()
    assert held(await callers[1]) == {}


async def test_a_drain_between_sync_and_blocks_loses_and_doubles_nothing(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    await writer.append({(1, 10): 5})
    await writer.append({(1, 20): 6})
    expected = {(1, 10): 5, (1, 20): 6}
    async with acquired(replica.database.read_pool) as connection, snapshot(connection):
        view = await replica.head.view_in(connection)
        await drain()
        # Another query learns of the drain, and trims the head.
        assert held(await replica.head.view()) == {}
        await writer.append({(1, 30): 7})
        assert await answer(view, connection) == expected
    assert await replica.seen() == {**expected, (1, 30): 7}


def snapshots_of(replica: Replica, cache_bytes: int = 0) -> SampleSnapshots:
    """What questions of a process see."""
    pools = ReadPools(replica.database.read_pool, replica.database.question_pool)
    retentions = Retentions(pools.reads, FOREVER, wall_clock_ms)
    reader = BlockReader(DrainStats())
    return SampleSnapshots(pools, replica.head, reader, retentions, cache_bytes)


async def delete_and_forget(writer: Replica, drain: Callable[[], Awaitable[int]]) -> None:
    """Delete series 1, drain, and have compaction forget the deletion.

    A view from before has samples of the series then, and no page tells that they are deleted.
    """
    await writer.delete(np.array([1], np.int64), 0, 100)
    await drain()
    compactor = Compactor(writer.database.write_pool, DrainStats())
    while not (await compactor.compact()).is_done:
        pass


async def test_a_question_without_a_transaction_starts_again_after_a_drain(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    snapshots = snapshots_of(replica)
    await writer.append({(1, 10): 5, (2, 10): 6})
    await drain()
    await writer.append({(1, 20): 7})
    opened: list[SampleSnapshot] = []

    async def read(snapshot: SampleSnapshot) -> Rows:
        opened.append(snapshot)
        if len(opened) == 1:
            await delete_and_forget(writer, drain)
        allowance = SampleAllowance(0)
        return rows_of(await snapshot.read(TENANT, ALL_SERIES, *ALL_TIME_MS, allowance))

    assert await snapshots.answer(read, TENANT, ALL_TIME_MS) == {(2, 10): 6}
    assert [type(snapshot) for snapshot in opened] == [PiecemealSnapshot, PiecemealSnapshot]
    assert opened[1].view.drain_state != opened[0].view.drain_state


async def test_drained_samples_are_read_once_until_something_is_drained(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    snapshots = snapshots_of(replica, cache_bytes=1 << 20)
    stats = snapshots.cache.stats

    async def read(snapshot: SampleSnapshot) -> Rows:
        allowance = SampleAllowance(0)
        return rows_of(await snapshot.read(TENANT, ALL_SERIES, *ALL_TIME_MS, allowance))

    async def ask() -> Rows:
        return await snapshots.answer(read, TENANT, ALL_TIME_MS)

    await writer.append({(1, 10): 5, (2, 10): 6})
    await drain()
    assert [await ask(), await ask()] == [{(1, 10): 5, (2, 10): 6}] * 2
    assert (stats.hits, stats.misses) == (1, 1)
    # What has not been drained is in the head, and folded with what the cache has.
    await writer.append({(1, 10): 9, (1, 5): 7})
    await writer.delete(np.array([2], np.int64), 0, 100)
    assert await ask() == {(1, 5): 7, (1, 10): 5}
    assert (stats.hits, stats.misses) == (2, 1)
    await drain()
    assert [await ask(), await ask()] == [{(1, 5): 7, (1, 10): 5}] * 2
    assert (stats.hits, stats.misses) == (3, 2)


async def test_a_transaction_that_a_drain_overtook_begins_again(
    replica: Replica,
    writer: Replica,
    drain: Callable[[], Awaitable[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshots = snapshots_of(replica)
    await writer.append({(1, 10): 5, (2, 10): 6})
    await drain()
    assert await snapshots.bounds_of_drained(TENANT) == (10, 10)
    await writer.append({(1, 20): 7})
    views: list[HeadView] = []
    real = replica.head.view

    async def overtaken(tenant_ids: Sequence[int] = (), asked_at: float | None = None) -> HeadView:
        views.append(await real(tenant_ids, asked_at))
        if len(views) == 1:
            await delete_and_forget(writer, drain)
        return views[-1]

    monkeypatch.setattr(replica.head, "view", overtaken)
    async with snapshots.open([TENANT], *ALL_TIME_MS) as snapshot:
        found = await snapshot.read(TENANT, ALL_SERIES, *ALL_TIME_MS, SampleAllowance(0))
    assert rows_of(found) == {(2, 10): 6}
    assert isinstance(snapshot, StoredSnapshot)
    assert snapshot.view is views[1]


async def test_a_question_that_drains_keep_overtaking_is_answered_in_a_transaction(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    snapshots = snapshots_of(replica)
    await writer.append({(1, 10): 5})
    await drain()
    opened: list[SampleSnapshot] = []

    async def read(snapshot: SampleSnapshot) -> Rows:
        opened.append(snapshot)
        await writer.append({(1, 10 + len(opened)): 6})
        await drain()
        allowance = SampleAllowance(0)
        return rows_of(await snapshot.read(TENANT, ALL_SERIES, *ALL_TIME_MS, allowance))

    found = await snapshots.answer(read, TENANT, ALL_TIME_MS)
    assert isinstance(opened[-1], StoredSnapshot)
    assert found == {(1, 10): 5, **{(1, 10 + n): 6 for n in range(1, len(opened))}}


async def test_a_snapshot_that_is_older_than_the_last_drain_is_refused(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    await writer.append({(1, 10): 5})
    await replica.head.view()
    hold = replica.log.hold_next()

    async def read_in_old_snapshot() -> None:
        async with acquired(replica.database.read_pool) as connection, snapshot(connection):
            await replica.head.view_in(connection)

    old = asyncio.create_task(read_in_old_snapshot())
    await replica.log.is_held.wait()
    await drain()
    await replica.head.view()
    hold.set()
    with pytest.raises(StaleViewError):
        await old
    assert await replica.seen() == {(1, 10): 5}


async def test_ids_that_go_back_discard_the_head_and_what_caches_know(
    replica: Replica, writer: Replica, database_url: str
) -> None:
    await writer.append({(1, 10): 5})
    view = await replica.head.view()
    assert held(view) == {(1, 10): 5}
    n_epochs = replica.database.guard.epoch_number
    async with connected(database_url) as connection:
        await connection.execute("DELETE FROM arrival")
    assert held(await replica.head.view()) == {}
    assert replica.database.guard.epoch_number == n_epochs + 1
    assert replica.head.changes.since(TENANT, view.version) == [ALL_TIME]
    assert replica.head.stats.samples == 0


async def test_another_epoch_discards_the_head_and_what_caches_know(
    replica: Replica, writer: Replica, database_url: str
) -> None:
    await writer.append({(1, 10): 5})
    view = await replica.head.view()
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE arrival SET payload = $1",
            encode_pages(samples_of({(1, 10): 8}), 1_000, 1 << 20)[0].payload,
        )
        await connection.execute(
            "CREATE OR REPLACE FUNCTION database_epoch() RETURNS text LANGUAGE sql STABLE"
            " AS $$ SELECT 'restored' $$"
        )
    assert held(await replica.head.view()) == {(1, 10): 8}
    assert replica.head.changes.since(TENANT, view.version) == [ALL_TIME]


async def test_a_drain_of_arrivals_that_were_read_changes_nothing(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    drained = await writer.append({(1, HOUR): 5})
    version = (await replica.head.view()).version
    await drain()
    view = await replica.head.view()
    assert view.drained_through == drained
    assert replica.head.changes.since(TENANT, version) == []


async def test_an_idle_process_learns_of_what_was_drained_meanwhile(
    replica: Replica, writer: Replica, drain: Callable[[], Awaitable[int]]
) -> None:
    version = (await replica.head.view()).version
    await writer.append({(1, HOUR): 5})
    await writer.append({(1, HOUR + 1): 5})
    await drain()
    assert held(await replica.head.view()) == {}
    [(first_ms, last_ms)] = replica.head.changes.since(TENANT, version)
    assert 0 < first_ms <= HOUR < last_ms < 2 * HOUR
    assert replica.head.changes.since(TENANT + 1, version) == []


async def test_an_idle_process_whose_changes_were_pruned_flushes_what_caches_know(
    replica: Replica,
    writer: Replica,
    drain: Callable[[], Awaitable[int]],
    database_url: str,
) -> None:
    version = (await replica.head.view()).version
    await writer.append({(1, HOUR): 5})
    await drain()
    async with connected(database_url) as connection:
        await connection.execute(
            "WITH pruned AS (DELETE FROM sample_change RETURNING id)"
            " UPDATE drain_state SET changes_pruned_through = (SELECT max(id) FROM pruned)"
        )
    await replica.head.view()
    assert replica.head.changes.since(TENANT, version) == [ALL_TIME]
    assert replica.head.changes.since(TENANT + 1, version) == [ALL_TIME]


async def test_arrivals_without_room_are_read_when_a_query_needs_them(
    database: Database, writer: Replica
) -> None:
    replica = Replica(database, max_bytes=2_000)
    expected: Rows = {}
    for number in range(30):
        rows = {(series, number): number + series for series in range(10)}
        await writer.append(rows)
        expected |= rows
        view = await replica.head.view()
        assert replica.head.stats.bytes_held <= 2_000
    assert view.not_held(TENANT) is not None
    assert held(view) != expected
    assert await replica.seen() == expected
    await replica.head.close()


async def test_a_cold_start_reads_no_more_than_it_can_hold(
    database: Database, writer: Replica
) -> None:
    first = await writer.append({(series, 1): 1 for series in range(10)})
    await writer.delete(None, 1, 1)
    expected = {(series, 2): 2 for series in range(10)}
    await writer.append(expected)
    for number in range(3, 20):
        rows = {(series, number): number for series in range(10)}
        await writer.append(rows)
        expected |= rows
    replica = Replica(database, max_bytes=2_000)
    view = await replica.head.view()
    missing = view.not_held(TENANT)
    assert missing is not None
    assert missing.through > first
    assert replica.head.stats.arrivals <= 10
    assert await replica.seen() == expected
    await replica.head.close()


async def test_a_cold_start_counts_histograms_by_what_they_take(
    database: Database, writer: Replica
) -> None:
    """Or it would read more than there is room for, and drop it again."""
    expected: Rows = {}
    for number in range(20):
        rows = {(series, number): HISTOGRAM_BITS | series for series in range(10)}
        await writer.append(rows)
        expected |= rows
    replica = Replica(database, max_bytes=20_000)
    await replica.head.view()
    assert 0 < replica.head.stats.arrivals < 20
    assert replica.head.stats.evictions == 0
    assert await replica.seen() == expected
    await replica.head.close()


async def test_a_large_backlog_comes_in_pieces(
    replica: Replica, writer: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "_SYNC_BYTES", 1)
    expected = {(1, number): number for number in range(10)}
    for key, bits in expected.items():
        await writer.append({key: bits})
    assert held(await replica.head.view()) == expected
    assert replica.log.n_syncs == 10


async def test_arrivals_that_were_set_aside_stay_readable(
    replica: Replica,
    writer: Replica,
    drain: Callable[[], Awaitable[int]],
    database_url: str,
) -> None:
    await writer.append({(1, 10): 5})
    await drain()
    aside = await writer.append({(1, 20): 6})
    async with connected(database_url) as connection:
        await connection.execute("UPDATE arrival SET is_aside = true WHERE id = $1", aside)
        await connection.execute("UPDATE drain_state SET drained_through = $1", aside)
    await writer.append({(1, 30): 7})
    await drain()
    assert held(await replica.head.view()) == {(1, 20): 6}
    for _ in range(2):
        assert await replica.seen() == {(1, 10): 5, (1, 20): 6, (1, 30): 7}


async def test_a_page_that_cannot_be_decoded_stops_nothing(
    replica: Replica, writer: Replica, database_url: str
) -> None:
    await writer.append({(1, 10): 5})
    bad = await writer.append({(1, 20): 6})
    await writer.append({(1, 30): 7})
    async with connected(database_url) as connection:
        await connection.execute("UPDATE arrival SET payload = '\\xdead' WHERE id = $1", bad)
    assert held(await replica.head.view()) == {(1, 10): 5, (1, 30): 7}
    assert replica.head.stats.unreadable == 1


@pytest.mark.parametrize(
    "change",
    [
        "payload = '\\xdead'",
        "payload = substr(payload, 1, octet_length(payload) - 1)",
        "payload = set_byte(payload, 0, 7)",  # A version of the format to come.
        "kind = 3, payload = 'no ids'",
        "kind = 9",
    ],
)
@pytest.mark.parametrize("is_aside", [False, True])
async def test_no_poison_stops_other_samples(
    replica: Replica, writer: Replica, database_url: str, change: str, is_aside: bool
) -> None:
    """Neither before nor after a drain passed it."""
    await writer.append({(1, 10): 5})
    bad = await writer.append({(1, 20): 6})
    await writer.append({(1, 30): 7})
    async with connected(database_url) as connection:
        await connection.execute(f"UPDATE arrival SET {change} WHERE id = $1", bad)  # noqa: S608
    if is_aside:
        pool = writer.database.write_pool
        drainer = Drainer(pool, DrainOptions(), DrainStats(), BlockTarget(pool))
        await drainer.drain_all()
        async with connected(database_url) as connection:
            assert await connection.fetchval("SELECT id FROM arrival WHERE is_aside") == bad
    assert await replica.seen() == {(1, 10): 5, (1, 30): 7}


async def test_segments_are_merged_in_the_background(replica: Replica) -> None:
    expected: Rows = {}
    for number in range(40):
        await replica.append({(1, number): number})
        expected[1, number] = number
        assert held(await replica.head.view()) == expected
    assert replica.head.stats.merges > 0
    assert replica.head.stats.segments < 20


async def test_closing_gives_up_a_sync_that_is_under_way(replica: Replica) -> None:
    replica.log.hold_next()
    asking = asyncio.create_task(replica.head.view())
    await replica.log.is_held.wait()
    await replica.head.close()
    ended, _ = await asyncio.wait([asking], timeout=5)
    assert ended
