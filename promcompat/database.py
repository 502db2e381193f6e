"""The database of a process: which one it is, running our own, and waiting until it answers."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from promcompat.configuration.settings import Settings
from promcompat.configuration.types import DAY_MS
from promcompat.core.errors import PromcompatError, StorageUnavailableError
from sql.database.connecting import describe_place
from sql.database.database import DatabaseOptions
from sql.database.database_check import check_database
from sql.embedded.data_folder import read_database_url, read_owner_url
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.server_settings import LEAST_MAX_CONNECTIONS
from sql.migrate import MigrationError, migrate, role_of

ResultT = TypeVar("ResultT")

_LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 2.0
_CONNECTIONS_OF_OTHERS: Final = 40
"""Of commands and readers in SQL, beside a service that runs its own database."""
_USE_TIMESCALEDB: Final = {"auto": None, "require": True, "off": False}


class NoDatabaseError(PromcompatError):
    """The settings name no database, and the data folder has none."""


def database_url(settings: Settings) -> str:
    """The address of the database in use: the one of the settings, or that of the service's own.

    The service's own database leaves its address in the data folder whenever it starts. Raises
    NoDatabaseError before it has done so.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    url = read_database_url(settings.data_dir)
    if url is None:
        raise NoDatabaseError(
            f"there is no database in {settings.data_dir}: start promcompat serve, which creates "
            "one, or give its folder with --data-dir (PROMCOMPAT_DATA_DIR) or a database with "
            "--database-url (PROMCOMPAT_DATABASE_URL)"
        )
    return url


def owner_url(settings: Settings) -> str:
    """The address of the database for what only the owner of the schema may do.

    Migrations, grants to readers, and backups. Raises NoDatabaseError.
    """
    if settings.migration_database_url is not None:
        return settings.migration_database_url.get_secret_value()
    own = read_owner_url(settings.data_dir) if is_own_database(settings) else None
    return own or database_url(settings)


def is_own_database(settings: Settings) -> bool:
    """Whether the database in use is the service's own, on this machine for us alone."""
    return database_url(settings) == read_database_url(settings.data_dir)


@asynccontextmanager
async def own_database(settings: Settings) -> AsyncIterator[EmbeddedDatabase | None]:
    """Run the service's own database within the block; None when the settings name another one.

    Raises EmbeddedDatabaseError.
    """
    if settings.database_url is not None:
        yield None
        return
    used = settings.workers * DatabaseOptions().most_connections
    given_up = threading.Event()
    start = partial(
        EmbeddedDatabase.start,
        settings.data_dir,
        report=_LOGGER.info,
        max_connections=max(LEAST_MAX_CONNECTIONS, used + _CONNECTIONS_OF_OTHERS),
        is_given_up=given_up.is_set,
    )
    starting = asyncio.get_running_loop().run_in_executor(None, start)
    try:
        # Shielded: a database that was started is stopped, also when the start is cancelled.
        yield await asyncio.shield(starting)
    finally:
        given_up.set()
        with suppress(PromcompatError):
            database = await starting
            await asyncio.to_thread(database.stop)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a start waits for a database that does not answer; `tell` gets the reason."""

    seconds: float = math.inf
    tell: Callable[[str], None] = lambda _reason: None


ENDLESS: Final = Patience()
"""For a service: it waits for a database that starts later; senders keep their samples."""
NONE: Final = Patience(0.0)
"""For one attempt, where what surrounds it is tried again as a whole."""
SHORT: Final = Patience(30.0)
"""For a command: its user waits for it."""


async def migrate_when_answering(settings: Settings, patience: Patience = ENDLESS) -> int:
    """Bring the database to the schema of this code once it answers; returns the schema version.

    Raises MigrationError, DatabaseRefusedError when the database can never be used with these
    settings, and StorageUnavailableError when patience ends.
    """
    url = owner_url(settings)

    async def attempt() -> int:
        await check_database(url)
        service_role = None
        if url != database_url(settings):
            service_role = await role_of(database_url(settings))
        try:
            return await migrate(
                url,
                _LOGGER.info,
                use_timescaledb=_USE_TIMESCALEDB[settings.timescaledb],
                chunk_days=settings.chunk_interval // DAY_MS,
                service_role=service_role,
            )
        except MigrationError as exc:
            raise MigrationError(f"cannot use {describe_place(url)}: {exc}") from exc

    return await try_until_answered(attempt, patience)


async def try_until_answered(
    attempt: Callable[[], Awaitable[ResultT]], patience: Patience
) -> ResultT:
    """The result of the first attempt that does not raise StorageUnavailableError.

    Raises that error when patience ends.
    """
    deadline = time.monotonic() + patience.seconds
    while True:
        try:
            return await attempt()
        except StorageUnavailableError as exc:
            if time.monotonic() + _RETRY_SECONDS > deadline:
                raise
            _LOGGER.warning("waiting for the database", extra={"reason": str(exc)})
            patience.tell(str(exc))
            await asyncio.sleep(_RETRY_SECONDS)
