"""When the counters of samples began, which is stored beside series, not beside samples."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.allowance import SampleAllowance

_QUERIES: Final = load_queries("series")
_NO_ROWS: Final = np.empty((0, 3), np.int64)


@dataclass(frozen=True, slots=True)
class SeriesStartRows:
    """Starts of series: ids ascending, the first sample that has each, and the start, int64."""

    ids: IntArray
    from_ms: IntArray
    start_ms: IntArray

    def of_samples(self, samples: SeriesSamples) -> IntArray:
        """The start of each sample, 0 if none is known: int64 [n_samples].

        It is the one that samples had from the latest time on that is not after the sample.
        """
        n_rows, n_samples = len(self.ids), len(samples)
        ids = np.concatenate((self.ids, np.repeat(samples.ids, np.diff(samples.offsets))))
        times = np.concatenate((self.from_ms, samples.timestamps))
        is_sample = np.arange(n_rows + n_samples) >= n_rows
        # A start comes before the sample of its time, and the latest of several before that.
        starts = np.concatenate((self.start_ms, np.zeros(n_samples, np.int64)))
        order = np.lexsort((starts, is_sample, times, ids))
        latest = np.maximum.accumulate(np.where(is_sample[order], -1, np.arange(len(order))))
        row = order[np.maximum(latest, 0)]
        is_known = (latest >= 0) & (ids[row] == ids[order])
        found = np.empty(len(order), np.int64)
        found[order] = np.where(is_known, starts[row], 0)
        return found[n_rows:]


async def read_starts(
    connection: Connection, ids: IntArray, end_ms: int, allowance: SampleAllowance
) -> SeriesStartRows:
    """The starts of series in samples up to a time.

    Raises ExecutionError if they are more than a query may read.
    """
    found = await connection.fetch(_QUERIES["starts_of_series"], ids.tolist(), end_ms)
    allowance.add(len(found))
    rows = np.array([tuple(row) for row in found], np.int64) if found else _NO_ROWS
    return SeriesStartRows(*rows.T.copy())
