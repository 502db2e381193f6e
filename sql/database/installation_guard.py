"""Notices when cached series ids may be wrong, and has them dropped.

Series ids in memory are valid for one history of one database. A restored dump, a promoted standby
or a removed series invalidates some or all of them; docs/adr/0012-ids-across-restores.md explains
how each is noticed before a cached id is used.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeAlias, TypeVar

import asyncpg

from promcompat.core.errors import StaleKnowledgeError, StorageUnavailableError
from sql.database.connection_pool import Connection
from sql.query_loader import load_migrations, load_queries

T = TypeVar("T")
_QUERIES: Final = load_queries("database")
_MIGRATION_QUERIES: Final = load_queries("migration")
_OUT_OF_DATE: Final = "PC001"
"""The SQLSTATE of the trigger `check_writer`."""
EPOCH_SETTING: Final = "promcompat.epoch"
"""The session setting in which a writer declares the epoch that its process knows."""
NO_EPOCH: Final = "unknown"
"""The value before the epoch is known; the database refuses samples under it."""
_NEVER_READ: Final = -1
_ATTEMPTS: Final = 3

Forget: TypeAlias = Callable[[Collection[int] | None], None]
"""Drops what is cached of these series, or of all series when it gets None."""


def is_out_of_date(exc: asyncpg.PostgresError) -> bool:
    """Whether the database refused samples because this process may have stale ids."""
    return bool(exc.sqlstate == _OUT_OF_DATE)


class InstallationGuard:
    """The state of the database as all connections of one process know it.

    `version` changes whenever something had to be dropped: a caller that read it before looking up
    ids, and reads another one afterwards, has ids that may be gone. `epoch_number` counts only the
    steps back. A database of another installation is always refused. The schema version is checked
    only once: a newer service may migrate while this one still runs.
    """

    def __init__(self) -> None:
        self.version = 0
        self.epoch_number = 0
        self._id: object = None
        self._store: str | None = None
        self._epoch = NO_EPOCH
        self._position = _NEVER_READ
        self._forget: list[Forget] = []
        self._on_step_back: list[Callable[[], None]] = []
        self._refreshing = asyncio.Lock()

    @property
    def known_epoch(self) -> str:
        """The value of `EPOCH_SETTING`; see the trigger `check_writer`."""
        return f"{self._epoch}/{self._position}"

    def subscribe(self, forget: Forget) -> None:
        """Have `forget` called at each change, before the new state is used."""
        self._forget.append(forget)

    def on_step_back(self, forget: Callable[[], None]) -> None:
        """Have `forget` called when the database was restored, replaced or restarted."""
        self._on_step_back.append(forget)

    def expect_store(self, store: str) -> None:
        """Refuse the database when another store keeps its samples from now on."""
        self._store = store

    async def check_writer(self, connection: asyncpg.Connection) -> None:
        """Check a new connection that will write, and declare the known epoch on it."""
        await self._check_schema(connection)
        await connection.execute(_QUERIES["begin_server_run"])
        await self.refresh(connection)
        await self.tell(connection)

    async def check(self, connection: asyncpg.Connection) -> None:
        """Check a new connection.

        Raises StorageUnavailableError when it leads to the wrong database.
        """
        await self._check_schema(connection)
        await self.refresh(connection)

    async def _check_schema(self, connection: asyncpg.Connection) -> None:
        if self._id is None:
            await _check_schema(connection)

    async def refresh(self, connection: asyncpg.Connection | Connection) -> None:
        """Read the state of the database, and have dropped what is no longer valid.

        Raises StorageUnavailableError when it is another database, or has another store.
        """
        async with self._refreshing:
            row = await connection.fetchrow(_QUERIES["database_state"], self._position)
            if row is None or (self._id is not None and row["installation_id"] != self._id):
                raise StorageUnavailableError(
                    "a different database now answers at this address; restart promcompat"
                )
            self._check_store(row["store"])
            self._id = row["installation_id"]
            is_behind = row["position"] < self._position or row["removed"] is None
            if row["epoch"] != self._epoch or is_behind:
                self._step_back(row["epoch"])
            elif row["removed"]:
                self._change(frozenset(row["removed"]))
            self._position = row["position"]

    async def tell(self, connection: asyncpg.Connection | Connection) -> None:
        """Declare on a session that stores samples the epoch that this process knows."""
        await connection.execute(_QUERIES["set_known_epoch"], self.known_epoch)

    async def catch_up(self, connection: Connection, version: int) -> None:
        """After a refusal: read the new state, and declare it on the session.

        Raises StaleKnowledgeError when ids looked up under `version` may be gone.
        """
        await self.refresh(connection)
        self.require(version)
        await self.tell(connection)

    def require(self, version: int) -> None:
        """Raises StaleKnowledgeError when ids looked up under `version` may be gone."""
        if version != self.version:
            raise StaleKnowledgeError("series were removed during the write; try again")

    def check_read(self, epoch: str) -> int:
        """The number of the epoch that was read at the start of a query.

        Raises StaleKnowledgeError when the epoch is new: the query has read things before, such as
        the id of its tenant. Raises StorageUnavailableError when another store has the samples.
        """
        if epoch != self._epoch:
            self._check_store(epoch.rpartition(":")[2])
            self._step_back(epoch)
            raise StaleKnowledgeError("the database was restarted or restored; try again")
        return self.epoch_number

    def number_of(self, epoch: str) -> int:
        """The number of an epoch that `check_read` has seen.

        Raises StaleKnowledgeError when the database has stepped back since.
        """
        if epoch != self._epoch:
            raise StaleKnowledgeError("the database was restarted or restored; try again")
        return self.epoch_number

    def step_back(self) -> None:
        """Have everything dropped: an id went back, though the epoch is the same."""
        self._step_back(self._epoch)

    async def in_one_epoch(self, read: Callable[[], Awaitable[T]]) -> T:
        """The result of a read that began and ended in one epoch; it may run again.

        Raises what the read raises.
        """
        for _ in range(_ATTEMPTS):
            number = self.epoch_number
            try:
                result = await read()
            except StaleKnowledgeError:
                continue
            if number == self.epoch_number:
                return result
        raise StaleKnowledgeError("the database keeps being restarted or restored")

    def _check_store(self, store: str) -> None:
        if self._store is not None and store != self._store:
            raise StorageUnavailableError(
                f"the samples are now in the store `{store}`; restart promcompat"
            )

    def _step_back(self, epoch: str) -> None:
        self._epoch = epoch
        self._position = _NEVER_READ
        self.epoch_number += 1
        self._change(None)

    def _change(self, removed: Collection[int] | None) -> None:
        self.version += 1
        for forget in self._forget:
            forget(removed)
        if removed is None:
            for forget_all in self._on_step_back:
                forget_all()


async def _check_schema(connection: asyncpg.Connection) -> None:
    if not await connection.fetchval(_MIGRATION_QUERIES["has_migration_table"]):
        raise StorageUnavailableError("the database is not migrated; run promcompat migrate")
    rows = await connection.fetch(_MIGRATION_QUERIES["applied_migrations"])
    applied = {row["version"] for row in rows}
    known = {migration.version for migration in load_migrations()}
    if applied > known:
        raise StorageUnavailableError(
            f"the database has schema version {max(applied)}, but this version of promcompat only "
            f"supports {max(known)}: it was migrated by a newer version"
        )
    if applied != known:
        raise StorageUnavailableError(
            f"the database lacks migration {min(known - applied):04d}; run promcompat migrate"
        )
