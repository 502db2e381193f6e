"""Migrations on real databases: forward only, once, by whoever comes first."""

import asyncio
from dataclasses import replace
from importlib import resources

import pytest

from promcompat.core.errors import StorageUnavailableError
from sql.database.database import Database, DatabaseOptions
from sql.migrate import MigrationError, migrate
from sql.query_loader import SqlFile, load_migrations, load_queries
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, discard

pytestmark = pytest.mark.integration

LATEST = load_migrations()[-1].version
QUERY_GROUPS = sorted(
    entry.name.removesuffix(".sql")
    for entry in (resources.files("sql") / "queries").iterdir()
    if entry.name != "promscale.sql"  # It asks a Promscale: tests.support.storage.older_databases.
)


async def fetch_value(url: str, query: str, *args: object) -> object:
    async with connected(url) as connection:
        return await connection.fetchval(query, *args)


async def execute(url: str, statement: str) -> None:
    async with connected(url) as connection:
        await connection.execute(statement)


async def test_migrate_reports_each_step_and_then_nothing(empty_database_url: str) -> None:
    lines: list[str] = []
    assert await migrate(empty_database_url, lines.append) == LATEST
    assert sum(line.startswith("migration ") for line in lines) == len(load_migrations())
    again: list[str] = []
    assert await migrate(empty_database_url, again.append) == LATEST
    assert not [line for line in again if line.startswith(("migration", "views"))]


async def test_ordinary_role_can_migrate(empty_database_url: str) -> None:
    """The role of the test databases is no superuser; the extension exists or is not there."""
    await migrate(empty_database_url, discard)
    is_superuser = await fetch_value(
        empty_database_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    )
    assert is_superuser is False


async def test_concurrent_migrations_apply_each_step_once(empty_database_url: str) -> None:
    lines: list[str] = []
    versions = await asyncio.gather(*(migrate(empty_database_url, lines.append) for _ in range(4)))
    assert versions == [LATEST] * 4
    assert sum(line.startswith("migration ") for line in lines) == len(load_migrations())
    assert await fetch_value(empty_database_url, "SELECT count(*) FROM schema_migration") == len(
        load_migrations()
    )
    assert await fetch_value(empty_database_url, "SELECT count(*) FROM installation") == 1


async def test_changed_migration_is_refused(database_url: str) -> None:
    changed = [replace(step, text=step.text + "\n-- edited") for step in load_migrations()]
    with pytest.raises(MigrationError, match="0001 initial_schema was changed"):
        await migrate(database_url, discard, migrations=changed)


async def test_database_of_a_newer_version_is_refused(empty_database_url: str) -> None:
    future = SqlFile(LATEST + 1, "future", "CREATE TABLE future (id integer)")
    await migrate(empty_database_url, discard, migrations=[*load_migrations(), future])
    with pytest.raises(MigrationError, match="migrated by a newer version"):
        await migrate(empty_database_url, discard)
    with pytest.raises(StorageUnavailableError, match="schema version"):
        await Database.open(empty_database_url)


async def test_failed_step_leaves_no_trace_and_can_be_repeated(empty_database_url: str) -> None:
    broken = SqlFile(LATEST + 1, "broken", "CREATE TABLE half (id integer); SELECT 1 / 0")
    with pytest.raises(MigrationError, match="division by zero"):
        await migrate(empty_database_url, discard, migrations=[*load_migrations(), broken])
    assert await fetch_value(empty_database_url, "SELECT to_regclass('half')") is None
    assert (
        await fetch_value(empty_database_url, "SELECT max(version) FROM schema_migration") == LATEST
    )
    mended = SqlFile(LATEST + 1, "mended", "CREATE TABLE half (id integer)")
    assert (
        await migrate(empty_database_url, discard, migrations=[*load_migrations(), mended]) > LATEST
    )


async def test_changed_routines_are_applied_again(database_url: str) -> None:
    await execute(
        database_url, "DROP VIEW metrics CASCADE; UPDATE schema_routine SET checksum = 'old'"
    )
    lines: list[str] = []
    await migrate(database_url, lines.append)
    assert "views and functions" in lines
    assert await fetch_value(database_url, "SELECT count(*) FROM metrics") == 0


async def test_open_refuses_a_database_without_schema(empty_database_url: str) -> None:
    with pytest.raises(StorageUnavailableError, match="run promcompat migrate"):
        await Database.open(empty_database_url)


async def test_unreachable_database_is_a_clear_error(unused_tcp_port: int) -> None:
    url = f"postgresql://nobody@127.0.0.1:{unused_tcp_port}/nothing"
    with pytest.raises(StorageUnavailableError, match="connection refused"):
        await migrate(url, discard)
    with pytest.raises(StorageUnavailableError, match="connection refused"):
        await Database.open(url, DatabaseOptions(connect_timeout_seconds=0.3))


async def test_timescaledb_can_be_insisted_on(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    if database_server.edition == "timescaledb":
        assert await migrate(empty_database_url, discard, use_timescaledb=True) == LATEST
    else:
        with pytest.raises(MigrationError, match="not installed on this server"):
            await migrate(empty_database_url, discard, use_timescaledb=True)


async def test_sample_table_fits_the_edition(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    await migrate(empty_database_url, discard, chunk_days=3)
    kind = await fetch_value(
        empty_database_url, "SELECT relkind FROM pg_class WHERE relname = 'sample'"
    )
    if database_server.edition == "timescaledb":
        interval = await fetch_value(
            empty_database_url,
            "SELECT extract(day FROM time_interval)::integer"
            " FROM timescaledb_information.dimensions WHERE hypertable_name = 'sample'",
        )
        assert interval == 3
    else:
        assert kind == b"p"


@pytest.mark.parametrize("group", QUERY_GROUPS)
async def test_every_named_query_prepares(database_url: str, group: str) -> None:
    queries = dict(load_queries(group))
    async with connected(database_url) as connection:
        if group == "samples":
            await connection.execute(queries.pop("create_staging"))
        queries.pop("adopt_snapshot", None)  # SET takes no parameters: its `$1` is written out.
        if not await connection.fetchval("SELECT to_regproc('set_chunk_time_interval')"):
            for name in ("set_chunk_interval", "is_hypertable"):
                queries.pop(name, None)  # Only sent to a database with the extension.
        for statement in queries.values():
            await connection.prepare(statement)


@pytest.mark.parametrize(
    ("width", "moment", "bucket"),
    [
        ("5 minutes", "2026-11-24 05:07:09.5+00", "2026-11-24 05:05:00+00"),
        ("7 days", "2026-11-24 05:07:09.5+00", "2026-11-23 00:00:00+00"),
        ("7 days", "1969-12-31 23:59:59+00", "1969-12-29 00:00:00+00"),
        ("11 seconds", "1999-01-01 00:00:00+00", "1998-12-31 23:59:51+00"),
    ],
)
async def test_time_bucket_is_the_same_on_every_edition(
    database_url: str, width: str, moment: str, bucket: str
) -> None:
    query = "SELECT time_bucket($1::text::interval, $2::text::timestamptz) = $3::text::timestamptz"
    assert await fetch_value(database_url, query, width, moment, bucket) is True


@pytest.mark.parametrize("unix_ms", [-210_866_803_200_000, -1, 0, 1, 1_764_000_000_123])
async def test_from_unix_ms_is_exact(database_url: str, unix_ms: int) -> None:
    query = "SELECT extract(epoch FROM from_unix_ms($1)) * 1000 = $1::numeric"
    assert await fetch_value(database_url, query, unix_ms) is True
