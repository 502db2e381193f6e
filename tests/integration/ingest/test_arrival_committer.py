"""Commits of the block store: which rows are appended, and which ones conflict."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from promcompat.core.alerting.thresholds import BreachLevel, LevelChange
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.histograms.columns import HistogramCells
from sql.database.connection_pool import acquired
from sql.database.copy_format import SampleRows
from sql.database.database import Database, DatabaseOptions
from sql.samples.arrivals import arrival_committer
from sql.samples.arrivals.arrival_committer import ArrivalCommitter
from sql.samples.arrivals.arrival_log import ArrivalKind, ArrivalLog
from sql.samples.codec.page_decoding import decode_pages
from sql.samples.columns.fold import Piece, fold
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.sorted_rows import Conflict
from tests.support.programs.network import cuttable_network
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
Row = tuple[int, int, float]
"""Series, milliseconds after T0, value."""


def make_rows(
    rows: Sequence[Row], tenants: Sequence[int] | int = 1, *, is_timed: bool = False
) -> SampleRows:
    ids, times, values = (list(column) for column in zip(*rows, strict=True))
    tenant_ids = [tenants] * len(rows) if isinstance(tenants, int) else tenants
    return SampleRows(
        np.array(ids, np.int64),
        np.array(times, np.int64) + T0,
        np.array(values, np.float64).view(np.uint64),
        np.ones(len(rows), np.bool_) if is_timed else None,
        tenant_ids=np.array(tenant_ids, np.int64),
    )


class ReadLog:
    """What is stored, read from the log each time."""

    def __init__(self, database: Database, log: ArrivalLog) -> None:
        self._database = database
        self._log = log
        self.n_look_ups = 0

    async def pieces(self, tenant_id: int) -> tuple[int, list[Piece]]:
        async with acquired(self._database.log_pool) as connection:
            answer = await self._log.sync(connection, 0, 0, 1 << 30)
        own = [arrival for arrival in answer.arrivals if arrival.tenant_id == tenant_id]
        decoded = decode_pages([arrival.payload for arrival in own])
        return answer.last_id, [
            Piece(samples, arrival.id, arrival.id, arrival.kind is ArrivalKind.REPLACEMENTS)
            for arrival, samples in zip(own, decoded, strict=True)
        ]

    async def bits_in_head(
        self, tenant_id: int, series_ids: np.ndarray, timestamps: np.ndarray
    ) -> tuple[np.ndarray, HistogramCells]:
        self.n_look_ups += 1
        stored = {(series, at): value for series, at, value in await self.stored(tenant_id, float)}
        keys = list(zip(series_ids.tolist(), (timestamps - T0).tolist(), strict=True))
        values = np.array([stored.get(key, 0.0) for key in keys])
        return np.array([key in stored for key in keys]), HistogramCells(values, None)

    async def times_between(
        self, wanted: Sequence[tuple[int, np.ndarray]], start_ms: int, end_ms: int
    ) -> tuple[int, list[SeriesSamples]]:
        found = [await self.pieces(tenant) for tenant, _ in wanted]
        return min(last for last, _ in found), [
            fold(pieces).between(start_ms - 1, end_ms) for _, pieces in found
        ]

    async def stored(self, tenant_id: int, _kind: type = float) -> list[Row]:
        """The folded samples of a tenant."""
        _, pieces = await self.pieces(tenant_id)
        samples = fold(pieces)
        ids = np.repeat(samples.ids, np.diff(samples.offsets)).tolist()
        times = (samples.timestamps - T0).tolist()
        return list(zip(ids, times, samples.values.tolist(), strict=True))


class Store:
    """A committer, and what it has stored."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = ArrivalLog(database.log_pool, database.guard)
        self.read = ReadLog(database, self.log)
        self.policies = DuplicatePolicies(database.write_pool)
        self.committer = ArrivalCommitter(self.log, self.policies, self.read)

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange] = ()) -> list[Conflict]:
        known = SampleRows(
            rows.series_ids,
            rows.timestamps,
            rows.bits,
            rows.server_timed,
            self.database.guard.version,
            rows.tenant_ids,
        )
        return await self.committer.commit(known, changes)

    async def n_arrived(self) -> int:
        """How many samples were appended, repeats included."""
        async with acquired(self.database.read_pool) as connection:
            answer = await self.log.sync(connection, 0, 0, 1 << 30)
        return sum(arrival.n_samples for arrival in answer.arrivals)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    database = await Database.open(database_url)
    yield Store(database)
    await database.close()


