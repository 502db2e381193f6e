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
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.storage_stats import StorageStats
from sql.query_loader import load_queries
from sql.samples.codec.page_decoding import unpacked_bytes

_QUERIES: Final = load_queries("arrivals")
_BYTES_PER_SAMPLE: Final = 16
"""A time and a value."""
_BYTES_PER_ARRIVAL: Final = 400
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


@dataclass(frozen=True, slots=True)
class Undrained:
    """What is not drained yet: how many arrivals and samples, and the memory that they need."""

    n_arrivals: int
    n_samples: int
    n_bytes: int


def bytes_in_memory(n_samples: int, payload: bytes) -> int:
    """The memory that an arrival needs, as the statement `undrained` has it."""
    return max(_BYTES_PER_SAMPLE * n_samples, unpacked_bytes(payload)) + _BYTES_PER_ARRIVAL


async def undrained(connection: Connection) -> dict[int, Undrained]:
    """What is not drained yet of each tenant that has any."""
    rows = await connection.fetch(_QUERIES["undrained"], _BYTES_PER_SAMPLE, _BYTES_PER_ARRIVAL)
    return {tenant_id: Undrained(*amounts) for tenant_id, *amounts in rows}


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
                found = await undrained(connection)
            self._bytes = {tenant_id: one.n_bytes for tenant_id, one in found.items()}
            self._stats.undrained_bytes = self.n_bytes
            now = self._now_seconds()
            self._due_seconds = now + max(_MEASURED_EVERY_SECONDS, _COST_RATIO * (now - started))
