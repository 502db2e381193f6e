"""The lists of the API: label sets, label names and label values of a tenant's series."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import numpy as np
import orjson

from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import METRIC_NAME, IntArray, Labels
from promcompat.core.ports import MatcherSets
from promql.translator import TimeBounds, is_storable_text
from sql.catalog import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS
from sql.query_loader import load_queries
from sql.storage.catalogue_cache import Catalogue, CatalogueCache, SeenSamples
from sql.storage.connection_pool import Connection, acquired
from sql.storage.database import Database
from sql.storage.late_writes import wall_clock_ms
from sql.storage.series_reader import SeriesReader

_QUERIES: Final = load_queries("storage")

ItemT = TypeVar("ItemT")
_Build = Callable[[Connection, int, IntArray | None, int], Awaitable[Catalogue[ItemT]]]
"""Makes a catalogue of series (None: all of the tenant) at a generation."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What is remembered: `kind` is the list that was asked for, with the label for values."""

    tenant_id: int
    kind: str
    matcher_sets: tuple[tuple[LabelMatcher, ...], ...]


class SeriesCatalogue:
    """Answers what series there are; see the port `MetricRepository` for the meaning of bounds."""

    def __init__(self, database: Database, series_reader: SeriesReader) -> None:
        self._database = database
        self._series_reader = series_reader
        self._cache = CatalogueCache()

    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[Labels]:
        """Label sets, sorted."""
        bounds = TimeBounds.clamp(start_ms, end_ms)
        return await self._items(tenant, "series", matcher_sets, bounds, self._label_sets)

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[str]:
        """Label names, sorted."""
        bounds = TimeBounds.clamp(start_ms, end_ms)
        found = await self._items(tenant, "names", matcher_sets, bounds, self._key_sets)
        return sorted({name for names in found for name in names})

    async def label_values(
        self, tenant: str, name: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[str]:
        """Values of a label, sorted."""
        bounds = TimeBounds.clamp(start_ms, end_ms)
        if not is_storable_text(name):
            return []
        if name == METRIC_NAME and not matcher_sets:
            return await self._metric_names(tenant, bounds)

        async def build(
            connection: Connection, tenant_id: int, ids: IntArray | None, generation: int
        ) -> Catalogue[str]:
            row = await connection.fetchrow(
                _QUERIES["label_values"], tenant_id, _ids_or_none(ids), name
            )
            values = [] if row["items"] is None else row["items"].decode().split("\0")
            return _catalogue(generation, values, row["ids"], row["sizes"])

        return await self._items(tenant, f"values {name}", matcher_sets, bounds, build)

    async def _metric_names(self, tenant: str, bounds: TimeBounds) -> list[str]:
        """By one probe for each name, which takes less than remembering them."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or bounds.is_empty:
            return []
        query = "metric_names" if bounds.is_everything else "live_metric_names"
        arguments = () if bounds.is_everything else _sql_bounds(bounds)
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES[query], tenant_id, *arguments)
        return [row["metric_name"] for row in rows if row["metric_name"]]

    async def _items(
        self,
        tenant: str,
        kind: str,
        matcher_sets: MatcherSets,
        bounds: TimeBounds,
        build: _Build[ItemT],
    ) -> list[ItemT]:
        """The items of a list that are of a series with a sample within bounds."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or bounds.is_empty:
            return []
        question = _Question(tenant_id, kind, tuple(matcher_sets))
        async with acquired(self._database.read_pool) as connection:
            state = await self._series_reader.read_state(
                connection, tenant_id, bounds.start_ms, bounds.end_ms, wall_clock_ms()
            )
            catalogue = await self._catalogue(connection, question, state.generation, build)
            if bounds.is_everything:
                return list(catalogue.items)
            before = catalogue.sightings
            known = before.within(bounds, state)
            seen = await self._look_for(connection, catalogue, np.flatnonzero(~known), bounds)
        catalogue.sightings = before.renewed(known, seen, state)
        known[seen.items] = True
        return catalogue.chosen(known)

    async def _catalogue(
        self,
        connection: Connection,
        question: "_Question",
        generation: int,
        build: _Build[ItemT],
    ) -> Catalogue[ItemT]:
        """The remembered answer to a question, or a new one."""
        known = self._cache.get(question, generation)
        if known is not None:
            return cast(Catalogue[ItemT], known)
        tenant_id, matcher_sets = question.tenant_id, question.matcher_sets
        ids = await self._matching_ids(connection, tenant_id, matcher_sets, generation)
        made = await build(connection, tenant_id, ids, generation)
        self._cache.add(question, cast(Catalogue[object], made))
        return made

    async def matching_ids(self, tenant_id: int, matcher_sets: MatcherSets) -> IntArray | None:
        """Ids of series that satisfy any set; None when there is no set and all do."""
        async with acquired(self._database.read_pool) as connection:
            generation = await self._series_reader.generation(connection, tenant_id)
            return await self._matching_ids(connection, tenant_id, matcher_sets, generation)

    async def _matching_ids(
        self, connection: Connection, tenant_id: int, matcher_sets: MatcherSets, generation: int
    ) -> IntArray | None:
        if not matcher_sets:
            return None
        found = [
            (await self._series_reader.resolve(connection, tenant_id, one, generation)).ids
            for one in matcher_sets
        ]
        return found[0] if len(found) == 1 else np.unique(np.concatenate(found))

    async def _look_for(
        self,
        connection: Connection,
        catalogue: Catalogue[ItemT],
        items: IntArray,
        bounds: TimeBounds,
    ) -> SeenSamples:
        """Look at one series of each item, and at all others of those items that have none."""
        if not len(items):
            return _NOTHING_SEEN
        first = await _look_at(connection, items, catalogue.sightings.series_ids[items], bounds)
        missing = items[~np.isin(items, first.items)]
        numbers, ids = catalogue.series_of(missing)
        if len(ids) == len(missing):
            return first
        return first.and_others(await _look_at(connection, numbers, ids, bounds))

    async def _label_sets(
        self, connection: Connection, tenant_id: int, ids: IntArray | None, generation: int
    ) -> Catalogue[Labels]:
        if ids is None:
            resolved = await self._series_reader.resolve(connection, tenant_id, (), generation)
            ids = resolved.ids
        labels = await self._series_reader.labels_of(connection, ids)
        order = sorted(range(len(ids)), key=lambda row: labels[row].pairs)
        return Catalogue(
            generation,
            tuple(labels[row] for row in order),
            ids[order],
            np.arange(len(ids) + 1),
        )

    async def _key_sets(
        self, connection: Connection, tenant_id: int, ids: IntArray | None, generation: int
    ) -> Catalogue[list[str]]:
        row = await connection.fetchrow(_QUERIES["label_name_sets"], tenant_id, _ids_or_none(ids))
        sets = [] if row["items"] is None else row["items"].split(b"\0")
        return _catalogue(generation, list(map(orjson.loads, sets)), row["ids"], row["sizes"])


_NOTHING_SEEN: Final = SeenSamples(*(np.empty(0, np.int64),) * 3)


async def _look_at(
    connection: Connection, items: IntArray, series_ids: IntArray, bounds: TimeBounds
) -> SeenSamples:
    """The items, of which columns have a row for each series, that have a sample within bounds."""
    packed = await connection.fetchval(
        _QUERIES["seen_samples"], items.tolist(), series_ids.tolist(), *_sql_bounds(bounds)
    )
    columns = np.frombuffer(packed or b"", ">i8").astype(np.int64).reshape(-1, 3)
    return SeenSamples(columns[:, 0], columns[:, 1], columns[:, 2])


def _catalogue(
    generation: int, items: Sequence[ItemT], packed_ids: bytes | None, sizes: bytes | None
) -> Catalogue[ItemT]:
    offsets = np.zeros(len(items) + 1, np.int64)
    np.cumsum(np.frombuffer(sizes or b"", ">i8"), out=offsets[1:])
    ids = np.frombuffer(packed_ids or b"", ">i8").astype(np.int64)
    return Catalogue(generation, items, ids, offsets)


def _ids_or_none(ids: IntArray | None) -> list[int] | None:
    return None if ids is None else ids.tolist()


def _sql_bounds(bounds: TimeBounds) -> tuple[int | None, int | None]:
    """Inclusive Unix ms for SQL; None at the ends of time, with which TimescaleDB overflows."""
    return (
        bounds.start_ms if bounds.start_ms > MIN_TIMESTAMP_MS else None,
        bounds.end_ms if bounds.end_ms < MAX_TIMESTAMP_MS else None,
    )
