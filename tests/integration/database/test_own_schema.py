"""Everything of ours lives in the schema `promcompat`, beside whatever an application has."""

import asyncio

import pytest

from promcompat.core.model import Labels
from sql.migrate import MigrationError, migrate
from sql.query_loader import SqlFile, load_migrations
from tests.support.factories import block_rows, make_batch, make_labels, select_name, value_bits
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.older_databases import make_early_database
from tests.support.storage.repositories import connected, discard, migrated_storage, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
UP = make_labels("up", job="a")
EVER = select_name("up", -(2**62), 2**62)
LATEST = load_migrations()[-1].version


async def make_role(server: DatabaseServer, url: str, name: str) -> str:
    """Make a login role of no rights for the test database; return its URL."""
    database = url.rpartition("/")[2]
    role = f"{name}_of_{database}"
    server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    return server.url(database, role)


def role_of(url: str) -> str:
    return url.partition("://")[2].partition(":")[0]


async def rows_of(url: str, labels: Labels = UP) -> list[tuple[int, int]]:
    async with migrated_storage(url) as storage:
        (block,) = await storage.store.select("default", [EVER])
    return block_rows(block).get(labels, [])


async def test_application_with_tables_of_the_same_names_is_not_in_the_way(
    empty_database_url: str,
) -> None:
    names = ("metrics", "tenant", "series", "sample", "schema_migration", "sample_staging", "alert")
    async with connected(empty_database_url) as application:
        for name in names:
            await application.execute(f"CREATE TABLE public.{name} (version text)")
            await application.copy_records_to_table(
                name, records=[("theirs",)], schema_name="public"
            )
    async with migrated_storage(empty_database_url) as storage:
        for _ in range(2):  # The second has duplicates, which are staged or looked up.
            await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    assert await rows_of(empty_database_url) == [(T0, value_bits(1.0))]
    async with connected(empty_database_url) as application:
        for name in names:
            assert [row["version"] for row in await application.fetch(f"TABLE public.{name}")] == [
                "theirs"
            ]
        ours = await application.fetchval(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v') AND NOT relname = ANY ($1)",
            names,
        )
    assert ours == 0


