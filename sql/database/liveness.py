"""Trivial questions to the database, each on a connection that nothing else uses.

`Readiness` answers in time whatever all other connections wait for. `Heartbeat` notices that the
network was cut, so that nothing keeps waiting on dead connections.
"""

import asyncio
import time
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from sql.database.connection_pool import Initialise, Pool, PoolOptions, acquired
from sql.query_loader import load_queries

_PING: Final = load_queries("database")["ping"]
_ANSWER_SECONDS: Final = 1.5
"""Those who ask (kubelet, a load balancer) give up after a second or a few."""
_READINESS_OPTIONS: Final = PoolOptions(
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
        pool = Pool(dsn, _READINESS_OPTIONS, initialise)
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
            await connection.execute(_PING)

    async def close(self) -> None:
        """Disconnect."""
        if self._asking is not None:
            self._asking.cancel()
        await self._pool.close()


def _note_failure(asking: asyncio.Task[None]) -> None:
    """A failure that came too late for everybody who asked is no failure of ours."""
    if not asking.cancelled():
        asking.exception()


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
                await connection.execute(_PING)
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
