"""Rows that conflict with a stored sample, and metrics whose last sample wins."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.database.copy_format import SampleRows
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("samples")
_LAST_WINS_SERIES: Final = load_queries("definitions")["last_wins_series"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A row that was not stored: its number among the committed rows and the value that stays."""

    row: int
    existing: float


async def override_stored(
    connection: Connection, rows: SampleRows, conflicts: list[Conflict]
) -> list[Conflict]:
    """Store the last value of conflicting samples where the policy says so; returns the others.

    Called only with conflicts, so that other rows cost nothing. The database is asked each time, so
    that a changed definition takes effect at once in every process.
    `rows` are sorted by key, and rows of one key by arrival.
    """
    series_ids = np.unique(rows.series_ids[[conflict.row for conflict in conflicts]])
    found = await connection.fetch(_LAST_WINS_SERIES, series_ids.tolist())
    overriding = {row["id"] for row in found}
    if not overriding:
        return conflicts
    replaced = [c for c in conflicts if int(rows.series_ids[c.row]) in overriding]
    last = _last_of_keys(rows, np.array([conflict.row for conflict in replaced], np.int64))
    times = rows.timestamps[last]
    await connection.execute(
        _QUERIES["override_samples"],
        rows.series_ids[last].tolist(),
        times.tolist(),
        rows.bits[last].view(np.float64).tolist(),
        int(times.min()),
        int(times.max()),
    )
    return [c for c in conflicts if int(rows.series_ids[c.row]) not in overriding]


def _last_of_keys(rows: SampleRows, wanted: IntArray) -> IntArray:
    """The last row of the key of each wanted row, each key once."""
    ends = np.ones(len(rows), np.bool_)
    ends[:-1] = (rows.series_ids[1:] != rows.series_ids[:-1]) | (
        rows.timestamps[1:] != rows.timestamps[:-1]
    )
    last_rows = np.flatnonzero(ends)
    return np.unique(last_rows[np.searchsorted(last_rows, wanted)])
