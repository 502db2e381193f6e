"""Which series of the row store have samples within some bounds; see `SampleProbes`."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.catalog import TimeBounds
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.sample_table import sql_bounds
from sql.series.catalogue import SampleProbes

_QUERIES: Final = load_queries("samples")


class RowProbes:
    """One index probe for each series."""

    async def live_metric_names(
        self, connection: Connection, tenant_id: int, bounds: TimeBounds
    ) -> list[str]:
        """Names of metrics with a sample within bounds; see the protocol."""
        rows = await connection.fetch(_QUERIES["live_metric_names"], tenant_id, *sql_bounds(bounds))
        return [row["metric_name"] for row in rows]

    async def newest_samples(
        self, connection: Connection, series_ids: IntArray, bounds: TimeBounds
    ) -> tuple[IntArray, IntArray]:
        """The newest sample of each series within bounds; see the protocol."""
        packed = await connection.fetchval(
            _QUERIES["newest_samples"], series_ids.tolist(), *sql_bounds(bounds)
        )
        ordinals, times_ms = _unpacked_pairs(packed)
        return ordinals - 1, times_ms

    async def live_items(
        self,
        connection: Connection,
        tenant_id: int,
        series_ids: Sequence[int] | None,
        label: str | None,
        items: Sequence[str],
        bounds: TimeBounds,
    ) -> tuple[list[str], IntArray, IntArray]:
        """The items that a series with a sample within bounds has; see the protocol."""
        row = await connection.fetchrow(
            _QUERIES["live_catalogue_items"],
            tenant_id,
            series_ids,
            label,
            items,
            *sql_bounds(bounds),
        )
        found = [] if row["items"] is None else row["items"].decode().split("\0")
        return found, *_unpacked_pairs(row["seen"])


def _unpacked_pairs(packed: bytes | None) -> tuple[IntArray, IntArray]:
    pairs = np.frombuffer(packed or b"", ">i8").astype(np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _conforms(probes: RowProbes) -> SampleProbes:
    """Checked by mypy: the probes have the protocol's shape."""
    return probes
