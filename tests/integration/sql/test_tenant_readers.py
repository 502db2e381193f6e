"""Roles that read tenants in SQL: granted, listed and revoked, and how they find series."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from promcompat.__main__ import main
from sql.migrate import migrate
from tests.support.documented_examples import ROOT
from tests.support.factories import make_batch, make_labels
from tests.support.programs.community import community_connection
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, discard, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000


@pytest.fixture
def role(database_url: str, database_server: DatabaseServer) -> Iterator[str]:
    """The name of a role that does not exist yet; it is dropped after the test."""
    database = database_url.rpartition("/")[2]
    name = f"Ann's role of {database}"
    yield name
    if name in database_server.run_sql("SELECT rolname FROM pg_roles"):
        database_server.run_sql(f'DROP OWNED BY "{name}"', database)
        database_server.run_sql(f'DROP ROLE "{name}"')


async def write_tenants(url: str, *tenants: str) -> None:
    async with opened_storage(url) as storage:
        for tenant in tenants:
            batch = make_batch({make_labels("up", of=tenant): [(T0, 1.0)]})
            await storage.store.write_batch(tenant, batch)


async def tenants_seen(connection: asyncpg.Connection) -> set[str]:
    """The tenants of what the role reads by any view; every one of them must say the same."""
    ids = {row["id"]: row["name"] for row in await connection.fetch("TABLE promcompat.tenants")}
    for view in ("series", "metrics", "metrics_hourly", "metrics_hourly_by_series"):
        rows = await connection.fetch(f"SELECT DISTINCT tenant_id FROM promcompat.{view}")  # noqa: S608
        assert {row[0] for row in rows} == set(ids), view
    for read in ("samples('up'", "hours('up'", "hours(NULL"):
        rows = await connection.fetch(f"SELECT tenant_id FROM promcompat.{read}, '-infinity')")  # noqa: S608
        assert {row[0] for row in rows} == set(ids), read
    return set(ids.values())


def test_a_role_is_made_granted_listed_and_revoked_by_the_command(
    database_url: str, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(write_tenants(database_url, "blue", "red"))
    where = ["--database-url", database_url]

    def run(*arguments: str) -> str:
        assert main(["tenant", *where, *arguments]) == 0
        return capsys.readouterr().out

    def refused(*arguments: str) -> str:
        assert main(["tenant", *where, *arguments]) == 1
        return capsys.readouterr().err

    assert "does not exist" in refused("grant", "blue", role)
    assert "there is no tenant 'green'" in refused("grant", "green", role, "--create")
    granted, address = run("grant", "blue", role, "--create").splitlines()
    assert granted == f"{role} reads blue"
    assert "already exists" in refused("grant", "red", role, "--create")
    assert "has the rights of the owner" in refused("grant", "blue", "promcompat")
    assert run("list") == f"blue: read by {role}\nred: read by no role\n"

    async def seen() -> set[str]:
        async with connected(address) as connection:
            found = await tenants_seen(connection)
            assert await connection.fetchval("SELECT count(*) FROM metrics") == len(found)
            return found

    assert urlsplit(address).hostname == urlsplit(database_url).hostname
    assert asyncio.run(seen()) == {"blue"}
    run("grant", "red", role)
    assert asyncio.run(seen()) == {"blue", "red"}
    run("revoke", "blue", role)
    assert asyncio.run(seen()) == {"red"}
    assert "did not read 'blue'" in refused("revoke", "blue", role)
    run("revoke", "red", role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        asyncio.run(seen())
    assert run("list") == "blue: read by no role\nred: read by no role\n"


def test_an_owner_that_may_not_make_roles_is_told_what_to_do(
    database_url: str,
    database_server: DatabaseServer,
    role: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asyncio.run(write_tenants(database_url, "blue"))
    database_server.run_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'test' IN ROLE promcompat")
    url = database_server.url(database_url.rpartition("/")[2], quote(role))
    given = ["tenant", "--database-url", url, "grant", "blue", "another", "--create"]
    assert main(given) == 1
    assert "ALTER ROLE … CREATEROLE), or make the role first" in capsys.readouterr().err


async def test_what_the_page_names_for_readers_has_a_description(database_url: str) -> None:
    """`\\dv+` and `\\df+` of psql show it; they also list what is internal, which has none."""
    text = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
    table = text.partition("What a reader may read")[2].partition("\n\nThe views are")[0]
    named = set(re.findall(r"`(\w+)", table)) | set(re.findall(r"`(histogram_\w+)\(", text))
    assert len(named) > 15
    async with connected(database_url) as owner:
        rows = await owner.fetch(
            "SELECT relname AS name FROM pg_class WHERE obj_description(oid, 'pg_class') <> ''"
            " AND relnamespace = 'promcompat'::regnamespace UNION "
            "SELECT proname FROM pg_proc WHERE obj_description(oid, 'pg_proc') <> ''"
            " AND pronamespace = 'promcompat'::regnamespace"
        )
    assert named <= {row["name"] for row in rows}


async def test_members_of_a_role_read_its_tenants_and_sessions_notice_a_revoke(
    database_url: str, database_server: DatabaseServer, role: str
) -> None:
    await write_tenants(database_url, "blue", "red")
    member = f"member_of_{database_url.rpartition('/')[2]}"
    database_server.run_sql(f'CREATE ROLE "{role}"')
    database_server.run_sql(f"CREATE ROLE {member} LOGIN PASSWORD 'test' IN ROLE \"{role}\"")
    try:
        async with connected(database_url) as owner:
            await owner.execute("SELECT grant_tenant_reader($1, 'red')", role)
            async with connected(
                database_server.url(database_url.rpartition("/")[2], member)
            ) as session:
                assert await tenants_seen(session) == {"red"}
                await session.execute(f'SET ROLE "{role}"')
                assert await tenants_seen(session) == {"red"}
                await owner.execute("SELECT grant_tenant_reader($1, 'blue')", role)
                assert await tenants_seen(session) == {"blue", "red"}
                await owner.execute("SELECT revoke_tenant_reader($1, 'red')", role)
                assert await tenants_seen(session) == {"blue"}
                await owner.execute("SELECT revoke_tenant_reader($1, 'blue')", role)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await tenants_seen(session)
    finally:
        database_server.run_sql(f"DROP ROLE {member}")


async def test_a_new_role_has_no_tenants_of_an_earlier_one_of_its_name(
    database_url: str, database_server: DatabaseServer, role: str
) -> None:
    await write_tenants(database_url, "blue", "red")
    database = database_url.rpartition("/")[2]
    async with connected(database_url) as owner:
        for tenant in ("blue", "red"):
            database_server.run_sql(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'test'")
            await owner.execute("SELECT grant_tenant_reader($1, $2)", role, tenant)
            if tenant == "blue":
                database_server.run_sql(f'DROP OWNED BY "{role}"', database)
                database_server.run_sql(f'DROP ROLE "{role}"')
        rows = await owner.fetch("SELECT visible_tenants($1)", role)
        assert len(rows) == 1


# -- indexes ------------------------------------------------------------------------------------

PLANS = """
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_level = 'notice';
"""


@asynccontextmanager
async def explained(url: str, role: str) -> AsyncIterator[tuple[asyncpg.Connection, list[str]]]:
    """A superuser's session that has become the role, and the plans of all that it runs."""
    plans: list[str] = []
    async with connected(url) as connection:
        await connection.execute(PLANS)
        await connection.execute(f'SET SESSION AUTHORIZATION "{role}"')
        connection.add_log_listener(lambda _connection, message: plans.append(message.message))
        yield connection, plans


