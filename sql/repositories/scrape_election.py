"""The PostgreSQL side of `promcompat.scraping.scrape_service.ScrapeElection`."""

from typing import Final

from sql.database.connection_pool import Pool, PoolOptions, acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("scraping")
_OPTIONS: Final = PoolOptions(
    max_size=1,
    statement_timeout_seconds=5.0,
    application_name="promcompat scrape",
    # The lock belongs to the session.
    keeps_sessions=True,
)


class PostgresScrapeElection:
    """The process whose session has an advisory lock scrapes.

    The lock ends with its session, so that another process goes on when this one dies.
    """

    def __init__(self, url: str, database: Database) -> None:
        self._url = url
        self._database = database
        self._pool: Pool | None = None

    async def is_chosen(self) -> bool:
        """See the port."""
        if self._pool is None:
            pool = Pool(self._url, _OPTIONS, self._database.guard.check)
            await pool.open(connects=False)
            self._pool = pool
            self._database.heartbeat.watch(pool)
        async with acquired(self._pool) as connection:
            return bool(await connection.fetchval(_QUERIES["hold_scrape_lock"]))

    async def resign(self) -> None:
        """See the port."""
        if self._pool is not None:
            await self._pool.close()

    async def publish(self, name: str, document: bytes) -> None:
        """See the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(_QUERIES["publish"], name, document)

    async def published(self, name: str) -> bytes | None:
        """See the port."""
        async with acquired(self._database.read_pool) as connection:
            document: bytes | None = await connection.fetchval(_QUERIES["published"], name)
        return document
