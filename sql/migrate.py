"""Migrates a database to the schema of this code: forward only, one transaction for each step.

Readers and writers may run meanwhile. A step that changes a table needs a lock that conflicts with
theirs, and while it waits for the lock, later readers and writers queue behind it. So no step waits
longer than `_LOCK_TIMEOUT`: it rolls back, lets the others proceed and tries again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import asyncpg

from promcompat.core.errors import PromcompatError
from sql.database.connecting import (
    CONNECT_FAULTS,
    CONNECT_SECONDS,
    NO_TRANSACTION_TIMEOUT,
    SCHEMA,
    SESSION_DEFAULTS,
    WatchedConnection,
    connect_fault,
)
from sql.query_loader import SqlFile, load_migrations, load_queries, load_routines

_QUERIES: Final = load_queries("migration")
_SET_LOCK_TIMEOUT: Final = load_queries("database")["set_lock_timeout"]
_ENSURE_METRICS_HOURLY: Final = load_queries("maintenance")["ensure_metrics_hourly"]
_MIN_SERVER_VERSION: Final = 150000
_LOCK_TIMEOUT: Final = "500ms"
"""How long one attempt of a step may block writers."""
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SESSION_SETTINGS: Final = {
    # The migration lock ends with the session, also when this machine vanishes.
    **SESSION_DEFAULTS,
    # A migration may take as long as it needs, whatever the role or the database has.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

Report = Callable[[str], None]


class MigrationError(PromcompatError):
    """The database cannot be migrated; the message says what to do."""


async def migrate(
    dsn: str,
    report: Report,
    *,
    use_timescaledb: bool | None = None,
    chunk_days: int = 1,
    migrations: Sequence[SqlFile] | None = None,
    service_role: str | None = None,
) -> int:
    """Apply the missing migrations and return the schema version; `report` gets a line for each.

    `use_timescaledb`: None creates the extension where the server has it, False stays on plain
    PostgreSQL, True requires it. It matters only before the first migration. `chunk_days` is the
    width of new chunks (hypertables only). `service_role` is the role of the service, where that is
    not the one of `dsn`; it gets what it needs. Several processes may call it at once: the second
    waits for the first. Raises MigrationError, DatabaseRefusedError or StorageUnavailableError.
    """
    steps = load_migrations() if migrations is None else migrations
    connection = await _connect(dsn, **_SESSION_SETTINGS)
    try:
        await _acquire_lock(connection, report)
        if migrations is None and await _is_current(connection, steps):
            return max(step.version for step in steps)
        version = await _migrate_locked(dsn, connection, report, use_timescaledb, steps)
        if (await _extension_state(connection))["created"]:
            await _set_chunk_interval(connection, report, chunk_days)
        if migrations is None:
            await _fit_edition(connection, report)
            await _restore_nan_bits(connection, report)
            await _grant_service_role(connection, report, service_role)
        return version
    except asyncpg.PostgresError as exc:
        raise MigrationError(f"the migration failed: {exc}") from exc
    except (OSError, asyncpg.InterfaceError) as exc:
        raise connect_fault(exc, dsn) from exc
    finally:
        await connection.close(timeout=5)


async def _connect(dsn: str, **settings: str) -> asyncpg.Connection:
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_SECONDS,
            connection_class=WatchedConnection,
            server_settings=settings,
        )
        await connection.execute(NO_TRANSACTION_TIMEOUT)
    except CONNECT_FAULTS as exc:
        raise connect_fault(exc, dsn) from exc
    return connection


async def _is_current(connection: asyncpg.Connection, steps: Sequence[SqlFile]) -> bool:
    """Whether the owner of the database has migrated all of it, and lets this role use it.

    Raises MigrationError when a newer version has migrated it.
    """
    home = await connection.fetchrow(_QUERIES["schema_owner"])
    if home is None or home["is_ours"] or not home["is_usable"]:
        return False
    await connection.execute(_QUERIES["session_search_path"])
    if not await connection.fetchval(_QUERIES["has_migration_table"]):
        return False
    try:
        applied = await connection.fetch(_QUERIES["applied_migrations"])
        routines = await connection.fetchval(_QUERIES["applied_routines"])
        keeps_bits = await connection.fetchval(_QUERIES["keeps_nan_bits"])
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedColumnError):
        return False
    found = {row["version"]: row["checksum"] for row in applied}
    _check_applied(found, steps)
    expected = {step.version: step.checksum for step in steps}
    checksum = _routines_checksum(await _extension_state(connection))
    return found == expected and routines == checksum and keeps_bits


async def _acquire_lock(connection: asyncpg.Connection, report: Report) -> None:
    """Wait until no other session migrates this database."""
    pause = _FIRST_PAUSE_SECONDS / 10
    while not await connection.fetchval(_QUERIES["try_migration_lock"]):
        if pause >= _FIRST_PAUSE_SECONDS:
            holder = await connection.fetchval(_QUERIES["migration_lock_holder"])
            report(f"waiting for another migration of this database (session {holder})")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _migrate_locked(
    dsn: str,
    connection: asyncpg.Connection,
    report: Report,
    use_timescaledb: bool | None,
    steps: Sequence[SqlFile],
) -> int:
    state = await _extension_state(connection)
    _check_server(state)
    default_path: str = await connection.fetchval(_QUERIES["default_search_path"])
    await _prepare_schema(connection, report)
    if not await connection.fetchval(_QUERIES["has_migration_table"]):
        await _choose_edition(dsn, state, use_timescaledb, report)
    await connection.execute(_QUERIES["session_search_path"])
    await connection.execute(_QUERIES["create_migration_table"])
    applied = {
        row["version"]: row["checksum"]
        for row in await connection.fetch(_QUERIES["applied_migrations"])
    }
    _check_applied(applied, steps)
    for step in steps:
        if step.version not in applied:
            await _apply_step(connection, report, step)
    await _apply_routines(connection, report)
    await _extend_search_path(connection, default_path)
    return max((step.version for step in steps), default=0)


async def _prepare_schema(connection: asyncpg.Connection, report: Report) -> None:
    """Create our schema, and move into it what an early version created elsewhere.

    Raises MigrationError when another role owns either, as we would trust its objects.
    """
    home = await connection.fetchrow(_QUERIES["schema_owner"])
    earlier = await connection.fetchrow(_QUERIES["earlier_home"])
    if home is not None and not home["is_ours"]:
        raise MigrationError(
            f"the schema {SCHEMA} belongs to the role {home['owner']}: migrate as that role "
            "(PROMCOMPAT_MIGRATION_DATABASE_URL), or make this role its owner "
            f"(ALTER SCHEMA {SCHEMA} OWNER TO …)"
        )
    if earlier is not None and not earlier["is_ours"]:
        raise MigrationError(
            f"the tables of an earlier version are in the schema {earlier['schema']} and belong "
            f"to the role {earlier['owner']}: migrate as that role"
        )
    if home is None:
        await _create_schema(connection)
    if earlier is None or await connection.fetchval(_QUERIES["has_migration_table"]):
        return
    schema: str = earlier["schema"]

    async def move() -> None:
        for row in await connection.fetch(_QUERIES["moves_to_schema"], schema):
            await connection.execute(row["statement"])

    report(f"moving tables from the schema {schema} to {SCHEMA}")
    await _with_short_locks(connection, report, move, schemas=(SCHEMA, schema))


async def _create_schema(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute(_QUERIES["create_schema"])
    except asyncpg.InsufficientPrivilegeError as exc:
        raise MigrationError(
            f"this role is not allowed to create the schema {SCHEMA}: run GRANT CREATE ON "
            f"DATABASE … TO …, or create the schema for it (CREATE SCHEMA {SCHEMA} AUTHORIZATION "
            "…)"
        ) from exc


async def _with_short_locks(
    connection: asyncpg.Connection,
    report: Report,
    apply: Callable[[], Awaitable[None]],
    schemas: Sequence[str] = (SCHEMA,),
) -> None:
    """Run `apply` in a transaction; repeat it whenever a lock is not available soon.

    `report` names the session that has held locks in `schemas` for longest.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            async with connection.transaction():
                await connection.execute(_SET_LOCK_TIMEOUT, _LOCK_TIMEOUT)
                await apply()
                return
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            holder = await connection.fetchrow(_QUERIES["oldest_lock_holder"], schemas)
        report(_describe_wait(holder))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _describe_wait(holder: asyncpg.Record | None) -> str:
    if holder is None:
        return "the migration could not get a lock in time; trying again"
    return (
        f"the migration is waiting for session {holder['pid']} "
        f"({holder['application'] or 'no name'}, {holder['state']}), which has held a lock on "
        f"{holder['relation']} for {holder['age_seconds']:.0f} s"
    )


