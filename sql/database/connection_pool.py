"""asyncpg pools whose waits are all bounded."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import asyncpg

from promcompat.core.errors import (
    ConnectionLostError,
    PromcompatError,
    StorageUnavailableError,
)
from sql.database.connecting import (
    CONNECT_FAULTS,
    CONNECT_SECONDS,
    GOODBYE_SECONDS,
    NO_TRANSACTION_TIMEOUT,
    SCHEMA,
    SESSION_DEFAULTS,
    BoundedConnection,
    connect_fault,
)
from sql.database.driver_errors import (
    CONNECTION_FAULTS,
    DRIVER_ERRORS,
    TRANSIENT_ERRORS,
    UNAVAILABLE,
    describe_error,
    log_fault,
    translated_errors,
)
from sql.query_loader import load_queries

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy

Initialise = Callable[[asyncpg.Connection], Awaitable[None]]
ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")
SettingsOf = Callable[[], Mapping[str, str]]

_LOGGER = logging.getLogger(__name__)
_GRACE_SECONDS: Final = 10.0
"""How much longer than the server the client waits, so that usually the server cancels."""
_TRUSTED_IDLE_SECONDS: Final = 1.0
"""A connection that was idle for longer is pinged before it is used."""
_CHECK_SECONDS: Final = 2.0
_QUERIES: Final = load_queries("database")
_NO_FREE_CONNECTION: Final = "the database has no free connection; try again"
_ALL_IN_USE: Final = "all connections to the database are in use; try again"
_FULL_PAUSE_SECONDS: Final = 0.25
"""How long after the server refused a further connection one of our own is looked for again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How many connections a pool has, and how long it waits for the database.

    The server enforces `statement_timeout_seconds`; the client gives up a little later, in case the
    connection was lost silently. The server ends a transaction that is idle for
    `idle_in_transaction_seconds`, which releases the locks of a vanished client. With
    `keeps_sessions` a connection is returned without a reset, which saves a round trip; it is for
    users that leave no settings, locks or cursors behind. Otherwise each reset also applies
    `reset_settings`, in the same round trip.
    """

    max_size: int
    connect_timeout_seconds: float = CONNECT_SECONDS
    statement_timeout_seconds: float = 60.0
    idle_in_transaction_seconds: float = 60.0
    application_name: str = "promcompat"
    keeps_sessions: bool = False
    reset_settings: SettingsOf = dict
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def limit_seconds(self) -> float:
        """How long the client waits for one statement, or for a connection to become free."""
        return self.statement_timeout_seconds + min(_GRACE_SECONDS, self.statement_timeout_seconds)

    def server_settings(self) -> Mapping[str, str]:
        """What every session sets.

        The search path of the role or database has no effect. `public` comes after our schema: it
        has the functions that remediations call. JIT costs more than it saves on statements this
        short. A generic plan would include every partition, while constants exclude all but a few.
        """
        return {
            **SESSION_DEFAULTS,
            "search_path": f"{SCHEMA}, pg_temp, public",
            "application_name": self.application_name,
            "statement_timeout": _milliseconds(self.statement_timeout_seconds),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle_in_transaction_seconds),
            "jit": "off",
            "plan_cache_mode": "force_custom_plan",
            **self.extra_settings,
        }


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


class Pool:
    """Connections to one database; opened by `open_pool`, used through `acquired`."""

    def __init__(
        self, dsn: str, options: PoolOptions, initialise: Initialise | None = None
    ) -> None:
        """`initialise` is awaited with each new connection before it is used."""
        self._options = options
        self._initialise = initialise
        self._dsn = dsn
        self._taken: dict[Connection, float] = {}
        self._kept: list[tuple[Connection, float]] = []
        self._n_waiting = 0
        self._companions: list[Pool] = []
        self._trusted_since = 0.0
        self.connected_at = 0.0
        """When it last made a connection, a time of the monotonic clock; 0 before the first one."""
        self._silent_at: float | None = None
        # `min_size` is 0 because asyncpg 0.32 logs a traceback for each failed attempt to restore a
        # connection, twenty a second while the database is down.
        self._connections = asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=options.max_size,
            init=self._prepare,
            server_settings=dict(options.server_settings()),
            timeout=options.connect_timeout_seconds,
            command_timeout=GOODBYE_SECONDS,
            connection_class=BoundedConnection,
            reset=self._reset,
        )

    def accompany(self, other: "Pool") -> None:
        """From now on, connections that one of the two cannot trust are retired in both.

        For pools that serve the same callers: what failed in one is tried again in the other.
        """
        self._companions.append(other)
        other._companions.append(self)

    async def open(self, *, connects: bool = True) -> None:
        """Must be awaited first; `connects` makes it establish a connection.

        Raises DatabaseRefusedError or StorageUnavailableError.
        """
        await self._connections
        if not connects:
            return
        try:
            connection = await self._wait_for_connection()
        except PromcompatError:
            self.terminate()
            raise
        except CONNECT_FAULTS as exc:
            self.terminate()
            raise connect_fault(exc, self._dsn) from exc
        except BaseException:
            self.terminate()
            raise
        await self.give_back(connection)

    async def _prepare(self, connection: BoundedConnection) -> None:
        connection.limit_seconds = self._options.limit_seconds
        self.connected_at = time.monotonic()
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await connection.execute(NO_TRANSACTION_TIMEOUT)
                if self._initialise is not None:
                    await self._initialise(connection)
        except BaseException:
            # asyncpg would close the session gracefully, and wait for an answer.
            connection.terminate()
            raise

    async def _reset(self, connection: BoundedConnection) -> None:
        """Prepare a returned connection for its next use."""
        if not self._options.keeps_sessions:
            await connection.execute(self._reset_query(connection), timeout=GOODBYE_SECONDS)
        connection.idle_since = time.monotonic()

    def _reset_query(self, connection: BoundedConnection) -> str:
        settings = [
            "SET {} = '{}'".format(name, value.replace("'", "''"))
            for name, value in self._options.reset_settings().items()
        ]
        # `RESET ALL` leaves the role as it is; a function that remediates may have set one.
        reset = connection.get_reset_query(), "RESET ROLE", NO_TRANSACTION_TIMEOUT
        return ";\n".join([*reset, *settings])

    @property
    def n_free(self) -> int:
        """How many connections can be taken without waiting for somebody to return one."""
        pool = self._connections
        n_used: int = pool.get_size() - pool.get_idle_size() - len(self._kept)
        return self._options.max_size - n_used

    @property
    def max_size(self) -> int:
        """How many connections it has at most."""
        return self._options.max_size

    @property
    def limit_seconds(self) -> float:
        """How long it waits for a connection to become free."""
        return self._options.limit_seconds

    async def take(self) -> Connection:
        """A connection that answered within the last second; the caller must give it back.

        Raises StorageUnavailableError when none can be had in time.
        """
        while self._kept:
            connection, kept_at = self._kept.pop()
            if not _is_open(connection):
                await self._release(connection)
            elif _was_used_lately(kept_at) or await self._answers(connection):
                self._taken[connection] = time.monotonic()
                return connection
        while True:
            try:
                connection = await self._wait_for_connection()
            except CONNECT_FAULTS as exc:
                if self.n_free <= 0:
                    used = {"pool": self._options.application_name, "connections": self.max_size}
                    _LOGGER.warning("no connection became free in time", extra=used)
                    raise StorageUnavailableError(_ALL_IN_USE) from exc
                log_fault(exc)
                is_full = isinstance(exc, asyncpg.TooManyConnectionsError)
                text = _NO_FREE_CONNECTION if is_full else UNAVAILABLE
                raise StorageUnavailableError(text) from exc
            idle_since = connection.idle_since
            if not idle_since or _was_used_lately(idle_since) or await self._answers(connection):
                self._taken[connection] = time.monotonic()
                return connection

    def _pop_kept(self) -> list[Connection]:
        """All that was kept; what is in use now is not kept afterwards."""
        self._trusted_since = max(self._trusted_since, time.monotonic())
        kept, self._kept = self._kept, []
        return [connection for connection, _ in kept]

    async def _wait_for_connection(self) -> Connection:
        """A free connection, or a new one.

        Where the server allows no further one, one of those that the pool has, if it has any: with
        few of them a service is slow, and still answers.
        """
        self._n_waiting += 1
        try:
            async with asyncio.timeout(self._options.limit_seconds):
                while True:
                    try:
                        return await self._connections.acquire()
                    except asyncpg.TooManyConnectionsError as exc:
                        if not self._connections.get_size():
                            raise
                        log_fault(exc)
                    await asyncio.sleep(_FULL_PAUSE_SECONDS)
        finally:
            self._n_waiting -= 1

    async def _answers(self, connection: Connection) -> bool:
        """Whether a connection can be used; one that cannot is removed from the pool."""
        try:
            await connection.execute(_QUERIES["ping"], timeout=_CHECK_SECONDS)
        except (asyncpg.PostgresError, *CONNECTION_FAULTS) as exc:
            if isinstance(exc, TimeoutError):
                self._silent_at = time.monotonic()
            await self.drop(connection, with_others=True)
            return False
        except BaseException:
            await self.drop(connection)
            raise
        return True

    def pop_silence(self) -> float | None:
        """When an idle connection last turned out to be dead without a word, once; None if never.

        A time of the monotonic clock.
        """
        silent_at, self._silent_at = self._silent_at, None
        return silent_at

    async def give_back(self, connection: Connection, *, is_sound: bool = False) -> None:
        """Return a connection; one that cannot be reset in time is dropped, without an error.

        Work that was committed on it is not affected. `is_sound`: its last use ended without an
        error, so it may be kept for the next one. The driver takes 0.15 ms for a release and an
        acquisition, as long as for a short statement.
        """
        taken_at = self._taken.pop(connection, 0.0)
        if is_sound and self._may_keep(connection, taken_at):
            self._kept.append((connection, time.monotonic()))
        else:
            await self._release(connection)

    def _may_keep(self, connection: Connection, taken_at: float) -> bool:
        if not self._options.keeps_sessions or self._n_waiting or taken_at <= self._trusted_since:
            return False
        return _is_open(connection) and not connection.is_in_transaction()

    async def _release(self, connection: Connection) -> None:
        try:
            await self._connections.release(connection, timeout=GOODBYE_SECONDS)
        except (asyncpg.PostgresError, *CONNECTION_FAULTS) as exc:
            _LOGGER.warning("connection not reset", extra={"reason": describe_error(exc)})

    async def drop(self, connection: Connection, *, with_others: bool = False) -> None:
        """Abort a connection; `with_others` retires all other present connections as well.

        So are those of companions. Always after a fault: asyncpg 0.32 gives back to the pool a
        connection that was killed during a COPY; it answers every command with an internal error.
        """
        _abort(connection)
        if with_others:
            for pool in (self, *self._companions):
                await pool._expire()

    async def _expire(self) -> None:
        """Have all present connections replaced before their next use.

        Those that were kept are aborted: to end their sessions would mean to wait for the answer of
        one dead connection after the other.
        """
        await self._connections.expire_connections()
        for connection in self._pop_kept():
            _abort(connection)

    async def cut_busy(self, taken_before: float) -> None:
        """Abort connections taken before a time of the monotonic clock and still in use."""
        dead = [taken for taken, taken_at in self._taken.items() if taken_at < taken_before]
        for connection in filter(_is_open, dead):
            connection.cut()
        if dead:
            _LOGGER.warning("dead connections closed", extra={"connections": len(dead)})
            await self._expire()

    async def close(self, timeout_seconds: float = GOODBYE_SECONDS) -> None:
        """Close once running statements end; abort connections that take longer."""
        try:
            async with asyncio.timeout(timeout_seconds):
                self._trusted_since = inf
                for connection in self._pop_kept():
                    await self._release(connection)
                await self._connections.close()
        except TimeoutError:
            self.terminate()

    def terminate(self) -> None:
        """Abort all connections."""
        self._connections.terminate()


async def open_pool(dsn: str, options: PoolOptions, initialise: Initialise | None = None) -> Pool:
    """A pool with one live connection.

    Raises DatabaseRefusedError when there can never be one, StorageUnavailableError when there is
    none now.
    """
    pool = Pool(dsn, options, initialise)
    await pool.open()
    return pool


def acquired(pool: Pool) -> "Acquired":
    """A connection of the pool, with driver errors translated."""
    return Acquired(pool)


class Acquired:
    """A connection that is taken for the time of an `async with` block.

    Not a generator, because each query takes at least one.
    """

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        pool, connection = self._pool, self._connection
        if exc is None:
            await pool.give_back(connection, is_sound=True)
            return
        with translated_errors():
            try:
                if isinstance(exc, TRANSIENT_ERRORS):
                    is_fault = isinstance(exc, CONNECTION_FAULTS)
                    await pool.drop(connection, with_others=is_fault)
            finally:
                await pool.give_back(connection)
            if isinstance(exc, DRIVER_ERRORS):
                raise exc
        # All others go on by themselves: an exit stack makes an error that is raised again here its
        # own context, and the next one follows that for ever.


def read_again(
    read: Callable[ParametersT, Coroutine[Any, Any, ResultT]],
) -> Callable[ParametersT, Coroutine[Any, Any, ResultT]]:
    """Repeat a read once on a new connection when its connection was lost."""

    @functools.wraps(read)
    async def repeated(*args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        try:
            return await read(*args, **kwargs)
        except ConnectionLostError:
            return await read(*args, **kwargs)

    return repeated


def _was_used_lately(used_at: float) -> bool:
    return time.monotonic() - used_at < _TRUSTED_IDLE_SECONDS


def _abort(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # The driver may have noticed already.
        connection.terminate()


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # The driver took it back when the server closed it.
        return False
