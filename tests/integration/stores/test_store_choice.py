"""The store of a database is chosen once, and a service with another one is refused."""

import asyncpg
import pytest

from promcompat.core.errors import DatabaseRefusedError, StorageUnavailableError
from sql.samples.storage_options import DEFAULT_STORE, StoreKind
from sql.samples.store_choice import choose_store
from tests.support.factories import make_batch, make_labels
from tests.support.storage.repositories import connected, drained_rows, opened_storage

T0 = 1_700_000_000_000
UP = make_labels("up")


async def recorded_store(connection: asyncpg.Connection) -> str | None:
    store: str | None = await connection.fetchval("SELECT store FROM promcompat.installation")
    return store


async def add_block_run(connection: asyncpg.Connection) -> None:
    await connection.execute(
        """
        INSERT INTO promcompat.sample_run (
            tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
            n_samples, n_series, first_series, last_series, first_ms, last_ms, payload
        ) VALUES (1, 0, 0, false, 1, 1, 1, 1, 1, 1, 1, 1, 1, '')
        """
    )


async def test_without_a_setting_the_default_is_recorded(plain_database_url: str) -> None:
    async with (
        opened_storage(plain_database_url, store=None),
        connected(plain_database_url) as connection,
    ):
        assert await recorded_store(connection) == DEFAULT_STORE


async def test_without_a_setting_the_recorded_store_is_used(plain_database_url: str) -> None:
    async with connected(plain_database_url) as connection:
        for store in StoreKind:
            await connection.execute("UPDATE promcompat.installation SET store = $1", store)
            assert await choose_store(connection, None) is store


async def test_an_empty_database_takes_another_store(plain_database_url: str) -> None:
    async with connected(plain_database_url) as connection:
        for store in (StoreKind.BLOCKS, StoreKind.ROWS, StoreKind.BLOCKS):
            assert await choose_store(connection, store) is store
            assert await recorded_store(connection) == store


@pytest.mark.parametrize("is_drained", [False, True])
async def test_rows_are_not_served_as_blocks(database_url: str, *, is_drained: bool) -> None:
    async with opened_storage(database_url, store=StoreKind.ROWS) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
        if is_drained:
            await storage.drains.drainer.drain_all()
    with pytest.raises(DatabaseRefusedError, match=r"in the store `rows`.*migrate-store"):
        async with opened_storage(database_url, store=StoreKind.BLOCKS):
            pass
    async with connected(database_url) as connection:
        assert await recorded_store(connection) == "rows"


async def test_rows_that_were_not_moved_are_noticed(database_url: str) -> None:
    async with drained_rows(database_url) as storage:
        await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
    async with connected(database_url) as connection:
        await connection.execute("UPDATE promcompat.installation SET store = 'blocks'")
    with pytest.raises(
        DatabaseRefusedError, match=r"some samples .* are still rows.*migrate-store"
    ):
        async with opened_storage(database_url, store=None):
            pass


async def test_blocks_are_not_served_as_rows(plain_database_url: str) -> None:
    async with connected(plain_database_url) as connection:
        await choose_store(connection, StoreKind.BLOCKS)
        await add_block_run(connection)
        with pytest.raises(DatabaseRefusedError, match="in the store `blocks`"):
            await choose_store(connection, StoreKind.ROWS)


async def test_a_running_service_notices_another_store(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url, store=StoreKind.ROWS) as storage:
        async with connected(plain_database_url) as connection:
            await choose_store(connection, StoreKind.BLOCKS)
        with pytest.raises(StorageUnavailableError, match="store `blocks`; restart"):
            await storage.store.write_batch("default", make_batch({UP: [(T0, 1.0)]}))
