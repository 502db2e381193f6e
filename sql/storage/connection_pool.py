"""asyncpg pools, and the one place where driver errors become ours."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import asyncpg

from promcompat.core.errors import PromcompatError, QueryTimeoutError, StorageUnavailableError
from sql.catalog import SCHEMA

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool

Initialise = Callable[[asyncpg.Connection], Awaitable[None]]

_RETRY_SECONDS: Final = 0.2
_CONNECT_ATTEMPT_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 10.0
"""How much longer than the server we wait: a connection that is silently cut must end too."""
_TRANSIENT: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectInUseError,
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,
)
"""Faults that go away: the sender retries and nothing is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How many connections a pool has, and how long it waits for the database.

    `statement_timeout_seconds` is enforced by the server; 0 means none. With
    `has_command_timeout` the client gives up a little later too, should the connection be cut
    silently; it costs a task for each 7 kB that come in, so only writers have it. With
    `keeps_sessions` a connection goes back as it is, which saves a round trip each time: for users
    that leave no settings, locks or cursors behind.
    """

    max_size: int
    connect_timeout_seconds: float = 30.0
    statement_timeout_seconds: float = 0.0
    application_name: str = "promcompat"
    has_command_timeout: bool = False
    keeps_sessions: bool = False
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def command_timeout_seconds(self) -> float | None:
        """How long the client waits for any one command, if it has a limit."""
        if not self.has_command_timeout or self.statement_timeout_seconds <= 0:
            return None
        return self.statement_timeout_seconds + _GRACE_SECONDS

    def server_settings(self) -> Mapping[str, str]:
        """What every session sets.

        Nothing depends on what the role or the database has for a search path. `public` comes after
        our schema: the functions that remediations call live there. JIT costs more than it gives on
        statements this short. A generic plan would hold every
        partition there is, where constants exclude all but a few.
        """
        return {
            "timezone": "UTC",
            "search_path": f"{SCHEMA}, pg_temp, public",
            "application_name": self.application_name,
            "statement_timeout": str(round(self.statement_timeout_seconds * 1000)),
            "jit": "off",
            "standard_conforming_strings": "on",
            "plan_cache_mode": "force_custom_plan",
            **self.extra_settings,
        }


async def open_pool(dsn: str, options: PoolOptions, initialise: Initialise | None = None) -> Pool:
    """A pool with one live connection; retries until the database answers or time is up.

    Raises StorageUnavailableError after `connect_timeout_seconds`.
    """
    deadline = time.monotonic() + options.connect_timeout_seconds
    while True:
        try:
            return await _connect_pool(dsn, options, initialise)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as exc:
            if time.monotonic() >= deadline:
                raise StorageUnavailableError(f"cannot connect to the database: {exc}") from exc
            await asyncio.sleep(_RETRY_SECONDS)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as exc:
            raise StorageUnavailableError(f"cannot connect to the database: {exc}") from exc


async def _connect_pool(dsn: str, options: PoolOptions, initialise: Initialise | None) -> Pool:
    """One attempt. No connection is kept for its own sake: asyncpg 0.32 logs a traceback for each
    failed attempt to restore one, twenty a second while the database is down.
    """
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=options.max_size,
        init=initialise,
        server_settings=dict(options.server_settings()),
        timeout=_CONNECT_ATTEMPT_SECONDS,
        command_timeout=options.command_timeout_seconds,
        reset=_keep_session if options.keeps_sessions else None,
    )
    try:
        async with pool.acquire():
            return pool
    except BaseException:
        pool.terminate()
        raise


async def _keep_session(_connection: Connection) -> None:
    """In place of asyncpg's statement that resets a session: a round trip less."""


async def close_pool(pool: Pool, timeout_seconds: float = 10.0) -> None:
    """Close after running statements end; connections that take longer are cut."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await pool.close()
    except TimeoutError:
        pool.terminate()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn driver errors into ours.

    A statement that the server cut for its time is QueryTimeoutError; what will pass is
    StorageUnavailableError; the rest is a fault of ours, PromcompatError.
    """
    try:
        yield
    except asyncpg.QueryCanceledError as exc:
        raise QueryTimeoutError("query timed out in expression evaluation") from exc
    except _TRANSIENT as exc:
        if isinstance(exc, ValueError):  # A parameter the driver could not encode.
            raise PromcompatError(f"the driver refused a value: {_describe(exc)}") from exc
        raise StorageUnavailableError(f"the database cannot answer: {_describe(exc)}") from exc
    except asyncpg.PostgresError as exc:
        raise PromcompatError(f"the database refused a statement: {_describe(exc)}") from exc


@asynccontextmanager
async def acquired(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool, with driver errors translated.

    After a fault of the connection it is thrown away: asyncpg 0.32 gives a connection that was
    killed during a COPY back to the pool, where it answers every command with an internal error.
    """
    with translated_errors():
        async with pool.acquire() as connection:
            try:
                yield connection
            except _TRANSIENT:
                with suppress(asyncpg.InterfaceError):  # The pool may have noticed by itself.
                    connection.terminate()
                raise


def _describe(exc: BaseException) -> str:
    state = getattr(exc, "sqlstate", None)
    text = str(exc) or type(exc).__name__
    return f"{text} (SQLSTATE {state})" if state else text
