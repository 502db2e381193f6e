"""Which series have samples within some bounds; see `SampleProbes`."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import IntArray
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries
from sql.samples.reading.newest import newest_samples
from sql.samples.reading.snapshots import SampleSnapshots
from sql.samples.tables.slots import first_whole_days
from sql.series.catalogue import SampleProbes, Sought
from sql.series.reader import SeriesReader
from sql.times import MS_PER_DAY, MS_PER_HOUR

_QUERIES: Final = load_queries("series")
_ROLLUP_QUERIES: Final = load_queries("rollups")


class SnapshotProbes(SampleProbes):
    """Asks the head first, and the database only about series that have no recent sample."""

    def __init__(self, pool: Pool, snapshots: SampleSnapshots, series_reader: SeriesReader) -> None:
        """`pool` is for reading."""
        self._pool = pool
        self._snapshots = snapshots
        self._series_reader = series_reader

    async def generation(self, sought: Sought) -> int:
        """The generation of the series; see the protocol."""
        state = await self._snapshots.generation(sought.tenant_id, sought.asked_at)
        return self._series_reader.generation_in(*state)

    async def newest_samples(
        self, sought: Sought, series_ids: IntArray
    ) -> tuple[IntArray, IntArray]:
        """The newest sample of each series within bounds; see the protocol."""
        wanted, places = np.unique(series_ids, return_index=True)
        times = sought.bounds.start_ms - 1, sought.bounds.end_ms
        found = await newest_samples(
            self._snapshots, sought.tenant_id, wanted, *times, asked_at=sought.asked_at
        )
        ids, times_ms = found.ids, found.timestamps
        missing = np.setdiff1d(wanted, ids, assume_unique=True)
        if len(missing):
            old = await self._newest_rollups(sought, missing)
            ids, times_ms = np.append(ids, old[0]), np.append(times_ms, old[1])
        return places[np.searchsorted(wanted, ids)], times_ms

    async def _newest_rollups(self, sought: Sought, wanted: IntArray) -> tuple[IntArray, IntArray]:
        """The series of which only rollups are left within bounds, and when these end."""
        kept = await self._snapshots.kept_now(sought.tenant_id, sought.asked_at)
        nothing = np.empty(0, np.int64), np.empty(0, np.int64)
        if kept.rollup_days is None:
            return nothing
        start_ms, end_ms = sought.bounds.start_ms, sought.bounds.end_ms
        async with acquired(self._pool) as connection:
            from_ms = await kept.from_ms(wanted, connection)
            if start_ms >= from_ms.max():
                return nothing
            before_ms = first_whole_days(from_ms) * MS_PER_DAY
            rows = await connection.fetch(
                _ROLLUP_QUERIES["newest_hours"],
                wanted.tolist(),
                start_ms // MS_PER_HOUR * MS_PER_HOUR,
                end_ms,
                (kept.first_rolled_days(from_ms) * MS_PER_DAY).tolist(),
                before_ms.tolist(),
            )
        found = np.array([tuple(row) for row in rows], np.int64).reshape(len(rows), 2)
        return found[:, 0], np.minimum(found[:, 1] + MS_PER_HOUR - 1, end_ms)

    async def live_items(
        self,
        sought: Sought,
        series_ids: Sequence[int] | None,
        label: str | None,
        items: Sequence[str],
    ) -> list[str]:
        """The items that a series with a sample within bounds has; see the protocol."""
        async with acquired(self._pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["series_of_items"], sought.tenant_id, series_ids, label, items
            )
        ids = np.frombuffer(row["series_ids"] or b"", ">i8").astype(np.int64)
        sizes = np.frombuffer(row["sizes"] or b"", ">i8").astype(np.int64)
        values = [] if row["items"] is None else row["items"].decode().split("\0")
        at, _ = await self.newest_samples(sought, ids)
        item_of_series = np.repeat(np.arange(len(values)), sizes)
        return [values[number] for number in distinct(item_of_series[at])]
