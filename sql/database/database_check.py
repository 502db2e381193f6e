"""Checks before its use that a database is usable, and that no pooler is in front of it."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from promcompat.core.errors import DatabaseRefusedError
from sql.database.connecting import (
    CONNECT_FAULTS,
    CONNECT_SECONDS,
    GOODBYE_SECONDS,
    BoundedConnection,
    connect_fault,
    describe_place,
)
from sql.database.connection_pool import PoolOptions
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("database")
_OPTIONS: Final = PoolOptions(max_size=2, application_name="promcompat check")
_EXCHANGES: Final = 5
_PROBED_SETTINGS: Final = ("search_path", "plan_cache_mode", "application_name")
_LOST_SETTINGS: Final = (
    "a connection pooler (PgBouncer) discards our session settings; connect to PostgreSQL directly"
)
_SHARED_SESSIONS: Final = (
    "a connection pooler in transaction mode shares our sessions with other clients, which "
    "breaks settings, locks and prepared statements; connect to PostgreSQL directly"
)
_STANDBY: Final = (
    "it is a read-only standby; use the primary, or list several hosts with "
    "?target_session_attrs=read-write"
)
_READ_ONLY: Final = (
    "it is read-only by the setting default_transaction_read_only of the server, the database or "
    "the user; hosted databases set it when their disk is full. Turn it off, for example by ALTER "
    "DATABASE … RESET default_transaction_read_only"
)


async def check_database(dsn: str) -> None:
    """Return if promcompat can work with the database at `dsn`.

    Raises DatabaseRefusedError when it never can: a wrong password, an unknown database, a standby,
    a pooler that does not keep sessions. Raises StorageUnavailableError when it cannot now.
    """
    connections: list[BoundedConnection] = []
    try:
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            connections.append(await _connect(dsn))
            connections.append(await _connect(dsn))
            refusal = await _refusal(connections)
    except CONNECT_FAULTS as exc:
        raise connect_fault(exc, dsn) from exc
    finally:
        for connection in connections:
            await connection.close()
    if refusal is not None:
        raise DatabaseRefusedError(f"cannot use {describe_place(dsn)}: {refusal}")


async def allowed_connections(dsn: str) -> int:
    """How many connections the server allows the role of `dsn` at once, whoever has them now.

    Errors as in `check_database`.
    """
    try:
        async with asyncio.timeout(2 * CONNECT_SECONDS):
            connection = await _connect(dsn)
            try:
                allowed: int = await connection.fetchval(_QUERIES["connection_limit"])
            finally:
                await connection.close()
    except CONNECT_FAULTS as exc:
        raise connect_fault(exc, dsn) from exc
    return allowed


async def _connect(dsn: str) -> BoundedConnection:
    connection: BoundedConnection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS,
        command_timeout=GOODBYE_SECONDS,
        connection_class=BoundedConnection,
        server_settings=dict(_OPTIONS.server_settings()),
        # A pooler may lose a prepared statement before it is executed.
        statement_cache_size=0,
    )
    return connection


async def _refusal(connections: Sequence[BoundedConnection]) -> str | None:
    try:
        if await _share_sessions(connections):
            return _SHARED_SESSIONS
        wanted = _OPTIONS.server_settings()
        for name in _PROBED_SETTINGS:
            if await connections[0].fetchval(_QUERIES["session_setting"], name) != wanted[name]:
                return _LOST_SETTINGS
        state = await connections[0].fetchrow(_QUERIES["is_read_only"])
        if state["is_read_only"]:
            return _STANDBY if state["is_standby"] else _READ_ONLY
    except asyncpg.InvalidSQLStatementNameError:
        return _SHARED_SESSIONS
    return None


async def _share_sessions(connections: Sequence[BoundedConnection]) -> bool:
    """Whether two connections that are open at once were served by one backend process."""
    pids: list[set[int]] = [set() for _ in connections]
    for _ in range(_EXCHANGES):
        for connection, seen in zip(connections, pids, strict=True):
            seen.add(await connection.fetchval(_QUERIES["backend_pid"]))
    return bool(pids[0] & pids[1]) or any(len(seen) > 1 for seen in pids)
