"""Finds the series that match, and their labels."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import asyncpg
import numpy as np
import orjson

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import EMPTY_LABELS, IntArray, Labels, PartialLabelSets, numbered
from promql.budget import TimeLimit, run_limited
from sql.caching.selector_cache import (
    LabelledSeries,
    LabelNames,
    ResolvedSelector,
    SelectorCache,
    SelectorKey,
)
from sql.caching.series_cache import LabelsCache
from sql.database.connection_pool import Connection
from sql.database.installation_guard import InstallationGuard
from sql.database.rows import LabelPair, labels_of_series
from sql.database.statements import Params
from sql.database.storage_stats import StorageStats
from sql.query_loader import load_queries
from sql.series.matcher_translator import (
    SeriesCondition,
    chosen_labels_statement,
    series_statement,
    translate_matchers,
)

T = TypeVar("T")
_QUERIES: Final = load_queries("series")
_GENERATIONS: Final = 1 << 63
"""How many generations an epoch may have."""
_MAX_MATCHING_THREADS: Final = 2
_CHOSEN_AT_ONCE: Final = 5_000
"""Series; if no two agree, it takes some milliseconds to make their label sets."""
_LABELS_AT_ONCE: Final = 2_000
"""Looking up so many that are known blocks the event loop for half a millisecond."""
_PARSED_AT_ONCE: Final = 200
"""Parsing so many blocks the event loop for 1 ms."""


class SeriesReader:
    """Resolves matchers to series ids and ids to labels, on a connection the caller holds."""

    def __init__(
        self,
        labels_cache: LabelsCache,
        stats: StorageStats,
        selector_cache_bytes: int,
        match_timeout_seconds: float,
        guard: InstallationGuard,
    ) -> None:
        """`match_timeout_seconds` bounds how long regular expressions of one selector may take."""
        self._guard = guard
        self._match_timeout_seconds = match_timeout_seconds
        # Its own few threads: an expression may take seconds over all values, which delays only
        # queries with such expressions.
        self._threads = ThreadPoolExecutor(_MAX_MATCHING_THREADS, "matching")
        self._labels_cache = labels_cache
        self._reading_many = asyncio.Lock()
        self._selectors = SelectorCache(selector_cache_bytes)
        self._stats = stats

    async def generation(self, connection: Connection, tenant_id: int) -> int:
        """A number that changes with a tenant's series; read it at the start of each query.

        Raises StaleKnowledgeError when the database stepped back since it was read last.
        """
        row = await connection.fetchrow(_QUERIES["series_generation"], tenant_id)
        return self._guard.check_read(row["epoch"]) * _GENERATIONS + int(row["generation"])

    def generation_in(self, epoch: str, generation: int) -> int:
        """The same of a generation that the head read, and of the epoch that it read with it.

        Raises StaleKnowledgeError when the database has stepped back since.
        """
        return self._guard.number_of(epoch) * _GENERATIONS + generation

    async def resolve(
        self,
        connection: Connection,
        tenant_id: int,
        matchers: Sequence[LabelMatcher],
        generation: int,
    ) -> ResolvedSelector:
        """The tenant's series that satisfy all matchers, from the cache or the database.

        `generation` must have been read before, on any connection, since the query began.
        """
        known = self.resolved(tenant_id, matchers, generation)
        if known is not None:
            return known
        self._stats.selector_cache_misses += 1
        ids = await self._matching_ids(connection, tenant_id, matchers)
        resolved = ResolvedSelector(generation, ids)
        self._selectors.add((tenant_id, tuple(matchers)), resolved)
        return resolved

    def resolved(
        self, tenant_id: int, matchers: Sequence[LabelMatcher], generation: int
    ) -> ResolvedSelector | None:
        """The same from the cache; None if it does not know."""
        found = self._selectors.get((tenant_id, tuple(matchers)), generation)
        self._stats.selector_cache_hits += found is not None
        return found

    def remember_labels(
        self,
        key: SelectorKey,
        selector: ResolvedSelector,
        series: LabelledSeries,
        names: LabelNames | None = None,
    ) -> None:
        """Keep the label sets of a resolved selector's series for its next use."""
        self._selectors.add_labels(key, selector, series, names)

    async def _matching_ids(
        self, connection: Connection, tenant_id: int, matchers: Sequence[LabelMatcher]
    ) -> IntArray:
        """Ids, ascending, of the tenant's series that satisfy all matchers."""
        params = Params()
        if any(matcher.has_pattern for matcher in matchers):
            # Patterns that left the cache are compiled again.
            condition = await self._run_in_thread(lambda _: translate_matchers(matchers, params))
        else:
            condition = translate_matchers(matchers, params)
        names = await self._matching_names(connection, tenant_id, condition.residual_names)
        statement = series_statement(tenant_id, condition, params, names)
        rows = await connection.fetch(statement.text, *statement.params)
        if not condition.residual:
            return np.frombuffer(rows[0]["ids"] or b"", ">i8").astype(np.int64)
        return await self._run_in_thread(lambda limit: _matching_ids_of(rows, condition, limit))

    async def _run_in_thread(self, work: Callable[[TimeLimit], T]) -> T:
        """Run in a thread. Raises QueryTimeoutError when it takes too long."""
        limit = TimeLimit.after(self._match_timeout_seconds)
        return await run_limited(self._threads, limit, partial(work, limit))

    async def _matching_names(
        self, connection: Connection, tenant_id: int, matchers: Sequence[LabelMatcher]
    ) -> list[str] | None:
        if not matchers:
            return None
        rows = await connection.fetch(_QUERIES["metric_names"], tenant_id)
        names: list[str] = [row["metric_name"] for row in rows]
        return await self._run_in_thread(lambda limit: _matching_texts(names, matchers, limit))

    async def labels_of(self, connection: Connection, series_ids: IntArray) -> list[Labels]:
        """The labels of each series, in the order of the ids, which must be distinct.

        Raises StorageUnavailableError when a series was removed since its id was read.
        """
        ids: list[int] = series_ids.tolist()
        if len(ids) <= _LABELS_AT_ONCE:
            return await self._labels_of_some(connection, ids)
        labels: list[Labels] = []
        for first in range(0, len(ids), _LABELS_AT_ONCE):
            wanted = ids[first : first + _LABELS_AT_ONCE]
            labels += await self._labels_of_some(connection, wanted)
            # Other requests come in between.
            await asyncio.sleep(0)
        return labels

    async def chosen_labels_of(
        self, connection: Connection, series_ids: IntArray, names: LabelNames
    ) -> PartialLabelSets:
        """The labels of each series that have these names, in the order of the ids.

        The ids must ascend. Series with the same values share one label set, so that a million
        series take little memory. Raises StorageUnavailableError when a series was removed since
        its id was read.
        """
        if not names:
            return PartialLabelSets((EMPTY_LABELS,) * len(series_ids))
        packed: list[bytes] = []
        keys: list[tuple[str | None, ...]] = []
        for first in range(0, len(series_ids), _CHOSEN_AT_ONCE):
            ids = series_ids[first : first + _CHOSEN_AT_ONCE]
            statement = chosen_labels_statement(ids.tolist(), names)
            rows = await connection.fetch(statement.text, *statement.params)
            if rows:
                packed_ids, *columns = zip(*rows, strict=True)
                packed += packed_ids
                keys += zip(*columns, strict=True)
        return await asyncio.to_thread(_shared_labels, series_ids, names, packed, keys)

    async def _labels_of_some(self, connection: Connection, ids: Sequence[int]) -> list[Labels]:
        found = self._labels_cache.find(ids)
        if sum(known is None for known in found) <= _PARSED_AT_ONCE:
            return await self._with_missing(connection, ids, found)
        # Queries that begin together often ask for the same series: the first one reads them.
        async with self._reading_many:
            return await self._with_missing(connection, ids, self._labels_cache.find(ids))

    async def _with_missing(
        self, connection: Connection, ids: Sequence[int], found: Sequence[Labels | None]
    ) -> list[Labels]:
        """The labels that were found, and those of the other series from the database."""
        missing = [one for one, known in zip(ids, found, strict=True) if known is None]
        read: dict[int, Labels] = {}
        rows = await connection.fetch(_QUERIES["labels_of_series"], missing) if missing else ()
        for first in range(0, len(rows), _PARSED_AT_ONCE):
            read |= self._labels_of_rows(rows[first : first + _PARSED_AT_ONCE])
            await asyncio.sleep(0)
        if len(read) != len(missing):
            raise StorageUnavailableError("a series was removed during the query; try again")
        return [
            read[one] if known is None else known for one, known in zip(ids, found, strict=True)
        ]

    def _labels_of_rows(self, rows: Sequence[asyncpg.Record]) -> dict[int, Labels]:
        """Labels by id from rows of id, metric_name and labels; they are also cached."""
        shared: dict[LabelPair, LabelPair] = {}
        found = {one: labels_of_series(name, document, shared) for one, name, document in rows}
        self._labels_cache.remember(found)
        return found


