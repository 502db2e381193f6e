"""Notices that the network was cut, so that nobody goes on waiting on dead connections."""

import time
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Initialise, Pool, PoolOptions, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("storage")


class Heartbeat:
    """A question on a connection of its own, to be asked again and again.

    A statement may take minutes, so that a connection on which nothing comes back is not dead yet.
    This question takes no time: when it finds no answer, and a later one does on a new connection,
    then what began before on other connections waits for nothing. It is ended, and reads that it
    belongs to are done again.
    """

    def __init__(self, pool: Pool) -> None:
        """Use `open`."""
        self._pool = pool
        self._watched: list[Pool] = []
        self._lost_at: float | None = None

    @classmethod
    async def open(cls, dsn: str, initialise: Initialise, answer_seconds: float) -> "Heartbeat":
        """`initialise` looks at the connection before it is used; see `Pool`.

        A question that is not answered for `answer_seconds` never will be.
        """
        options = PoolOptions(
            max_size=1,
            connect_timeout_seconds=answer_seconds,
            statement_timeout_seconds=answer_seconds / 2,
            application_name="promcompat heartbeat",
            keeps_sessions=True,
        )
        pool = Pool(dsn, options, initialise)
        await pool.open(connects=False)
        return cls(pool)

    def watch(self, pool: Pool) -> None:
        """End what waits in this pool when the network was cut."""
        self._watched.append(pool)

    async def beat(self) -> None:
        """Ask. Raises StorageUnavailableError without an answer."""
        try:
            async with acquired(self._pool) as connection:
                await connection.execute(_QUERIES["ping"])
        except StorageUnavailableError:
            self._lost_at = self._lost_at or time.monotonic()
            raise
        if self._lost_at is not None:
            lost_at, self._lost_at = self._lost_at, None
            for pool in self._watched:
                await pool.cut_busy(lost_at)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()
