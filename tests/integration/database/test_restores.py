"""A running service on a database that is brought back to an older state, or loses series.

Red and blue are tenants. In each story red gets a series that the older state does not have, and
both write afterwards: the id that red's series had must not become one of blue's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from promcompat.core.errors import StorageUnavailableError, WriteRejectedError
from promcompat.core.model import Labels, MetricMetadata
from sql.embedded.cluster import Cluster
from sql.embedded.distributions import PostgresDistribution
from sql.embedded.postgres_server import PostgresServer
from sql.samples.metric_storage import MetricStorage
from sql.samples.stores.maintenance_repository import StoreSteps
from sql.times import MAX_TIMESTAMP_MS
from tests.support.factories import block_rows, make_batch, make_labels, select_name, value_bits
from tests.support.programs.servers import DatabaseServer, run_server
from tests.support.storage.repositories import connected, delete_samples, discard, opened_storage
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
RED_BEFORE, BLUE_BEFORE = make_labels("m", is_="before"), make_labels("m", is_="before")
RED_AFTER = make_labels("m", of="red")
BLUE_AFTER = make_labels("m", of="blue")
EVERYTHING = select_name("m", -(2**62), 2**62)
RED, BLUE = 1.0, 2.0


async def write(storage: MetricStorage, tenant: str, labels: Labels, at: int, value: float) -> None:
    """Write as a sender does: it knows its labels, and repeats what was answered 503."""
    for _ in range(20):
        try:
            await storage.store.write_batch(tenant, make_batch({labels: [(T0 + at, value)]}))
        except StorageUnavailableError:
            await asyncio.sleep(0.05)
        else:
            return
    raise AssertionError("the write was refused again and again")


async def read(storage: MetricStorage, tenant: str) -> dict[Labels, list[tuple[int, int]]]:
    (block,) = await storage.store.select(tenant, [EVERYTHING])
    return block_rows(block)


async def describe(storage: MetricStorage) -> None:
    """Send metadata, as senders do every minute."""
    batch = make_batch({RED_BEFORE: [(T0, RED)]})
    metadata = MetricMetadata("m", "gauge", "What is measured.", "")
    await storage.store.write_batch("red", replace(batch, metadata=(metadata,)))


async def begin(storage: MetricStorage) -> None:
    """What the older state has."""
    await write(storage, "red", RED_BEFORE, 0, RED)
    await write(storage, "blue", BLUE_BEFORE, 0, BLUE)


async def go_on(storage: MetricStorage) -> None:
    """What the older state lacks; every cache has it afterwards."""
    await write(storage, "red", RED_AFTER, 1, RED)
    await describe(storage)
    await read(storage, "red")
    await storage.catalogue.series("red", [EVERYTHING.matchers], T0 - 1, T0 + 10, 0)


async def write_again_and_check(storage: MetricStorage) -> None:
    """Both tenants write to series of before and to new ones; nothing mixes, nothing is lost."""
    await asyncio.gather(
        write(storage, "blue", BLUE_AFTER, 5, BLUE),
        write(storage, "red", RED_AFTER, 5, RED),
        write(storage, "blue", BLUE_BEFORE, 6, BLUE),
        write(storage, "red", RED_BEFORE, 6, RED),
    )
    await describe(storage)
    assert len(await storage.catalogue.metadata("red", None)) == 1
    red, blue = value_bits(RED), value_bits(BLUE)
    assert await read(storage, "red") == {
        RED_BEFORE: [(T0, red), (T0 + 6, red)],
        RED_AFTER: [(T0 + 5, red)],
    }
    assert await read(storage, "blue") == {
        BLUE_BEFORE: [(T0, blue), (T0 + 6, blue)],
        BLUE_AFTER: [(T0 + 5, blue)],
    }
    found = await storage.catalogue.series("blue", [EVERYTHING.matchers], T0 - 1, T0 + 10, 0)
    assert sorted(found) == sorted([BLUE_BEFORE, BLUE_AFTER])


TABLES = (
    "installation",
    "tenant",
    "series",
    "series_generation",
    "sample",
    "arrival",
    "drain_state",
)


async def test_tables_reloaded_in_place_under_open_connections(database_url: str) -> None:
    """As `pg_restore --data-only` does after a TRUNCATE; the sequence goes back too."""
    async with opened_storage(database_url) as storage, connected(database_url) as admin:
        await begin(storage)
        kept = {table: await admin.fetch(f"TABLE {table}") for table in TABLES}
        sequence = await admin.fetchval("SELECT last_value FROM series_id_seq")
        await go_on(storage)
        async with admin.transaction():
            for table in TABLES:
                await admin.execute(f"TRUNCATE {table} CASCADE")
            for table, rows in kept.items():
                await admin.copy_records_to_table(
                    table, schema_name="promcompat", records=[tuple(row) for row in rows]
                )
            await admin.execute("SELECT setval('series_id_seq', $1)", sequence)
        await write_again_and_check(storage)


async def test_rows_reloaded_in_place_by_delete(database_url: str) -> None:
    """No table is made anew: the rows of `series` go and come."""
    async with opened_storage(database_url) as storage, connected(database_url) as admin:
        await begin(storage)
        kept = {table: await admin.fetch(f"TABLE {table}") for table in TABLES}
        await go_on(storage)
        async with admin.transaction():
            for table in ("sample", "arrival", "series", "series_generation"):
                await admin.execute(f"DELETE FROM {table}")  # noqa: S608
                await admin.copy_records_to_table(
                    table, schema_name="promcompat", records=[tuple(row) for row in kept[table]]
                )
        await write_again_and_check(storage)


def dump(server: DatabaseServer, url: str, *options: str) -> str:
    """The back-up of a database by the server's own pg_dump, as a script."""
    return server.cluster.run_program("pg_dump", "--no-owner", *options, server.superuser_url(url))


