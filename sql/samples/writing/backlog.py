"""Back-pressure: writes are refused while too much of what has arrived is not drained yet.

Undrained samples are read from memory, so their memory is what is bounded: of all tenants
together, and of each one, so that a tenant which sends more than can be drained does not stop the
others.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import OverloadedError
from sql.database.connection_pool import Pool, acquired
from sql.database.storage_stats import StorageStats
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("arrivals")
BYTES_PER_SAMPLE: Final = 16
"""A time and a value."""
BYTES_PER_ARRIVAL: Final = 400
_MEASURED_EVERY_SECONDS: Final = 1.0
_COST_RATIO: Final = 20
"""A slow measurement is repeated less often, so that measuring takes a twentieth of the time."""
_RETRY_AFTER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogLimits:
    """How many bytes of memory the undrained samples may need, and those of one tenant.

    They are measured about once a second, so that senders can exceed them by what they send
    within that time.
    """

    max_bytes: int = 1 << 30
    max_tenant_bytes: int = 3 << 28


class Backlog:
    """What is not drained yet, measured once a second while there are writes."""

    def __init__(
        self,
        pool: Pool,
        limits: BacklogLimits,
        stats: StorageStats,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._stats = stats
        self._now_seconds = now_seconds
        self._bytes: Mapping[int, int] = {}
        self._due_seconds = -1.0
        self._measuring = asyncio.Lock()

    @property
    def n_bytes(self) -> int:
        """How much memory the undrained samples of all tenants needed when last measured."""
        return sum(self._bytes.values())

    async def admit(self, tenant_id: int) -> None:
        """Raises OverloadedError while a limit is exceeded, and StorageUnavailableError."""
        await self._measure_if_due()
        if self.n_bytes > self._limits.max_bytes:
            raise OverloadedError(
                "too many samples wait to be moved into blocks or rows; try again",
                _RETRY_AFTER_SECONDS,
            )
        if self._bytes.get(tenant_id, 0) > self._limits.max_tenant_bytes:
            raise OverloadedError(
                "too many samples of this tenant wait to be moved into blocks or rows; try again",
                _RETRY_AFTER_SECONDS,
            )

    async def _measure_if_due(self) -> None:
        """Measure, unless that was done just now or another call is measuring."""
        if self._now_seconds() < self._due_seconds or self._measuring.locked():
            return
        async with self._measuring:
            started = self._now_seconds()
            async with acquired(self._pool) as connection:
                rows = await connection.fetch(
                    _QUERIES["undrained_bytes"], BYTES_PER_SAMPLE, BYTES_PER_ARRIVAL
                )
            self._bytes = {row["tenant_id"]: row["n_bytes"] for row in rows}
            self._stats.undrained_bytes = self.n_bytes
            now = self._now_seconds()
            self._due_seconds = now + max(_MEASURED_EVERY_SECONDS, _COST_RATIO * (now - started))
