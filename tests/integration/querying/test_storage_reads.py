"""Reading from real databases: pushdown, limits, cancellation, what SQL users see."""

import asyncio
from typing import Any

import asyncpg
import numpy as np
import pytest

from promcompat.core.errors import ExecutionError, QueryTimeoutError, StorageUnavailableError
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    SelectHints,
    SeriesSelection,
    WriteBatch,
)
from sql.database.capabilities import Edition
from sql.database.connection_pool import Connection, acquired
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.reading.drained_reader import StoredSamples
from sql.samples.reading.row_reader import RowReader
from tests.support.factories import block_rows, make_batch, make_labels, make_matcher, select_name
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import (
    connected,
    drained_rows,
    locked_rows,
    locked_samples,
    opened_storage,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
MINUTE_MS = 60_000
EVER = (-(2**62), 2**62)
SERIES = [make_labels("up", job=f"j{number % 3}", n=f"{number:02}") for number in range(30)]


async def write_minutes(storage: MetricStorage, n_minutes: int = 10) -> None:
    points = [(T0 + minute * MINUTE_MS, float(minute)) for minute in range(n_minutes)]
    await storage.store.write_batch("default", make_batch(dict.fromkeys(SERIES, points)))


def select_up(start_ms: int, end_ms: int, **hints: int) -> SeriesSelection:
    return SeriesSelection(
        matchers=(make_matcher(METRIC_NAME, "=", "up"),),
        start_ms=start_ms,
        end_ms=end_ms,
        hints=SelectHints(**hints),
    )


# -- pushdown ---------------------------------------------------------------------------------


@pytest.mark.rows
async def test_pushdown_of_an_instant_gives_the_last_sample_of_each_series(
    database_url: str,
) -> None:
    async with (
        drained_rows(database_url) as plain,
        opened_storage(database_url, pushdown=PushdownMode.AUTO) as pushing,
    ):
        await write_minutes(plain)
        # One series ends with a stale marker, one before the range, one is out of order.
        extra = make_batch({SERIES[0]: [(T0 + 20 * MINUTE_MS, 0.0)]})
        stale = np.array([STALE_NAN_BITS], np.uint64).view(np.float64)
        await plain.store.write_batch(
            "default", WriteBatch.of_keys(extra.unknown_keys, extra.timestamps, stale, extra.labels)
        )
        old = make_labels("up", job="old")
        await plain.store.write_batch(
            "default", make_batch({old: [(T0 - 9 * 24 * 60 * MINUTE_MS, 1.0)]})
        )
        for end_ms in (T0 - 1, T0, T0 + 5 * MINUTE_MS, T0 + 21 * MINUTE_MS):
            for reach_ms in (5 * MINUTE_MS, 20 * MINUTE_MS):
                selection = select_up(end_ms - reach_ms, end_ms, reach_ms=reach_ms)
                [every] = await plain.store.select("default", [selection])
                [last] = await pushing.store.select("default", [selection])
                expected = {labels: rows[-1:] for labels, rows in block_rows(every).items()}
                assert block_rows(last) == expected


async def test_pushdown_keeps_all_samples_when_nothing_is_known_of_their_use(
    database_url: str,
) -> None:
    async with opened_storage(database_url, pushdown=PushdownMode.AUTO) as storage:
        await write_minutes(storage)
        for hints in ({}, {"range_ms": 5}, {"step_ms": 5}, {"range_ms": 5, "step_ms": 5}):
            [block] = await storage.store.select("default", [select_up(*EVER, **hints)])
            assert len(block.timestamps) == 300


# -- selections -------------------------------------------------------------------------------


async def test_selections_of_one_call_run_side_by_side(database_url: str) -> None:
    async with opened_storage(database_url, read_connections=3) as storage:
        await write_minutes(storage)
        selections = [select_up(T0 - 1, T0 + minute * MINUTE_MS) for minute in range(20)]
        blocks = await storage.store.select("default", selections)
        assert [len(block.timestamps) for block in blocks] == [
            30 * min(minute + 1, 10) for minute in range(20)
        ]


@pytest.mark.rows
async def test_large_selections_are_read_side_by_side_from_one_snapshot(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first one is read, a sample is written and becomes a row."""
    read, used = RowReader.read, set()

    async def read_late(self: RowReader, connection: Connection, *asked: Any) -> StoredSamples:
        is_first = not used
        used.add(connection)
        if is_first:
            written = make_batch({make_labels("up", n="new"): [(T0, 1.0)]})
            await storage.store.write_batch("default", written)
        return await read(self, connection, *asked)

    async with drained_rows(database_url, read_connections=6) as storage:
        await write_minutes(storage)
        monkeypatch.setattr(RowReader, "read", read_late)
        blocks = await storage.store.select("default", [select_up(*EVER)] * 4)
        assert [len(block.timestamps) for block in blocks] == [300] * 4
        assert len(used) == 3
        blocks = await storage.store.select("default", [select_up(*EVER)] * 4)
        assert [len(block.timestamps) for block in blocks] == [301] * 4


async def test_samples_across_many_days_come_in_order(
    storage: MetricStorage,
) -> None:
    random = np.random.default_rng(3)
    times = (T0 + random.permutation(100) * 24 * 60 * MINUTE_MS // 3).tolist()
    for chunk in range(0, 100, 10):
        points = [(timestamp, float(timestamp)) for timestamp in times[chunk : chunk + 10]]
        await storage.store.write_batch("default", make_batch(dict.fromkeys(SERIES[:3], points)))
    [block] = await storage.store.select("default", [select_name("up", *EVER)])
    assert block.labels == tuple(SERIES[:3])
    assert block.timestamps.reshape(3, 100).tolist() == [sorted(times)] * 3
    assert np.array_equal(block.values, block.timestamps.astype(np.float64))


@pytest.mark.rows
async def test_microseconds_written_through_sql_fall_into_their_millisecond(
    database_url: str, storage: MetricStorage
) -> None:
    points = [(T0, 1.0), (T0 + 99, 1.0)]
    await storage.store.write_batch("default", make_batch({SERIES[0]: points}))
    await storage.drains.drainer.drain_all()
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO sample SELECT id, from_unix_ms($1) + interval '999 microseconds', 2"
            " FROM series",
            T0 + 5,
        )
    [block] = await storage.store.select("default", [select_name("up", T0, T0 + 5)])
    assert block.timestamps.tolist() == [T0 + 5]
    assert await storage.catalogue.series("default", [], T0 + 5, T0 + 5, 0) == [SERIES[0]]
    assert await storage.catalogue.series("default", [], T0 + 6, T0 + 6, 0) == []


async def test_matcher_text_postgresql_cannot_hold_matches_nothing(
    storage: MetricStorage,
) -> None:
    await write_minutes(storage, 1)
    for odd in ("a\0b", "\ud800"):
        for name, op, value, expected in [
            ("job", "=", odd, 0),
            ("job", "!=", odd, 30),
            ("job", "=~", f"j0|{odd}", 10),
            (odd, "=", "x", 0),
            (odd, "!=", "x", 30),
            (odd, "=", "", 30),
        ]:
            matchers = (make_matcher(METRIC_NAME, "=", "up"), make_matcher(name, op, value))
            found = await storage.catalogue.series("default", [matchers], *EVER, 0)
            assert len(found) == expected, (name, op, value)
        assert await storage.catalogue.label_values("default", odd, [], *EVER, 0) == []
        assert await storage.catalogue.metadata("default", odd) == []


async def test_too_many_samples_are_refused_and_the_connection_lives(database_url: str) -> None:
    async with opened_storage(database_url, max_samples=299, read_connections=1) as storage:
        await write_minutes(storage)
        for _ in range(3):
            with pytest.raises(ExecutionError, match="too many samples"):
                await storage.store.select("default", [select_up(*EVER)])
        [block] = await storage.store.select("default", [select_up(T0 - 1, T0)])
        assert len(block.timestamps) == 30


# -- catalogue --------------------------------------------------------------------------------


async def test_catalogue_counts_only_series_with_samples_in_range(
    storage: MetricStorage,
) -> None:
    days = 24 * 60 * MINUTE_MS
    early, late = make_labels("early", a="1"), make_labels("late", b="2")
    await storage.store.write_batch(
        "default", make_batch({early: [(T0, 1.0)], late: [(T0 + 40 * days, 1.0)]})
    )
    nameless = make_labels(c="3")
    await storage.store.write_batch("default", make_batch({nameless: [(T0 + 80 * days, 1.0)]}))
    for bounds, names, values in [
        ((T0 - 1, T0 + 1), [METRIC_NAME, "a"], ["early"]),
        ((T0 + 1, T0 + 40 * days), [METRIC_NAME, "b"], ["late"]),
        ((T0, T0 + 40 * days), [METRIC_NAME, "a", "b"], ["early", "late"]),
        ((T0 + 80 * days, 2**62), ["c"], []),
        (EVER, [METRIC_NAME, "a", "b", "c"], ["early", "late"]),
        ((T0 + 1, T0 + 2), [], []),
        ((T0 + 2, T0 + 1), [], []),
    ]:
        assert await storage.catalogue.label_names("default", [], *bounds, 0) == names
        assert (
            await storage.catalogue.label_values("default", METRIC_NAME, [], *bounds, 0) == values
        )


# -- cancellation and time --------------------------------------------------------------------


async def waiting_reads(connection: asyncpg.Connection) -> int:
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'promcompat read'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    return count


async def wait_for_reads(connection: asyncpg.Connection, count: int) -> None:
    async def are_reading() -> bool:
        return await waiting_reads(connection) == count

    await eventually(are_reading)


@pytest.mark.rows
async def test_cancelled_select_cancels_its_sql_and_frees_its_connections(
    database_url: str,
) -> None:
    """It has one connection, and half of the others, which are free."""
    async with (
        drained_rows(database_url, read_connections=4) as storage,
        connected(database_url) as observer,
    ):
        await write_minutes(storage)
        async with locked_rows(database_url):
            query = asyncio.create_task(storage.store.select("default", [select_up(*EVER)] * 5))
            await wait_for_reads(observer, 2)
            query.cancel()
            with pytest.raises(asyncio.CancelledError):
                await query
            await wait_for_reads(observer, 0)
        blocks = await storage.store.select("default", [select_up(*EVER)] * 3)
        assert [len(block.timestamps) for block in blocks] == [300] * 3


async def test_failed_selection_cancels_its_siblings(database_url: str) -> None:
    async with (
        opened_storage(database_url, max_samples=299) as storage,
        connected(database_url) as observer,
    ):
        await write_minutes(storage)
        with pytest.raises(ExecutionError):
            await storage.store.select("default", [select_up(*EVER)] * 20)
        await wait_for_reads(observer, 0)
        assert len(await storage.catalogue.series("default", [], *EVER, 0)) == 30


async def test_slow_query_times_out(database_url: str) -> None:
    # The statement that brings the head up to date has the limit of writes.
    limits = {"query_timeout_seconds": 0.2, "write_timeout_seconds": 1.0}
    async with opened_storage(database_url, **limits) as storage:
        await write_minutes(storage)
        async with locked_samples(database_url):
            with pytest.raises(QueryTimeoutError, match="timed out"):
                await storage.store.select("default", [select_up(*EVER)])
        [block] = await storage.store.select("default", [select_up(*EVER)])
        assert len(block.timestamps) == 300


async def test_slow_write_is_to_be_retried(database_url: str) -> None:
    async with opened_storage(database_url, write_timeout_seconds=0.2) as storage:
        await write_minutes(storage)
        async with locked_samples(database_url):
            with pytest.raises(StorageUnavailableError):
                await write_minutes(storage, 11)
        await write_minutes(storage, 11)
        [block] = await storage.store.select("default", [select_up(*EVER)])
        assert len(block.timestamps) == 330


# -- what the database is, and SQL users ------------------------------------------------------


async def test_capabilities_name_the_edition(
    storage: MetricStorage, database_server: DatabaseServer
) -> None:
    found = storage.database.capabilities
    if database_server.edition == "timescaledb":
        assert found.edition is Edition.APACHE
        assert found.describe().startswith("TimescaleDB Apache edition 2.")
    else:
        assert found.edition is Edition.PLAIN
        assert found.describe().startswith("plain PostgreSQL ")


async def test_metrics_view_shows_samples_without_stale_markers(
    database_url: str, storage: MetricStorage
) -> None:
    labels = make_labels("up", job="a", source="api")
    points = [(T0, 1.5), (T0 + 1, float("nan")), (T0 + 2, 0.0)]
    batch = make_batch({labels: points})
    batch.values.view(np.uint64)[2] = STALE_NAN_BITS
    await storage.store.write_batch("default", batch)
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT timestamp, name, value, labels, source FROM metrics"
            " WHERE timestamp >= '2023-11-14' ORDER BY timestamp"
        )
    assert [row["value"] for row in rows[:1]] == [1.5]
    assert len(rows) == 2
    assert rows[0]["name"] == "up"
    assert rows[0]["labels"] == '{"job": "a", "source": "api"}'
    assert rows[0]["source"] == "api"
    assert rows[0]["timestamp"].timestamp() * 1000 == T0


async def test_sql_readers_see_their_tenants_only(
    database_url: str, database_server: DatabaseServer, storage: MetricStorage
) -> None:
    for tenant in ("first", "second"):
        await storage.store.write_batch(tenant, make_batch({make_labels(tenant): [(T0, 1.0)]}))
    database = database_url.rpartition("/")[2]
    reader = f"reader_of_{database}"
    database_server.run_sql(f"CREATE ROLE {reader} LOGIN PASSWORD 'test'")
    async with (
        connected(database_url) as owner,
        connected(database_server.url(database, reader)) as connection,
    ):
        for table in ("metrics", "series", "sample", "tenant_reader"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"TABLE promcompat.{table}")
        await owner.execute("SELECT grant_tenant_reader($1, 'first')", reader)
        await connection.execute("SET search_path = promcompat")  # As its next session has it.
        names = "SELECT name FROM metrics"
        assert [row["name"] for row in await connection.fetch(names)] == ["first"]
        series = "SELECT metric_name FROM series"
        assert [row["metric_name"] for row in await connection.fetch(series)] == ["first"]
        assert len(await owner.fetch(names)) == 2
        for table in ("sample", "tenant_reader", "metric_metadata"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"TABLE {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT grant_tenant_reader($1, 'second')", reader)
        with pytest.raises(asyncpg.RaiseError, match="no tenant 'third'"):
            await owner.execute("SELECT grant_tenant_reader($1, 'third')", reader)


# -- connections ------------------------------------------------------------------------------


async def test_sessions_of_readers_are_given_back_without_a_reset(database_url: str) -> None:
    async with opened_storage(database_url, read_connections=1, write_connections=1) as storage:
        database = storage.database
        for pool, kept in ((database.read_pool, "kept"), (database.write_pool, "")):
            async with acquired(pool) as connection:
                await connection.execute("SET promcompat.probe = 'kept'")
            async with acquired(pool) as connection:
                found = await connection.fetchval("SELECT current_setting('promcompat.probe')")
            assert found == kept


@pytest.mark.rows
async def test_short_stretch_of_the_past_is_looked_up_series_by_series(database_url: str) -> None:
    now_ms = T0 + 10 * MINUTE_MS
    async with drained_rows(database_url, now_ms=lambda: now_ms) as storage:
        await write_minutes(storage)
        for end_ms, by_series in ((now_ms, False), (now_ms - 5 * MINUTE_MS, True)):
            asked = select_up(end_ms - 3 * MINUTE_MS, end_ms)
            (block,) = await storage.store.select("default", [asked])
            n_minutes = 2 if end_ms == now_ms else 3
            assert [len(points) for points in block_rows(block).values()] == [n_minutes] * 30
            (explained,) = await storage.store.explain_select(
                "default", [asked], ExplanationDepth()
            )
            assert ("LATERAL" in explained.sql) == by_series
