"""The lists of the API: label sets, label names and label values of a tenant's series."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Final, Protocol, TypeVar

import numpy as np
import orjson

from promcompat.core.bounded_caches import texts_bytes
from promcompat.core.distinct_numbers import distinct
from promcompat.core.label_counts import LabelCounts
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import METRIC_NAME, BoolArray, IntArray, Labels, MetricMetadata
from promcompat.core.offloading import in_thread_if
from promcompat.core.ports import ALL_TIME, Catalogue, MatcherSets
from promcompat.core.texts.storable_text import is_storable_text
from sql.caching.catalogue_cache import CatalogueCache, ItemList
from sql.database.connection_pool import Connection, acquired, read_again
from sql.database.database import Database
from sql.database.rows import read_rows
from sql.query_loader import load_queries
from sql.series.label_counts import count_labels
from sql.series.reader import SeriesReader
from sql.times import TimeBounds

ListT = TypeVar("ListT", list[str], IntArray)
_UNCOUNTED: Final = 2
"""The series of a name are not counted; there may be others than the newest one."""
_QUERIES: Final = load_queries("series")
_SORTED_AT_ONCE: Final = 2_000
"""Label sets; sorting them takes about a millisecond."""
_NAME_SETS: Final = ""
"""Used as a label, it stands for the sets of label names. No label has an empty name."""


@dataclass(frozen=True, slots=True)
class Sought:
    """A tenant whose samples are looked for, of which times, and since when they are stored.

    The bounds are inclusive; `asked_at` as in `promcompat.core.ports.SampleReader`.
    """

    tenant_id: int
    bounds: TimeBounds
    asked_at: float


class SampleProbes(Protocol):
    """Which series have samples.

    The caller holds no connection: callers that wait for another one would block each other.
    """

    async def generation(self, sought: Sought) -> int:
        """The generation of the tenant's series."""

    async def newest_samples(
        self, sought: Sought, series_ids: IntArray
    ) -> tuple[IntArray, IntArray]:
        """Which of the series (indices) have a sample within bounds, and the newest's Unix ms."""

    async def live_items(
        self,
        sought: Sought,
        series_ids: Sequence[int] | None,
        label: str | None,
        items: Sequence[str],
    ) -> list[str]:
        """The items that some series with a sample within bounds has.

        Items are values of `label`, or sets of names when it is `""`, of the tenant's series
        (None: of all of them).
        """


@dataclass(frozen=True, slots=True)
class _Question:
    """The parameters of a list but its bounds; `label` None means label sets."""

    tenant_id: int
    label: str | None
    matcher_sets: tuple[tuple[LabelMatcher, ...], ...]

    @property
    def n_bytes(self) -> int:
        """About what its texts take in memory."""
        return texts_bytes(
            text
            for matchers in self.matcher_sets
            for matcher in matchers
            for text in (matcher.name, matcher.value)
        )