async def _extension_state(connection: asyncpg.Connection) -> asyncpg.Record:
    state = await connection.fetchrow(_QUERIES["extension_state"])
    if state is None:
        raise MigrationError("the database did not report its version and encoding")
    return state


def _check_server(state: asyncpg.Record) -> None:
    if state["server_version"] < _MIN_SERVER_VERSION:
        raise MigrationError("PostgreSQL 15 or newer is required")
    if state["encoding"] != "UTF8":
        raise MigrationError(
            f"the database has the encoding {state['encoding']}; label values require UTF8"
        )


async def _choose_edition(
    dsn: str, state: asyncpg.Record, use_timescaledb: bool | None, report: Report
) -> None:
    """Create the extension before the first migration chooses the kind of the sample table.

    On a separate connection: without the preload library the server ends it. A failure is an error,
    never a silent fall-back, as a plain table cannot become a hypertable.
    """
    if use_timescaledb is False or state["created"]:
        return
    if not state["available"]:
        if use_timescaledb:
            raise MigrationError("TimescaleDB is not installed on this server")
        report("TimescaleDB is not installed on this server: using plain PostgreSQL partitions")
        return
    report("creating the extension timescaledb")
    # On the default search path it would go into our schema if that has the name of the role.
    connection = await _connect(dsn, search_path="public")
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
                f"the database has migration {version:04d}, which this version of promcompat does "
                "not have: it was migrated by a newer version"
            )
        if step.checksum != checksum:
            raise MigrationError(
                f"migration {version:04d} {step.name} was changed after it had been applied"
            )


