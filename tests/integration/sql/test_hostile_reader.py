"""A role that may read one tenant tries to see another one, and to become the owner."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import numpy as np
import pytest

from sql.samples.codec.page_encoding import encode_pages
from sql.samples.storage_options import StoreKind
from sql.samples.tables.slots import slot_of
from tests.support.factories import make_batch, make_labels
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, opened_storage
from tests.support.storage.sample_columns import samples_of

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
DEFINITIONS = (
    "INSERT INTO metric_definition (tenant_id, name, display_name, description, unit, type,"
    " duplicate_policy, version)"
    " SELECT id, name, '', '', 's', 'gauge', 'first', 1 FROM tenant"
)


@pytest.fixture
async def reader(
    database_url: str, database_server: DatabaseServer
) -> AsyncIterator[asyncpg.Connection]:
    """A session of a role that reads the tenant `mine` and owns the schema `attack`.

    It may make temporary objects too, as every role may by default.
    """
    database = database_url.rpartition("/")[2]
    role = f"hostile_reader_of_{database}"
    async with opened_storage(database_url, store=StoreKind.ROWS) as storage:
        for tenant in ("mine", "theirs"):
            labels = make_labels(tenant, secret=tenant)
            batch = replace(make_batch({labels: [(T0, 1.0)]}), starts=np.array([T0 - 1]))
            await storage.store.write_batch(tenant, batch)
        await storage.drains.drainer.drain_all()
    database_server.run_sql(f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    database_server.run_sql(f"CREATE SCHEMA attack AUTHORIZATION {role}", database)
    async with connected(database_url) as owner:
        await owner.execute("SELECT grant_tenant_reader($1, 'mine')", role)
        await owner.execute(DEFINITIONS)
    async with connected(database_server.url(database, role)) as connection:
        yield connection


async def names_seen(reader: asyncpg.Connection) -> set[str]:
    """The names of metrics that the role sees by any way it was given."""
    seen: set[str] = set()
    for view in ("promcompat.metrics", "promcompat.metrics_hourly"):
        seen |= {row[0] for row in await reader.fetch(f"SELECT name FROM {view}")}  # noqa: S608
    for statement in (
        "SELECT metric_name FROM promcompat.series",
        "SELECT metric_name FROM promcompat.series_matching(NULL)",
        "SELECT name FROM promcompat.tenants",
        "SELECT name FROM promcompat.metrics_start",
        "SELECT name FROM promcompat.definitions",
        "SELECT tenant FROM promcompat.usage",
        "SELECT tenant FROM promcompat.usage_by_day",
    ):
        seen |= {row[0] for row in await reader.fetch(statement)}
    return seen


PAGE_READERS = (
    "SELECT series_id FROM promcompat.visible_row",
    "SELECT first_series FROM promcompat.visible_arrival",
    "SELECT first_series FROM promcompat.visible_run",
    "SELECT series_id FROM promcompat.visible_block",
    "SELECT first_ms FROM promcompat.visible_deletion",
    "SELECT s.series_id FROM generate_series(1, 3) AS t,"
    " promcompat.stored_samples((SELECT max(tenant_id) FROM promcompat.series) + t - 2, NULL,"
    " -62135596800000, 253402300799999) AS s",
    "SELECT 0 FROM promcompat.samples('theirs', '-infinity', 'infinity')",
)


# Whether a tenant's retention is known: of the reader's, and of the other one.
KEPT = """
SELECT array_agg(promcompat.kept_from_ms(m.tenant_id + t, 'm') IS NOT NULL ORDER BY t)
FROM promcompat.series AS m, generate_series(0, 1) AS t
"""


async def store_pages(database_url: str) -> set[int]:
    """Store pages of both tenants in every table; return the ids of the reader's series."""
    async with connected(database_url) as owner:
        series = await owner.fetch("SELECT id, tenant_id, metric_name FROM series")
        await owner.execute("SELECT create_block_partition($1)", slot_of(T0 // DAY_MS))
        for number, (series_id, tenant_id, _) in enumerate(series, 1):
            [page] = encode_pages(samples_of([(series_id, [(T0 + 5, 0)])]), 10, 1000)
            for statement in INSERT_PAGES:
                placed = statement.replace("TENANT", str(tenant_id)).replace(
                    "SERIES", str(series_id)
                )
                await owner.execute(placed.replace("NUMBER", str(number)), page.payload)
        return {row[0] for row in series if row[2] == "mine"}


DAY_MS = 86_400_000
INSERT_PAGES = [
    statement.replace("BOUNDS", f"{T0}, {T0 + 10}").replace("SLOT", str(slot_of(T0 // DAY_MS)))
    for statement in (
        "INSERT INTO arrival"
        " VALUES (NUMBER, TENANT, 1, 1, SERIES, SERIES, BOUNDS, false, now(), $1)",
        "INSERT INTO sample_run (tenant_id, slot, level, replaces, first_arrival, last_arrival,"
        " deleted_through, n_samples, n_series, first_series, last_series, first_ms, last_ms,"
        " payload)"
        " VALUES (TENANT, SLOT, 0, false, NUMBER, NUMBER, 0, 1, 1, SERIES, SERIES, BOUNDS, $1)",
        "INSERT INTO sample_block (series_id, first_ms, last_ms, first_arrival, last_arrival,"
        " deleted_through, tenant_id, slot, n_samples, level, replaces, payload)"
        " VALUES (SERIES, BOUNDS, NUMBER, NUMBER, 0, TENANT, SLOT, 1, 0, false, $1)",
        "INSERT INTO sample_block (series_id, first_ms, last_ms, first_arrival, last_arrival,"
        " deleted_through, tenant_id, slot, n_samples, level, replaces, payload)"
        " VALUES (SERIES, BOUNDS, NUMBER, NUMBER, 0, TENANT, -1073741824, 1, 0, false, $1)",
        "INSERT INTO sample_deletion"
        " SELECT NUMBER, TENANT, ARRAY[SERIES::bigint], NUMBER + 1000, NUMBER + 1000"
        " WHERE $1::bytea IS NOT NULL",
        "INSERT INTO drained_extent (tenant_id, slot, first_ms, last_ms)"
        " SELECT TENANT, SLOT, BOUNDS WHERE $1::bytea IS NOT NULL",
    )
]


async def test_pages_of_other_tenants_are_seen_by_no_way(
    database_url: str, reader: asyncpg.Connection
) -> None:
    pages = await store_pages(database_url)
    for path in ("promcompat", "pg_temp, attack, promcompat"):
        await reader.execute(f"SET search_path = {path}")
        assert await names_seen(reader) == {"mine"}
        assert await reader.fetchval("SELECT count(*) FROM promcompat.metrics") == 2
        for statement in PAGE_READERS:
            seen = {row[0] for row in await reader.fetch(statement)}
            assert seen - {1001, 1002} <= pages, statement
        assert await reader.fetch(PAGE_READERS[1])
        assert len(await reader.fetch(PAGE_READERS[4])) == 1
        assert await reader.fetchval(KEPT) == [True, False]
        if path == "promcompat":
            await reader.execute(SHADOWS + FUNCTIONS)
            # By name: the driver looks up the type of another column, in the reader's own tables.
            found = "SELECT value FROM samples('mine', '-infinity', now())"
            assert len(await reader.fetch(found)) == 2


async def test_functions_of_the_reader_see_only_pages_it_may_see(
    database_url: str, reader: asyncpg.Connection
) -> None:
    pages = await store_pages(database_url)
    heard: list[str] = []
    reader.add_log_listener(lambda _connection, message: heard.append(message.message))
    await reader.execute(
        "CREATE FUNCTION pg_temp.leak(what bigint) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
        " AS $$ BEGIN RAISE NOTICE '%', what; RETURN true; END $$"
    )
    for view, column in (
        ("visible_row", "series_id"),
        ("visible_arrival", "first_series"),
        ("visible_run", "first_series"),
        ("visible_block", "series_id"),
        ("visible_deletion", "series_ids[1]"),
    ):
        heard.clear()
        query = f"SELECT count(*) FROM promcompat.{view} WHERE pg_temp.leak({column})"  # noqa: S608
        await reader.fetch(query)
        assert {int(text) for text in heard} == pages, view


SHADOWS = """
CREATE TEMPORARY TABLE tenant_reader AS
    SELECT current_user AS role_name, s AS tenant_id FROM generate_series(1, 1000) AS s;
CREATE TEMPORARY TABLE series (id bigint, tenant_id integer, metric_name text, labels jsonb);
CREATE TEMPORARY TABLE sample (series_id bigint, ts timestamptz, value float8);
CREATE TEMPORARY TABLE pg_class AS SELECT oid, (SELECT oid FROM pg_roles
    WHERE rolname = current_user) AS relowner FROM pg_catalog.pg_class;
CREATE TEMPORARY TABLE installation (id uuid);
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
"""
FUNCTIONS = """
CREATE FUNCTION attack.visible_tenants(reader name) RETURNS SETOF integer
    LANGUAGE sql AS 'SELECT generate_series(1, 1000)';
CREATE FUNCTION attack.sees_all_tenants(reader name) RETURNS boolean
    LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION attack.calling_role() RETURNS name
    LANGUAGE sql AS $$ SELECT 'promcompat'::name $$;
CREATE FUNCTION attack.current_setting(setting text) RETURNS text
    LANGUAGE sql AS $$ SELECT 'promcompat' $$;
CREATE FUNCTION attack.pg_has_role(reader name, owner oid, wanted text) RETURNS boolean
    LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION attack.is_stale_marker(value float8) RETURNS boolean
    LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION attack.always(a name, b name) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION attack.always(a integer, b integer) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR attack.= (LEFTARG = name, RIGHTARG = name, FUNCTION = attack.always);
CREATE OPERATOR attack.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = attack.always);
CREATE DOMAIN attack.name AS text;
CREATE TYPE attack.regclass AS ENUM ('promcompat.series');
"""


@pytest.mark.parametrize("path", ["pg_temp, attack", "attack, pg_catalog", "attack, pg_temp"])
async def test_objects_of_the_reader_take_the_place_of_none_of_ours(
    reader: asyncpg.Connection, path: str
) -> None:
    assert await names_seen(reader) == {"mine"}
    await reader.execute(SHADOWS + FUNCTIONS)
    await reader.execute(f"SET search_path = {path}, promcompat")
    assert await names_seen(reader) == {"mine"}
    assert await reader.fetchval("SELECT promcompat.sees_all_tenants(current_user::name)") is False
    assert len(await reader.fetch("SELECT promcompat.visible_tenants(current_user::name)")) == 1


@pytest.mark.parametrize("stored", ["rows", "pages"])
async def test_functions_of_the_reader_see_only_rows_it_may_see(
    database_url: str, reader: asyncpg.Connection, stored: str
) -> None:
    """A cheap function in WHERE would run first, if the views let it."""
    if stored == "pages":
        await store_pages(database_url)
    heard: list[str] = []
    reader.add_log_listener(lambda _connection, message: heard.append(message.message))
    await reader.execute(
        "CREATE FUNCTION pg_temp.leak(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
        " AS $$ BEGIN RAISE NOTICE '%', what; RETURN true; END $$"
    )
    for view, column in (
        ("metrics", "name"),
        ("metrics", "labels::text"),
        ("metrics_hourly", "name"),
        ("metrics_hourly_by_series", "name"),
        ("hours(NULL, '-infinity')", "name"),
        ("visible_rolled_hour", "name"),
        ("visible_unrolled_metric", "metric_name"),
        ("series", "metric_name"),
        ("series", "labels::text"),
        ("tenants", "name"),
        ("metrics_start", "labels::text"),
        ("definitions", "name"),
        ("usage", "tenant"),
        ("usage", "top_metrics::text"),
        ("usage_by_day", "tenant"),
        ("series_matching(NULL)", "series_labels::text"),
        ("series_matching('theirs')", "metric_name"),
    ):
        query = f"SELECT count(*) FROM promcompat.{view} WHERE pg_temp.leak({column})"  # noqa: S608
        await reader.fetch(query)
        await reader.fetch(f"EXPLAIN ANALYZE {query}")
    assert any("mine" in text for text in heard)
    assert not [text for text in heard if "theirs" in text]


async def test_reader_changes_nothing_and_reads_no_table(reader: asyncpg.Connection) -> None:
    refused = [
        "TABLE promcompat.sample",
        "TABLE promcompat.arrival",
        "TABLE promcompat.sample_run",
        "TABLE promcompat.sample_block",
        "TABLE promcompat.tenant",
        "TABLE promcompat.tenant_reader",
        "TABLE promcompat.metric_metadata",
        "INSERT INTO promcompat.tenant_reader SELECT current_user, 1",
        "DELETE FROM promcompat.series",
        "TRUNCATE promcompat.series",
        "SELECT promcompat.grant_tenant_reader(current_user, 'theirs')",
        "SELECT promcompat.create_sample_partitions(ARRAY[1])",
        "SELECT promcompat.lock_series()",
        "SELECT promcompat.take_series_id()",
        "DO $$ BEGIN LOCK TABLE promcompat.series_removal IN ROW EXCLUSIVE MODE; END $$",
        "DO $$ BEGIN LOCK TABLE promcompat.series IN ACCESS EXCLUSIVE MODE; END $$",
        "CREATE TABLE promcompat.mine (id integer)",
        "CREATE TRIGGER t BEFORE INSERT ON promcompat.series EXECUTE FUNCTION promcompat.f()",
        "ALTER VIEW promcompat.metrics RESET (security_barrier)",
        "SET ROLE promcompat",
        "SELECT set_config('role', 'promcompat', false)",
        "SET SESSION AUTHORIZATION promcompat",
        "SELECT promcompat.revoke_tenant_reader(current_user, 'mine')",
        "SELECT promcompat.set_reader_rights(current_user, true)",
        "SELECT promcompat.create_reader_role('another', '')",
        "TABLE promcompat.metric_definition",
        "TABLE promcompat.metric_view",
        "TABLE promcompat.drained_extent",
        "SELECT promcompat.row_days()",
        "SELECT promcompat.readable_tenants(tableowner) FROM pg_catalog.pg_tables"
        " WHERE schemaname = 'promcompat'",
        "CREATE OR REPLACE FUNCTION promcompat.calling_role() RETURNS name"
        " LANGUAGE sql AS $$ SELECT 'promcompat'::name $$",
    ]
    for statement in refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)


async def test_no_function_of_the_reader_lends_it_the_rights_of_another_role(
    reader: asyncpg.Connection,
) -> None:
    """`series_matching` has the rights of the owner, and goes by the role of the session."""
    await reader.execute(
        "CREATE FUNCTION attack.all_series() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER"
        " SET search_path = promcompat AS 'SELECT metric_name FROM series_matching(NULL)';"
        "CREATE VIEW attack.series AS SELECT * FROM promcompat.series_matching(NULL);"
        "GRANT USAGE ON SCHEMA attack TO PUBLIC; GRANT SELECT ON attack.series TO PUBLIC"
    )
    for statement in ("SELECT attack.all_series()", "SELECT metric_name FROM attack.series"):
        assert [row[0] for row in await reader.fetch(statement)] == ["mine"]
    await reader.execute("SET SESSION AUTHORIZATION DEFAULT; RESET ROLE")
    assert await names_seen(reader) == {"mine"}


async def test_every_function_with_the_rights_of_the_owner_pins_its_search_path(
    database_url: str,
) -> None:
    async with opened_storage(database_url, store=StoreKind.ROWS), connected(database_url) as owner:
        rows = await owner.fetch(
            "SELECT proname, proconfig FROM pg_proc"
            " WHERE pronamespace = 'promcompat'::regnamespace AND prosecdef"
        )
    assert rows
    for row in rows:
        assert "search_path=pg_catalog, promcompat, pg_temp" in row["proconfig"], row["proname"]