async def test_dump_restored_in_place_under_open_connections(
    plain_database_url: str, plain_postgres_server: DatabaseServer
) -> None:
    server, url = plain_postgres_server, plain_database_url
    database = url.rpartition("/")[2]
    async with opened_storage(url) as storage:
        await begin(storage)
        script = dump(server, url, "--clean", "--schema=promcompat")
        await go_on(storage)
        await asyncio.to_thread(
            server.cluster.run_sql,
            server.process.port,
            "-v",
            "ON_ERROR_STOP=1",
            "-1",
            "-c",
            "SET ROLE promcompat",
            "-c",
            "SET client_min_messages = error",
            "-f",
            "-",
            database=database,
            script=script,
        )
        await write_again_and_check(storage)


async def test_dump_restored_into_a_new_database_of_the_same_name(
    plain_database_url: str, plain_postgres_server: DatabaseServer
) -> None:
    server, url = plain_postgres_server, plain_database_url
    database = url.rpartition("/")[2]
    async with opened_storage(url) as storage:
        await begin(storage)
        script = dump(server, url, "--schema=promcompat")
        await go_on(storage)
        server.run_sql(f"DROP DATABASE {database} WITH (FORCE)")
        server.run_sql(f"CREATE DATABASE {database} OWNER promcompat")
        await asyncio.to_thread(
            server.cluster.run_sql,
            server.process.port,
            "-c",
            "SET ROLE promcompat",
            "-f",
            "-",
            database=database,
            script=script,
        )
        await write_again_and_check(storage)


async def test_tenant_that_was_read_before_a_step_back_is_not_remembered_after_it(
    database_url: str, storage: MetricStorage
) -> None:
    """Its id refers to nothing then, and every write of the tenant would fail."""
    tenants = storage.database.tenants
    found = await tenants.find_or_create("red")
    async with connected(database_url) as admin:
        await admin.execute("ALTER TABLE tenant RENAME TO slow_tenant")
        await admin.execute(
            "CREATE VIEW tenant AS SELECT t.id, t.name FROM slow_tenant AS t, pg_sleep(1)"
        )
    tenants.forget()
    reading = asyncio.create_task(tenants.find("red"))
    await asyncio.sleep(0.5)
    storage.database.guard.step_back()
    assert await reading == found
    assert tenants.known("red") is None
    assert await tenants.find("red") == found
    assert tenants.known("red") == found


