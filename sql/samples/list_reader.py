"""The PostgreSQL side of `promcompat.core.ports.SampleListReader`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, Labels
from promcompat.core.native_queries import SamplePageQuery, SamplePosition, SampleRow
from promcompat.core.ports import MatcherSets, SampleListReader
from sql.catalog import is_storable_text
from sql.database.connection_pool import Connection, acquired, read_again
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("samples")
_METRIC_NAMES_PAGE: Final = load_queries("series")["metric_names_page"]
_US_PER_MS: Final = 1000

MatchingIds = Callable[[int, MatcherSets], Awaitable[IntArray | None]]
"""The ids of a tenant's series that satisfy any set of matchers, ascending."""
LabelsOf = Callable[[Connection, IntArray], Awaitable[list[Labels]]]
"""The labels of series, in the order of the ids."""


class PostgresSampleListReader:
    """Lists single samples and metric names, each list in one statement."""

    def __init__(self, database: Database, matching_ids: MatchingIds, labels_of: LabelsOf) -> None:
        self._database = database
        self._matching_ids = matching_ids
        self._labels_of = labels_of

    @read_again
    async def sample_page(self, tenant: str, query: SamplePageQuery) -> list[SampleRow]:
        """A page of samples; see the port."""
        name = "sample_page_descending" if query.descending else "sample_page_ascending"
        after, bound_ms = _first_position(query), query.end_ms
        if query.descending:
            bound_ms = query.start_ms
        arguments = after.timestamp_us, after.series_id, bound_ms, query.limit
        return await self._read(tenant, query.matchers, name, arguments)

    @read_again
    async def latest_samples(
        self, tenant: str, matchers: tuple[LabelMatcher, ...], limit: int
    ) -> list[SampleRow]:
        """The newest sample of each series; see the port."""
        found = await self._read(tenant, matchers, "latest_samples", ())
        return sorted(found, key=lambda row: row.labels.pairs)[:limit]

    @read_again
    async def metric_names(self, tenant: str, prefix: str, after: str, limit: int) -> list[str]:
        """Metric names; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or not is_storable_text(prefix) or not is_storable_text(after):
            return []
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_METRIC_NAMES_PAGE, tenant_id, prefix, after, limit)
        return sorted(row["metric_name"] for row in rows)

    async def _read(
        self,
        tenant: str,
        matchers: tuple[LabelMatcher, ...],
        statement: str,
        arguments: tuple[object, ...],
    ) -> list[SampleRow]:
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return []
        ids = await self._matching_ids(tenant_id, [matchers])
        if ids is None or not len(ids):
            return []
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES[statement], ids.tolist(), *arguments)
            return await self._rows(connection, rows)

    async def _rows(
        self, connection: Connection, rows: Sequence[asyncpg.Record]
    ) -> list[SampleRow]:
        ids = np.unique(np.array([row["series_id"] for row in rows], np.int64))
        labels = await self._labels_of(connection, ids)
        labels_of = dict(zip(ids.tolist(), labels, strict=True))
        return [
            SampleRow(labels_of[series_id], SamplePosition(ts_us, series_id), value)
            for series_id, ts_us, value in rows
        ]


def _first_position(query: SamplePageQuery) -> SamplePosition:
    """The position before the page; without one, a position before all samples of the range.

    Ids start at 1, so id 0 comes before all series at the same time.
    """
    if query.after is not None:
        return query.after
    bound_ms = query.end_ms if query.descending else query.start_ms
    return SamplePosition(bound_ms * _US_PER_MS, 0)


def _conforms(reader: PostgresSampleListReader) -> SampleListReader:
    """Checked by mypy: the reader has the port's shape."""
    return reader
