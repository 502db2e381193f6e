"""What TimescaleDB Community adds: the columnstore, a real continuous aggregate, and policies."""

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import asyncpg
import pytest

from sql.database.capabilities import Edition, detect_capabilities
from sql.migrate import migrate
from sql.query_loader import load_queries
from tests.support.programs.community import community_connection
from tests.support.storage.maintenance import (
    DAY_MS,
    HOUR_MS,
    assert_hours_agree,
    do_maintenance,
    hours_of_samples,
    hours_shown,
)
from tests.support.storage.repositories import discard

pytestmark = [pytest.mark.integration, pytest.mark.rows]

NOW_MS = time.time_ns() // 1_000_000
"""The policies of the database go by its own clock."""
_NOTE_HOURS = load_queries("samples")["note_hours"]


@pytest.fixture
async def connection(community_url: str) -> AsyncIterator[asyncpg.Connection]:
    await migrate(community_url, discard)
    async with community_connection(community_url) as opened:
        await opened.execute(
            "INSERT INTO tenant (name) VALUES ('red'), ('blue');"
            "INSERT INTO series (tenant_id, metric_name, labels, fingerprint) "
            "SELECT t.id, 'm' || g % 3, jsonb_build_object('i', g), decode(md5(g::text), 'hex') "
            "FROM generate_series(1, 3) AS g, tenant AS t"
        )
        yield opened


async def insert_days(connection: asyncpg.Connection, days: int) -> None:
    """Whole numbers of every series every ten minutes, up to now."""
    await connection.execute(
        "INSERT INTO sample SELECT s.id, t, (s.id % 7) * 100 + extract(hour FROM t) "
        "FROM series AS s, generate_series("
        "from_unix_ms($1 - $2 * 86400000::bigint), from_unix_ms($1), interval '10 minutes') AS t",
        NOW_MS,
        days,
    )


