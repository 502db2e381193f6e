"""Which series of the block store have samples within some bounds; see `SampleProbes`."""

from collections.abc import Sequence
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.model import IntArray
from sql.caching.late_writes import ReadState
from sql.catalog import TimeBounds
from sql.database.connection_pool import Connection, Pool, acquired
from sql.query_loader import load_queries
from sql.samples.reading.newest import newest_samples
from sql.samples.reading.snapshots import SampleSnapshots
from sql.series.catalogue import SampleProbes
from sql.series.reader import SeriesReader

_QUERIES: Final = load_queries("series")


class BlockProbes:
    """Asks the head first, and blocks only about series that have no recent sample."""

    def __init__(self, pool: Pool, snapshots: SampleSnapshots, series_reader: SeriesReader) -> None:
        """`pool` is for reading."""
        self._pool = pool
        self._snapshots = snapshots
        self._series_reader = series_reader

    async def read_state(
        self, connection: Connection, tenant_id: int, bounds: TimeBounds
    ) -> tuple[int, ReadState | None]:
        """The generation alone: probing again costs less than knowing what changed."""
        return await self._series_reader.generation(connection, tenant_id), None

    async def live_metric_names(self, tenant_id: int, bounds: TimeBounds) -> list[str]:
        """Names of metrics with a sample within bounds; see the protocol."""
        rows = await self._fetch("newest_series_of_names", tenant_id)
        names = {row["newest"]: row["metric_name"] for row in rows}
        live = await self._live(tenant_id, list(names), bounds)
        missing = [name for series_id, name in names.items() if series_id not in live]
        rows = await self._fetch("series_of_names", tenant_id, missing)
        others = await self._live(tenant_id, [row["id"] for row in rows], bounds)
        found = {names[series_id] for series_id in live}
        return sorted(found | {row["metric_name"] for row in rows if row["id"] in others})

    async def newest_samples(
        self, tenant_id: int, series_ids: IntArray, bounds: TimeBounds
    ) -> tuple[IntArray, IntArray]:
        """The newest sample of each series within bounds; see the protocol."""
        wanted, places = np.unique(series_ids, return_index=True)
        times = bounds.start_ms - 1, bounds.end_ms
        found = await newest_samples(self._snapshots, tenant_id, wanted, *times)
        return places[np.searchsorted(wanted, found.ids)], found.timestamps

    async def live_items(
        self,
        tenant_id: int,
        series_ids: Sequence[int] | None,
        label: str | None,
        items: Sequence[str],
        bounds: TimeBounds,
    ) -> tuple[list[str], IntArray, IntArray]:
        """The items that a series with a sample within bounds has; see the protocol."""
        (row,) = await self._fetch("series_of_items", tenant_id, series_ids, label, items)
        ids = np.frombuffer(row["series_ids"] or b"", ">i8").astype(np.int64)
        sizes = np.frombuffer(row["sizes"] or b"", ">i8").astype(np.int64)
        values = [] if row["items"] is None else row["items"].decode().split("\0")
        at, times_ms = await self.newest_samples(tenant_id, ids, bounds)
        item_of_series = np.repeat(np.arange(len(values)), sizes)
        numbers, first = np.unique(item_of_series[at], return_index=True)
        return [values[number] for number in numbers], ids[at][first], times_ms[first]

    async def _fetch(self, name: str, *arguments: object) -> list[asyncpg.Record]:
        async with acquired(self._pool) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(_QUERIES[name], *arguments)
        return rows

    async def _live(self, tenant_id: int, series_ids: list[int], bounds: TimeBounds) -> set[int]:
        wanted = np.unique(np.array(series_ids, np.int64))
        times = bounds.start_ms - 1, bounds.end_ms
        found = await newest_samples(self._snapshots, tenant_id, wanted, *times)
        return set(found.ids.tolist())


def _conforms(probes: BlockProbes) -> SampleProbes:
    """Checked by mypy: the probes have the protocol's shape."""
    return probes
