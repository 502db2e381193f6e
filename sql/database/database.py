"""The database of a process: its connections, what it can do, and whether it is still the same."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final, Self

import asyncpg

from sql.database.capabilities import Capabilities, detect_capabilities
from sql.database.connecting import CONNECT_SECONDS
from sql.database.connection_pool import Pool, PoolOptions, acquired, open_pool, read_again
from sql.database.installation_guard import EPOCH_SETTING, NO_EPOCH, InstallationGuard
from sql.database.liveness import Heartbeat, Readiness
from sql.database.reader_priority import lower_priority
from sql.database.rows import fetch_many
from sql.database.tenants import Tenants

_WRITER_SETTINGS: Final = {"timescaledb.enable_chunk_append": "off"}
"""Looking up stored rows probes each one's chunk; ChunkAppend takes 6 µs to choose it, an index
probe 2. Plain PostgreSQL accepts the setting without knowing it."""
_READER_SETTINGS: Final = {"timescaledb.enable_runtime_exclusion": "off"}
"""Statements name their chunks by constants; choosing again in each probe took twice the time."""


_KEPT_PLANS: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
"""For the same few statements again and again, by keys: planning them took longer than running
them. A plan must not depend on how little a table had when it was made."""
_POOLS: Final = (
    "write_connections",
    "read_connections",
    "log_connections",
    "question_connections",
    "alert_connections",
)
_LEAST_OF_A_POOL: Final = 2
_SINGLE_CONNECTIONS: Final = 3
"""Of readiness, of the heartbeat, and of the election of who scrapes."""
LEAST_CONNECTIONS: Final = len(_POOLS) * _LEAST_OF_A_POOL + _SINGLE_CONNECTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """How many connections a process has, and how long it waits on them.

    A connection counts as dead after `heartbeat_seconds` without an answer to a trivial question.
    `query_timeout_seconds` bounds how long the server works on one statement of a query. With
    `is_own_server` the server runs on this machine for us alone, and its readers run at a lower
    priority than its writers. At most `max_tenants` tenants are created.
    """

    write_connections: int = 4
    read_connections: int = 8
    log_connections: int = 4
    question_connections: int = 4
    alert_connections: int = 8
    connect_timeout_seconds: float = CONNECT_SECONDS
    heartbeat_seconds: float = CONNECT_SECONDS
    write_timeout_seconds: float = 60.0
    query_timeout_seconds: float = 120.0
    is_own_server: bool = False
    max_tenants: int = 1000

    @property
    def most_connections(self) -> int:
        """How many connections the process has at most."""
        sizes: list[int] = [getattr(self, name) for name in _POOLS]
        return sum(sizes) + _SINGLE_CONNECTIONS

    def within(self, allowed: int) -> Self:
        """The same with pools that together have `allowed` connections at most.

        Each keeps two: what holds one may need another. Pools that took what the server has would
        leave none for those that were opened later. Raises ValueError below `LEAST_CONNECTIONS`.
        """
        if allowed < LEAST_CONNECTIONS:
            raise ValueError(f"{allowed} connections are fewer than {LEAST_CONNECTIONS}")
        if allowed >= self.most_connections:
            return self
        spare, wanted = allowed - LEAST_CONNECTIONS, self.most_connections - LEAST_CONNECTIONS
        sizes = {
            name: _LEAST_OF_A_POOL + (getattr(self, name) - _LEAST_OF_A_POOL) * spare // wanted
            for name in _POOLS
        }
        return replace(self, **sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """What every repository of a process works on.

    Writes and reads have separate pools, so that no query keeps a sender waiting. `log_pool` is for
    appending to the log of arrivals. `question_pool` is for the short questions of queries: what
    was appended, and pages of few series. The plans of these two are kept.
    """

    write_pool: Pool
    read_pool: Pool
    log_pool: Pool
    question_pool: Pool
    readiness: Readiness
    heartbeat: Heartbeat
    guard: InstallationGuard
    capabilities: Capabilities
    tenants: Tenants
    options: DatabaseOptions

    @classmethod
    async def open(cls, url: str, options: DatabaseOptions | None = None) -> "Database":
        """Connect to a migrated database.

        Raises DatabaseRefusedError when that can never succeed, and StorageUnavailableError when
        the database does not answer now or is not migrated.
        """
        chosen, guard = options or DatabaseOptions(), InstallationGuard()
        async with AsyncExitStack() as opened:
            write_pool = await _open_write_pool(url, chosen, guard)
            opened.push_async_callback(write_pool.close)
            read_pool = await _open_read_pool(url, chosen, guard)
            opened.push_async_callback(read_pool.close)
            log_pool = await _open_log_pool(url, chosen, guard)
            opened.push_async_callback(log_pool.close)
            question_pool = await _open_question_pool(url, chosen, guard)
            opened.push_async_callback(question_pool.close)
            read_pool.accompany(question_pool)
            async with acquired(write_pool) as connection:
                capabilities = await detect_capabilities(connection)
            readiness = await Readiness.open(url, guard.check)
            opened.push_async_callback(readiness.close)
            heartbeat = await Heartbeat.open(url, guard.check, chosen.heartbeat_seconds)
            opened.pop_all()
        for pool in (write_pool, read_pool, log_pool, question_pool):
            heartbeat.watch(pool)
        tenants = Tenants(write_pool, read_pool, chosen.max_tenants)
        guard.on_step_back(tenants.forget)
        return cls(
            write_pool=write_pool,
            read_pool=read_pool,
            log_pool=log_pool,
            question_pool=question_pool,
            readiness=readiness,
            heartbeat=heartbeat,
            guard=guard,
            capabilities=capabilities,
            tenants=tenants,
            options=chosen,
        )

    @read_again
    async def rows_of(self, tenant: str, statement: str, *values: object) -> list[asyncpg.Record]:
        """The rows of a reading statement whose $1 is the tenant's id; none of unknown tenants."""
        tenant_id = await self.tenants.find(tenant)
        if tenant_id is None:
            return []
        async with acquired(self.read_pool) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, tenant_id, *values)
        return rows

    @read_again
    async def many_rows_of(
        self, tenant: str, statement: str, *values: object
    ) -> list[asyncpg.Record]:
        """The same for statements that may give tens of thousands."""
        tenant_id = await self.tenants.find(tenant)
        if tenant_id is None:
            return []
        async with acquired(self.read_pool) as connection, connection.transaction():
            return await fetch_many(connection, statement, tenant_id, *values)

    async def row_of(self, tenant: str, statement: str, *values: object) -> asyncpg.Record | None:
        """The first row of such a statement."""
        return next(iter(await self.rows_of(tenant, statement, *values)), None)

    async def change_of(
        self, tenant: str, statement: str, *values: object
    ) -> asyncpg.Record | None:
        """The row that a changing statement, whose $1 is the tenant's id, returns.

        None for an unknown tenant too: it has nothing to change.
        """
        tenant_id = await self.tenants.find(tenant)
        if tenant_id is None:
            return None
        async with acquired(self.write_pool) as connection:
            return await connection.fetchrow(statement, tenant_id, *values)

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(
            self.readiness.close(),
            self.heartbeat.close(),
            self.read_pool.close(),
            self.write_pool.close(),
            self.log_pool.close(),
            self.question_pool.close(),
        )


