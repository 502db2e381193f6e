"""Whether the database answers, told in time whatever all other connections wait for."""

import asyncio
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Initialise, Pool, PoolOptions, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("storage")
_ANSWER_SECONDS: Final = 1.5
"""Those who ask (kubelet, a load balancer) give up after a second or a few."""
_OPTIONS: Final = PoolOptions(
    max_size=1,
    connect_timeout_seconds=_ANSWER_SECONDS,
    statement_timeout_seconds=_ANSWER_SECONDS / 2,
    application_name="promcompat ready",
    keeps_sessions=True,
)


class Readiness:
    """A connection of its own to ask by; made when somebody asks."""

    def __init__(self, pool: Pool) -> None:
        """Use `open`."""
        self._pool = pool
        self._asking: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, dsn: str, initialise: Initialise) -> "Readiness":
        """`initialise` looks at the connection before it is used; see `Pool`."""
        pool = Pool(dsn, _OPTIONS, initialise)
        await pool.open(connects=False)
        return cls(pool)

    async def check(self) -> None:
        """Return when the database answers; StorageUnavailableError when it does not in time.

        All who ask at one time share one question.
        """
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(_note_failure)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.shield(self._asking)
        except TimeoutError as exc:
            raise StorageUnavailableError(
                f"the database did not respond within {_ANSWER_SECONDS} seconds"
            ) from exc

    async def _ask(self) -> None:
        async with acquired(self._pool) as connection:
            await connection.execute(_QUERIES["ping"])

    async def close(self) -> None:
        """Disconnect."""
        if self._asking is not None:
            self._asking.cancel()
        await self._pool.close()


def _note_failure(asking: asyncio.Task[None]) -> None:
    """A failure that came too late for everybody who asked is no failure of ours."""
    if not asking.cancelled():
        asking.exception()
