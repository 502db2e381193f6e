"""Rows of an older installation become blocks; a move that is stopped goes on where it was."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from promcompat.core.errors import DatabaseRefusedError, StorageUnavailableError
from promcompat.core.model import Labels
from promcompat.core.ports import Store
from sql.database.database import Database
from sql.samples.draining.drainer import DrainOptions
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from sql.samples.store_move import MoveProgress, StoreMove, StoreMoveError
from tests.support.factories import block_rows, make_batch, make_labels, select_name
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
ALL_TIME = (T0 - 40 * DAY_MS, T0 + 40 * DAY_MS)
SERIES = [make_labels("up", instance=f"host{number}") for number in range(4)]


def ignore(_progress: MoveProgress) -> None:
    """Nobody reads the progress."""


async def write_rows(url: str) -> None:
    """Three days of four series, of two tenants."""
    times = [T0 + day * DAY_MS + minute * 60_000 for day in range(3) for minute in range(25)]
    async with opened_storage(url, store=StoreKind.ROWS) as storage:
        for tenant in ("default", "red"):
            batch = {
                labels: [(at, at / 7 + index) for at in times]
                for index, labels in enumerate(SERIES)
            }
            await storage.store.write_batch(tenant, make_batch(batch))


async def samples_of(store: Store, tenant: str) -> dict[Labels, list[tuple[int, int]]]:
    (block,) = await store.select(tenant, [select_name("up", *ALL_TIME)])
    return block_rows(block)


async def samples_in(url: str) -> list[dict[Labels, list[tuple[int, int]]]]:
    async with opened_storage(url, store=None) as storage:
        return [await samples_of(storage.store, tenant) for tenant in ("default", "red")]


@asynccontextmanager
async def opened_move(
    url: str, rows_at_once: int = 70, report: Callable[[MoveProgress], None] = ignore
) -> AsyncIterator[StoreMove]:
    database = await Database.open(url)
    try:
        now_ms = T0 + 3 * DAY_MS
        yield await StoreMove.of(database, DrainOptions(), lambda: now_ms, report, rows_at_once)
    finally:
        await database.close()


async def test_every_row_becomes_a_sample_of_blocks(database_url: str) -> None:
    await write_rows(database_url)
    before = await samples_in(database_url)
    async with opened_move(database_url) as move:
        assert await move.run() == 600
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM promcompat.sample") == 0
        assert await connection.fetchval("SELECT count(*) FROM promcompat.arrival") == 0
        assert await connection.fetchval("SELECT store FROM promcompat.installation") == "blocks"
        assert await connection.fetchval("SELECT count(*) FROM promcompat.store_move") == 0
    assert await samples_in(database_url) == before


class StoppedError(Exception):
    """Stands for a signal."""


def stop_after(n_steps: int) -> Callable[[MoveProgress], None]:
    """A report that stops the move after so many steps."""
    steps = iter(range(1, n_steps))

    def count(_progress: MoveProgress) -> None:
        if next(steps, None) is None:
            raise StoppedError

    return count


async def test_a_stopped_move_goes_on_and_services_are_refused_meanwhile(
    database_url: str,
) -> None:
    await write_rows(database_url)
    before = await samples_in(database_url)
    for n_steps in (1, 2, 4):
        async with opened_move(database_url, report=stop_after(n_steps)) as move:
            with pytest.raises(StoppedError):
                await move.run()
        with pytest.raises(DatabaseRefusedError, match="still rows"):
            await MetricStorage.open(database_url)
    async with opened_move(database_url) as move:
        await move.run()
    assert await samples_in(database_url) == before


async def test_a_running_service_is_refused_when_rows_are_moved(database_url: str) -> None:
    await write_rows(database_url)
    async with opened_storage(database_url, store=StoreKind.ROWS) as storage:
        assert len(await samples_of(storage.store, "default")) == 4
        async with opened_move(database_url) as move:
            await move.run()
        with pytest.raises(StorageUnavailableError, match="store `blocks`; restart"):
            await samples_of(storage.store, "default")
        with pytest.raises(StorageUnavailableError, match="store `blocks`; restart"):
            await storage.store.write_batch("default", make_batch({SERIES[0]: [(T0, 1.0)]}))


async def test_rows_that_somebody_adds_meanwhile_are_not_dropped(plain_database_url: str) -> None:
    await write_rows(plain_database_url)
    async with opened_move(plain_database_url, 1000, stop_after(1)) as move:
        with pytest.raises(StoppedError):
            await move.run()
    async with connected(plain_database_url) as connection:
        await connection.execute(
            """
            INSERT INTO promcompat.sample
            SELECT series_id, ts + interval '1 second', 5
            FROM promcompat.sample ORDER BY series_id, ts LIMIT 1
            """
        )
    async with opened_move(plain_database_url) as move:
        with pytest.raises(StoreMoveError, match=r"201 rows, but 200 were moved"):
            await move.run()
        await move.run()
    default, _ = await samples_in(plain_database_url)
    assert sum(map(len, default.values())) == 301


async def test_there_may_be_nothing_to_move(plain_database_url: str) -> None:
    async with opened_move(plain_database_url) as move:
        assert await move.run() == 0
    async with opened_storage(plain_database_url, store=None) as storage:
        assert storage.rollups is not None, "the store is `blocks`"
