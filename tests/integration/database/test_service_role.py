"""A service whose role does not own the schema: it does its work, and can do nothing else."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import asyncpg
import orjson
import pytest

from conformance.processes import RunningProgram, running_promcompat
from sql.migrate import MigrationError, migrate
from sql.query_loader import SqlFile, load_migrations
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.integration

ROLE = "promcompat_service"
HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
DAY_MS = 86_400_000
DEFAULTS_OF_OTHERS = (
    "default_transaction_isolation = 'serializable'",
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "timezone = 'Asia/Kathmandu'",
    "datestyle = 'German, DMY'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "search_path = 'nowhere'",
)
"""What an administrator may have set for a database, for other programs."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """One database as its owner and as its service see it."""

    owner: str
    service: str


@pytest.fixture
def addresses(database_server: DatabaseServer) -> Iterator[Addresses]:
    owner = database_server.create_empty_database()
    database_server.run_sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'test'")
    name = owner.rpartition("/")[2]
    for setting in DEFAULTS_OF_OTHERS:
        database_server.run_sql(f"ALTER DATABASE {name} SET {setting}")
    yield Addresses(owner, database_server.url(name, ROLE))
    database_server.drop_database(owner)
    database_server.run_sql(f"DROP ROLE {ROLE}")


def ask(service: RunningProgram, path: str, data: bytes | None = None, **headers: str) -> bytes:
    request = Request(service.url + path, data=data, headers=headers)
    with urlopen(request, timeout=30) as response:
        content: bytes = response.read()
        return content


def work(service: RunningProgram) -> None:
    """What reaches most tables: samples, definitions, rules, alerts, deletions."""
    now_ms = time.time_ns() // 1_000_000
    series = [
        encode_series((("__name__", "up"), ("job", f"j{number}")), (now_ms, 1.0))
        for number in range(20)
    ]
    ask(service, "/api/v1/write", encode_request(series), **HEADERS)
    found = orjson.loads(ask(service, "/api/v1/query?query=count(up{job!=%22j1%22})"))
    assert found["data"]["result"][0]["value"][1] == "19"
    json = {"Content-Type": "application/json"}
    definition = {"name": "up", "unit": "1"}
    ask(service, "/api/v1/metrics/definitions", orjson.dumps(definition), **json)
    rule = {"name": "R", "expr": "up > 0", "severity": "warning"}
    ask(service, "/api/v1/metrics/rules", orjson.dumps(rule), **json)
    gone = urlencode({"match[]": 'up{job="j1"}'}).encode()
    ask(service, "/api/v1/admin/tsdb/delete_series", gone)
    found = orjson.loads(ask(service, "/api/v1/query?query=count(up)"))
    assert found["data"]["result"][0]["value"][1] == "19"


def report(_line: str) -> None:
    pass


@pytest.mark.parametrize("store", ["blocks", "rows"])
async def test_a_service_that_owns_nothing_works(
    addresses: Addresses, tmp_path: Path, store: str, database_server: DatabaseServer
) -> None:
    if (store == "rows") != (database_server.edition == "postgresql"):
        pytest.skip("each store on one edition is enough, and takes half as long")
    with pytest.raises(MigrationError, match=r"migrate as that role|not allowed to create"):
        await migrate(addresses.service, report)
    await migrate(addresses.owner, report, service_role=ROLE)
    # The service has nothing of the owner.
    with running_promcompat(
        addresses.service, tmp_path / "log", store=store, admin_api="true"
    ) as service:
        work(service)
        connection = await asyncpg.connect(
            addresses.service,
            server_settings={
                "search_path": "promcompat, pg_temp, public",
                "statement_timeout": "0",
                "lock_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
            },
        )
        try:
            await makes_and_drops_partitions(connection)
            await does_nothing_else(connection)
        finally:
            await connection.close()
        metrics = ask(service, "/metrics").decode()
    failures = re.findall(r"^promcompat_loop_failures_total.*[1-9]$", metrics, re.MULTILINE)
    assert failures == [], (tmp_path / "log").read_text()


async def test_an_older_service_that_owns_nothing_is_told_what_is_wrong(
    addresses: Addresses,
) -> None:
    await migrate(addresses.owner, report, service_role=ROLE)
    newest = load_migrations()[-1].version
    future = SqlFile(newest + 1, "future", "CREATE TABLE future (id integer)")
    await migrate(addresses.owner, report, migrations=[*load_migrations(), future])
    with pytest.raises(MigrationError, match="migrated by a newer version"):
        await migrate(addresses.service, report)


async def makes_and_drops_partitions(connection: asyncpg.Connection) -> None:
    """By the functions of the owner, which services call."""
    slot = 8 * 30_000
    assert await connection.fetchval("SELECT create_block_partition($1)", slot)
    await connection.execute("SELECT drop_block_partition($1)", slot)
    is_partitioned = await connection.fetchval(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample'::regclass"
    )
    if is_partitioned:
        await connection.execute("SELECT create_sample_partitions(ARRAY[30000])")
        chunk = "SELECT drop_sample_chunk('sample_20520220'::regclass, true)"
        assert await connection.fetchval(chunk)
    assert await connection.fetchval("SELECT refresh_metric_views()") == 0
    await connection.execute("SELECT ensure_metrics_hourly()")


REFUSAL = r"permission denied|must be (able|owner)|every tenant"
FORBIDDEN = (
    "DROP TABLE promcompat.series CASCADE",
    "ALTER TABLE promcompat.series DISABLE ROW LEVEL SECURITY",
    "TRUNCATE promcompat.tenant CASCADE",
    "CREATE TABLE promcompat.mine ()",
    "CREATE OR REPLACE FUNCTION promcompat.sees_all_tenants(reader name) RETURNS boolean "
    "LANGUAGE sql AS 'SELECT true'",
    "DELETE FROM promcompat.schema_migration",
    "CREATE ROLE another LOGIN",
    "SELECT promcompat.grant_tenant_reader(current_user, 'default')",
    "SET ROLE promcompat",
)


async def does_nothing_else(connection: asyncpg.Connection) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.PostgresError, match=REFUSAL):
            await connection.execute(statement)
