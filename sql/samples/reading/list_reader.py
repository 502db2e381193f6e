"""The PostgreSQL side of `promcompat.core.ports.SampleListReader`."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from promcompat.core.histograms.columns import HistogramCells, histogram_numbers, is_histogram
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, Labels
from promcompat.core.native_queries import (
    ListedHistogram,
    SamplePageQuery,
    SamplePosition,
    SampleRow,
)
from promcompat.core.offloading import offload
from promcompat.core.ports import MatcherSets, SampleListReader
from promcompat.core.texts.storable_text import is_storable_text
from sql.database.connection_pool import Connection, acquired, read_again
from sql.database.database import Database
from sql.query_loader import load_queries

_US_PER_MS: Final = 1000
_METRIC_NAMES_PAGE: Final = load_queries("series")["metric_names_page"]

MatchingIds = Callable[[int, MatcherSets], Awaitable[IntArray | None]]
"""The ids of a tenant's series that satisfy any set of matchers, ascending."""
LabelsOf = Callable[[Connection, IntArray], Awaitable[list[Labels]]]
"""The labels of series, in the order of the ids."""


@dataclass(frozen=True, slots=True)
class ListedSamples:
    """Samples in the order of a list: series ids, Unix milliseconds, and values."""

    ids: IntArray
    timestamps: IntArray
    cells: HistogramCells

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def joined(parts: "Sequence[ListedSamples]") -> "ListedSamples":
        """The samples of all parts, one after the other."""
        if not parts:
            nothing = np.empty(0, np.int64)
            return ListedSamples(nothing, nothing, HistogramCells(np.empty(0), None))
        return ListedSamples(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.timestamps for part in parts]),
            HistogramCells.joined([part.cells for part in parts]),
        )


class SamplePages(Protocol):
    """How a store finds the samples of lists; series ids ascend."""

    async def page(
        self, tenant_id: int, series_ids: IntArray, query: SamplePageQuery
    ) -> ListedSamples:
        """The samples of a page of these series, in its order, stale markers aside."""

    async def latest(self, tenant_id: int, series_ids: IntArray) -> ListedSamples:
        """The newest sample of each series that is no stale marker."""


class PostgresSampleListReader(SampleListReader):
    """Lists single samples and metric names."""

    def __init__(
        self,
        database: Database,
        pages: SamplePages,
        matching_ids: MatchingIds,
        labels_of: LabelsOf,
    ) -> None:
        self._database = database
        self._pages = pages
        self._matching_ids = matching_ids
        self._labels_of = labels_of

    @read_again
    async def sample_page(self, tenant: str, query: SamplePageQuery) -> list[SampleRow]:
        """A page of samples; see the port."""
        tenant_id, ids = await self._matching(tenant, query.matchers)
        return await self._rows(await self._pages.page(tenant_id, ids, query)) if len(ids) else []

    @read_again
    async def latest_samples(
        self, tenant: str, matchers: tuple[LabelMatcher, ...], limit: int
    ) -> list[SampleRow]:
        """The newest sample of each series; see the port."""
        tenant_id, ids = await self._matching(tenant, matchers)
        if not len(ids):
            return []
        found = await self._pages.latest(tenant_id, ids)
        # A metric may have a hundred thousand series, most of which are beyond the limit.
        return await offload(len(found), _first_rows, found, await self._labels(found.ids), limit)

    @read_again
    async def sample_of_newest_series(
        self, tenant: str, matchers: tuple[LabelMatcher, ...]
    ) -> SampleRow | None:
        """The newest sample of one series; see the port. Ids are in the order of series.

        All series are asked where the newest one has no sample any more: all of them were deleted
        or renamed, or are past their retention.
        """
        tenant_id, ids = await self._matching(tenant, matchers)
        if not len(ids):
            return None
        for asked in (ids[-1:], ids[:-1]):
            if len(found := await self._pages.latest(tenant_id, asked)):
                return (await self._rows(found))[int(np.argmax(found.ids))]
        return None

    @read_again
    async def metric_names(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Metric names; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or not is_storable_text(prefix) or not is_storable_text(after):
            return []
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_METRIC_NAMES_PAGE, tenant_id, prefix, after, limit)
        return sorted(row["metric_name"] for row in rows)

    async def _matching(
        self, tenant: str, matchers: tuple[LabelMatcher, ...]
    ) -> tuple[int, IntArray]:
        """The tenant's id and its series that match; none of an unknown tenant."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return 0, np.empty(0, np.int64)
        ids = await self._matching_ids(tenant_id, [matchers])
        return tenant_id, np.empty(0, np.int64) if ids is None else ids

    async def _rows(self, found: ListedSamples) -> list[SampleRow]:
        ids, row_of = np.unique(found.ids, return_inverse=True)
        labels = await self._labels(ids)
        return await offload(len(found), _rows_of, found, [labels[row] for row in row_of.tolist()])

    async def _labels(self, ids: IntArray) -> list[Labels]:
        if not len(ids):
            return []
        async with acquired(self._database.read_pool) as connection:
            return await self._labels_of(connection, ids)


def _first_rows(found: ListedSamples, labels: Sequence[Labels], limit: int) -> list[SampleRow]:
    """The samples of the first `limit` series by labels; there is one sample of each series."""
    order = sorted(range(len(labels)), key=lambda place: labels[place].pairs)[:limit]
    cells = HistogramCells(found.cells.values[order], found.cells.histograms).compacted()
    kept = ListedSamples(found.ids[order], found.timestamps[order], cells)
    return _rows_of(kept, [labels[place] for place in order])


def _rows_of(found: ListedSamples, labels: Sequence[Labels]) -> list[SampleRow]:
    """The samples as rows; `labels` are those of each sample."""
    values, stored = found.cells.values, found.cells.histograms
    times_us = (found.timestamps * _US_PER_MS).tolist()
    rows = [
        SampleRow(of_series, SamplePosition(time_us, series_id), value)
        for of_series, series_id, time_us, value in zip(
            labels, found.ids.tolist(), times_us, values.tolist(), strict=True
        )
    ]
    if stored is not None:
        places = np.flatnonzero(is_histogram(values))
        numbers = histogram_numbers(values[places]).tolist()
        for place, number in zip(places.tolist(), numbers, strict=True):
            rows[place] = replace(rows[place], histogram=ListedHistogram(stored, number))
    return rows
