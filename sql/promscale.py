"""The samples of a Promscale, read from its tables.

Promscale keeps each metric in a table of its own (`prom_data."up"`: time, value, series_id), and
its series and labels in `_prom_catalog`. Versions from 0.11 on, which have an extension, have these
tables. Facts: https://github.com/timescale/promscale_extension, in
migration/incremental/006-tables.sql.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import METRIC_NAME
from promcompat.imports.tsdb.blocks import BlockSamples
from promcompat.remote_write.series_key import encode_series_key
from sql.database.connecting import (
    CONNECT_FAULTS,
    CONNECT_SECONDS,
    BoundedConnection,
    connect_fault,
    describe_place,
)
from sql.database.driver_errors import translated_errors
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("promscale")
_STATEMENT_SECONDS: Final = 600.0
Matchers = tuple[LabelMatcher, ...]


@dataclass(frozen=True, slots=True)
class _Metric:
    id: int
    table: str


@dataclass(slots=True)
class PromscaleReader:
    """Reads series that match, as long as its connection is open."""

    connection: asyncpg.Connection
    matchers: Matchers
    metrics: Sequence[_Metric]
    _keys: dict[int, dict[int, bytes]] = field(default_factory=dict)
    """The keys of series by metric and id; those that do not match have none."""

    async def read(self, start_ms: int, end_ms: int) -> list[BlockSamples]:
        """The samples in `[start_ms, end_ms]`, by metric. Raises StorageUnavailableError."""
        with translated_errors():
            parts = [await self._read(metric, start_ms, end_ms) for metric in self.metrics]
        return [part for part in parts if len(part.series)]

    async def _read(self, metric: _Metric, start_ms: int, end_ms: int) -> BlockSamples:
        statement = _QUERIES["samples_of_table"].format(table=metric.table)
        found = await self.connection.fetch(statement, start_ms, end_ms)
        keys = await self._keys_of(metric, [row["series_id"] for row in found])
        rows = [row for row in found if keys[row["series_id"]]]
        lengths = [len(row["times"]) for row in rows]
        n = sum(lengths)
        times = (time for row in rows for time in row["times"])
        # Not np.array: a stale marker keeps its bits.
        values = (value for row in rows for value in row["sample_values"])
        return BlockSamples(
            [keys[row["series_id"]] for row in rows],
            np.repeat(np.arange(len(rows)), lengths),
            np.fromiter(times, np.int64, n),
            np.fromiter(values, np.float64, n).view(np.uint64),
        )

    async def _keys_of(self, metric: _Metric, ids: Sequence[int]) -> Mapping[int, bytes]:
        """The keys of series, `b""` for those that are left out; new ones are looked up."""
        known = self._keys.setdefault(metric.id, {})
        if not all(number in known for number in ids):
            for row in await self.connection.fetch(_QUERIES["series_of_metric"], metric.id):
                labels = dict(zip(row["names"], row["label_values"], strict=True))
                known[row["id"]] = self._key_of(labels)
            # They were deleted, and their samples are not yet.
            known.update({number: b"" for number in ids if number not in known})
        return known

    def _key_of(self, labels: Mapping[str, str]) -> bytes:
        is_chosen = all(matcher.matches(labels.get(matcher.name, "")) for matcher in self.matchers)
        return encode_series_key(sorted(labels.items())) if is_chosen else b""


@asynccontextmanager
async def opened_promscale(dsn: str, matchers: Matchers) -> AsyncIterator[PromscaleReader]:
    """The database of a Promscale.

    Raises StorageUnavailableError and DatabaseRefusedError when it cannot be used, and BadDataError
    when it is none.
    """
    try:
        connection: BoundedConnection = await asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS, connection_class=BoundedConnection
        )
    except CONNECT_FAULTS as exc:
        raise connect_fault(exc, dsn) from exc
    connection.limit_seconds = _STATEMENT_SECONDS
    try:
        with translated_errors():
            if not await connection.fetchval(_QUERIES["is_promscale"]):
                raise BadDataError(
                    f"{describe_place(dsn)} has no table _prom_catalog.metric of a Promscale 0.11 "
                    "or later"
                )
            metrics = await connection.fetch(_QUERIES["metrics"])
        named = [
            _Metric(row["id"], f"{_quoted(row['table_schema'])}.{_quoted(row['table_name'])}")
            for row in metrics
            if _may_match(row["metric_name"], matchers)
        ]
        yield PromscaleReader(connection, matchers, named)
    finally:
        await connection.close()


def _may_match(metric_name: str, matchers: Matchers) -> bool:
    """Whether the matchers leave any series of a metric."""
    of_name = [matcher for matcher in matchers if matcher.name == METRIC_NAME]
    return all(matcher.matches(metric_name) for matcher in of_name)


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