class PostgresCatalogue(Catalogue):
    """The series of a database and the metadata of their metrics."""

    def __init__(
        self,
        database: Database,
        series_reader: SeriesReader,
        probes: SampleProbes,
        cache_bytes: int,
    ) -> None:
        self._database = database
        self._series_reader = series_reader
        self._probes = probes
        self._cache = CatalogueCache(cache_bytes)

    @read_again
    async def series(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[Labels]:
        """Label sets; see the port."""
        bounds = TimeBounds.clamp(start_ms, end_ms)

        async def read() -> list[Labels]:
            found = await self._found(tenant, None, matcher_sets, bounds)
            if found is None:
                return []
            listed, is_live = found
            ids = _limited(listed.newest[is_live], limit)
            async with acquired(self._database.read_pool) as connection:
                return await self._series_reader.labels_of(connection, ids)

        return await self._database.guard.in_one_epoch(read)

    async def label_names(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int, limit: int
    ) -> list[str]:
        """Label names; see the port."""
        bounds = TimeBounds.clamp(start_ms, end_ms)
        found = await self._texts(tenant, _NAME_SETS, matcher_sets, bounds)
        return _limited(sorted({name for names in found for name in orjson.loads(names)}), limit)

    async def label_values(
        self,
        tenant: str,
        name: str,
        matcher_sets: MatcherSets,
        start_ms: int,
        end_ms: int,
        limit: int,
    ) -> list[str]:
        """Values of a label; see the port."""
        bounds = TimeBounds.clamp(start_ms, end_ms)
        if not name or not is_storable_text(name):
            return []
        return _limited(await self._texts(tenant, name, matcher_sets, bounds), limit)

    @read_again
    async def metadata(self, tenant: str, family: str | None) -> list[MetricMetadata]:
        """Metadata of one family or all; see the port."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or (family is not None and not is_storable_text(family)):
            return []
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["list_metadata"], tenant_id, family)
        return await read_rows(rows, lambda row: MetricMetadata(*row))

    @read_again
    async def label_counts(self, tenant: str) -> LabelCounts:
        """The labels of all series; see the port."""

        async def read() -> LabelCounts:
            tenant_id = await self._database.tenants.find(tenant)
            if tenant_id is None:
                return LabelCounts.of(0, {})
            sought = Sought(tenant_id, TimeBounds.clamp(*ALL_TIME), time.monotonic())
            generation = await self._probes.generation(sought)
            counts = self._cache.get_counts(tenant_id, generation)
            if counts is None:
                async with acquired(self._database.read_pool) as connection:
                    counts = await count_labels(connection, tenant_id)
                self._cache.add_counts(tenant_id, generation, counts)
            return counts

        return await self._database.guard.in_one_epoch(read)

    async def matching_ids(self, tenant_id: int, matcher_sets: MatcherSets) -> IntArray | None:
        """Ids of series that satisfy any set; None when there is no set and all do."""
        async with acquired(self._database.read_pool) as connection:
            generation = await self._series_reader.generation(connection, tenant_id)
            return await self._matching_ids(connection, tenant_id, matcher_sets, generation)

    @read_again
    async def _texts(
        self, tenant: str, label: str, matcher_sets: MatcherSets, bounds: TimeBounds
    ) -> list[str]:
        """The values of a label, or sets of names, of series that have a sample within bounds."""

        async def read() -> list[str]:
            found = await self._found(tenant, label, matcher_sets, bounds)
            if found is None:
                return []
            listed, is_live = found
            assert listed.texts is not None
            return [listed.texts[item] for item in np.flatnonzero(is_live).tolist()]

        return await self._database.guard.in_one_epoch(read)

    async def _found(
        self, tenant: str, label: str | None, matcher_sets: MatcherSets, bounds: TimeBounds
    ) -> tuple[ItemList, BoolArray] | None:
        """A list, and which of its items have a sample within bounds; None: there are none."""
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None or bounds.is_empty:
            return None
        question = _Question(tenant_id, label, tuple(dict.fromkeys(matcher_sets)))
        sought = Sought(tenant_id, bounds, time.monotonic())
        generation = await self._probes.generation(sought)
        listed = await self._listed(question, generation)
        if bounds.is_everything:
            return listed, np.ones(len(listed.newest), np.bool_)
        return listed, await self._find_live(question, listed, sought)

    async def _listed(self, question: _Question, generation: int) -> ItemList:
        """The cached list of a question, or a new one."""
        listed = self._cache.get(question, generation)
        if listed is None:
            async with acquired(self._database.read_pool) as connection:
                ids = await self._matching_ids(
                    connection, question.tenant_id, question.matcher_sets, generation
                )
                listed = await self._read(connection, question, generation, ids)
            self._cache.add(question, question.n_bytes, listed)
        return listed

    async def _read(
        self, connection: Connection, question: _Question, generation: int, ids: IntArray | None
    ) -> ItemList:
        if question.label is None:
            return await self._series(connection, question.tenant_id, generation, ids)
        if question.label == METRIC_NAME and ids is None:
            return await _metric_names(connection, question.tenant_id, generation)
        row = await connection.fetchrow(
            _QUERIES["catalogue_items"], question.tenant_id, _ids_or_none(ids), question.label
        )
        newest, sizes = _unpacked(row["series_ids"]), _unpacked(row["sizes"])
        return ItemList(generation, _split(row["items"]), newest, sizes)

    async def _series(
        self, connection: Connection, tenant_id: int, generation: int, ids: IntArray | None
    ) -> ItemList:
        """The series in the order of their label sets, which are not kept: only the ids are."""
        if ids is None:
            resolved = await self._series_reader.resolve(connection, tenant_id, (), generation)
            ids = resolved.ids
        labels = await self._series_reader.labels_of(connection, ids)
        order = await in_thread_if(len(labels) > _SORTED_AT_ONCE, _order, labels)
        return ItemList(generation, None, ids[order], np.ones(len(ids), np.int64))

    async def _find_live(self, question: _Question, listed: ItemList, sought: Sought) -> BoolArray:
        """Which items have a series with a sample within bounds.

        It first probes one series of each item, then all series of the remaining items.
        """
        is_live = np.zeros(len(listed.newest), np.bool_)
        if len(is_live):
            rows, _ = await self._probes.newest_samples(sought, listed.newest)
            is_live[rows] = True
        left = np.flatnonzero(~is_live & (listed.sizes > 1))
        if len(left):
            is_live[await self._probe_all_series(question, listed, left, sought)] = True
        return is_live

    async def _probe_all_series(
        self,
        question: _Question,
        listed: ItemList,
        items: IntArray,
        sought: Sought,
    ) -> IntArray:
        """Which of some items, label values or sets of names, have any such series."""
        async with acquired(self._database.read_pool) as connection:
            ids = await self._matching_ids(
                connection, question.tenant_id, question.matcher_sets, listed.generation
            )
        assert listed.texts is not None
        number_of = {listed.texts[item]: item for item in items.tolist()}
        found = await self._probes.live_items(
            sought, _ids_or_none(ids), question.label, list(number_of)
        )
        return np.array([number_of[item] for item in found], np.int64)

    async def _matching_ids(
        self, connection: Connection, tenant_id: int, matcher_sets: MatcherSets, generation: int
    ) -> IntArray | None:
        if not matcher_sets:
            return None
        found = [
            (await self._series_reader.resolve(connection, tenant_id, matchers, generation)).ids
            for matchers in matcher_sets
        ]
        return found[0] if len(found) == 1 else distinct(*found)


async def _metric_names(connection: Connection, tenant_id: int, generation: int) -> ItemList:
    """The names of all metrics: a probe for each, however many series there are."""
    rows = await connection.fetch(_QUERIES["newest_series_of_names"], tenant_id)
    names = sorted((row["metric_name"], row["newest"]) for row in rows)
    newest = np.array([series_id for _, series_id in names], np.int64)
    return ItemList(
        generation, [name for name, _ in names], newest, np.full(len(names), _UNCOUNTED)
    )


def _order(labels: Sequence[Labels]) -> list[int]:
    """The places of the label sets, in their order.

    Pieces are sorted and merged, since nobody else gets the interpreter while a list is sorted.
    """

    def pairs_of(place: int) -> tuple[tuple[str, str], ...]:
        return labels[place].pairs

    places = range(len(labels))
    pieces = [
        sorted(places[first : first + _SORTED_AT_ONCE], key=pairs_of)
        for first in range(0, len(labels), _SORTED_AT_ONCE)
    ]
    return pieces[0] if len(pieces) == 1 else list(merge(*pieces, key=pairs_of))


def _limited(items: ListT, limit: int) -> ListT:
    return items[:limit] if limit > 0 else items


def _split(packed: bytes | None) -> Sequence[str]:
    return [] if packed is None else packed.decode().split("\0")


def _unpacked(packed: bytes | None) -> IntArray:
    return np.frombuffer(packed or b"", ">i8").astype(np.int64)


def _ids_or_none(ids: IntArray | None) -> list[int] | None:
    return None if ids is None else ids.tolist()