@pytest.fixture(params=["debian", "wheel"])
def primary(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DatabaseServer]:
    """A server of the test's own, which it may stop."""
    fixture = {"debian": "timescaledb_distribution", "wheel": "wheel_distribution"}
    distribution: PostgresDistribution = request.getfixturevalue(fixture[request.param])
    tmp_path.chmod(0o711)
    with run_server(request.param, distribution, tmp_path, discard) as server:
        yield server


def lagging_standby(primary: DatabaseServer, folder: Path) -> Cluster:
    """A physical copy that will not receive anything written after it was made."""
    original = primary.cluster
    cluster = Cluster(
        folder=folder / "standby",
        distribution=original.distribution,
        account=original.account,
        password=original.password,
    )
    cluster.folder.mkdir(mode=0o700)
    cluster.account.take_ownership(cluster.folder)
    address = f"--dbname={primary.superuser_url('/postgres')}"
    original.run_program(
        "pg_basebackup", address, f"--pgdata={cluster.folder}", "--checkpoint=fast"
    )
    signal = cluster.folder / "standby.signal"
    signal.touch()
    cluster.account.take_ownership(signal)
    return cluster


async def test_lagging_standby_is_promoted(primary: DatabaseServer, tmp_path: Path) -> None:
    url = primary.create_database()
    async with opened_storage(url) as storage:
        await begin(storage)
        cluster = await asyncio.to_thread(lagging_standby, primary, tmp_path)
        await go_on(storage)
        await asyncio.to_thread(primary.process.stop)
        standby = PostgresServer(cluster, tmp_path / "standby.log", primary.process.port, discard)
        try:
            await asyncio.to_thread(promote, cluster, standby)
            await write_again_and_check(storage)
        finally:
            await asyncio.to_thread(standby.stop)


def promote(cluster: Cluster, standby: PostgresServer) -> None:
    """Wait until the standby answers, then make it a primary; pg_ctl waits for the end of that."""
    assert standby.wait_until_ready()
    cluster.run_program("pg_ctl", "promote", "-D", str(cluster.folder))


# -- ids --------------------------------------------------------------------------------------


async def test_no_id_is_handed_out_twice_even_when_the_sequences_go_back(
    database_url: str,
) -> None:
    async with connected(database_url) as admin:
        series = await admin.fetchval("SELECT max(take_series_id()) FROM generate_series(1, 999)")
        tenant = await admin.fetchval("SELECT take_tenant_id()")
        await admin.execute("SELECT setval('series_id_seq', 1), setval('tenant_id_seq', 1)")
        await asyncio.sleep(1.1)
        assert await admin.fetchval("SELECT take_series_id()") > series
        assert await admin.fetchval("SELECT take_tenant_id()") > tenant
        with pytest.raises(asyncpg.RaiseError, match="keeps its id, tenant and labels"):
            await admin.execute("UPDATE series SET metric_name = 'other'")


# -- removed series ---------------------------------------------------------------------------


async def n_series(url: str) -> int:
    async with connected(url) as connection:
        found: int = await connection.fetchval("SELECT count(*) FROM series")
        return found


@pytest.mark.parametrize("statement", ["DELETE FROM series", "TRUNCATE series"])
async def test_removed_series_comes_back_with_its_next_sample(
    database_url: str, storage: MetricStorage, statement: str
) -> None:
    await begin(storage)
    async with connected(database_url) as admin:
        await admin.execute(statement)
    await write(storage, "red", RED_BEFORE, 1, RED)
    await write(storage, "blue", BLUE_BEFORE, 1, BLUE)
    assert await read(storage, "red") == {RED_BEFORE: [(T0 + 1, value_bits(RED))]}
    assert await read(storage, "blue") == {BLUE_BEFORE: [(T0 + 1, value_bits(BLUE))]}
    assert await n_series(database_url) == 2


