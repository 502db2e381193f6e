"""The service's own database, without which the service ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from promcompat.configuration.settings import Settings
from promcompat.database import own_database
from promcompat.processes.termination import Termination
from sql.embedded.database import EmbeddedDatabase

_LOOK_SECONDS: Final = 0.5


@asynccontextmanager
async def watched_database(settings: Settings, termination: Termination) -> AsyncIterator[None]:
    """Run the service's own database, if it has one, for the time of a block.

    The process ends as failed when that database ends first: whoever supervises the service then
    restarts both. Raises EmbeddedDatabaseError.
    """
    async with own_database(settings) as database:
        if database is None:
            yield
            return
        watching = asyncio.create_task(_watch(database, termination), name="own database")
        try:
            yield
        finally:
            watching.cancel()


async def _watch(database: EmbeddedDatabase, termination: Termination) -> None:
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if not database.is_running:
            termination.fail("the database stopped unexpectedly")
            return
