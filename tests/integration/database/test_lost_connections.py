"""Connections that end, or fall silent: what waits, for how long, and what works afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import numpy as np
import pytest

from promcompat.core.errors import (
    ExecutionError,
    PromcompatError,
    QueryTimeoutError,
    StorageUnavailableError,
)
from promcompat.core.model import WriteBatch
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.database import connection_pool, database_check
from sql.database.connecting import GOODBYE_SECONDS
from sql.database.connection_pool import Pool, PoolOptions, acquired, open_pool, read_again
from sql.database.database_check import check_database
from sql.database.rows import fetch_many
from sql.samples.metric_storage import MetricStorage
from sql.samples.stores.maintenance_repository import maintenance_lock
from tests.support.factories import make_labels, select_name, series_key
from tests.support.programs.network import CuttableNetwork, cuttable_network
from tests.support.programs.servers import DatabaseServer
from tests.support.services.http_service import Service, running_service
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
UP = make_labels("up", job="a")
LIMITS = {"query_timeout_seconds": 1.0, "write_timeout_seconds": 1.0}
LONG_LIMITS = {"query_timeout_seconds": 300.0, "write_timeout_seconds": 300.0}
ENDS_WITHIN_SECONDS = 30.0
"""Twice a limit of a second and what cutting a connection takes, on a very busy machine."""
MANY_ROWS = 200_000
"""Of a write that fills every buffer on its way."""


@pytest.fixture
async def network(plain_database_url: str) -> AsyncIterator[CuttableNetwork]:
    async with cuttable_network(plain_database_url) as network:
        yield network


@pytest.fixture
async def storage(network: CuttableNetwork) -> AsyncIterator[MetricStorage]:
    async with opened_storage(network.url, **LIMITS) as storage:
        yield storage


async def write(storage: MetricStorage, first_ms: int, n_rows: int = 1) -> None:
    key = series_key(UP)
    times = np.arange(first_ms, first_ms + n_rows)
    # Random, so that blocks take bytes too.
    values = np.random.default_rng(first_ms).random(n_rows)
    batch = WriteBatch.of_keys([key] * n_rows, times, values, {key: UP})
    await storage.store.write_batch("default", batch)


async def count(storage: MetricStorage) -> int:
    [block] = await storage.store.select("default", [select_name("up", -(2**62), 2**62)])
    return len(block.timestamps)


async def end_sessions(url: str) -> None:
    """End every session of the storage's, as a restart of the server does."""
    async with connected(url) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'promcompat %'"
        )


async def until(is_met: Callable[[], Awaitable[object]]) -> None:
    """Return once a condition is met; fails when it is not met in time."""
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        while not await is_met():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def succeeds(work: Awaitable[object]) -> bool:
    """Whether the storage is available for some work."""
    try:
        await work
    except StorageUnavailableError:
        return False
    return True


async def failure_of(task: asyncio.Task[Any]) -> BaseException | None:
    """How a task ended by itself; fails when it does not end in time.

    A task that is cancelled may raise what it would raise when it ends by itself.
    """
    ended, _ = await asyncio.wait([task], timeout=ENDS_WITHIN_SECONDS)
    assert ended
    return task.exception()


async def is_ready(service: Service) -> bool:
    return (await service.get("/-/ready")).status == 200


async def waits_for_lock(connection: asyncpg.Connection) -> object:
    """How many sessions of the database wait for a lock."""
    return await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )


# -- silently cut -----------------------------------------------------------------------------