async def test_series_that_stay_are_still_known(database_url: str, storage: MetricStorage) -> None:
    """The removal of others costs no look-up."""
    await begin(storage)
    async with connected(database_url) as admin:
        await admin.execute(
            "DELETE FROM series WHERE tenant_id = (SELECT id FROM tenant WHERE name = 'red')"
        )
    await write(storage, "red", RED_BEFORE, 1, RED)
    resolved = storage.stats.series_resolved
    await write(storage, "blue", BLUE_BEFORE, 1, BLUE)
    assert storage.stats.series_resolved == resolved


@asynccontextmanager
async def session_in_transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connected(url) as connection, connection.transaction():
        yield connection


async def test_removal_waits_for_running_writes_and_sees_their_samples(
    database_url: str, storage: MetricStorage
) -> None:
    """A series that gets its first sample meanwhile stays."""
    await begin(storage)
    for tenant in ("red", "blue"):
        await delete_samples(storage, tenant, EVERYTHING)
    async with storage.maintenance.lock() as steps:
        assert isinstance(steps, StoreSteps)
        orphans = await steps.removal.find(0)
        assert orphans is not None
        async with session_in_transaction(database_url) as holding:
            await holding.execute("LOCK TABLE arrival_order IN SHARE UPDATE EXCLUSIVE MODE")
            writing = asyncio.create_task(write(storage, "red", RED_BEFORE, 1, RED))
            await wait_for_waiting(holding, 1)
            removing = asyncio.create_task(steps.removal.remove(orphans.ids))
            await wait_for_waiting(holding, 2)
        await writing
        assert (len(orphans.ids), await removing) == (2, 1)
    assert await read(storage, "red") == {RED_BEFORE: [(T0 + 1, value_bits(RED))]}
    assert await n_series(database_url) == 1


async def wait_for_waiting(connection: asyncpg.Connection, wanted: int) -> None:
    """Until so many sessions of this database wait for a lock."""
    statement = (
        "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database"
        " WHERE NOT l.granted AND d.datname = current_database()"
    )

    async def are_waiting() -> bool:
        return await connection.fetchval(statement) >= wanted  # type: ignore[no-any-return]

    await eventually(are_waiting)


async def test_refused_sample_leaves_no_series_behind(
    database_url: str, storage: MetricStorage
) -> None:
    labels = make_labels("m", is_="refused")
    batch = make_batch({labels: [(MAX_TIMESTAMP_MS + 1, 1.0)], RED_BEFORE: [(T0, 1.0)]})
    with pytest.raises(WriteRejectedError):
        await storage.store.write_batch("red", batch)
    assert list(await read(storage, "red")) == [RED_BEFORE]
    assert await n_series(database_url) == 1


@pytest.mark.rows
@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("DELETE FROM sample WHERE ts > from_unix_ms(1700000000000)", {T0: RED}),
        (
            "UPDATE sample SET value = 5 WHERE ts > from_unix_ms(1700000000000)",
            {T0: RED, T0 + 1: 5.0},
        ),
        ("TRUNCATE sample", {}),
    ],
)
async def test_samples_changed_in_sql_are_in_no_cache(
    database_url: str,
    storage: MetricStorage,
    statement: str,
    left: dict[int, float],
) -> None:
    """A query that ended long ago is kept; without the trigger it would be answered for ever."""
    forgotten: list[str] = []
    storage.database.guard.on_step_back(lambda: forgotten.append("results"))
    for at in (0, 1):
        await write(storage, "red", RED_BEFORE, at, RED)
    await storage.drains.drainer.drain_all()
    asked = [select_name("m", T0 - 60_000, T0 + 60_000)]
    for _ in range(2):
        (block,) = await storage.store.select("red", asked)
        assert len(block.timestamps) == 2
    async with connected(database_url) as admin:
        await admin.execute(statement)
    (block,) = await storage.store.select("red", asked)
    wanted = [(at, value_bits(value)) for at, value in left.items()]
    assert block_rows(block) == ({RED_BEFORE: wanted} if wanted else {})
    assert forgotten == ["results"]
