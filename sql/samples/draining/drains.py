"""The background work of a store: draining arrivals, and compacting what was drained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sql.database.connection_pool import Connection, Pool
from sql.samples.draining.arrivals_aside import ArrivalsAside
from sql.samples.draining.block_drain import BlockTarget
from sql.samples.draining.compaction import Compactor
from sql.samples.draining.drainer import Drainer, DrainOptions, DrainStats, DrainTarget
from sql.samples.draining.row_drain import RowTarget
from sql.samples.tables.sample_table import SamplePartitions
from sql.samples.writing.backlog import undrained

_MAX_UNDRAINED_BYTES: Final = 16 << 20
_MAX_UNDRAINED_ARRIVALS: Final = 2_000
"""A million samples: SQL decodes them in about a second."""


@dataclass(frozen=True, slots=True)
class Drains:
    """Drains and compacts for one process; others may do so at the same time."""

    drainer: Drainer
    compactor: Compactor | None
    aside: ArrivalsAside
    stats: DrainStats

    @classmethod
    def into_blocks(cls, pool: Pool, options: DrainOptions, now_ms: Callable[[], int]) -> "Drains":
        """`pool` is for writing; `now_ms` is the clock that decides which days are near now."""
        stats = DrainStats()
        target = BlockTarget(pool, now_ms)
        drainer, aside = _both(pool, options, stats, target)
        return cls(drainer, Compactor(pool, stats, now_ms), aside, stats)

    @classmethod
    def into_rows(
        cls,
        pool: Pool,
        options: DrainOptions,
        now_ms: Callable[[], int],
        partitions: SamplePartitions | None,
    ) -> "Drains":
        """The same for rows, which need no compaction; `partitions` as in `RowTarget`."""
        stats, target = DrainStats(), RowTarget(pool, partitions, now_ms)
        drainer, aside = _both(pool, _sooner(options), stats, target)
        return cls(drainer, None, aside, stats)

    async def count_undrained(self, connection: Connection) -> int:
        """How many samples wait for a drain."""
        return sum(one.n_samples for one in (await undrained(connection)).values())

    async def compact(self, *, is_patient: bool = False) -> None:
        """Compact until nothing is left to do; `is_patient` and errors: see `Compactor.compact`."""
        while not await self.compact_step(is_patient=is_patient):
            pass

    async def count_merges(self, connection: Connection) -> int:
        """How many tenants and slots have something to merge."""
        return 0 if self.compactor is None else await self.compactor.count_due(connection)

    async def compact_step(self, *, is_patient: bool = False) -> bool:
        """Do the next step of compaction; returns whether nothing is left to do."""
        if self.compactor is None:
            return True
        return (await self.compactor.compact(is_patient=is_patient)).is_done

    def leaves_deletions_of(self, tenant_id: int) -> bool:
        """Whether what is stored keeps the deletions of a tenant from being worked off."""
        return self.compactor is not None and self.compactor.leaves_deletions_of(tenant_id)


def _both(
    pool: Pool, options: DrainOptions, stats: DrainStats, target: DrainTarget
) -> tuple[Drainer, ArrivalsAside]:
    return Drainer(pool, options, stats, target), ArrivalsAside(pool, target, stats)


def _sooner(options: DrainOptions) -> DrainOptions:
    """SQL decodes what is undrained each time it is asked, so of rows there is less of it."""
    return replace(
        options,
        start_bytes=min(options.start_bytes, _MAX_UNDRAINED_BYTES),
        start_arrivals=min(options.start_arrivals, _MAX_UNDRAINED_ARRIVALS),
    )
