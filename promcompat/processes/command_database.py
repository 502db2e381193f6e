"""A migrated database for commands that need neither samples nor kernels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from promcompat.configuration.settings import Settings
from promcompat.database import SHORT, try_until_answered
from sql.database.database import Database


@asynccontextmanager
async def command_database(settings: Settings, url: str) -> AsyncIterator[Database]:
    """The database at a URL, as soon as it answers. Raises PromcompatError when it does not."""
    # Late, because the kernels are among what it imports.
    from promcompat.composition.options import database_options

    async def attempt() -> Database:
        return await Database.open(url, database_options(settings))

    database = await try_until_answered(attempt, SHORT)
    try:
        yield database
    finally:
        await database.close()
