"""Retention and `metrics_hourly` where they are kept by maintenance: Apache edition and plain."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from promcompat.core.definitions import DuplicatePolicy, MetricDefinition
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import STALE_NAN, make_batch, make_labels
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.maintenance import (
    DAY_MS,
    HOUR_MS,
    NOW_MS,
    assert_hours_agree,
    do_maintenance,
    hours_of_samples,
    hours_shown,
)
from tests.support.storage.repositories import connected, drained_rows

pytestmark = [pytest.mark.integration, pytest.mark.rows]

MINUTE_MS = 60_000
LOAD = [make_labels("load", host=host) for host in ("a", "b")]
JOBS = make_labels("jobs")


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[MetricStorage]:
    async with drained_rows(database_url, now_ms=lambda: NOW_MS) as opened:
        yield opened


@pytest.fixture
async def connection(
    storage: MetricStorage, database_url: str
) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the migrated database, as its owner."""
    async with connected(database_url) as opened:
        yield opened


async def write_days(storage: MetricStorage, days: int) -> None:
    """Whole numbers every twenty minutes up to now, of two tenants."""
    times = range(NOW_MS - days * DAY_MS, NOW_MS + 1, 20 * MINUTE_MS)
    points = [(at, float(at // MINUTE_MS % 1000)) for at in times]
    series = dict.fromkeys([*LOAD, JOBS], points)
    await storage.store.write_batch("red", make_batch(series))
    await storage.store.write_batch("blue", make_batch({JOBS: points}))


async def define(storage: MetricStorage, tenant: str, name: str, retention_days: int) -> None:
    definitions = PostgresDefinitionRepository(storage.database)
    definition = replace(MetricDefinition(name=name), retention_days=retention_days)
    await definitions.save(tenant, definition, 0)


async def computed_hours(connection: asyncpg.Connection) -> int:
    count = await connection.fetchval("SELECT count(DISTINCT bucket) FROM hourly_rollup")
    assert isinstance(count, int)
    return count


async def sample_days(connection: asyncpg.Connection) -> list[int]:
    """The days of which there is a chunk or partition, counted back from today."""
    rows = await connection.fetch("SELECT extract(epoch FROM range_start) FROM sample_chunks()")
    return sorted(NOW_MS // DAY_MS - int(row[0]) // 86_400 for row in rows)


async def test_hours_are_right_before_and_after_they_are_computed(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 2)
    await assert_hours_agree(connection)
    report = await do_maintenance(connection)
    # Up to 21:00: the hour that ended at 22:00 did so 20 minutes ago. The first day is one chunk.
    assert report.n_hours_computed == 24 + 24 + 21
    assert await computed_hours(connection) == 47
    await assert_hours_agree(connection)
    assert (await do_maintenance(connection)).n_hours_computed == 0
    later = await do_maintenance(connection, now_ms=NOW_MS + HOUR_MS)
    assert later.n_hours_computed == 1
    await assert_hours_agree(connection)


async def test_late_samples_bring_exactly_their_hours_up_to_date(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 3)
    await do_maintenance(connection)
    before = await hours_shown(connection)
    late_ms = NOW_MS - 2 * DAY_MS + MINUTE_MS
    ancient_ms = 3_600_000 * 5 + 7  # 1970, in a chunk that is not there yet.
    await storage.store.write_batch(
        "red", make_batch({LOAD[0]: [(late_ms, 5.0)], JOBS: [(ancient_ms, 6.0)]})
    )
    assert await hours_shown(connection) == before
    assert (await do_maintenance(connection)).n_hours_computed == 2
    await assert_hours_agree(connection)
    changed = set(await hours_shown(connection)) - set(before)
    assert {(row["name"], row["bucket"].timestamp() * 1000) for row in changed} == {
        ("load", late_ms // HOUR_MS * HOUR_MS),
        ("jobs", ancient_ms // HOUR_MS * HOUR_MS),
    }


async def test_a_late_write_that_commits_during_maintenance_is_not_forgotten(
    storage: MetricStorage, connection: asyncpg.Connection, database_url: str
) -> None:
    await write_days(storage, 1)
    await do_maintenance(connection)
    hour = NOW_MS // HOUR_MS - 10
    async with connected(database_url) as writer, writer.transaction():
        await writer.execute(
            "INSERT INTO sample SELECT min(id), from_unix_ms($1), 1000 FROM series",
            hour * HOUR_MS + 1,
        )
        await writer.execute(
            "INSERT INTO hourly_change SELECT tenant_id, $1 FROM series ORDER BY id LIMIT 1", hour
        )
        assert (await do_maintenance(connection)).n_hours_computed == 0
    assert (await do_maintenance(connection)).n_hours_computed == 1
    await assert_hours_agree(connection)


async def test_replaced_samples_bring_their_hour_up_to_date(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    definitions = PostgresDefinitionRepository(storage.database)
    policy = replace(MetricDefinition(name="jobs"), duplicate_policy=DuplicatePolicy.LAST)
    await definitions.save("red", policy, 0)
    await write_days(storage, 1)
    await do_maintenance(connection)
    await storage.store.write_batch("red", make_batch({JOBS: [(NOW_MS - DAY_MS // 2, 9999.0)]}))
    assert (await do_maintenance(connection)).n_hours_computed == 1
    await assert_hours_agree(connection)


async def test_the_owner_can_ask_for_hours_whose_samples_were_changed_by_sql(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 1)
    await do_maintenance(connection)
    await connection.execute("DELETE FROM sample WHERE value < 500")
    await connection.execute(
        "SELECT refresh_metrics_hourly(from_unix_ms($1), from_unix_ms($2))",
        NOW_MS - DAY_MS,
        NOW_MS,
    )
    await do_maintenance(connection)
    await assert_hours_agree(connection)


async def test_no_sample_stops_the_hours(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    """Sums that overflow, means that underflow, what is no number, and the ends of time."""
    at_ms = NOW_MS - 5 * HOUR_MS
    values = {
        "huge": [1.7e308, 1.7e308, 1.0],
        "tiny": [5e-324, 0.0, 0.0],
        "odd": [float("inf"), float("nan"), float("-inf")],
        "opposed": [1.7e308, -1.7e308, 1.0],
        "ended": [1.0, STALE_NAN, 2.0],
    }
    batch = {
        make_labels(name): [(at_ms + index, value) for index, value in enumerate(some)]
        for name, some in values.items()
    }
    first_ms = -62_135_596_800_000
    await storage.store.write_batch("red", make_batch({**batch, JOBS: [(first_ms, 3.0)]}))
    of_today = "SELECT * FROM metrics_hourly WHERE name <> 'jobs' ORDER BY name"
    live = await connection.fetch(of_today)
    await do_maintenance(connection)
    computed = await connection.fetch(of_today)
    assert str(computed) == str(live)  # NaN is not equal to itself.
    hours = {row["name"]: row for row in computed}
    assert hours["huge"]["sum"] == hours["huge"]["avg"] == float("inf")
    assert (hours["huge"]["max"], hours["huge"]["count"]) == (1.7e308, 3)
    assert (hours["tiny"]["avg"], hours["tiny"]["max"]) == (0.0, 5e-324)
    assert (hours["ended"]["count"], hours["ended"]["sum"]) == (2, 3.0)
    ancient = "SELECT count, sum FROM metrics_hourly WHERE name = 'jobs'"
    assert tuple(await connection.fetchrow(ancient)) == (1, 3.0)


async def test_readers_see_the_hours_of_their_tenants_only(
    storage: MetricStorage,
    connection: asyncpg.Connection,
    database_server: DatabaseServer,
    database_url: str,
) -> None:
    await write_days(storage, 1)
    await do_maintenance(connection)
    role = f"hours_{database_url.rpartition('/')[2]}"
    database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    await connection.execute("SELECT grant_tenant_reader($1, 'blue')", role)
    async with connected(database_server.url(database_url.rpartition("/")[2], role)) as reader:
        await reader.execute("SET search_path = promcompat, public")
        expected = await hours_of_samples(reader)
        assert await hours_shown(reader) == expected
        assert {row["name"] for row in expected} == {"jobs"}
        for table in ("hourly_rollup", "hourly_stale", "hourly_change", "hourly_progress"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"TABLE {table}")
        for call in ("ensure_metrics_hourly()", "refresh_metrics_hourly(now(), now())"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT {call}")


async def test_whole_chunks_are_dropped_after_the_retention_and_hours_stay(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 4)
    await do_maintenance(connection)
    hours = await hours_shown(connection)
    bounds = NOW_MS - 9 * DAY_MS, NOW_MS
    before = await storage.store.sample_state("red", *bounds)
    report = await do_maintenance(connection, retention_days=2)
    # Of the day two days ago a part is still to be kept, so the whole of it is.
    assert await sample_days(connection) == [0, 1, 2]
    assert report.n_chunks_dropped == 2
    assert report.n_deleted == 0
    assert await hours_shown(connection) == hours
    changed = (await storage.store.sample_state("red", *bounds)).changed_since(before)
    for age in (3, 4):
        assert any(first <= NOW_MS - age * DAY_MS <= last for first, last in changed)
    # What comes later than the retention is taken, and goes again.
    await storage.store.write_batch("red", make_batch({JOBS: [(NOW_MS - 4 * DAY_MS, 1.0)]}))
    assert (await do_maintenance(connection, retention_days=2)).n_chunks_dropped == 1
    assert await hours_shown(connection) == hours


async def test_a_sample_that_comes_while_its_chunk_is_dropped_is_stored(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    old_ms = NOW_MS - 10 * DAY_MS
    await storage.store.write_batch("red", make_batch({JOBS: [(old_ms, 1.0)]}))
    async with connection.transaction():
        assert await connection.fetchval(
            "SELECT drop_sample_chunk(chunk, false) FROM sample_chunks()"
        )
        late = make_batch({JOBS: [(old_ms + 1, 2.0)]})
        await storage.store.write_batch("red", late)
    await storage.drains.drainer.drain_all()
    assert await connection.fetchval("SELECT sum(value) FROM sample") == 2.0


async def test_without_a_retention_samples_of_any_age_stay(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await storage.store.write_batch("red", make_batch({JOBS: [(7, 1.0), (NOW_MS, 2.0)]}))
    report = await do_maintenance(connection)
    assert report.n_chunks_dropped == 0
    assert await connection.fetchval("SELECT count(*) FROM sample") == 2
    await assert_hours_agree(connection)


async def test_metrics_kept_shorter_lose_samples_and_hours(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 3)
    await define(storage, "red", "load", 1)
    await do_maintenance(connection, now_ms=NOW_MS - DAY_MS)
    assert (await do_maintenance(connection, retention_days=30)).n_deleted == 2 * 72
    oldest = await connection.fetch(
        "SELECT s.tenant_id, s.metric_name, min(p.ts) AS at"
        " FROM sample AS p JOIN series AS s ON s.id = p.series_id GROUP BY 1, 2 ORDER BY 1, 2"
    )
    ages_ms = [NOW_MS - int(row["at"].timestamp() * 1000) for row in oldest]
    assert ages_ms == [3 * DAY_MS, DAY_MS + 20 * MINUTE_MS, 3 * DAY_MS]
    hours = await connection.fetch(
        "SELECT name, tenant_id, min(bucket) AS at FROM metrics_hourly GROUP BY 1, 2 ORDER BY 1, 2"
    )
    ages = [NOW_MS // HOUR_MS - int(row["at"].timestamp()) // 3600 for row in hours]
    assert ages == [72, 72, 24]


async def test_chunks_that_lost_all_samples_go(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    await write_days(storage, 4)
    for tenant, name in (("red", "load"), ("red", "jobs"), ("blue", "jobs")):
        await define(storage, tenant, name, 1)
    report = await do_maintenance(connection)
    assert await sample_days(connection) == [0, 1]
    assert report.n_chunks_dropped == 3
    await storage.store.write_batch("red", make_batch({JOBS: [(NOW_MS - 4 * DAY_MS, 1.0)]}))
    assert await sample_days(connection) == [0, 1, 4]


async def series_names(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT metric_name FROM series ORDER BY 1")
    return [row["metric_name"] for row in rows]


async def test_series_go_with_their_last_sample_and_writes_under_their_ids_are_not_lost(
    storage: MetricStorage, connection: asyncpg.Connection, database_url: str
) -> None:
    """Both services have the id of the series in memory when it goes."""
    old = [make_labels(name) for name in ("one", "other", "never_again")]
    old_ms = NOW_MS - 5 * DAY_MS
    async with drained_rows(database_url, now_ms=lambda: NOW_MS) as second:
        for service in (storage, second):
            await service.store.write_batch(
                "red", make_batch({labels: [(old_ms, 1.0)] for labels in old})
            )
        await storage.store.write_batch("red", make_batch({JOBS: [(old_ms, 1.0), (NOW_MS, 2.0)]}))
        report = await do_maintenance(connection, retention_days=3)
        assert report.n_series_removed == 3
        assert await series_names(connection) == ["jobs"]
        found = await storage.catalogue.label_values("red", "__name__", (), old_ms, NOW_MS, 0)
        assert found == ["jobs"]
        for service, labels, value in (storage, old[0], 4.0), (second, old[1], 5.0):
            batch = make_batch({labels: [(NOW_MS, value)]})
            await service.store.write_batch("red", batch)
    shown = await connection.fetch("SELECT name, value FROM metrics ORDER BY name")
    assert [tuple(row) for row in shown] == [("jobs", 2.0), ("one", 4.0), ("other", 5.0)]


async def test_a_series_with_an_open_alert_stays_until_it_has_ended(
    storage: MetricStorage, connection: asyncpg.Connection
) -> None:
    old_ms = NOW_MS - 5 * DAY_MS
    await storage.store.write_batch(
        "red", make_batch({labels: [(old_ms, 1.0)] for labels in (JOBS, *LOAD)})
    )
    await connection.execute(
        "INSERT INTO alert (tenant_id, series_id, rule_group, rule_name, fingerprint, labels, "
        "series_labels, annotations, severity, expr, interval_ms, state, value, active_at) "
        "SELECT tenant_id, id, '', metric_name, fingerprint, '{}', '{}', '{}', 'critical', '', 1, "
        "'firing', 1, now() FROM series WHERE metric_name = 'jobs'"
    )
    assert (await do_maintenance(connection, retention_days=3)).n_series_removed == 2
    assert await series_names(connection) == ["jobs"]
    await connection.execute("UPDATE alert SET state = 'resolved'")
    assert (await do_maintenance(connection, retention_days=3)).n_series_removed == 1


async def test_a_step_that_fails_stops_no_other(
    storage: MetricStorage, connection: asyncpg.Connection, database_url: str
) -> None:
    """Somebody keeps the oldest chunk locked; all else is done."""
    await write_days(storage, 5)
    await define(storage, "red", "load", 1)
    service = MaintenanceService(storage.maintenance, 3, lambda: NOW_MS)
    async with connected(database_url) as other, other.transaction():
        oldest = await other.fetchval(
            "SELECT chunk::text FROM sample_chunks() ORDER BY range_start LIMIT 1"
        )
        await other.execute(f"SELECT FROM {oldest} LIMIT 1")
        report = await service.run_once()
        assert await sample_days(connection) == [0, 1, 2, 3, 5]
    assert {failure.task for failure in report.failures} == {"retain"}
    assert all(oldest in failure.subject for failure in report.failures)
    assert report.n_deleted > 0
    assert report.n_hours_computed > 0
    assert (await service.run_once()).failures == []
    assert await sample_days(connection) == [0, 1, 2, 3]


async def test_one_process_at_a_time_does_maintenance(
    storage: MetricStorage,
) -> None:
    maintenance = storage.maintenance
    service = MaintenanceService(maintenance, 0, lambda: NOW_MS)
    async with maintenance.lock():
        assert (await service.run_once()).is_skipped
    assert not (await service.run_once()).is_skipped
