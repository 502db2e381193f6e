"""The background work of the block store: draining arrivals, and compacting what was drained."""

from collections.abc import Callable
from dataclasses import dataclass

from sql.database.connection_pool import Pool
from sql.samples.draining.arrivals_aside import ArrivalsAside
from sql.samples.draining.compaction import Compactor
from sql.samples.draining.drainer import Drainer, DrainOptions, DrainStats


@dataclass(frozen=True, slots=True)
class Drains:
    """Drains and compacts for one process; others may do so at the same time."""

    drainer: Drainer
    compactor: Compactor
    aside: ArrivalsAside
    stats: DrainStats

    @classmethod
    def of(cls, pool: Pool, options: DrainOptions, now_ms: Callable[[], int]) -> "Drains":
        """`pool` is for writing; `now_ms` is the clock that decides which days are near now."""
        stats = DrainStats()
        drainer = Drainer(pool, options, stats, now_ms)
        aside = ArrivalsAside(pool, drainer, stats)
        return cls(drainer, Compactor(pool, stats, now_ms), aside, stats)

    async def drain_due(self) -> int:
        """Drain if enough has arrived; returns how many samples. Errors as of `Drainer.drain`."""
        return await self.drainer.drain_due()

    async def compact(self) -> None:
        """Compact until nothing is left to do; errors as of `Compactor.compact`."""
        while not (await self.compactor.compact()).is_done:
            pass
