"""The index of samples holds the values: one index on every partition, old or new."""

import json
from typing import Any

import asyncpg
import numpy as np
import pytest

from promcompat.core.model import SeriesSelection
from sql.database.statements import Statement, inline_parameters
from sql.migrate import migrate
from sql.pushdown.rules import Thinning
from sql.pushdown.sample_statements import samples_statement
from sql.pushdown.thinning_translator import thinned_samples_statement
from sql.pushdown.window_grid import TimeSegments
from sql.query_loader import load_queries
from sql.times import MS_PER_DAY
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.older_databases import make_early_database
from tests.support.storage.repositories import connected, discard

pytestmark = [pytest.mark.integration, pytest.mark.rows]

FIRST_DAY = 20_000
N_DAYS = 3
DAYS = list(range(FIRST_DAY, FIRST_DAY + N_DAYS))
CREATE_PARTITIONS = load_queries("samples")["create_sample_partitions"]
PARTITIONS = ("sample_", "_hyper_")
COVERING = "USING btree (series_id, ts) INCLUDE (value)"
INDEXES = """
    SELECT i.tablename, array_agg(split_part(i.indexdef, ' USING ', 2)) AS definitions,
        bool_and(i.indexdef LIKE 'CREATE UNIQUE INDEX %') AS are_unique,
        c.reloptions AS storage_parameters
    FROM pg_indexes AS i
    JOIN pg_class AS c ON c.oid = format('%I.%I', i.schemaname, i.tablename)::regclass
    JOIN pg_inherits AS h ON h.inhrelid = c.oid
    JOIN pg_class AS p ON p.oid = h.inhparent
    WHERE p.relname = 'sample'
    GROUP BY i.tablename, c.reloptions
"""
STORAGE_PARAMETERS = {
    "autovacuum_vacuum_insert_threshold=10000",
    "autovacuum_vacuum_insert_scale_factor=0",
    "autovacuum_vacuum_threshold=1000",
    "autovacuum_vacuum_scale_factor=0.02",
    "autovacuum_freeze_min_age=0",
}
SERIES_IDS = np.array([5, 6, 7])
START_MS = FIRST_DAY * MS_PER_DAY
SELECTION = SeriesSelection(matchers=(), start_ms=START_MS, end_ms=START_MS + 50_000)
WINDOWS = TimeSegments(
    START_MS + np.array([0, 40_000]),
    START_MS + np.array([10_000, 50_000]),
)


async def insert_days(
    connection: asyncpg.Connection, first_day: int, n_series: int, per_day: int
) -> None:
    """As many samples of each series on each of `N_DAYS` days, in the order of their arrival."""
    await connection.execute(
        "INSERT INTO sample SELECT s, from_unix_ms(($1::bigint + d) * 86400000 + t * 1000),"
        " s + t / 8.0"
        " FROM generate_series(0, $2 - 1) AS d, generate_series(0, $3 - 1) AS t,"
        " generate_series(1, $4) AS s ORDER BY d, t, s",
        first_day,
        N_DAYS,
        per_day,
        n_series,
    )


async def make_old_partitions(connection: asyncpg.Connection) -> None:
    """Partitions as versions before the migration made them."""
    for day in DAYS:
        name, start, end = await connection.fetchrow(
            "SELECT sample_partition_name($1), from_unix_ms($1 * 86400000)::text,"
            " from_unix_ms(($1 + 1) * 86400000)::text",
            day,
        )
        await connection.execute(
            f"CREATE TABLE {name} PARTITION OF sample FOR VALUES FROM ('{start}') TO ('{end}')"
        )


async def partition_indexes(connection: asyncpg.Connection) -> list[asyncpg.Record]:
    return await connection.fetch(INDEXES)


async def checksum(connection: asyncpg.Connection) -> object:
    return await connection.fetchval(
        "SELECT (count(*), sum(hashtextextended((s.series_id, s.ts, s.value)::text, 0)))::text"
        " FROM sample AS s"
    )


def assert_covering(partitions: list[asyncpg.Record], n_partitions: int) -> None:
    assert len(partitions) == n_partitions
    for partition in partitions:
        definitions = [f"USING {definition}" for definition in partition["definitions"]]
        assert definitions == [COVERING], partition["tablename"]
        assert partition["are_unique"]
        assert set(partition["storage_parameters"]) == STORAGE_PARAMETERS


async def test_migration_of_a_database_with_samples(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    await make_early_database(empty_database_url, last_migration=5)
    async with connected(empty_database_url) as connection:
        if database_server.edition == "postgresql":
            await make_old_partitions(connection)
        await insert_days(connection, FIRST_DAY, n_series=3, per_day=20)
        before = await checksum(connection)
        assert not any("INCLUDE" in str(index) for index in await partition_indexes(connection))

        await migrate(empty_database_url, discard)
        assert_covering(await partition_indexes(connection), N_DAYS)
        assert await checksum(connection) == before
        whole = await connection.fetchval("SELECT pg_get_indexdef('sample_series_ts'::regclass)")
        assert whole.endswith(COVERING)
        with pytest.raises(asyncpg.UniqueViolationError):
            await insert_days(connection, FIRST_DAY, n_series=1, per_day=1)


async def test_new_partitions_have_one_index(
    database_url: str, database_server: DatabaseServer
) -> None:
    async with connected(database_url) as connection:
        if database_server.edition == "postgresql":
            await connection.execute(CREATE_PARTITIONS, DAYS)
        await insert_days(connection, FIRST_DAY, n_series=1, per_day=1)
        assert_covering(await partition_indexes(connection), N_DAYS)
        attached = await connection.fetchval(
            "SELECT count(*) FROM pg_inherits WHERE inhparent = 'sample_series_ts'::regclass"
        )
        assert attached == (N_DAYS if database_server.edition == "postgresql" else 0)


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan and all plans below it."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes_of(child))]


@pytest.mark.parametrize(
    "statement",
    [
        samples_statement("sample", SELECTION, SERIES_IDS),
        samples_statement("sample", SELECTION, SERIES_IDS, by_series=True),
        thinned_samples_statement("sample", Thinning("newest", WINDOWS, newest=1), SERIES_IDS),
        thinned_samples_statement("sample", Thinning("windows", WINDOWS), SERIES_IDS),
    ],
    ids=["all", "each", "newest", "windows"],
)
async def test_vacuumed_samples_are_read_from_the_index_alone(
    database_url: str, database_server: DatabaseServer, statement: Statement
) -> None:
    async with connected(database_url) as connection:
        if database_server.edition == "postgresql":
            await connection.execute(CREATE_PARTITIONS, DAYS)
        # Vacuum finds a page visible to all only after its commits are on disk.
        await connection.execute("SET synchronous_commit = on")
        await insert_days(connection, FIRST_DAY, n_series=50, per_day=100)
        await connection.execute("VACUUM ANALYZE sample")
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {inline_parameters(statement)}"
        nodes = nodes_of(json.loads(await connection.fetchval(explain))[0]["Plan"])
        scans = [node for node in nodes if "Scan" in node["Node Type"]]
        samples = [scan for scan in scans if str(scan.get("Relation Name")).startswith(PARTITIONS)]
        assert samples
        for scan in samples:
            assert (scan["Node Type"], scan["Heap Fetches"]) == ("Index Only Scan", 0)