async def test_read_on_a_silent_connection_ends_and_works_again_on_a_new_one(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    await write(storage, T0)
    assert await count(storage) == 1
    network.cut()
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        with pytest.raises((StorageUnavailableError, QueryTimeoutError)):
            await storage.catalogue.label_names("default", (), T0, T0, 0)
    network.mend()
    assert await storage.catalogue.label_names("default", (), T0, T0, 0) == ["__name__", "job"]


async def test_idle_connections_that_were_cut_are_noticed_before_they_are_used(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    await asyncio.gather(*(write(storage, T0 + step) for step in range(8)))
    network.cut()
    await asyncio.sleep(1.1)
    network.mend()
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        await write(storage, T0 + 100)
        assert await count(storage) == 9


async def test_one_dead_connection_is_waited_for_however_many_there_are(
    network: CuttableNetwork,
) -> None:
    pool = await open_pool(network.url, PoolOptions(max_size=8, keeps_sessions=True))
    try:
        async with AsyncExitStack() as held:
            for _ in range(pool.max_size):
                await held.enter_async_context(acquired(pool))
        network.cut()
        await asyncio.sleep(1.1)
        network.mend()
        async with asyncio.timeout(3 * GOODBYE_SECONDS), acquired(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1
    finally:
        await pool.close()


async def test_write_that_is_cut_in_the_middle_ends_and_can_be_repeated(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    await write(storage, T0 - 1)
    network.cut_after(MANY_ROWS)  # A part of its bytes.
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        with pytest.raises(StorageUnavailableError):
            await write(storage, T0, MANY_ROWS)
    network.mend()
    assert await count(storage) == 1
    await write(storage, T0, 1000)
    assert await count(storage) == 1001


async def test_alert_evaluation_that_is_cut_ends_and_the_next_one_works(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    pool = await open_pool(network.url, PoolOptions(max_size=1, statement_timeout_seconds=1.0))
    alerts = PostgresAlertRepository(
        storage.database, pool, storage.sample_lookup, ["none"], lambda: T0
    )
    try:
        async with alerts.thresholds() as session:
            assert session is not None
        network.cut()
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            with pytest.raises(StorageUnavailableError):
                async with alerts.thresholds():
                    pass
        network.mend()
        async with alerts.thresholds() as session:
            assert session is not None
    finally:
        await pool.close()


async def test_commit_and_rollback_on_a_silent_connection_end(network: CuttableNetwork) -> None:
    pool = await open_pool(network.url, PoolOptions(max_size=1, statement_timeout_seconds=1.0))

    async def work(failure: Exception | None) -> None:
        async with acquired(pool) as connection, connection.transaction():
            await connection.execute("SELECT 1")
            network.cut()
            if failure is not None:
                raise failure

    try:
        for failure in (None, KeyError("of the caller")):
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                with pytest.raises((StorageUnavailableError, KeyError)):
                    await work(failure)
            network.mend()
    finally:
        await pool.close()


async def test_cancelled_read_on_a_silent_connection_does_not_wait_for_its_server(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    await write(storage, T0)
    network.cut()
    reading = asyncio.create_task(count(storage))
    await asyncio.sleep(0.2)
    reading.cancel()
    async with asyncio.timeout(ENDS_WITHIN_SECONDS):
        with pytest.raises((asyncio.CancelledError, PromcompatError)):
            await reading


async def test_closing_on_a_silent_network_ends(network: CuttableNetwork) -> None:
    async with opened_storage(network.url, **LIMITS) as storage:
        await write(storage, T0)
        network.cut()
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            await storage.close()


async def test_waiting_for_a_connection_of_an_exhausted_pool_ends(plain_database_url: str) -> None:
    options = PoolOptions(max_size=1, statement_timeout_seconds=0.2)
    pool = await open_pool(plain_database_url, options)
    try:
        async with acquired(pool):
            with pytest.raises(StorageUnavailableError, match="all connections to the database"):
                async with acquired(pool):
                    pass
    finally:
        await pool.close()


# -- heartbeat --------------------------------------------------------------------------------


@pytest.fixture
async def patient(network: CuttableNetwork) -> AsyncIterator[MetricStorage]:
    """A storage with long limits, which only a heartbeat makes short."""
    async with opened_storage(network.url, heartbeat_seconds=1.0, **LONG_LIMITS) as storage:
        await write(storage, T0)
        await storage.database.heartbeat.beat()
        yield storage


async def lose_and_mend(network: CuttableNetwork, storage: MetricStorage) -> None:
    with pytest.raises(StorageUnavailableError):
        await storage.database.heartbeat.beat()
    network.mend()
    await storage.database.heartbeat.beat()


async def test_read_that_waits_on_a_dead_connection_is_answered_soon(
    network: CuttableNetwork, patient: MetricStorage
) -> None:
    assert await count(patient) == 1
    network.cut()
    reading = asyncio.create_task(patient.catalogue.label_names("default", (), T0, T0, 0))
    await asyncio.sleep(0.1)
    await lose_and_mend(network, patient)
    assert await failure_of(reading) is None
    assert reading.result() == ["__name__", "job"]


async def test_write_that_waits_on_a_dead_connection_is_told_soon(
    network: CuttableNetwork, patient: MetricStorage
) -> None:
    network.cut_after(MANY_ROWS)
    writing = asyncio.create_task(write(patient, T0 + 1, MANY_ROWS))
    await until(lambda: asyncio.sleep(0, network.is_cut))
    await lose_and_mend(network, patient)
    assert isinstance(await failure_of(writing), StorageUnavailableError)
    await write(patient, T0 + 1)


async def test_cut_that_is_mended_between_two_beats_is_noticed(
    network: CuttableNetwork, patient: MetricStorage
) -> None:
    network.cut_after(MANY_ROWS)
    writing = asyncio.create_task(write(patient, T0 + 1, MANY_ROWS))
    await until(lambda: asyncio.sleep(0, network.is_cut))
    network.mend()
    await asyncio.sleep(1.1)  # Idle connections are trusted for a second.
    await patient.database.heartbeat.beat()
    assert isinstance(await failure_of(writing), StorageUnavailableError)


async def test_cut_while_the_heartbeat_had_no_connection_is_noticed_a_beat_after_its_new_one(
    network: CuttableNetwork, patient: MetricStorage
) -> None:
    await end_sessions(network.url)
    await until(lambda: succeeds(count(patient)))
    network.cut()
    reading = asyncio.create_task(patient.catalogue.label_names("default", (), T0, T0, 0))
    await asyncio.sleep(0.1)
    network.mend()
    await until(lambda: succeeds(patient.database.heartbeat.beat()))
    await patient.database.heartbeat.beat()
    assert await failure_of(reading) is None
    assert reading.result() == ["__name__", "job"]


async def test_heartbeat_leaves_long_statements_alone(
    network: CuttableNetwork, patient: MetricStorage
) -> None:
    await end_sessions(network.url)
    await until(lambda: succeeds(patient.database.heartbeat.beat()))
    await until(lambda: succeeds(count(patient)))
    async with acquired(patient.database.read_pool) as connection:
        sleeping = asyncio.ensure_future(connection.execute("SELECT pg_sleep(0.5)"))
        for _ in range(3):
            await patient.database.heartbeat.beat()
        await sleeping


# -- readiness --------------------------------------------------------------------------------


async def test_readiness_is_told_in_time_on_a_silent_network_and_when_it_is_back(
    network: CuttableNetwork, storage: MetricStorage
) -> None:
    async with running_service(storage.store, storage.catalogue) as service:
        assert (await service.get("/-/ready")).status == 200
        network.cut()
        for _ in range(2):
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                response = await service.get("/-/ready")
            assert response.status == 503
            assert "the database" in await response.text()
        network.mend()
        await until(lambda: is_ready(service))


async def test_readiness_does_not_wait_for_busy_pools(plain_database_url: str) -> None:
    async with opened_storage(
        plain_database_url, read_connections=1, write_connections=1
    ) as storage:
        database = storage.database
        async with acquired(database.read_pool), acquired(database.write_pool):
            async with asyncio.timeout(ENDS_WITHIN_SECONDS):
                await storage.store.ping()


# -- ended ------------------------------------------------------------------------------------


async def test_first_query_after_all_sessions_ended_is_answered(plain_database_url: str) -> None:
    async with (
        opened_storage(plain_database_url) as storage,
        running_service(storage.store, storage.catalogue) as service,
    ):
        await write(storage, T0)
        await asyncio.gather(*(count(storage) for _ in range(8)))
        await end_sessions(plain_database_url)
        status, answer = await service.ask("query", query="up", time=str(T0 // 1000))
        assert (status, len(answer["data"]["result"])) == (200, 1)
        assert await service.ask("labels") == (
            200,
            {"status": "success", "data": ["__name__", "job"]},
        )


async def test_read_that_loses_its_connection_is_done_again(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url) as storage:
        await write(storage, T0)
        async with connected(plain_database_url) as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("LOCK TABLE series IN ACCESS EXCLUSIVE MODE")
            reading = asyncio.create_task(storage.catalogue.series("default", (), T0, T0, 0))
            await until(lambda: waits_for_lock(connection))
            await end_sessions(plain_database_url)
            await transaction.rollback()
        assert await reading == [UP]


async def test_write_that_loses_its_connection_is_not_done_again_by_us(
    plain_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened_storage(plain_database_url) as storage:
        await write(storage, T0)
        async with connected(plain_database_url) as connection, connection.transaction():
            await connection.execute("LOCK TABLE sample, arrival IN ACCESS EXCLUSIVE MODE")
            writing = asyncio.create_task(write(storage, T0 + 1))
            await until(lambda: waits_for_lock(connection))
            await end_sessions(plain_database_url)
            with pytest.raises(StorageUnavailableError) as caught:
                await writing
        # The sender is told in our words; the driver's are for the log.
        assert str(caught.value) == "the database is not available; try again"
        assert "terminating connection" in "".join(
            getattr(record, "reason", "") for record in caplog.records
        )


async def test_statement_that_is_stale_within_a_transaction_is_prepared_again(
    plain_database_url: str,
) -> None:
    """As when a newer service migrates the database of a running one."""
    pool = await open_pool(plain_database_url, PoolOptions(max_size=1))

    async def read() -> list[asyncpg.Record]:
        async with acquired(pool) as connection, connection.transaction():
            rows: list[asyncpg.Record] = await connection.fetch("SELECT * FROM public.changing")
        return rows

    try:
        async with connected(plain_database_url) as admin:
            await admin.execute("CREATE TABLE public.changing AS SELECT 1 AS a")
            assert await read() == [(1,)]
            await admin.execute("ALTER TABLE public.changing ADD COLUMN b integer DEFAULT 2")
            with pytest.raises(StorageUnavailableError):
                await read()
            assert await read() == [(1, 2)]
            await admin.execute("ALTER TABLE public.changing ALTER COLUMN a TYPE text")
            assert await read_again(read)() == [("1", 2)]
    finally:
        await pool.close()


@pytest.mark.parametrize("spoil", ["DEALLOCATE ALL", "DISCARD ALL"])
async def test_session_whose_prepared_statements_are_gone_is_replaced(
    plain_database_url: str, spoil: str
) -> None:
    pool = await open_pool(plain_database_url, PoolOptions(max_size=1, keeps_sessions=True))

    @read_again
    async def read() -> object:
        async with acquired(pool) as connection:
            return await connection.fetchval("SELECT $1::integer", 1)

    try:
        assert await read() == 1
        async with acquired(pool) as connection:
            await connection.execute(spoil)
        assert await read() == 1
    finally:
        await pool.close()


async def test_an_error_that_passes_a_connection_does_not_become_its_own_context(
    plain_database_url: str,
) -> None:
    """Exit stacks follow the contexts of an error; one that leads to itself has no end."""
    first, second = KeyError("first"), ExecutionError("second")

    def fail() -> None:
        raise second

    async def fail_twice(pool: Pool) -> None:
        async with AsyncExitStack() as opened:
            await opened.enter_async_context(acquired(pool))
            opened.callback(fail)
            raise first

    async with opened_storage(plain_database_url) as storage:
        with pytest.raises(ExecutionError):
            await fail_twice(storage.database.read_pool)
    assert second.__context__ is first


async def test_many_rows_may_take_as_long_as_other_statements(
    monkeypatch: pytest.MonkeyPatch, plain_database_url: str
) -> None:
    monkeypatch.setattr(connection_pool, "GOODBYE_SECONDS", 0.05)
    async with (
        opened_storage(plain_database_url) as storage,
        acquired(storage.database.read_pool) as connection,
        connection.transaction(),
    ):
        assert len(await fetch_many(connection, "SELECT pg_sleep(0.3)")) == 1


async def test_connections_that_the_server_closed_keep_none_from_being_cut(
    plain_database_url: str,
) -> None:
    pool = await open_pool(plain_database_url, PoolOptions(max_size=2))
    try:
        closed, dead = await pool.take(), await pool.take()
        with pytest.raises(asyncpg.PostgresConnectionError):
            await closed.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        await pool.cut_busy(time.monotonic() + 1)
        with pytest.raises(asyncpg.InterfaceError):
            await dead.execute("SELECT 1")
    finally:
        pool.terminate()


async def test_an_error_of_the_driver_is_translated(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url) as storage:
        with pytest.raises(PromcompatError) as rejected:
            async with acquired(storage.database.read_pool) as connection:
                await connection.fetch("SELECT no_such_column")
    assert isinstance(rejected.value.__cause__, asyncpg.UndefinedColumnError)


async def test_a_pool_that_gets_no_further_connection_waits_for_one_of_its_own(
    plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    pool = await open_pool(plain_database_url, PoolOptions(max_size=3))
    try:
        plain_postgres_server.run_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
        first = await pool.take()
        second = asyncio.create_task(pool.take())
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
        await pool.give_back(first, is_sound=True)
        await pool.give_back(await second)
        # A pool that has none cannot wait for its own.
        with pytest.raises(StorageUnavailableError, match="no free connection"):
            await open_pool(plain_database_url, PoolOptions(max_size=3))
    finally:
        await pool.close()


async def test_the_check_of_a_database_leaves_no_connection_when_it_gets_no_second_one(
    plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    plain_postgres_server.run_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    made: list[asyncpg.Connection] = []
    with pytest.MonkeyPatch.context() as patch:
        real_connect = database_check._connect

        async def connect(dsn: str) -> asyncpg.Connection:
            made.append(await real_connect(dsn))
            return made[-1]

        patch.setattr(database_check, "_connect", connect)
        with pytest.raises(StorageUnavailableError, match="no free connection"):
            await check_database(plain_database_url)
    assert [connection.is_closed() for connection in made] == [True]


@pytest.mark.parametrize("keeps_sessions", [False, True])
async def test_no_timeout_of_the_administrator_ends_a_session_or_a_transaction_of_ours(
    keeps_sessions: bool, plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    for setting in ("idle_session_timeout", "transaction_timeout"):
        plain_postgres_server.run_sql(f"ALTER DATABASE {name} SET {setting} = '7s'")
    options = PoolOptions(max_size=1, keeps_sessions=keeps_sessions)
    pool = await open_pool(plain_database_url, options)
    try:
        for _ in range(2):  # Also after a reset, which brings back the defaults of the database.
            async with acquired(pool) as connection:
                limits = await connection.fetch(
                    "SELECT setting FROM pg_settings WHERE name ~ '^(idle_session|transaction)_t'"
                )
            assert {row["setting"] for row in limits} == {"0"}
    finally:
        await pool.close()


async def test_a_connection_that_was_used_has_its_own_role_again(plain_database_url: str) -> None:
    """A database function that remediates may have set another one."""
    pool = await open_pool(plain_database_url, PoolOptions(max_size=1))
    try:
        async with acquired(pool) as connection:
            own = await connection.fetchval("SELECT current_user")
            await connection.execute("SET ROLE pg_monitor")
        async with acquired(pool) as connection:
            assert await connection.fetchval("SELECT current_user") == own != "pg_monitor"
    finally:
        await pool.close()


async def in_transaction(pool: Pool, has_begun: asyncio.Event) -> None:
    async with acquired(pool) as connection, connection.transaction():
        has_begun.set()
        await asyncio.sleep(3600)


async def under_maintenance_lock(pool: Pool, has_begun: asyncio.Event) -> None:
    async with maintenance_lock(pool):
        has_begun.set()
        await asyncio.sleep(3600)


@pytest.mark.parametrize("work", [in_transaction, under_maintenance_lock])
async def test_work_that_is_cancelled_ends_as_cancelled_though_its_connection_is_lost(
    plain_database_url: str, work: Callable[[Pool, asyncio.Event], Coroutine[Any, Any, None]]
) -> None:
    """The end of a transaction fails then. A loop took that for a fault of the database, and went
    on: its process did not end."""
    async with opened_storage(plain_database_url) as storage:
        has_begun = asyncio.Event()
        working = asyncio.create_task(work(storage.database.write_pool, has_begun))
        await has_begun.wait()
        await end_sessions(plain_database_url)
        working.cancel()
        await asyncio.wait({working})
        assert working.cancelled()


async def test_a_timeout_is_one_though_its_connection_is_lost(plain_database_url: str) -> None:
    has_begun, limit = asyncio.Event(), asyncio.timeout(None)

    async def work(pool: Pool) -> None:
        async with limit:
            await in_transaction(pool, has_begun)

    async with opened_storage(plain_database_url) as storage:
        working = asyncio.create_task(work(storage.database.write_pool))
        await has_begun.wait()
        await end_sessions(plain_database_url)
        limit.reschedule(0.0)
        with pytest.raises(TimeoutError):
            await working


async def test_closing_does_not_wait_for_a_commit_that_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch, network: CuttableNetwork
) -> None:
    """Whoever sent it has been answered by then: a service closes its storage last."""
    monkeypatch.setattr("sql.samples.writing.group_commit._CLOSE_SECONDS", 0.5)
    async with opened_storage(network.url, **LONG_LIMITS) as storage:
        await write(storage, T0)
        network.lose_answers()
        writing = [asyncio.create_task(write(storage, T0 + number)) for number in range(1, 5)]
        await until(lambda: asyncio.sleep(0, storage.stats.rows_waiting == len(writing)))
        async with asyncio.timeout(ENDS_WITHIN_SECONDS):
            await storage.close()
        for task in writing:
            assert isinstance(await failure_of(task), StorageUnavailableError)