async def _apply_step(connection: asyncpg.Connection, report: Report, step: SqlFile) -> None:
    async def apply() -> None:
        await connection.execute(step.text)
        await connection.execute(
            _QUERIES["record_migration"], step.version, step.name, step.checksum
        )

    report(f"migration {step.version:04d} {step.name}")
    await _with_short_locks(connection, report, apply)


async def _apply_routines(connection: asyncpg.Connection, report: Report) -> None:
    """Re-apply views and functions when they changed.

    Only then: replacing a view waits for its readers and makes new ones wait.
    """
    routines = load_routines()
    checksum = _routines_checksum(await _extension_state(connection))
    await connection.execute(_QUERIES["create_routine_table"])
    if await connection.fetchval(_QUERIES["applied_routines"]) == checksum:
        return

    async def apply() -> None:
        for routine in routines:
            await connection.execute(routine.text)
        await connection.execute(_QUERIES["record_routines"], checksum)

    report("views and functions")
    await _with_short_locks(connection, report, apply)


def _routines_checksum(state: asyncpg.Record) -> str:
    checksums = "".join(routine.checksum for routine in load_routines())
    return hashlib.sha256(f"{state['created']} {checksums}".encode()).hexdigest()


async def _extend_search_path(connection: asyncpg.Connection, default_path: str) -> None:
    """Add our schema to the search path with which sessions of this role start."""
    schemas = [name.strip().strip('"') for name in default_path.split(",")]
    if SCHEMA in schemas:
        return
    async with connection.transaction():
        await connection.execute(_QUERIES["set_own_path"], default_path)
        await connection.execute(await connection.fetchval(_QUERIES["own_path_statement"]))


async def _set_chunk_interval(
    connection: asyncpg.Connection, report: Report, chunk_days: int
) -> None:
    if chunk_days < 1:
        raise MigrationError("a chunk must cover at least one day")

    async def apply() -> None:
        await connection.execute(_QUERIES["set_chunk_interval"], chunk_days)

    await _with_short_locks(connection, report, apply)


async def _grant_service_role(
    connection: asyncpg.Connection, report: Report, role: str | None
) -> None:
    if role is None or role == await connection.fetchval(_QUERIES["current_role"]):
        return

    async def apply() -> None:
        await connection.execute(_QUERIES["grant_service_role"], role)

    await _with_short_locks(connection, report, apply)


async def role_of(dsn: str) -> str:
    """The role that an address connects as.

    Raises DatabaseRefusedError and StorageUnavailableError.
    """
    connection = await _connect(dsn)
    try:
        role: str = await connection.fetchval(_QUERIES["current_role"])
        return role
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise connect_fault(exc, dsn) from exc
    finally:
        await connection.close(timeout=5)


async def _fit_edition(connection: asyncpg.Connection, report: Report) -> None:
    async def apply() -> None:
        await connection.execute(_ENSURE_METRICS_HOURLY)

    await _with_short_locks(connection, report, apply)


async def _restore_nan_bits(connection: asyncpg.Connection, report: Report) -> None:
    if await connection.fetchval(_QUERIES["keeps_nan_bits"]):
        return
    # Late, because the parent of workers needs no columns.
    from sql.database.nan_bits import restore_nan_bits

    if n_restored := await restore_nan_bits(connection):
        report(f"restored the bits of {n_restored} NaNs, stale markers and histograms")
