"""Which series have samples within some bounds; see `SampleProbes`."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries
from sql.samples.reading.newest import newest_samples
from sql.samples.reading.snapshots import SampleSnapshots
from sql.series.catalogue import SampleProbes, Sought
from sql.series.reader import SeriesReader

_QUERIES: Final = load_queries("series")


class SnapshotProbes:
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
        return places[np.searchsorted(wanted, found.ids)], found.timestamps

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
        return [values[number] for number in np.unique(item_of_series[at])]


def _conforms(probes: SnapshotProbes) -> SampleProbes:
    """Checked by mypy: the probes have the protocol's shape."""
    return probes