async def make_series(url: str) -> None:
    """Two tenants with 5,000 series each."""
    async with connected(url) as owner:
        await owner.execute("INSERT INTO tenant (id, name) VALUES (1, 'blue'), (2, 'red')")
        await owner.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT s, 1 + s % 2, 'm' || s % 20,"
            " jsonb_build_object('instance', 'i' || s / 4, 'job', 'j' || s % 3),"
            " decode(md5(s::text), 'hex') FROM generate_series(1, 10000) AS s"
        )
        await owner.execute("ANALYZE series")


async def test_readers_find_series_by_indexes(
    database_url: str, database_server: DatabaseServer, role: str
) -> None:
    """Under row-level security alone, `@>` could not use the index of labels."""
    await make_series(database_url)
    database_server.run_sql(f'CREATE ROLE "{role}"')
    async with connected(database_url) as owner:
        await owner.execute("SELECT grant_tenant_reader($1, 'red')", role)
    wanted = '{"instance": "i17"}'
    async with explained(database_server.superuser_url(database_url), role) as (reader, plans):
        matching = "SELECT id FROM promcompat.series_matching($1, $2) ORDER BY id"
        for name, ids in ((None, [69, 71]), ("m9", [69]), ("m8", [])):
            plans.clear()
            rows = await reader.fetch(matching, name, wanted)
            assert [row["id"] for row in rows] == ids
            assert any("series_labels" in plan for plan in plans), plans
            assert not any("Seq Scan on series" in plan for plan in plans)
        plans.clear()
        await reader.fetch("SELECT FROM promcompat.samples('m9', '-infinity', now(), $1)", wanted)
        assert any("series_labels" in plan for plan in plans)
        for query in (
            "SELECT count(*) FROM promcompat.series WHERE metric_name = 'm9'",
            "SELECT count(*) FROM promcompat.series_matching('m9')",
        ):
            plans.clear()
            assert await reader.fetchval(query) == 500
            assert any("series_tenant_metric_name" in plan for plan in plans), plans
            assert not any("Seq Scan on series" in plan for plan in plans)


# -- Community edition --------------------------------------------------------------------------


async def test_grants_work_on_the_community_edition(community_url: str) -> None:
    await migrate(community_url, discard)
    async with community_connection(community_url) as session:
        await session.execute("INSERT INTO tenant (id, name) VALUES (1, 'blue'), (2, 'red')")
        await session.execute(
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " SELECT s, s, 'up', '{}', decode(md5(s::text), 'hex') FROM generate_series(1, 2) AS s;"
            "INSERT INTO sample SELECT s, '2024-01-01', 1 FROM generate_series(1, 2) AS s"
        )
        await session.execute("CREATE ROLE analyst")
        await session.execute("SELECT grant_tenant_reader('analyst', 'blue')")
        await session.execute("SET ROLE analyst")
        assert await tenants_seen(session) == {"blue"}
        await session.execute("RESET ROLE")
        assert await session.fetchval("SELECT revoke_tenant_reader('analyst', 'blue')") is True
