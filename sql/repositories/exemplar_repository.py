"""The PostgreSQL side of `promcompat.core.exemplars.ExemplarRepository`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import asyncpg
import orjson
import xxhash

from promcompat.core.exemplars import (
    AppendedExemplars,
    Exemplar,
    ExemplarLimits,
    ExemplarRepository,
    ExemplarsOfSeries,
    SeriesExemplar,
)
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, Labels, SeriesIdentity
from promcompat.core.offloading import offload
from promcompat.core.ports import MatcherSets
from promcompat.core.series_identity import identity_of
from promcompat.core.texts.storable_text import is_storable_text
from promql.budget import TimeLimit, run_limited
from sql.database.connection_pool import Connection, acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("exemplars")
_IN_THREAD_FROM: Final = 1_000
"""Series and sets of matchers, which are compared in some milliseconds."""
_MATCH_SECONDS: Final = 10.0
_LAST_MS: Final = (1 << 63) - 1
Place = tuple[int, float, int]
"""Time, value, and hash of the labels: exemplars of a series ascend in it."""


class PostgresExemplarRepository(ExemplarRepository):
    """Exemplars in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        """Store exemplars; see the port."""
        batch = await offload(len(exemplars), _Batch.of, exemplars)
        if batch.series:
            tenant_id = await self._database.tenants.find_or_create(tenant)
            async with (
                acquired(self._database.write_pool) as connection,
                connection.transaction(),
            ):
                await _append(connection, tenant_id, batch)
        return AppendedExemplars(batch.n_stored, tuple(batch.out_of_order), tuple(batch.invalid))

    async def select(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[ExemplarsOfSeries]:
        """The exemplars of series; see the port."""
        names = _metric_names(matcher_sets)
        rows = await self._database.rows_of(tenant, _QUERIES["exemplar_series"], names)
        limit = TimeLimit.after(_MATCH_SECONDS)
        if len(rows) * len(matcher_sets) < _IN_THREAD_FROM:
            matching = _matching(rows, matcher_sets, limit)
        else:
            work = partial(_matching, rows, matcher_sets, limit)
            matching = await run_limited(None, limit, work)
        if not matching:
            return []
        async with acquired(self._database.read_pool) as connection:
            found = await connection.fetch(
                _QUERIES["exemplars"],
                list(matching),
                max(start_ms, -_LAST_MS),
                min(end_ms, _LAST_MS),
            )
        return await offload(len(found), _by_series, found, matching)

    async def trim(self, limits: ExemplarLimits, now_ms: int, tenant: str | None = None) -> int:
        """Delete what exceeds the limits, in a transaction for each tenant; see the port."""
        if tenant is not None:
            tenant_id = await self._database.tenants.find(tenant)
            return 0 if tenant_id is None else await self._trim(tenant_id, limits, now_ms)
        n_deleted = sum([await self._trim(one, limits, now_ms) for one in await self._tenants()])
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(_QUERIES["delete_unused_exemplar_series"])
        return n_deleted

    async def _tenants(self) -> list[int]:
        """The tenants that have exemplars."""
        async with acquired(self._database.write_pool) as connection:
            rows = await connection.fetch(_QUERIES["tenants_with_exemplars"])
        return [row["id"] for row in rows]

    async def _trim(self, tenant_id: int, limits: ExemplarLimits, now_ms: int) -> int:
        async with acquired(self._database.write_pool) as connection:
            n_deleted: int = await connection.fetchval(
                _QUERIES["delete_excess_exemplars"], *_excess(tenant_id, limits, now_ms)
            )
        return n_deleted

    async def count_excess(self, limits: ExemplarLimits, now_ms: int) -> int:
        """How many exemplars `trim` would delete; see the port."""
        n_excess = 0
        for tenant_id in await self._tenants():
            async with acquired(self._database.read_pool) as connection:
                n_excess += await connection.fetchval(
                    _QUERIES["count_excess_exemplars"], *_excess(tenant_id, limits, now_ms)
                )
        return n_excess


def _excess(tenant_id: int, limits: ExemplarLimits, now_ms: int) -> tuple[object, ...]:
    """The parameters of statements that find what exceeds the limits of a tenant."""
    return (
        tenant_id,
        now_ms - limits.retention_ms,
        limits.max_per_series,
        limits.max_per_tenant,
        *_columns_of(limits.overrides()),
    )


def _columns_of(overrides: Mapping[str, int]) -> tuple[list[str], list[int]]:
    return list(overrides), list(overrides.values())


@dataclass(slots=True)
class _OfSeries:
    """The exemplars of a series in a batch."""

    labels: Labels
    identity: SeriesIdentity
    exemplars: list[Exemplar] = field(default_factory=list)

    def accepted(
        self, newest: Place | None, batch: "_Batch"
    ) -> tuple[list[Exemplar], Place | None]:
        """Those to be stored after `newest`, and the newest one then; all are counted."""
        kept = []
        for exemplar in self.exemplars:
            place = exemplar.timestamp_ms, exemplar.value, label_hash(exemplar.labels)
            if newest is not None and place < newest:
                batch.out_of_order.append(self.labels)
                continue
            batch.n_stored += 1
            if newest is None or not _is_same(place, newest):
                kept.append(exemplar)
                newest = place
        return kept, newest


def _is_same(place: Place, other: Place) -> bool:
    """NaN is that of a request that is sent again, too."""
    are_nan = place[1] != place[1] and other[1] != other[1]
    return place[::2] == other[::2] and (are_nan or place[1] == other[1])


@dataclass(slots=True)
class _Batch:
    """Exemplars by series, and what became of them."""

    series: dict[bytes, _OfSeries] = field(default_factory=dict)
    n_stored: int = 0
    out_of_order: list[Labels] = field(default_factory=list)
    invalid: list[Labels] = field(default_factory=list)

    @classmethod
    def of(cls, exemplars: Sequence[SeriesExemplar]) -> "_Batch":
        """The exemplars that may be stored."""
        batch = cls()
        for found in exemplars:
            batch.add(found)
        return batch

    @property
    def n_exemplars(self) -> int:
        """How many may be stored."""
        return sum(len(of_series.exemplars) for of_series in self.series.values())

    def add(self, found: SeriesExemplar) -> None:
        """Add one, unless it can never be stored."""
        identity = identity_of(found.series)
        exemplar = found.exemplar
        texts = (text for pair in exemplar.labels for text in pair)
        is_storable = identity is not None and all(map(is_storable_text, texts))
        if identity is None or not is_storable or exemplar.is_too_long:
            self.invalid.append(found.series)
            return
        of_series = self.series.setdefault(identity.fingerprint, _OfSeries(found.series, identity))
        of_series.exemplars.append(exemplar)


async def _append(connection: Connection, tenant_id: int, batch: _Batch) -> None:
    ordered = [batch.series[fingerprint] for fingerprint in sorted(batch.series)]
    rows = await connection.fetch(
        _QUERIES["lock_exemplar_series"],
        tenant_id,
        [series.identity.fingerprint for series in ordered],
        [series.identity.metric_name for series in ordered],
        [series.identity.document for series in ordered],
    )
    stored, newest = await offload(batch.n_exemplars, _accepted, rows, batch)
    if stored:
        columns = [list(column) for column in zip(*stored, strict=True)]
        await connection.execute(_QUERIES["append_exemplars"], tenant_id, *columns)
        columns = [list(column) for column in zip(*newest, strict=True)]
        await connection.execute(_QUERIES["set_newest_exemplars"], *columns)


def _accepted(
    rows: Sequence[asyncpg.Record], batch: _Batch
) -> tuple[list[tuple[int, int, float, str]], list[tuple[int, int, float, int]]]:
    """What is stored, and the newest exemplar of each series; `rows` are their last ones."""
    stored: list[tuple[int, int, float, str]] = []
    newest: list[tuple[int, int, float, int]] = []
    for row in rows:
        before = None
        if row["newest_ms"] is not None:
            before = row["newest_ms"], row["newest_value"], row["newest_label_hash"]
        kept, last = batch.series[row["fingerprint"]].accepted(before, batch)
        for exemplar in kept:
            document = orjson.dumps(exemplar.labels.as_dict()).decode()
            stored.append((row["id"], exemplar.timestamp_ms, exemplar.value, document))
        if kept and last is not None:
            newest.append((row["id"], *last))
    return stored, newest


def label_hash(labels: Labels) -> int:
    """The hash by which Prometheus orders exemplars of one time and value, minus 2**63."""
    parts = []
    for text in (text for pair in labels for text in pair):
        encoded = text.encode()
        size = len(encoded)
        head = bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(3, "little")
        parts.append(head + encoded)
    return xxhash.xxh64_intdigest(b"".join(parts)) - (1 << 63)


def _metric_names(matcher_sets: MatcherSets) -> list[str] | None:
    """The names of the only metrics that can match; None if there may be others."""
    names = []
    for matchers in matcher_sets:
        exact = [
            matcher.value
            for matcher in matchers
            if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL
        ]
        if not exact or not is_storable_text(exact[0]):
            return None
        names.append(exact[0])
    return names


def _matching(
    rows: Sequence[asyncpg.Record], matcher_sets: MatcherSets, limit: TimeLimit
) -> Mapping[int, Labels]:
    """The labels of the series that satisfy all matchers of a set, by id.

    Raises QueryTimeoutError.
    """
    matching = {}
    for row in rows:
        documents = orjson.loads(row["labels"])
        labels = Labels.of({METRIC_NAME: row["metric_name"], **documents})
        if any(_matches(labels, matchers, limit) for matchers in matcher_sets):
            matching[row["id"]] = labels
    return matching


def _matches(labels: Labels, matchers: Sequence[LabelMatcher], limit: TimeLimit) -> bool:
    limit.check_time()
    return all(matcher.matches(labels.get(matcher.name)) for matcher in matchers)


def _by_series(
    found: Sequence[asyncpg.Record], labels_of: Mapping[int, Labels]
) -> list[ExemplarsOfSeries]:
    """Exemplars by the labels of their series, which are by its id."""
    exemplars: defaultdict[int, list[Exemplar]] = defaultdict(list)
    for row in found:
        labels = Labels.of(orjson.loads(row["labels"]))
        exemplars[row["series_id"]].append(Exemplar(labels, row["value"], row["time_ms"]))
    return sorted(
        (
            ExemplarsOfSeries(labels_of[series_id], tuple(of_series))
            for series_id, of_series in exemplars.items()
        ),
        key=lambda item: item.series.pairs,
    )