async def test_rows_of_any_order_and_age_are_stored(store: Store) -> None:
    rows = [(3, 5, 1.0), (1, -(10**12), 2.0), (3, -7, 3.0), (2, 10**12, 4.0)]
    assert await store.commit(make_rows(rows)) == []
    assert await store.read.stored(1) == sorted(rows)


async def test_each_tenant_gets_its_own_rows(store: Store) -> None:
    rows = [(5, 1, 1.0), (2, 1, 2.0), (4, 1, 3.0), (5, 0, 4.0)]
    await store.commit(make_rows(rows, [9, 7, 7, 9]))
    assert await store.read.stored(7) == [(2, 1, 2.0), (4, 1, 3.0)]
    assert await store.read.stored(9) == [(5, 0, 4.0), (5, 1, 1.0)]


async def test_repeats_are_accepted_and_not_appended(store: Store) -> None:
    rows = make_rows([(1, 0, 1.0), (2, 0, 2.0), (1, 0, 1.0)])
    assert await store.commit(rows) == []
    assert await store.n_arrived() == 2
    assert await store.commit(rows) == []
    assert await store.n_arrived() == 2


async def test_bits_decide_what_a_repeat_is(store: Store) -> None:
    nan = np.array([0x7FF8_0000_0000_0001, 0x7FF8_0000_0000_0002], np.uint64).view(np.float64)
    await store.commit(make_rows([(1, 0, nan[0]), (2, 0, 0.0)]))
    found = await store.commit(make_rows([(1, 0, nan[1]), (2, 0, -0.0), (1, 0, nan[0])]))
    assert [conflict.row for conflict in found] == [0, 1]


async def test_other_values_conflict_with_what_counts(store: Store) -> None:
    """In a commit the first row counts, unless something is stored."""
    found = await store.commit(make_rows([(1, 0, 5.0), (1, 0, 6.0), (1, 0, 5.0)]))
    assert found == [Conflict(1, 5.0)]
    found = await store.commit(make_rows([(1, 1, 1.0), (1, 0, 1.0), (1, 0, 5.0), (1, 0, 7.0)]))
    assert sorted(found, key=lambda conflict: conflict.row) == [Conflict(1, 5.0), Conflict(3, 5.0)]
    assert await store.read.stored(1) == [(1, 0, 5.0), (1, 1, 1.0)]
    assert await store.n_arrived() == 2


async def test_newer_rows_ask_nothing(store: Store) -> None:
    await store.commit(make_rows([(1, 0, 1.0), (2, 0, 1.0)]))
    asked = store.read.n_look_ups
    for at in range(1, 5):
        await store.commit(make_rows([(1, 2 * at, 1.0), (2, at, 1.0), (1, 2 * at - 1, 1.0)]))
    assert store.read.n_look_ups == asked
    await store.commit(make_rows([(1, 8, 1.0)]))
    assert store.read.n_look_ups == asked + 1


async def test_rows_that_another_process_stored_are_left_to_the_fold(
    database_url: str, store: Store
) -> None:
    await store.commit(make_rows([(1, 0, 1.0)]))
    other = Store(await Database.open(database_url))
    await other.commit(make_rows([(1, 5, 1.0)]))
    assert await store.commit(make_rows([(1, 5, 2.0)])) == []
    assert await store.read.stored(1) == [(1, 0, 1.0), (1, 5, 1.0)]
    assert await store.commit(make_rows([(1, 5, 2.0)])) == [Conflict(0, 1.0)]
    await other.database.close()


# -- metrics that keep the last sample -----------------------------------------------------------


async def define(url: str, policy: str) -> tuple[int, int, int]:
    """A tenant with a metric that has this policy: its id, and the metric's and another series."""
    async with connected(url) as admin:
        tenant = await admin.fetchval("INSERT INTO tenant (name) VALUES ('red') RETURNING id")
        ids = [
            await admin.fetchval(
                "INSERT INTO series (tenant_id, metric_name, labels, fingerprint)"
                " VALUES ($1, $2, '{}', substr(sha256($2::text::bytea), 1, 16)) RETURNING id",
                tenant,
                name,
            )
            for name in ("m", "other")
        ]
        await set_policy(url, tenant, policy)
    return tenant, *ids


