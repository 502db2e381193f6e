"""Which series of the row store have samples within some bounds; see `SampleProbes`."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.caching.late_writes import ReadState, wall_clock_ms
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries
from sql.samples.tables.sample_table import sql_bounds
from sql.series.catalogue import SampleProbes, Sought
from sql.series.reader import SeriesReader

_QUERIES: Final = load_queries("samples")


class RowProbes:
    """One index probe for each series."""

    def __init__(self, pool: Pool, series_reader: SeriesReader) -> None:
        self._pool = pool
        self._series_reader = series_reader

    async def read_state(self, sought: Sought) -> tuple[int, ReadState | None]:
        """The generation of the series and the late writes within bounds; see the protocol."""
        times, now_ms = (sought.bounds.start_ms, sought.bounds.end_ms), wall_clock_ms()
        async with acquired(self._pool) as connection:
            state = await self._series_reader.read_state(
                connection, sought.tenant_id, *times, now_ms
            )
        return state.generation, state

    async def newest_samples(
        self, sought: Sought, series_ids: IntArray
    ) -> tuple[IntArray, IntArray]:
        """The newest sample of each series within bounds; see the protocol."""
        async with acquired(self._pool) as connection:
            packed = await connection.fetchval(
                _QUERIES["newest_samples"], series_ids.tolist(), *sql_bounds(sought.bounds)
            )
        ordinals, times_ms = _unpacked_pairs(packed)
        return ordinals - 1, times_ms

    async def live_items(
        self,
        sought: Sought,
        series_ids: Sequence[int] | None,
        label: str | None,
        items: Sequence[str],
    ) -> tuple[list[str], IntArray, IntArray]:
        """The items that a series with a sample within bounds has; see the protocol."""
        question = sought.tenant_id, series_ids, label, items, *sql_bounds(sought.bounds)
        async with acquired(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["live_catalogue_items"], *question)
        found = [] if row["items"] is None else row["items"].decode().split("\0")
        return found, *_unpacked_pairs(row["seen"])


def _unpacked_pairs(packed: bytes | None) -> tuple[IntArray, IntArray]:
    pairs = np.frombuffer(packed or b"", ">i8").astype(np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _conforms(probes: RowProbes) -> SampleProbes:
    """Checked by mypy: the probes have the protocol's shape."""
    return probes
