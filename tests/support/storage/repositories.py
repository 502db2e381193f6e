"""Opening the PostgreSQL storage on a test database."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import asyncpg

from promcompat.core.corrections import CorrectionRequest, DeleteSamples, SampleScope
from promcompat.core.model import SeriesSelection, WriteBatch
from sql.database.database import DatabaseOptions
from sql.migrate import migrate
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import DEFAULT_STORE, StorageOptions, StoreKind
from sql.samples.stores.arrival_store import ArrivalStore


def store_under_test() -> StoreKind:
    """The store of tests that do not name one: `PROMCOMPAT_STORE=blocks pytest …`.

    Tests with the mark `rows` are about the row store.
    """
    return StoreKind(os.environ.get("PROMCOMPAT_STORE", DEFAULT_STORE))


def discard(_line: str) -> None:
    """Nobody reads the progress of a test's migration."""


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def locked_samples(url: str) -> AsyncIterator[None]:
    """Nobody else reads or writes samples as long as the block lasts."""
    async with connected(url) as connection, connection.transaction():
        await connection.execute(
            "LOCK TABLE sample, arrival, drain_state, sample_run, sample_block "
            "IN ACCESS EXCLUSIVE MODE"
        )
        yield


@asynccontextmanager
async def locked_rows(url: str) -> AsyncIterator[None]:
    """Nobody else reads or writes the table `sample` as long as the block lasts."""
    async with connected(url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE sample IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def opened_storage(url: str, **options: Any) -> AsyncIterator[MetricStorage]:
    """Storage on a migrated database, closed at the end.

    Without pushdown unless asked for. The store is the one of the test run unless given.
    """
    options.setdefault("store", store_under_test())
    of_database = {
        name: options.pop(name) for name in DatabaseOptions.__dataclass_fields__ if name in options
    }
    chosen = replace(StorageOptions(pushdown=PushdownMode.OFF), **options)
    storage = await MetricStorage.open(url, chosen, DatabaseOptions(**of_database))
    try:
        yield storage
    finally:
        await storage.close()


async def drain_and_compact(storage: MetricStorage) -> None:
    """Move everything that has arrived as far as it goes."""
    await storage.drains.drainer.drain_all()
    await storage.drains.compact()


async def delete_samples(storage: MetricStorage, tenant: str, selection: SeriesSelection) -> int:
    """Delete the samples that `select` would return for a selection; returns how many."""
    scope = SampleScope((selection.matchers,), selection.start_ms + 1, selection.end_ms)
    request = CorrectionRequest(DeleteSamples(scope), "tests", "")
    number = await storage.corrections.begin(tenant, request)
    [done], _ = await storage.corrections.list(tenant, number + 1, 1, number)
    return done.affected.n_samples


class DrainedStore:
    """A store whose samples are drained and compacted as soon as they are written."""

    def __init__(self, storage: MetricStorage) -> None:
        self._storage, self._store = storage, storage.store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        try:
            await self._store.write_batch(tenant, batch)
        finally:
            await drain_and_compact(self._storage)


@asynccontextmanager
async def drained_storage(url: str, **options: Any) -> AsyncIterator[MetricStorage]:
    """The same with a store that is always drained."""
    async with opened_storage(url, **options) as storage:
        store = cast(ArrivalStore, DrainedStore(storage))
        yield replace(storage, store=store)


@asynccontextmanager
async def drained_rows(url: str, **options: Any) -> AsyncIterator[MetricStorage]:
    """The same with rows."""
    async with drained_storage(url, store=StoreKind.ROWS, **options) as storage:
        yield storage


@asynccontextmanager
async def migrated_storage(url: str) -> AsyncIterator[MetricStorage]:
    """Storage on a database that is migrated first, closed at the end."""
    await migrate(url, discard)
    async with opened_storage(url) as storage:
        yield storage
