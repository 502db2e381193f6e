"""Deletes rows of samples in bounded steps, and bounds the other steps of maintenance."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from sql.catalog import TimeBounds
from sql.database.connection_pool import Connection, translated_errors
from sql.query_loader import load_queries
from sql.samples.tables.sample_table import sql_bounds

_DELETE_SAMPLES: Final = load_queries("samples")["delete_samples"]
_LIMIT_STEP: Final = load_queries("maintenance")["limit_step"]
_SERIES_PER_STATEMENT: Final = 100
"""With a chunk of a day and samples every 15 s, half a million rows in a transaction."""
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


async def delete_samples(
    connection: Connection, tenant_id: int, series_ids: Sequence[int], bounds: TimeBounds
) -> int:
    """Delete the samples of a tenant's series within bounds; returns how many.

    After a failure the samples deleted until then stay deleted.
    """
    n_deleted = 0
    for start in range(0, len(series_ids), _SERIES_PER_STATEMENT):
        some = series_ids[start : start + _SERIES_PER_STATEMENT]
        async with limited_transaction(connection):
            n_deleted += await connection.fetchval(
                _DELETE_SAMPLES, some, tenant_id, *sql_bounds(bounds), timeout=CLIENT_SECONDS
            )
    return n_deleted
