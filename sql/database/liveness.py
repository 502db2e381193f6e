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
"""Callers (kubelet, a load balancer) give up after one or a few seconds."""
_READINESS_OPTIONS: Final = PoolOptions(
    max_size=1,
    connect_timeout_seconds=_ANSWER_SECONDS,
    statement_timeout_seconds=_ANSWER_SECONDS / 2,
    application_name="promcompat ready",
    keeps_sessions=True,
)


class Readiness:
    """Pings on its own connection, which the first check opens."""

    def __init__(self, pool: Pool) -> None:
        """Use `open`."""
        self._pool = pool
        self._pinging: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, dsn: str, initialise: Initialise) -> "Readiness":
        """`initialise` checks the connection before it is used; see `Pool`."""
        pool = Pool(dsn, _READINESS_OPTIONS, initialise)
        await pool.open(connects=False)
        return cls(pool)

    async def check(self) -> None:
        """Return when the database answers; raise StorageUnavailableError if it does not in time.

        Concurrent callers share one ping.
        """
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping())
            self._pinging.add_done_callback(_note_failure)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await asyncio.shield(self._pinging)
        except TimeoutError as exc:
            raise StorageUnavailableError(
                f"the database did not respond within {_ANSWER_SECONDS} seconds"
            ) from exc

    async def _ping(self) -> None:
        async with acquired(self._pool) as connection:
            await connection.execute(_PING)

    async def close(self) -> None:
        """Disconnect."""
        if self._pinging is not None:
            self._pinging.cancel()
        await self._pool.close()


def _note_failure(pinging: asyncio.Task[None]) -> None:
    """Retrieve the exception of a ping for which no caller waited any more."""
    if not pinging.cancelled():
        pinging.exception()


class Heartbeat:
    """A periodic ping on its own connection.

    A statement may take minutes, so silence on its connection does not prove the connection dead.
    A ping takes no time: if one gets no answer, and a later one does on a new connection, then
    statements that were sent before on other connections will never be answered. They are aborted,
    and reads are repeated.

    While the heartbeat has no connection, as after a restart of the server, it notices no cut. So a
    beat after it has a new one, statements that were sent before that and still wait are aborted
    too.
    """

    def __init__(self, pool: Pool) -> None:
        """Use `open`."""
        self._pool = pool
        self._watched: list[Pool] = []
        # Times of the monotonic clock; 0.0: never.
        self._lost_at: float | None = None
        self._connected_at = self._unwatched_until = 0.0

    @classmethod
    async def open(cls, dsn: str, initialise: Initialise, answer_seconds: float) -> "Heartbeat":
        """`initialise` checks the connection before it is used; see `Pool`.

        A ping without an answer for `answer_seconds` counts as lost.
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
        """Abort statements of this pool when the network was cut."""
        self._watched.append(pool)

    async def beat(self) -> None:
        """Ping, and abort what will never be answered.

        Raises StorageUnavailableError if the ping gets no answer.
        """
        try:
            async with acquired(self._pool) as connection:
                await connection.execute(_PING)
        except StorageUnavailableError:
            self._lost_at = self._lost_at or time.monotonic()
            raise
        # A cut that was mended between two pings only killed the connection of the last one.
        silent_at = self._pool.pop_silence()
        lost_at, self._lost_at = self._lost_at or silent_at, None
        lost_before = max(lost_at or 0.0, self._unwatched_until)
        before, self._connected_at = self._connected_at, self._pool.connected_at
        self._unwatched_until = self._connected_at if 0.0 < before < self._connected_at else 0.0
        if lost_before:
            for pool in self._watched:
                await pool.cut_busy(lost_before)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()
