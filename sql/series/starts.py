"""When the counters of series began, as their senders say (docs/adr/0032-start-timestamps.md)."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.maintenance import StepNotes
from promcompat.core.model import IntArray, WriteBatch
from promcompat.core.ports import MaintenanceStep
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries
from sql.times import YEARS_1_TO_9999

_QUERIES: Final = load_queries("series")
_REMEMBERED: Final = 1 << 20
"""A power of two: the ids of series end in a counter, so that as many newer ones share no place."""
_MAX_STARTS: Final = 100
"""Of a series. Senders of deltas have one for each sample."""
_LOOKED_AT: Final = 100_000
"""How many starts a transaction looks at."""
_BEFORE_ALL: Final = -(1 << 63)


class SeriesStarts:
    """Stores the starts that differ from the last known ones of their series.

    What is stored does not depend on the order of writes, nor on which process does them. So what
    this one remembers only spares statements: a series may lose its place to another one.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.forget()

    def forget(self) -> None:
        """The database may have lost what it had."""
        # Zeros take no memory before they are written.
        self._known = np.zeros((2, _REMEMBERED), np.int64)

    async def store(self, series_ids: IntArray, batch: WriteBatch) -> None:
        """Store those of a batch, of which these are the series of the rows (0: of none)."""
        starts = batch.starts
        if starts is None:
            return
        # What is stored while the database steps back is not known afterwards.
        known_ids, known_starts = self._known
        places = series_ids & (_REMEMBERED - 1)
        is_changed = (known_ids[places] != series_ids) | (known_starts[places] != starts)
        changed = np.flatnonzero(is_changed)
        # Without a start there is nothing to know, and one after its sample cannot be true.
        is_stored = (starts[changed] != 0) & (starts[changed] <= batch.timestamps[changed])
        is_stored &= (series_ids[changed] > 0) & (starts[changed] >= YEARS_1_TO_9999.start_ms)
        changed = changed[is_stored]
        if not len(changed):
            return
        ids, began = series_ids[changed], starts[changed]
        times = np.minimum(batch.timestamps[changed], YEARS_1_TO_9999.end_ms)
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["add_series_starts"], ids.tolist(), began.tolist(), times.tolist()
            )
        known_ids[places[changed]], known_starts[places[changed]] = ids, began

    async def copy(self, sources: IntArray, targets: IntArray, through_ms: int) -> None:
        """Give series the starts of others whose samples up to a time become theirs."""
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["copy_series_starts"], sources.tolist(), targets.tolist(), through_ms
            )


@dataclass(frozen=True, slots=True)
class SeriesStartStep(MaintenanceStep):
    """Deletes the starts that no kept sample has, and the oldest of a series with many."""

    pool: Pool
    looked_at: int = _LOOKED_AT
    name: str = "starts"
    unit: str = "starts"

    async def plan(self) -> int:
        """How many there are."""
        return await self._for_all_series("count_excess_series_starts")

    async def run(self, notes: StepNotes) -> int:
        """Delete them, those of some series in each transaction; returns how many."""
        return await self._for_all_series("delete_excess_series_starts")

    async def _for_all_series(self, name: str) -> int:
        """The sum of what a statement answers for some series after the other."""
        n_starts = 0
        last_series: int | None = _BEFORE_ALL
        while last_series is not None:
            async with acquired(self.pool) as connection:
                n_of_part, last_series = await connection.fetchrow(
                    _QUERIES[name], _MAX_STARTS, last_series, self.looked_at
                )
            n_starts += n_of_part
        return n_starts
