"""Which database a process may go on with: the migrated one it began with."""

from typing import Final

import asyncpg

from promcompat.core.errors import StorageUnavailableError
from sql.query_loader import load_migrations, load_queries

_QUERIES: Final = load_queries("storage")
_MIGRATION_QUERIES: Final = load_queries("migration")


class InstallationGuard:
    """Looks at each new connection of the pools of one process.

    A database that was dropped and made again under a running service has other series under the
    ids in our caches; samples would be acknowledged and belong to nothing. The schema version is
    asked only once: a newer service may migrate while this one still runs.
    """

    def __init__(self) -> None:
        self._id: object = None

    async def check_writer(self, connection: asyncpg.Connection) -> None:
        """As `check`; a connection that writes also gets its staging table."""
        await self.check(connection)
        await connection.execute(_QUERIES["create_staging"])

    async def check(self, connection: asyncpg.Connection) -> None:
        """Raises StorageUnavailableError when the connection leads to the wrong database."""
        if self._id is None:
            await _check_schema(connection)
        found = await connection.fetchval(_QUERIES["installation_id"])
        if self._id is None:
            self._id = found
        elif found != self._id:
            raise StorageUnavailableError(
                "another database now answers at this address: restart promcompat"
            )


async def _check_schema(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval(_MIGRATION_QUERIES["has_migration_table"]):
        raise StorageUnavailableError("the database is not migrated: run promcompat migrate")
    rows = await connection.fetch(_MIGRATION_QUERIES["applied_migrations"])
    applied = {row["version"] for row in rows}
    known = {migration.version for migration in load_migrations()}
    if applied > known:
        raise StorageUnavailableError(
            f"the database has schema version {max(applied)}, this promcompat only knows "
            f"{max(known)}: it was migrated by a newer one"
        )
    if applied != known:
        raise StorageUnavailableError(
            f"the database lacks migration {min(known - applied):04d}: run promcompat migrate"
        )