def _shared_labels(
    ids: IntArray,
    names: LabelNames,
    packed: Sequence[bytes],
    keys: Sequence[tuple[str | None, ...]],
) -> PartialLabelSets:
    """Label sets of series: those whose ids are `packed[i]` have the values `keys[i]`.

    No series has an empty value (see `Labels`), so that different keys are different label sets. A
    million different ones take seconds, although the loops over them run in C.
    """
    found = np.frombuffer(b"".join(packed), ">i8")
    if len(found) != len(ids):
        raise StorageUnavailableError("a series was removed during the query; try again")
    n_ids = np.fromiter(map(len, packed), np.int64, len(packed)) // found.itemsize
    distinct, number_of = numbered(keys)
    numbers = np.empty(len(ids), np.int64)
    numbers[np.searchsorted(ids, found.astype(np.int64))] = np.repeat(number_of, n_ids)
    _, firsts = np.unique(numbers, return_index=True)
    order = np.argsort(firsts)
    label_sets = [
        Labels.of_sorted(
            tuple((name, value) for name, value in zip(names, values, strict=True) if value)
        )
        for values in map(distinct.__getitem__, order.tolist())
    ]
    return PartialLabelSets.of(label_sets, np.argsort(order)[numbers])


def _matching_ids_of(
    rows: Sequence[asyncpg.Record], condition: SeriesCondition, limit: TimeLimit
) -> IntArray:
    is_match = np.ones(len(rows), np.bool_)
    documents: list[dict[str, str]] | None = None
    if condition.reads_all_labels:
        documents = [orjson.loads(row["labels"]) for row in rows]
    for column, matcher in enumerate(condition.residual, start=1):
        if documents is None:
            values = [row[column] for row in rows]
        else:
            values = [document.get(matcher.name, "") for document in documents]
        # Each distinct value is matched once, not once for each series.
        matching = set(_matching_texts(set(values), (matcher,), limit))
        is_match &= np.fromiter((value in matching for value in values), np.bool_, len(values))
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    return np.asarray(ids[is_match])


def _matching_texts(
    texts: Iterable[str], matchers: Sequence[LabelMatcher], limit: TimeLimit
) -> list[str]:
    predicates = [matcher.predicate() for matcher in matchers]
    found: list[str] = []
    for text in texts:
        limit.check_time()
        if all(matches(text) for matches in predicates):
            found.append(text)
    return found
