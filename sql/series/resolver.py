"""Series keys of a batch to series ids: from the cache, else one bulk statement."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import compress
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.limits.tenant_limits import Limits, TenantLimits
from promcompat.core.limits.turns import Claim, Turns
from promcompat.core.model import (
    METRIC_NAME,
    UNKNOWN_SERIES,
    BoolArray,
    IntArray,
    Labels,
    SeriesIdentity,
    WriteBatch,
)
from promcompat.core.offloading import in_thread_if
from promcompat.core.series_identity import identity_of
from promcompat.core.series_table import RefusedKeys
from sql.caching.series_cache import SeriesCache
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.installation_guard import InstallationGuard, is_out_of_date
from sql.database.storage_stats import StorageStats
from sql.definitions.threshold_watch import ThresholdWatch
from sql.query_loader import load_queries
from sql.series.refused_series import REFUSING_LIMITS, RefusedSeries, refused_rows

_QUERIES: Final = load_queries("series")
_SERIES_AT_ONCE: Final = 2_000
"""Series in one statement; encoding its parameters blocks the event loop for some milliseconds."""
_KEYS_AT_ONCE: Final = 2 * _SERIES_AT_ONCE
"""Keys that are looked up in one pass of the event loop, in some milliseconds."""
_IN_THREAD_FROM: Final = 200
"""Fewer series are prepared before a thread would have started."""


@dataclass(frozen=True, slots=True)
class ResolvedBatch:
    """The series id of each row, UNKNOWN_SERIES where it can never be stored.

    `rejection` says why, except for rows that were not storable to begin with.
    """

    series_ids: IntArray
    rejection: str | None


@dataclass(frozen=True, slots=True)
class _FoundSeries:
    """The ids of keys, the names of the limits that refused others, and what else is wrong."""

    ids: dict[bytes, int] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    rejection: str | None = None


_REFUSALS: Final = dict(zip((0, -1), REFUSING_LIMITS, strict=True))
"""What find_or_make_series returns in place of the ids of series for which there is no room."""


def identify_series(labels: Labels, limits: LabelLimits) -> SeriesIdentity | str:
    """The identity of a label set, or why the database can never hold it."""
    identity = identity_of(labels)
    if identity is None:
        return f"a label of {labels.get(METRIC_NAME)!r} is not text or contains U+0000"
    return limits.fault_of(labels) or identity


class SeriesResolver:
    """Finds or makes the series of a batch."""

    def __init__(
        self,
        pool: Pool,
        series_cache: SeriesCache,
        stats: StorageStats,
        watch: ThresholdWatch,
        limits: Limits,
        guard: InstallationGuard,
    ) -> None:
        """`watch` gets every series before this process writes a sample of it."""
        self._refused = RefusedSeries()
        # Making many series takes long; the connections are needed for commits too.
        self._turns = Turns(pool.max_size)
        guard.subscribe(lambda _removed: self._refused.forget())
        self._limits = limits
        self._pool = pool
        self._watch = watch
        self._guard = guard
        self._series_cache = series_cache
        self._stats = stats

    def refused_lately(self, tenant: str) -> tuple[RefusedKeys, ...]:
        """See `KnownSeries.refused`."""
        return self._refused.of(tenant, self._limits.of(tenant))

    async def resolve(
        self,
        tenant: str,
        tenant_id: int,
        batch: WriteBatch,
        *,
        is_storable: BoolArray,
        version: int,
    ) -> ResolvedBatch:
        """The ids of a batch's rows; new series are committed when this returns.

        Rows that are not storable create no series. `version` is the version of the guard before
        the tenant was looked up.

        Raises StaleKnowledgeError when cached ids had to be dropped meanwhile; the ids found must
        not be cached then.
        """
        ids = batch.series_ids
        n_known = int(np.count_nonzero(ids >= 0))
        self._stats.series_cache_hits += n_known
        if n_known == len(ids):
            return ResolvedBatch(ids, None)
        is_unknown = ids == UNKNOWN_SERIES
        self._stats.series_cache_misses += int(np.count_nonzero(is_unknown))
        n_refused = Counter(refused_rows(ids[is_storable]))
        keys = list(compress(batch.unknown_keys, is_storable[is_unknown].tolist()))
        found, rejection = np.empty(len(keys), np.int64), None
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[first : first + _KEYS_AT_ONCE]
            made = await self._find_or_make(tenant, tenant_id, some, batch, version)
            found[first : first + len(some)] = [made.ids.get(key, UNKNOWN_SERIES) for key in some]
            n_refused.update(name for key in some if (name := made.refused.get(key)) is not None)
            rejection = rejection or made.rejection
            await asyncio.sleep(0)
        ids = np.maximum(ids, UNKNOWN_SERIES)
        ids[is_unknown & is_storable] = found
        refusal = self._refusal(tenant, n_refused)
        return ResolvedBatch(ids, rejection or refusal)

    def _refusal(self, tenant: str, n_rows: Mapping[str, int]) -> str | None:
        """Which limit refused the first of the rows that have no id; all are counted."""
        texts = [
            self._limits.refuse(tenant, name, f": {n} samples of new series were not stored", n)
            for name, n in n_rows.items()
        ]
        return next(iter(texts), None)

    async def _find_or_make(
        self,
        tenant: str,
        tenant_id: int,
        keys: Sequence[bytes],
        batch: WriteBatch,
        version: int,
    ) -> "_FoundSeries":
        """The id of each key that can be stored, and why the others cannot."""
        if not keys:
            return _FoundSeries()
        distinct = list(dict.fromkeys(keys))
        # Another write may have made some of them since the batch was decoded.
        cached = self._series_cache.known(tenant, version).find(distinct).tolist()
        found = {
            key: series_id
            for key, series_id in zip(distinct, cached, strict=True)
            if series_id != UNKNOWN_SERIES
        }
        missing = [key for key in distinct if key not in found]
        if not missing:
            return _FoundSeries(found)
        limits = self._limits.of(tenant)
        refused = self._refused.find(tenant, limits, missing)
        if refused:
            missing = [key for key in missing if key not in refused]
        identities, rejection = await self._identify(missing, batch, limits.labels)
        made = await self._resolve_missing(
            tenant, tenant_id, identities, batch.labels, version, limits
        )
        self._refused.add(tenant, limits, made.refused)
        return _FoundSeries(found | made.ids, refused | made.refused, rejection)

    async def _identify(
        self, keys: Sequence[bytes], batch: WriteBatch, limits: LabelLimits
    ) -> tuple[dict[bytes, SeriesIdentity], str | None]:
        """The identity of each key that can be stored, and why the first of the others cannot."""
        is_long = len(keys) - len(batch.identities) >= _IN_THREAD_FROM
        return await in_thread_if(is_long, _split_storable, keys, batch, limits)

    async def _resolve_missing(
        self,
        tenant: str,
        tenant_id: int,
        identities: Mapping[bytes, SeriesIdentity],
        labels_of: Mapping[bytes, Labels],
        version: int,
        limits: TenantLimits,
    ) -> "_FoundSeries":
        """The ids of series that are not cached, in groups."""
        found = _FoundSeries()
        if not identities:
            return found
        started = time.perf_counter()
        async with AsyncExitStack() as held:
            await self._wait_for_turn(Claim(tenant=tenant, weight=limits.weight), held)
            connection = await held.enter_async_context(acquired(self._pool))
            for keys in _groups(list(identities)):
                group = {key: identities[key] for key in keys}
                try:
                    made = await _resolve_group(connection, tenant_id, group, limits)
                except asyncpg.PostgresError as exc:
                    if not is_out_of_date(exc):
                        raise
                    await self._guard.catch_up(connection, version)
                    made = await _resolve_group(connection, tenant_id, group, limits)
                self._guard.require(version)
                self._watch_thresholds(tenant, group, made.ids, labels_of)
                self._series_cache.add(tenant, made.ids)
                found.ids.update(made.ids)
                found.refused.update(made.refused)
        self._stats.series_resolved += len(found.ids)
        self._stats.series_resolve_seconds += time.perf_counter() - started
        return found

    async def _wait_for_turn(self, claim: Claim, held: AsyncExitStack) -> None:
        """Take a turn for as long as `held` lasts. Raises StorageUnavailableError when none comes.

        It is waited for as long as for a connection.
        """
        try:
            async with asyncio.timeout(self._pool.limit_seconds):
                await held.enter_async_context(self._turns.turn(claim))
        except TimeoutError as exc:
            raise StorageUnavailableError("making series takes too long; try again") from exc

    def _watch_thresholds(
        self,
        tenant: str,
        group: Mapping[bytes, SeriesIdentity],
        ids: Mapping[bytes, int],
        labels_of: Mapping[bytes, Labels],
    ) -> None:
        """Watch the series whose metric has a threshold; only their labels are decoded."""
        watched = self._watch.watched_metrics(tenant)
        if watched:
            self._watch.offer(
                tenant,
                {
                    ids[key]: labels_of[key]
                    for key, series in group.items()
                    if series.metric_name in watched and key in ids
                },
            )


def _groups(keys: list[bytes]) -> Iterator[list[bytes]]:
    for first in range(0, len(keys), _SERIES_AT_ONCE):
        yield keys[first : first + _SERIES_AT_ONCE]


async def _resolve_group(
    connection: Connection,
    tenant_id: int,
    group: Mapping[bytes, SeriesIdentity],
    limits: TenantLimits,
) -> _FoundSeries:
    """The id of each key, by one statement that makes those that do not exist, within the limits.

    New series get ids in the order of the batch, grouped by metric. Queries return series in the
    order of ids, as Prometheus returns them in the order of creation. Series of one metric get
    adjacent ids: within a commit samples are stored in the order of ids, and a query reads one
    metric. Rows are inserted in another order, which is the same for all writers, so that writers
    that create the same series concurrently cannot deadlock.
    """
    series_of = {series.fingerprint: series for series in group.values()}
    columns = await in_thread_if(len(series_of) >= _IN_THREAD_FROM, _columns, series_of)
    packed = await connection.fetchval(
        _QUERIES["find_or_make_series"],
        tenant_id,
        *columns,
        limits.max_global_series_per_user,
        limits.max_global_series_per_metric,
    )
    id_of = dict(zip(columns[0], np.frombuffer(packed, ">i8").tolist(), strict=True))
    ids = {key: id_of[series.fingerprint] for key, series in group.items()}
    refused = {key: name for key, number in ids.items() if (name := _REFUSALS.get(number))}
    for key in refused:
        del ids[key]
    return _FoundSeries(ids, refused)


def _columns(
    series_of: Mapping[bytes, SeriesIdentity],
) -> tuple[list[bytes], list[str], list[str], list[int]]:
    """Fingerprints, metric names, other labels and places, in the order of insertion."""
    names = [series.metric_name for series in series_of.values()]
    named = sorted(zip(names, series_of, _places_by_metric(names), strict=True))
    return (
        [fingerprint for _, fingerprint, _ in named],
        [name for name, _, _ in named],
        [series_of[fingerprint].document for _, fingerprint, _ in named],
        [place for _, _, place in named],
    )


def _places_by_metric(names: Sequence[str]) -> list[int]:
    """The rank of each series from 1, by the first occurrence of its metric, then by position."""
    first_of: dict[str, int] = {}
    for index, name in enumerate(names):
        first_of.setdefault(name, index)
    ranked = sorted(range(len(names)), key=lambda index: first_of[names[index]])
    places = [0] * len(names)
    for place, index in enumerate(ranked, start=1):
        places[index] = place
    return places


def _split_storable(
    keys: Sequence[bytes], batch: WriteBatch, limits: LabelLimits
) -> tuple[dict[bytes, SeriesIdentity], str | None]:
    storable: dict[bytes, SeriesIdentity] = {}
    rejection: str | None = None
    for key in keys:
        series = batch.identities.get(key) or identify_series(batch.labels[key], limits)
        if isinstance(series, str):
            rejection = rejection or series
        else:
            storable[key] = series
    return storable, rejection