async def set_policy(url: str, tenant: int, policy: str) -> None:
    """As a change of a definition does: the version counts up in the same transaction."""
    async with connected(url) as admin, admin.transaction():
        await admin.execute(
            "INSERT INTO definition_change AS c (tenant_id, version) VALUES ($1, 1)"
            " ON CONFLICT (tenant_id) DO UPDATE SET version = c.version + 1",
            tenant,
        )
        await admin.execute("DELETE FROM metric_definition")
        await admin.execute(
            "INSERT INTO metric_definition"
            " (tenant_id, name, display_name, description, unit, type, aggregation,"
            " duplicate_policy, version)"
            " VALUES ($1, 'm', '', '', '', 'gauge', 'avg', $2, 1)",
            tenant,
            policy,
        )


async def test_last_sample_counts_where_the_definition_says_so(
    database_url: str, store: Store
) -> None:
    tenant, series, other = await define(database_url, "last")
    for value in (1.0, 2.0):
        rows = [(series, 0, value), (series, 0, value + 10), (other, value, value)]
        assert await store.commit(make_rows(rows, tenant)) == []
    assert await store.read.stored(tenant) == [(series, 0, 12.0), (other, 1, 1.0), (other, 2, 2.0)]
    assert await store.commit(make_rows([(other, 1, 5.0)], tenant)) == [Conflict(0, 1.0)]


async def test_changed_definition_counts_from_the_next_commit_on(
    database_url: str, store: Store
) -> None:
    """Also of another process: the append itself notices."""
    tenant, series, _ = await define(database_url, "first")
    await store.commit(make_rows([(series, 0, 1.0)], tenant))
    assert await store.commit(make_rows([(series, 0, 2.0)], tenant)) == [Conflict(0, 1.0)]
    await set_policy(database_url, tenant, "last")
    assert await store.commit(make_rows([(series, 0, 3.0)], tenant)) == []
    assert await store.read.stored(tenant) == [(series, 0, 3.0)]
    await set_policy(database_url, tenant, "first")
    assert await store.commit(make_rows([(series, 1, 5.0), (series, 1, 6.0)], tenant)) == [
        Conflict(1, 5.0)
    ]


async def test_definitions_that_change_during_a_commit_are_read_again(
    database_url: str, store: Store
) -> None:
    """Two groups are committed at once; one is refused while the other asks for further tenants."""
    tenant, _, _ = await define(database_url, "last")
    assert await store.policies.versions([tenant]) == {tenant: 1}
    asking = asyncio.create_task(store.policies.versions([tenant, tenant + 1]))
    await asyncio.sleep(0)
    store.policies.forget([tenant])
    assert await asking == {tenant: 1, tenant + 1: 0}


# -- rows timed by the server --------------------------------------------------------------------


async def test_rows_of_one_millisecond_are_all_stored(store: Store) -> None:
    rows = make_rows([(1, 5, float(value)) for value in range(4)], is_timed=True)
    assert await store.commit(rows) == []
    assert await store.commit(make_rows([(1, 7, 9.0), (1, 6, 9.0)])) != []
    await store.commit(rows)
    stored = await store.read.stored(1)
    assert [at for _, at, _ in stored] == [5, 6, 7, 8, 9, 10, 11, 12]
    assert [value for *_, value in stored] == [0.0, 1.0, 2.0, 3.0] * 2


async def test_rows_move_past_what_senders_stored_ahead(store: Store) -> None:
    """Hours of taken milliseconds are searched a minute at a time."""
    taken = [(1, at, 0.0) for at in range(130_000)]
    await store.commit(make_rows(taken))
    await store.commit(make_rows([(1, 3, 7.0), (2, 3, 8.0)], is_timed=True))
    stored = await store.read.stored(1)
    assert stored[-2:] == [(1, 130_000, 7.0), (2, 3, 8.0)]