async def _open_write_pool(url: str, options: DatabaseOptions, guard: InstallationGuard) -> Pool:
    pool_options = PoolOptions(
        max_size=options.write_connections,
        connect_timeout_seconds=options.connect_timeout_seconds,
        statement_timeout_seconds=options.write_timeout_seconds,
        application_name="promcompat write",
        reset_settings=lambda: {EPOCH_SETTING: guard.known_epoch},
        extra_settings=_WRITER_SETTINGS | {EPOCH_SETTING: NO_EPOCH},
    )
    return await open_pool(url, pool_options, guard.check_writer)


async def _open_read_pool(url: str, options: DatabaseOptions, guard: InstallationGuard) -> Pool:
    async def prepare(connection: asyncpg.Connection) -> None:
        await guard.check(connection)
        if options.is_own_server:
            await lower_priority(connection)

    pool_options = PoolOptions(
        max_size=options.read_connections,
        connect_timeout_seconds=options.connect_timeout_seconds,
        statement_timeout_seconds=options.query_timeout_seconds,
        application_name="promcompat read",
        keeps_sessions=True,
        extra_settings=_READER_SETTINGS,
    )
    return await open_pool(url, pool_options, prepare)


async def _open_log_pool(url: str, options: DatabaseOptions, guard: InstallationGuard) -> Pool:
    pool_options = PoolOptions(
        max_size=options.log_connections,
        connect_timeout_seconds=options.connect_timeout_seconds,
        statement_timeout_seconds=options.write_timeout_seconds,
        application_name="promcompat log",
        keeps_sessions=True,
        extra_settings=_KEPT_PLANS,
    )
    return await _open_when_used(url, pool_options, guard)


async def _open_question_pool(url: str, options: DatabaseOptions, guard: InstallationGuard) -> Pool:
    pool_options = PoolOptions(
        max_size=options.question_connections,
        connect_timeout_seconds=options.connect_timeout_seconds,
        statement_timeout_seconds=options.query_timeout_seconds,
        application_name="promcompat question",
        keeps_sessions=True,
        extra_settings=_KEPT_PLANS | _READER_SETTINGS,
    )
    return await _open_when_used(url, pool_options, guard)


async def _open_when_used(url: str, options: PoolOptions, guard: InstallationGuard) -> Pool:
    """A pool that connects when it is first used: not every command needs it."""
    pool = Pool(url, options, guard.check)
    await pool.open(connects=False)
    return pool
