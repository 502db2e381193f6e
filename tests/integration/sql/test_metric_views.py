"""Views of single metrics: a column for each label, kept up to date, dropped with their metric."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from sql.database.metric_views import refresh_metric_views
from sql.migrate import migrate
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_batch, make_labels
from tests.support.programs.community import community_connection
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, discard, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
LONG = "l" * 70


async def columns_of(connection: asyncpg.Connection, view: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass('promcompat.' || quote_ident($1)) AND attnum > 0"
        " ORDER BY attnum",
        view,
    )
    return [row["attname"] for row in rows]


@pytest.mark.parametrize("store", list(StoreKind))
async def test_a_view_has_a_column_for_each_label_and_gets_more(
    database_url: str, store: StoreKind
) -> None:
    async with opened_storage(database_url, store=store) as storage, connected(database_url) as sql:
        a, b = make_labels("m", job="a", time="t"), make_labels("m", job="b")
        await storage.store.write_batch("default", make_batch({a: [(T0, 1.5), (T0 + 60_000, 2.5)]}))
        await storage.store.write_batch("default", make_batch({b: [(T0, 3.0)]}))
        assert await sql.fetchval("SELECT create_metric_view('m')") == "metric_m"
        assert await columns_of(sql, "metric_m") == ["time", "value", "job", "label_time"]
        rows = await sql.fetch("SELECT * FROM metric_m WHERE job = 'a' ORDER BY time")
        assert [tuple(row) for row in rows] == [
            (AT, 1.5, "a", "t"),
            (AT + timedelta(minutes=1), 2.5, "a", "t"),
        ]
        bounded = 'SELECT time, value FROM metric_m($1, $2, \'{"job": "a"}\')'
        rows = await sql.fetch(bounded, AT + timedelta(seconds=1), AT + timedelta(minutes=2))
        assert [tuple(row) for row in rows] == [(AT + timedelta(minutes=1), 2.5)]
        assert await refresh_metric_views(storage.database) == 0
        await sql.execute("CREATE VIEW mine AS SELECT time, job FROM metric_m")
        more = make_labels("m", job="c", a="first", **{LONG: "long"})
        await storage.store.write_batch("default", make_batch({more: [(T0, 4.0)]}))
        assert await refresh_metric_views(storage.database) == 1
        expected = ["time", "value", "job", "label_time", "a"]
        columns = await columns_of(sql, "metric_m")
        assert columns[:-1] == expected
        assert len(columns[-1]) == len("label_") + 32
        row = await sql.fetchrow("SELECT * FROM metric_m WHERE a = 'first'")
        assert tuple(row) == (AT, 4.0, "c", None, "first", "long")
        assert await sql.fetchval("SELECT count(*) FROM mine") == 4


async def test_views_of_an_earlier_version_are_made_again(database_url: str) -> None:
    async with opened_storage(database_url) as storage, connected(database_url) as sql:
        for name in ("changed", "m"):
            await storage.store.write_batch("default", make_batch({make_labels(name): [(T0, 1.5)]}))
            await sql.execute("SELECT create_metric_view($1)", name)
        await sql.execute("ALTER VIEW metric_changed RENAME COLUMN value TO v")
        await sql.execute(
            "DROP FUNCTION metric_m; CREATE FUNCTION metric_m(timestamptz, timestamptz, jsonb)"
            " RETURNS SETOF metric_m LANGUAGE sql AS 'SELECT * FROM metric_m'"
        )
        await sql.execute("UPDATE schema_routine SET checksum = 'of an earlier version'")
    await migrate(database_url, discard)
    async with connected(database_url) as sql:
        assert await sql.fetchval("SELECT value FROM metric_m($1)", AT) == 1.5
        assert await sql.fetchval("SELECT v FROM metric_changed") == 1.5


async def test_comments_say_what_a_metric_measures(database_url: str) -> None:
    async with opened_storage(database_url) as storage, connected(database_url) as sql:
        batch = make_batch({make_labels("m_total"): [(T0, 1.0)], make_labels("n"): [(T0, 1.0)]})
        await storage.store.write_batch("default", batch)
        await sql.execute(
            "INSERT INTO metric_metadata SELECT id, 'm', 'counter', 'It''s what m does.', 'bytes'"
            " FROM tenant"
        )
        await sql.execute(
            "SELECT create_metric_view('m_total', 'Müller''s \"m\"'), create_metric_view('n')"
        )
        comments = (
            "SELECT obj_description(c.oid), col_description(c.oid, 2) FROM pg_class AS c"
            " WHERE c.relname = $1 AND c.relkind = 'v'"
        )
        row = await sql.fetchrow(comments, 'Müller\'s "m"')
        assert tuple(row) == ("m_total: It's what m does.", "bytes")
        assert tuple(await sql.fetchrow(comments, "metric_n")) == ("n", None)


async def test_a_view_is_dropped_with_its_metric_unless_others_need_it(database_url: str) -> None:
    async with opened_storage(database_url) as storage, connected(database_url) as sql:
        batch = make_batch({make_labels(name): [(T0, 1.0)] for name in ("gone", "needed", "kept")})
        await storage.store.write_batch("default", batch)
        for name in ("gone", "needed", "kept"):
            await sql.execute("SELECT create_metric_view($1)", name)
        await sql.execute("CREATE VIEW mine AS SELECT value FROM metric_needed")
        await sql.execute("DELETE FROM series WHERE metric_name IN ('gone', 'needed')")
        assert await refresh_metric_views(storage.database) == 1
        assert await columns_of(sql, "metric_gone") == []
        assert await sql.fetch("TABLE metric_needed") == []
        await sql.execute("DROP VIEW mine")
        assert await refresh_metric_views(storage.database) == 1
        assert await sql.fetchval("SELECT array_agg(view_name::text) FROM metric_view") == [
            "metric_kept"
        ]
        assert await sql.fetchval("SELECT drop_metric_view('metric_kept')") is True
        assert await sql.fetchval("SELECT drop_metric_view('metrics')") is False
        leftover = "SELECT count(*) FROM pg_proc WHERE proname ~ '^metric_(gone|needed|kept)$'"
        assert await sql.fetchval(leftover) == 0


async def test_faults_say_what_would_be_right(database_url: str) -> None:
    async with opened_storage(database_url) as storage, connected(database_url) as sql:
        batch = make_batch({make_labels(name): [(T0, 1.0)] for name in ("view", "m" * 80)})
        for tenant in ("blue", "red"):
            await storage.store.write_batch(tenant, batch)
        for arguments, message in (
            (("view", None, None), "give the name of the tenant"),
            (("view", None, "green"), "there is no tenant 'green'"),
            (("none", None, "red"), "the tenant has no metric 'none'"),
            (("view", None, "red"), "the name metric_view is taken"),
            (("view", "samples", "red"), "the name samples is taken"),
            (("m" * 80, None, "red"), "1 to 63 bytes"),
        ):
            with pytest.raises(asyncpg.RaiseError, match=message):
                await sql.execute("SELECT create_metric_view($1, $2, $3)", *arguments)
        create = "SELECT create_metric_view('view', 'v', $1)"
        for _ in range(2):
            assert await sql.fetchval(create, "red") == "v"
        with pytest.raises(asyncpg.RaiseError, match="the view of another metric"):
            await sql.execute(create, "blue")


async def test_readers_of_other_tenants_see_nothing_of_it(
    database_url: str, database_server: DatabaseServer
) -> None:
    database = database_url.rpartition("/")[2]
    roles = {tenant: f"{tenant}_of_{database}" for tenant in ("blue", "red")}
    async with opened_storage(database_url) as storage, connected(database_url) as sql:
        for tenant, role in roles.items():
            batch = make_batch({make_labels("m", of=tenant): [(T0, 1.0)]})
            await storage.store.write_batch(tenant, batch)
            database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
        await sql.execute("SELECT grant_tenant_reader($1, 'red')", roles["red"])
        await sql.execute("SELECT create_metric_view('m', NULL, 'blue')")
        await sql.execute("SELECT grant_tenant_reader($1, 'blue')", roles["blue"])
        for tenant, seen in (("blue", ["blue"]), ("red", [])):
            async with connected(database_server.url(database, roles[tenant])) as reader:
                await reader.execute("SET search_path = promcompat")
                for source in ("metric_m", "metric_m('-infinity', now())"):
                    rows = await reader.fetch(f"SELECT of FROM {source}")  # noqa: S608
                    assert [row["of"] for row in rows] == seen
                for statement in ("create_metric_view('m')", "drop_metric_view('metric_m')"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await reader.execute(f"SELECT {statement}")


async def test_views_work_on_the_community_edition(community_url: str) -> None:
    await migrate(community_url, discard)
    async with community_connection(community_url) as session:
        await session.execute(
            "INSERT INTO tenant (id, name) VALUES (1, 'default');"
            "INSERT INTO series (id, tenant_id, metric_name, labels, fingerprint)"
            " VALUES (1, 1, 'm', '{\"job\": \"a\"}', decode(md5(''), 'hex'));"
            "INSERT INTO sample VALUES (1, '2023-11-14 22:13:20+00', 5)"
        )
        assert await session.fetchval("SELECT create_metric_view('m')") == "metric_m"
        for source in ("metric_m", "metric_m('-infinity', now())"):
            rows = await session.fetch(f"SELECT * FROM {source}")  # noqa: S608
            assert [tuple(row) for row in rows] == [(AT, 5.0, "a")]
