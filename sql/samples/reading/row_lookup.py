"""Single samples of the row store: the newest of series, those at given times, and pages."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from promcompat.core.native_queries import SamplePageQuery, SamplePosition
from sql.database.connection_pool import Pool, acquired
from sql.definitions.sample_lookup import NewestSample, SampleLookup
from sql.query_loader import load_queries
from sql.samples.reading.list_reader import ListedSample, SamplePages

_QUERIES: Final = load_queries("samples")
_THRESHOLD_QUERIES: Final = load_queries("thresholds")
_US_PER_MS: Final = 1000


class RowLookup:
    """Answers each question by one statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def newest(self, tenant_id: int, series_ids: Sequence[int]) -> Mapping[int, NewestSample]:
        """The newest samples; see `SampleLookup`. The ids alone name the series."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(_THRESHOLD_QUERIES["newest_samples"], list(series_ids))
        return {row["series_id"]: NewestSample(row["ts_ms"], row["value"]) for row in rows}

    async def values_at(
        self, tenant_id: int, series_ids: Sequence[int], times_ms: Sequence[int]
    ) -> list[float | None]:
        """The values at given times; see `SampleLookup`."""
        values: list[float | None] = [None] * len(series_ids)
        if not series_ids:
            return values
        keys = list(series_ids), list(times_ms)
        async with acquired(self._pool) as connection:
            found = await connection.fetch(
                _QUERIES["stored_samples"], *keys, min(times_ms), max(times_ms)
            )
        for row in found:
            values[row["ordinal"] - 1] = float(np.frombuffer(row["bits"], ">f8")[0])
        return values

    async def page(
        self, tenant_id: int, series_ids: IntArray, query: SamplePageQuery
    ) -> Sequence[ListedSample]:
        """A page of samples; see `SamplePages`."""
        name = "sample_page_descending" if query.descending else "sample_page_ascending"
        after, bound_ms = _first_position(query), query.end_ms
        if query.descending:
            bound_ms = query.start_ms
        arguments = after.timestamp_us, after.series_id, bound_ms, query.limit
        return await self._listed(name, series_ids, *arguments)

    async def latest(self, tenant_id: int, series_ids: IntArray) -> Sequence[ListedSample]:
        """The newest sample of each series; see `SamplePages`."""
        return await self._listed("latest_samples", series_ids)

    async def _listed(
        self, name: str, series_ids: IntArray, *arguments: object
    ) -> Sequence[ListedSample]:
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(_QUERIES[name], series_ids.tolist(), *arguments)
        return [tuple(row) for row in rows]


def _first_position(query: SamplePageQuery) -> SamplePosition:
    """The position before the page; without one, a position before all samples of the range.

    Ids start at 1, so id 0 comes before all series at the same time.
    """
    if query.after is not None:
        return query.after
    bound_ms = query.end_ms if query.descending else query.start_ms
    return SamplePosition(bound_ms * _US_PER_MS, 0)


def _conforms(lookup: RowLookup) -> tuple[SampleLookup, SamplePages]:
    """Checked by mypy: the lookup has the shapes of its protocols."""
    return lookup, lookup
