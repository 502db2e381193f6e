"""Partitions of the sample table on plain PostgreSQL: made before the first write of a day."""

from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.catalog import MS_PER_DAY
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("storage")
_DAYS_PER_TRANSACTION: Final = 64
"""Each new table takes a handful of the server's lock slots until its transaction ends."""


def unix_days(timestamps: IntArray) -> IntArray:
    """The distinct days of Unix ms timestamps, ascending, as days since 1970-01-01."""
    return np.unique(timestamps // MS_PER_DAY)


class SamplePartitions:
    """Which days this process knows to have a partition."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    async def ensure(self, connection: Connection, days: IntArray) -> None:
        """Make what is missing, in transactions of their own; other processes may do the same."""
        missing = [day for day in days.tolist() if day not in self._known]
        for start in range(0, len(missing), _DAYS_PER_TRANSACTION):
            chunk = missing[start : start + _DAYS_PER_TRANSACTION]
            await connection.execute(_QUERIES["create_sample_partitions"], chunk)
            self._known.update(chunk)

    def forget(self) -> None:
        """Know nothing any more: a partition was dropped behind our back."""
        self._known.clear()
