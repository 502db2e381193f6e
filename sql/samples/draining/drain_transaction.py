"""The transaction of drains and compaction: one at a time, bounded, with nothing left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from promcompat.core.errors import PromcompatError, QueryTimeoutError, StorageUnavailableError
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.tables.block_table import QUERIES

_STATEMENT_SECONDS: Final = 60
_IDLE_SECONDS: Final = 30
"""The server ends the transaction of a process that stops within it; folding takes seconds."""
_LOCK_SECONDS: Final = 0.5
_PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)


StepResult = TypeVar("StepResult")


class ChangedMeanwhileError(PromcompatError):
    """Rows that were read are gone: somebody else has moved them. Nothing was changed."""


CONTENT_FAULTS: Final = (
    PromcompatError,
    ArithmeticError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What samples with impossible content may raise, and the state of the database does not."""
PASSING_FAULTS: Final = (StorageUnavailableError, QueryTimeoutError, ChangedMeanwhileError)
"""What may succeed when it is tried again; to be caught first."""

_turns: Final[WeakKeyDictionary[Pool, asyncio.Lock]] = WeakKeyDictionary()


@asynccontextmanager
async def drain_transaction(pool: Pool) -> AsyncIterator[Connection | None]:
    """A transaction that holds the lock of drains and compaction; None if somebody else holds it.

    The lock ends with the transaction, whatever happens to this process or its connection. Callers
    with the same pool take turns: a drain begins after the step of compaction that is running.
    """
    turn = _turns.setdefault(pool, asyncio.Lock())
    async with turn, acquired(pool) as connection, connection.transaction():
        await connection.execute(
            QUERIES["limit_drain"],
            *(
                str(round(1000 * seconds))
                for seconds in (_STATEMENT_SECONDS, _IDLE_SECONDS, _LOCK_SECONDS)
            ),
        )
        if await connection.fetchval(QUERIES["try_drain_lock"]):
            yield connection
        else:
            yield None


async def in_drain_transaction(
    pool: Pool, step: Callable[[Connection], Awaitable[StepResult]]
) -> StepResult:
    """The result of a step in a transaction of its own.

    It is repeated while others hold the lock of drains, or what else it needs: drains, compaction
    and readers proceed in the pauses. Raises StorageUnavailableError when they leave no moment.
    """
    for pause_seconds in _PAUSES_SECONDS:
        with suppress(StorageUnavailableError):
            return await _attempt(pool, step)
        await asyncio.sleep(pause_seconds)
    return await _attempt(pool, step)


async def _attempt(pool: Pool, step: Callable[[Connection], Awaitable[StepResult]]) -> StepResult:
    async with drain_transaction(pool) as connection:
        if connection is None:
            raise StorageUnavailableError("another process drains or compacts; try again")
        return await step(connection)


async def change_exactly(connection: Connection, name: str, n_rows: int, *args: object) -> None:
    """Run a statement that returns how many rows it changed; raises unless it is `n_rows`."""
    n_changed = await connection.fetchval(QUERIES[name], *args)
    if n_changed != n_rows:
        raise ChangedMeanwhileError(
            f"{name}: {n_changed} rows are left of {n_rows} that were read; nothing was changed"
        )