async def test_sent_and_timed_rows_of_a_write_share_no_time(store: Store) -> None:
    rows = make_rows([(1, 0, 1.0), (1, 0, 2.0), (2, 0, 3.0), (1, 0, 4.0)])
    mixed = SampleRows(
        rows.series_ids,
        rows.timestamps,
        rows.bits,
        np.array([True, False, False, True]),
        tenant_ids=rows.tenant_ids,
    )
    change = LevelChange(3, 1, BreachLevel.WARNING, 4.0, T0)
    await store.commit(mixed, [change])
    assert await store.read.stored(1) == [
        (1, 0, 2.0),
        (1, 1, 1.0),
        (1, 2, 4.0),
        (2, 0, 3.0),
    ]
    async with connected_to(store) as admin:
        breach = await admin.fetchrow(
            "SELECT (extract(epoch FROM ts) * 1000)::bigint - $1, value FROM breach_outbox", T0
        )
    assert tuple(breach) == (2, 4.0)


def connected_to(store: Store):  # type: ignore[no-untyped-def]
    return acquired(store.database.write_pool)


async def test_processes_never_give_one_millisecond_to_two_samples(
    database_url: str, store: Store
) -> None:
    """Each writes to the same series at the same moment, again and again."""
    stores = [store, *[Store(await Database.open(database_url)) for _ in range(2)]]

    async def write(number: int, own: Store) -> None:
        for at in range(10):
            await own.commit(make_rows([(1, at, float(100 * number + at))], is_timed=True))

    await asyncio.gather(*(write(number, own) for number, own in enumerate(stores)))
    stored = await store.read.stored(1)
    assert sorted(value for *_, value in stored) == [
        float(100 * number + at) for number in range(3) for at in range(10)
    ]
    for own in stores[1:]:
        await own.database.close()


# -- R6: unknown outcomes ------------------------------------------------------------------------


async def test_cut_between_commit_and_reply_is_an_error_and_a_repeat_changes_nothing(
    database_url: str, store: Store
) -> None:
    """The sender gets 503 and repeats; in the meantime the samples can already be read."""
    rows = make_rows([(1, 0, 1.0), (2, 0, 2.0)])
    async with cuttable_network(database_url) as network:
        options = DatabaseOptions(write_timeout_seconds=1.0)
        far = Store(await Database.open(network.url, options))
        await far.commit(make_rows([(1, -9, 0.0), (2, -9, 0.0)]))
        network.lose_answers()
        with pytest.raises(StorageUnavailableError):
            await far.commit(rows)
        first = await store.read.stored(1)
        assert first == [(1, -9, 0.0), (1, 0, 1.0), (2, -9, 0.0), (2, 0, 2.0)]
        network.mend()
        again = Store(await Database.open(network.url, options))
        assert await again.commit(rows) == []
        assert await store.read.stored(1) == first
        for opened in (far, again):
            await opened.database.close()


async def test_samples_that_arrived_twice_count_once(store: Store) -> None:
    """A process whose head does not have the first ones appends all of them again."""
    rows = make_rows([(1, 0, 1.0), (2, 0, 2.0)])
    for _ in range(2):
        unknowing = Store(store.database)
        unknowing.read.bits_in_head = nothing_found  # type: ignore[method-assign]
        unknowing.committer = ArrivalCommitter(unknowing.log, unknowing.policies, unknowing.read)
        assert await unknowing.commit(rows) == []
    assert await store.n_arrived() == 4
    assert await store.read.stored(1) == [(1, 0, 1.0), (2, 0, 2.0)]


async def nothing_found(
    _tenant: int, series_ids: np.ndarray, _times: np.ndarray
) -> tuple[np.ndarray, HistogramCells]:
    return np.zeros(len(series_ids), np.bool_), HistogramCells(np.zeros(len(series_ids)), None)


@pytest.mark.parametrize("fault", ["slow", "gone"])
async def test_commits_do_not_wait_for_a_head_that_does_not_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    asked = 0

    async def no_answer(*_keys: object) -> None:
        nonlocal asked
        asked += 1
        if fault == "gone":
            raise StorageUnavailableError("no head")
        await asyncio.Event().wait()

    monkeypatch.setattr(arrival_committer, "_HEAD_SECONDS", 0.05)
    monkeypatch.setattr(store.read, "bits_in_head", no_answer)
    for at in range(3):
        assert await store.commit(make_rows([(at, 0, 1.0)])) == []
    assert asked == 1
    assert await store.n_arrived() == 3
