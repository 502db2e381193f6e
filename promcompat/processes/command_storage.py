"""Storage for commands that work on the database beside the service, or without it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from promcompat.composition.storage import open_storage
from promcompat.configuration.settings import Settings
from promcompat.database import SHORT, migrate_when_answering, own_database
from sql.embedded.errors import DataFolderInUseError
from sql.samples.metric_storage import MetricStorage


@asynccontextmanager
async def command_storage(settings: Settings) -> AsyncIterator[MetricStorage]:
    """Storage on the database in use; the service's own one is started unless it runs."""
    async with AsyncExitStack() as opened:
        with suppress(DataFolderInUseError):
            await opened.enter_async_context(own_database(settings))
        await migrate_when_answering(settings, SHORT)
        yield await opened.enter_async_context(open_storage(settings, SHORT))
