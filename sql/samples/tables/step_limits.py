"""Bounds the steps of maintenance in time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sql.database.connection_pool import Connection
from sql.database.driver_errors import translated_errors
from sql.query_loader import load_queries

_LIMIT_STEP: Final = load_queries("maintenance")["limit_step"]
_STEP_SECONDS: Final = 300
CLIENT_SECONDS: Final = _STEP_SECONDS + 10.0
"""How long the client waits for a step: a little longer than the server works on it."""
_LOCK_MS: Final = 500
"""Other sessions queue behind a step that waits for an exclusive lock."""


async def limit_step(connection: Connection, *, is_local: bool) -> None:
    """Bound statements and waits for locks, in this transaction or in the whole session."""
    await connection.fetchrow(_LIMIT_STEP, str(_STEP_SECONDS * 1000), str(_LOCK_MS), is_local)


@asynccontextmanager
async def limited_transaction(connection: Connection) -> AsyncIterator[None]:
    """A transaction whose statements are bounded, with driver errors translated."""
    with translated_errors():
        async with connection.transaction():
            await limit_step(connection, is_local=True)
            yield