async def write_late(connection: asyncpg.Connection, rows: Sequence[tuple[int, float]]) -> None:
    """Samples of (Unix ms, value) of one tenant's series, as the service stores late ones."""
    times, values = zip(*rows, strict=True)
    async with connection.transaction():
        series = await connection.fetch(
            "SELECT id FROM series WHERE tenant_id = (SELECT max(id) FROM tenant) LIMIT $1",
            len(rows),
        )
        ids = [row["id"] for row in series]
        await connection.execute(
            "INSERT INTO sample SELECT u.id, from_unix_ms(u.ms), u.value "
            "FROM unnest($1::bigint[], $2::bigint[], $3::float8[]) AS u (id, ms, value)",
            *(ids, times, values),
        )
        hours = {at // HOUR_MS for at in times}
        tenant_id = await connection.fetchval("SELECT max(id) FROM tenant")
        columns = [tenant_id] * len(hours), list(hours), [True] * len(hours)
        await connection.execute(_NOTE_HOURS, *columns)


async def run_policies(connection: asyncpg.Connection, *names: str) -> None:
    """Run the jobs of these procedures, as TimescaleDB's scheduler would."""
    for name in names:
        job = await connection.fetchval(
            "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1", name
        )
        await connection.execute(f"CALL run_job({job:d})")


async def n_compressed(connection: asyncpg.Connection) -> int:
    count = await connection.fetchval(
        "SELECT count(*) FROM timescaledb_information.chunks "
        "WHERE hypertable_name = 'sample' AND is_compressed"
    )
    assert isinstance(count, int)
    return count


async def all_samples(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return list(await connection.fetch("SELECT * FROM sample ORDER BY series_id, ts"))


async def test_migrations_make_the_columnstore_the_aggregate_and_their_policies(
    connection: asyncpg.Connection, community_url: str
) -> None:
    capabilities = await detect_capabilities(connection)
    assert capabilities.edition is Edition.COMMUNITY
    await migrate(community_url, discard)  # Once more: nothing is made twice.
    # The end of that session ended the settings of the backend that all sessions share.
    await connection.execute("SET search_path = promcompat, public")
    jobs = await connection.fetch(
        "SELECT proc_name, schedule_interval = '1 hour' AS is_hourly, "
        "config ->> 'start_offset' AS s, "
        "config ->> 'end_offset' AS e, config ->> 'compress_after' AS after "
        "FROM timescaledb_information.jobs WHERE job_id >= 1000 ORDER BY 1"
    )
    assert [(row["proc_name"], row["s"], row["e"], row["after"]) for row in jobs] == [
        ("policy_compression", None, None, "7 days"),
        ("policy_refresh_continuous_aggregate", "03:00:00", "01:00:00", None),
    ]
    assert jobs[1]["is_hourly"]
    settings = await connection.fetch(
        "SELECT attname, segmentby_column_index, orderby_column_index, orderby_asc "
        "FROM timescaledb_information.compression_settings WHERE hypertable_name = 'sample'"
    )
    assert [tuple(row) for row in settings] == [("series_id", 1, None, None), ("ts", None, 1, True)]
    aggregates = await connection.fetch(
        "SELECT view_name, materialized_only FROM timescaledb_information.continuous_aggregates"
    )
    assert [tuple(row) for row in aggregates] == [("sample_hourly", False)]
    assert not await connection.fetchval(
        "SELECT relrowsecurity FROM pg_class WHERE oid = 'sample'::regclass"
    )


async def test_hours_agree_with_the_samples_after_policies_and_late_data(
    connection: asyncpg.Connection,
) -> None:
    await insert_days(connection, 9)
    await assert_hours_agree(connection)
    await do_maintenance(connection, now_ms=NOW_MS)
    await run_policies(connection, "policy_refresh_continuous_aggregate", "policy_compression")
    assert await n_compressed(connection) > 0
    await assert_hours_agree(connection)
    late = [(NOW_MS - 8 * DAY_MS + 7, 5000.0), (NOW_MS - 5 * HOUR_MS + 7, 6000.0), (9, 1.0)]
    await write_late(connection, late)
    assert await hours_shown(connection) != await hours_of_samples(connection)
    assert (await do_maintenance(connection, now_ms=NOW_MS)).n_hours_computed == 3
    await assert_hours_agree(connection)
    await run_policies(connection, "policy_refresh_continuous_aggregate", "policy_compression")
    await assert_hours_agree(connection)


async def test_compressed_chunks_take_late_samples_and_refuse_no_write(
    connection: asyncpg.Connection,
) -> None:
    await insert_days(connection, 9)
    before = await all_samples(connection)
    await run_policies(connection, "policy_compression")
    assert await n_compressed(connection) >= 1
    assert await all_samples(connection) == before
    stored = "SELECT series_id, ts, value + 1 FROM sample WHERE ts < from_unix_ms($1) LIMIT 50"
    expired_ms = NOW_MS - 8 * DAY_MS
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(f"INSERT INTO sample {stored}", expired_ms)
    await connection.execute(f"INSERT INTO sample {stored} ON CONFLICT DO NOTHING", expired_ms)
    assert await all_samples(connection) == before
    # The same way into a chunk as COPY FROM STDIN, which ends this server.
    new = stored.replace("ts,", "ts + interval '1 second',").replace("$1", str(expired_ms))
    await connection.execute(f"COPY ({new}) TO '/tmp/late'")
    await connection.execute("COPY sample (series_id, ts, value) FROM '/tmp/late'")
    assert len(await all_samples(connection)) == len(before) + 50
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute("COPY sample (series_id, ts, value) FROM '/tmp/late'")


async def test_retention_works_on_compressed_chunks(connection: asyncpg.Connection) -> None:
    await insert_days(connection, 12)
    await do_maintenance(connection, now_ms=NOW_MS)
    await run_policies(connection, "policy_compression")
    await connection.execute(
        "INSERT INTO metric_definition"
        "(tenant_id, name, display_name, description, unit, type, retention_days, duplicate_policy,"
        " version) SELECT min(id), 'm0', '', '', '', 'gauge', 9, 'first', 1 FROM tenant"
    )
    hours = await hours_shown(connection)
    report = await do_maintenance(connection, retention_days=10, now_ms=NOW_MS)
    assert report.n_chunks_dropped == 2
    assert report.n_deleted > 0
    oldest = await connection.fetch(
        "SELECT tenant_id = (SELECT min(id) FROM tenant), name, "
        "now() - min(timestamp) < interval '9 days 2 hours' "
        "FROM metrics GROUP BY 1, 2 HAVING min(timestamp) > now() - interval '10 days' "
    )
    assert [tuple(row) for row in oldest] == [(True, "m0", True)]
    kept_from = datetime.fromtimestamp((NOW_MS // DAY_MS - 10) * 86_400, UTC)
    # Of this hour, SQL shows the samples that are still kept, and the hour as a whole.
    cut = "m0", datetime.fromtimestamp((NOW_MS - 9 * DAY_MS) // HOUR_MS * 3_600, UTC)
    shown = await hours_shown(connection)
    of_samples = [
        row for row in await hours_of_samples(connection) if (row["name"], row["bucket"]) != cut
    ]
    assert [
        row for row in shown if row["bucket"] >= kept_from and (row["name"], row["bucket"]) != cut
    ] == of_samples
    before = [row for row in hours if row["bucket"] < kept_from]
    assert before == [row for row in shown if row["bucket"] < kept_from]


async def test_a_database_that_becomes_community_computes_all_hours_anew(
    connection: asyncpg.Connection,
) -> None:
    """And one that ceases to be it goes on with a table."""
    await insert_days(connection, 1)
    has_columnstore = await connection.fetchval(
        "SELECT pg_get_functiondef('has_columnstore'::regproc)"
    )
    await connection.execute(
        "CREATE OR REPLACE FUNCTION has_columnstore() RETURNS boolean LANGUAGE sql STABLE "
        "AS 'SELECT false'"
    )
    for is_community in (False, True):
        if is_community:
            await connection.execute(has_columnstore)
        await do_maintenance(connection, now_ms=NOW_MS)
        definition = await connection.fetchval("SELECT pg_get_viewdef('kept_hour'::regclass)")
        assert ("sample_hourly" in definition) is is_community
        await assert_hours_agree(connection)
