"""Brings a database to the schema of this code: forward only, one transaction a step."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import asyncpg

from promcompat.core.errors import PromcompatError, StorageUnavailableError
from sql.query_loader import SqlFile, load_migrations, load_queries, load_routines

_QUERIES: Final = load_queries("migration")
_MIN_SERVER_VERSION: Final = 150000

Report = Callable[[str], None]


class MigrationError(PromcompatError):
    """The database cannot be brought to the schema of this code; the message says what to do."""


async def migrate(
    dsn: str,
    report: Report,
    *,
    use_timescaledb: bool | None = None,
    chunk_days: int = 1,
    migrations: Sequence[SqlFile] | None = None,
) -> int:
    """Apply what is missing and return the schema version; `report` is told of each step.

    `use_timescaledb`: None creates the extension where the server has it, False stays on plain
    PostgreSQL, True insists on it. It decides only before the first migration. `chunk_days` is
    the width of chunks made from now on (hypertables only). Safe to run from several processes
    at once: the second waits for the first. Raises MigrationError or StorageUnavailableError.
    """
    steps = load_migrations() if migrations is None else migrations
    connection = await _connect(dsn)
    try:
        await connection.execute(_QUERIES["acquire_migration_lock"])
        version = await _migrate_locked(dsn, connection, report, use_timescaledb, steps)
        if (await _extension_state(connection))["created"]:
            await _set_chunk_interval(connection, chunk_days)
        return version
    except asyncpg.PostgresError as exc:
        raise MigrationError(f"the migration failed: {exc}") from exc
    except (OSError, asyncpg.InterfaceError) as exc:
        raise StorageUnavailableError(f"the database went away: {exc}") from exc
    finally:
        await connection.close(timeout=5)


async def _connect(dsn: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as exc:
        raise StorageUnavailableError(f"cannot connect to the database: {exc}") from exc


async def _migrate_locked(
    dsn: str,
    connection: asyncpg.Connection,
    report: Report,
    use_timescaledb: bool | None,
    steps: Sequence[SqlFile],
) -> int:
    state = await _extension_state(connection)
    _check_server(state)
    if not await connection.fetchval(_QUERIES["has_migration_table"]):
        await _choose_edition(dsn, state, use_timescaledb, report)
    await connection.execute(_QUERIES["create_migration_table"])
    applied = {
        row["version"]: row["checksum"]
        for row in await connection.fetch(_QUERIES["applied_migrations"])
    }
    _check_applied(applied, steps)
    for step in steps:
        if step.version not in applied:
            report(f"migration {step.version:04d} {step.name}")
            await _apply_step(connection, step)
    await _apply_routines(connection, report)
    return max((step.version for step in steps), default=0)


async def _extension_state(connection: asyncpg.Connection) -> asyncpg.Record:
    state = await connection.fetchrow(_QUERIES["extension_state"])
    if state is None:
        raise MigrationError("the database did not say what it is")
    return state


def _check_server(state: asyncpg.Record) -> None:
    if state["server_version"] < _MIN_SERVER_VERSION:
        raise MigrationError("PostgreSQL 15 or newer is needed")
    if state["encoding"] != "UTF8":
        raise MigrationError(
            f"the database has the encoding {state['encoding']}; label values need UTF8"
        )


async def _choose_edition(
    dsn: str, state: asyncpg.Record, use_timescaledb: bool | None, report: Report
) -> None:
    """Create the extension before the first migration decides what the sample table is.

    On a connection of its own: without the preload library the server ends the connection. A
    failure is an error, never a silent fall-back, as a plain table cannot become a hypertable.
    """
    if use_timescaledb is False or state["created"]:
        return
    if not state["available"]:
        if use_timescaledb:
            raise MigrationError("TimescaleDB is not installed on this server")
        report("TimescaleDB is not installed on this server: using plain PostgreSQL partitions")
        return
    report("creating the extension timescaledb")
    connection = await _connect(dsn)
    try:
        await connection.execute(_QUERIES["create_extension"])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise MigrationError(
            f"this server has TimescaleDB but the extension could not be created: {exc}. "
            "Put timescaledb into shared_preload_libraries and run CREATE EXTENSION timescaledb "
            "as a superuser, or choose plain PostgreSQL explicitly"
        ) from exc
    finally:
        await connection.close(timeout=5)


def _check_applied(applied: Mapping[int, str], steps: Sequence[SqlFile]) -> None:
    known = {step.version: step for step in steps}
    for version, checksum in applied.items():
        step = known.get(version)
        if step is None:
            raise MigrationError(
                f"the database has migration {version:04d}, which this version of promcompat "
                "does not know: it was migrated by a newer one"
            )
        if step.checksum != checksum:
            raise MigrationError(
                f"migration {version:04d} {step.name} was changed after it had been applied"
            )


async def _apply_step(connection: asyncpg.Connection, step: SqlFile) -> None:
    async with connection.transaction():
        await connection.execute(step.text)
        await connection.execute(
            _QUERIES["record_migration"], step.version, step.name, step.checksum
        )


async def _apply_routines(connection: asyncpg.Connection, report: Report) -> None:
    """Re-apply views and functions when they changed.

    Not every time: replacing a view waits for its readers and makes new ones wait.
    """
    routines = load_routines()
    state = await _extension_state(connection)
    checksums = "".join(routine.checksum for routine in routines)
    checksum = hashlib.sha256(f"{state['created']} {checksums}".encode()).hexdigest()
    await connection.execute(_QUERIES["create_routine_table"])
    if await connection.fetchval(_QUERIES["applied_routines"]) == checksum:
        return
    report("views and functions")
    async with connection.transaction():
        for routine in routines:
            await connection.execute(routine.text)
        await connection.execute(_QUERIES["record_routines"], checksum)


async def _set_chunk_interval(connection: asyncpg.Connection, chunk_days: int) -> None:
    if chunk_days < 1:
        raise MigrationError("chunks are at least one day wide")
    await connection.execute(_QUERIES["set_chunk_interval"], chunk_days)