async def test_service_does_not_depend_on_the_search_path_of_its_role(
    database_url: str,
) -> None:
    database = database_url.rpartition("/")[2]
    async with connected(database_url) as owner:
        await owner.execute(
            f"ALTER ROLE promcompat IN DATABASE {database} SET search_path = pg_catalog"
        )
    async with opened_storage(database_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    assert await rows_of(database_url) == [(T0, value_bits(1.0))]


async def test_names_need_no_prefix_for_the_role_of_the_service_and_for_readers(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    service_url = await make_role(database_server, empty_database_url, "service")
    reader_url = await make_role(database_server, empty_database_url, "reader")
    database = empty_database_url.rpartition("/")[2]
    database_server.run_sql(f"GRANT CREATE ON DATABASE {database} TO {role_of(service_url)}")
    database_server.run_sql(
        f"GRANT {role_of(reader_url)} TO {role_of(service_url)} WITH ADMIN OPTION"
    )
    database_server.run_sql(f"ALTER ROLE {role_of(service_url)} CREATEROLE")
    database_server.run_sql(f"ALTER ROLE {role_of(reader_url)} SET search_path = reports, public")
    async with migrated_storage(service_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    async with connected(service_url) as owner:
        assert await owner.fetchval("SELECT count(*) FROM metrics, series, tenant") == 1
        await owner.execute("SELECT grant_tenant_reader($1, 'default')", role_of(reader_url))
        await owner.execute("SELECT grant_tenant_reader($1, 'default')", role_of(reader_url))
    async with connected(reader_url) as reader:
        assert await reader.fetchval("SELECT value FROM metrics") == 1.0
        assert await reader.fetchval("SHOW search_path") == "promcompat, reports, public"


async def test_installation_of_an_early_version_is_moved_with_its_data(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    await make_early_database(empty_database_url)
    reader_url = await make_role(database_server, empty_database_url, "early_reader")
    database_server.run_sql(f"GRANT {role_of(reader_url)} TO promcompat WITH ADMIN OPTION")
    async with connected(empty_database_url) as owner, owner.transaction():
        await owner.execute("SET LOCAL search_path = public")
        await owner.execute("INSERT INTO tenant (name) VALUES ('default')")
        await owner.execute("SELECT grant_tenant_reader($1, 'default')", role_of(reader_url))
        await owner.execute("CREATE VIEW report AS SELECT name, value FROM metrics")
        await owner.execute("CREATE TABLE application (id integer)")
    lines: list[str] = []
    assert await migrate(empty_database_url, lines.append) == LATEST
    assert "moving tables from the schema public to promcompat" in lines
    async with migrated_storage(empty_database_url) as storage:
        points = [(T0 + day * DAY_MS, float(day)) for day in range(3)]
        await storage.store.write_batch("default", make_batch({UP: points}))
    assert len(await rows_of(empty_database_url)) == 3
    async with connected(reader_url) as reader:
        assert await reader.fetchval("SELECT count(*) FROM metrics") == 3
        assert await reader.fetchval("SELECT sum(count) FROM metrics_hourly") == 3
    async with connected(empty_database_url) as owner:
        assert await owner.fetchval("SELECT count(*) FROM public.report") == 3
        left = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v', 'S', 'i')"
        )
    assert {row["relname"] for row in left} == {"report", "application"}
    again: list[str] = []
    await migrate(empty_database_url, again.append)
    assert again == []


@pytest.mark.rows
async def test_partitions_and_chunks_of_an_early_version_keep_their_samples(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    await make_early_database(empty_database_url)
    async with connected(empty_database_url) as owner, owner.transaction():
        await owner.execute("SET LOCAL search_path = public")
        if database_server.edition == "postgresql":
            await owner.execute("SELECT create_sample_partitions(ARRAY[19675, 19676])")
        await owner.execute("INSERT INTO tenant (name) VALUES ('default')")
        await owner.execute(
            "INSERT INTO series (tenant_id, metric_name, labels, fingerprint)"
            " VALUES (1, 'up', '{\"job\": \"a\"}', '\\x00112233445566778899aabbccddeeff')"
        )
        await owner.execute("INSERT INTO sample VALUES (1, '2023-11-14 01:00+00', 7)")
        await owner.execute("INSERT INTO sample VALUES (1, '2023-11-15 01:00+00', 8)")
    rows = await rows_of(empty_database_url)
    assert [bits for _, bits in rows] == [value_bits(7.0), value_bits(8.0)]
    async with migrated_storage(empty_database_url) as storage:
        other = make_labels("up", job="b")
        await storage.store.write_batch("default", make_batch({other: [(T0, 1.0)]}))
    assert await rows_of(empty_database_url, make_labels("up", job="b")) == [(T0, value_bits(1.0))]


async def test_schema_of_somebody_else_is_not_used(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    """Its owner could give us tables with triggers, which would run with our rights."""
    hostile_url = await make_role(database_server, empty_database_url, "hostile")
    database_server.run_sql(
        f"CREATE SCHEMA promcompat AUTHORIZATION {role_of(hostile_url)}",
        empty_database_url.rpartition("/")[2],
    )
    with pytest.raises(MigrationError, match="belongs to the role hostile"):
        await migrate(empty_database_url, discard)


async def test_role_that_may_not_create_the_schema_is_told_what_to_grant(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    poor_url = await make_role(database_server, empty_database_url, "poor")
    with pytest.raises(MigrationError, match="GRANT CREATE ON DATABASE"):
        await migrate(poor_url, discard)
    database_server.run_sql(
        f"CREATE SCHEMA promcompat AUTHORIZATION {role_of(poor_url)}",
        empty_database_url.rpartition("/")[2],
    )
    assert await migrate(poor_url, discard) == LATEST


# -- locks ------------------------------------------------------------------------------------

CHANGE = SqlFile(
    LATEST + 1,
    "change_sample",
    "CREATE TABLE made_before (id integer); ALTER TABLE sample ALTER COLUMN value SET NOT NULL",
)


async def test_migration_behind_an_idle_transaction_lets_writers_pass(
    database_url: str,
) -> None:
    lines: list[str] = []
    async with opened_storage(database_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
        async with connected(database_url) as idle:
            transaction = idle.transaction()
            await transaction.start()
            await idle.fetch("SELECT * FROM sample")
            migrating = asyncio.create_task(
                migrate(database_url, lines.append, migrations=[*load_migrations(), CHANGE])
            )
            n_written = 0
            while not [line for line in lines if "is waiting for session" in line]:
                n_written += 1
                await storage.store.write_batch(
                    "default", make_batch({UP: [(T0 + n_written, 1.0)]})
                )
            assert not migrating.done()
            for more in range(10):
                await storage.store.write_batch(
                    "default", make_batch({UP: [(T0 + n_written + more + 1, 1.0)]})
                )
            await transaction.rollback()
            assert await migrating == LATEST + 1
    waited = [line for line in lines if "is waiting for session" in line]
    assert "idle in transaction" in waited[0]
    assert "a lock on sample" in waited[0]


async def test_second_migration_says_what_it_waits_for(database_url: str) -> None:
    lines: list[str] = []
    async with connected(database_url) as other:
        await other.execute("SELECT pg_advisory_lock(hashtextextended('promcompat.migrate', 0))")
        pid = other.get_server_pid()
        waiting = asyncio.create_task(migrate(database_url, lines.append))
        while not lines:  # noqa: ASYNC110 - another task adds to it.
            await asyncio.sleep(0.02)
        assert lines[0] == f"waiting for another migration of this database (session {pid})"
        await other.execute("SELECT pg_advisory_unlock_all()")
        assert await waiting == LATEST
