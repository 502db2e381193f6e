"""Opening the PostgreSQL storage on a test database."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg

from sql.database.database import DatabaseOptions
from sql.migrate import migrate
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import DEFAULT_STORE, StorageOptions, StoreKind


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


@asynccontextmanager
async def migrated_storage(url: str) -> AsyncIterator[MetricStorage]:
    """Storage on a database that is migrated first, closed at the end."""
    await migrate(url, discard)
    async with opened_storage(url) as storage:
        yield storage
