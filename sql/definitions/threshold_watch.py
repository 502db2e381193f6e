"""Finds changes of breach levels in written samples; they are stored in the samples' transaction.

The levels in this process may be out of date when another process writes the same series. No breach
is lost: a change that is recorded twice is handled once, and `ThresholdAlerts.verify` finds missed
changes in the newest samples. It also finds what was written under a changed threshold before this
process had it (table `threshold_review`).
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.alerting.thresholds import (
    NEVER_MS,
    LevelChange,
    SeriesLimits,
    ThresholdIndex,
    WatchedSeries,
)
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import METRIC_NAME, IntArray, Labels
from promcompat.core.offloading import offload
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.copy_format import SampleRows
from sql.database.rows import labels_of_series
from sql.definitions.sample_lookup import SampleLookup
from sql.definitions.threshold_json import decode_threshold
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("thresholds")
_DEFINITION_QUERIES: Final = load_queries("definitions")
_OVERLAP: Final = timedelta(minutes=2)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ThresholdWatch:
    """The watched series of all tenants of this process."""

    def __init__(
        self, pool: Pool, samples: SampleLookup, now_ms: Callable[[], int], max_age_ms: int
    ) -> None:
        """A sample older than `max_age_ms` when it is written raises no alert (0: of any age)."""
        self._pool = pool
        self._samples = samples
        self._now_ms = now_ms
        self._max_age_ms = max_age_ms
        self._thresholds: dict[str, dict[str, ThresholdIndex]] = {}
        self._versions: dict[str, int] = {}
        self._ids: dict[tuple[str, str], set[int]] = {}
        """The series that are watched, by tenant and metric."""
        self._watched = WatchedSeries()
        self._read_at = _LONG_AGO
        self._is_used = False
        self._refreshing = asyncio.Lock()

    @property
    def n_series(self) -> int:
        """How many series are watched."""
        return len(self._watched)

    def forget(self) -> None:
        """Read everything again at the next refresh, as the database was set back."""
        self._versions.clear()
        self._read_at = _LONG_AGO

    async def refresh(self) -> None:
        """Read definitions and levels that changed since the last call."""
        self._is_used = True
        async with self._refreshing, acquired(self._pool) as connection:
            for tenant_id, tenant, version in await connection.fetch(
                _QUERIES["definition_versions"]
            ):
                known = self._versions.get(tenant, 0)
                if known != version:
                    await self._read_tenant(connection, tenant_id, tenant, known)
                    self._versions[tenant] = version
            if len(self._watched):
                await self._read_levels(connection)

    async def catch_up(self) -> None:
        """Read recent changes, unless this process watches nothing.

        When the database does not answer, the next refresh does it.
        """
        if self._is_used:
            with suppress(StorageUnavailableError):
                await self.refresh()

    async def _read_tenant(
        self, connection: Connection, tenant_id: int, tenant: str, known_version: int
    ) -> None:
        """Read the thresholds of a tenant that changed after a version, and their series.

        What did not change is not read again: a tenant may have thousands of thresholds, and of
        series that they watch, and change them often.
        """
        rows = await connection.fetch(
            _DEFINITION_QUERIES["changed_thresholds"], tenant_id, known_version
        )
        changed = await asyncio.to_thread(_indexes_of, rows)
        thresholds = self._thresholds.setdefault(tenant, {})
        removed = thresholds.keys() - {row["name"] for row in rows}
        before = {
            name: frozenset(self._ids.get((tenant, name), ())) for name in (*removed, *changed)
        }
        # Set before the series are read, so that `offer` accepts a series created in the meantime.
        thresholds |= changed
        statement = _QUERIES["series_of_metrics"]
        found = await connection.fetch(statement, tenant_id, list(changed)) if changed else ()
        added, ids = await asyncio.to_thread(_watched_series, found, changed)
        for name in removed:
            del thresholds[name]
        for name, known in before.items():
            offered = self._ids.pop((tenant, name), set()) - known
            if of_metric := offered.union(ids.get(name, ())):
                self._ids[tenant, name] = of_metric
        self._watched = self._watched.changed(frozenset().union(*before.values()), added)
        if len(added):
            self._read_at = _LONG_AGO

    async def _read_levels(self, connection: Connection) -> None:
        started = datetime.now(UTC)
        rows = await connection.fetch(_QUERIES["known_levels"], self._read_at)
        self._watched.learn_all(*await offload(len(rows), _level_columns, rows))
        self._read_at = started - _OVERLAP

    def watched_metrics(self, tenant: str) -> Collection[str]:
        """The names of a tenant's metrics that have a threshold."""
        return self._thresholds.get(tenant, {}).keys()

    def offer(self, tenant: str, series: Mapping[int, Labels]) -> None:
        """Watch the series whose metric has a threshold."""
        thresholds = self._thresholds.get(tenant)
        if not thresholds:
            return
        found: dict[int, SeriesLimits] = {}
        for series_id, labels in series.items():
            name = labels.get(METRIC_NAME)
            threshold = thresholds.get(name)
            if threshold is not None and series_id not in self._watched:
                found[series_id] = threshold.limits_of(labels)
                self._ids.setdefault((tenant, name), set()).add(series_id)
        if found:
            self._watched = self._watched.with_series(found)

    async def check(self, tenant_id: int, rows: SampleRows) -> Sequence[LevelChange]:
        """The level changes that must be recorded with these rows of a tenant."""
        values = rows.bits.view("float64")
        oldest_ms = self._now_ms() - self._max_age_ms if self._max_age_ms else NEVER_MS
        columns = rows.series_ids, rows.timestamps, values, oldest_ms
        changes = self._watched.find_changes(*columns)
        if not changes:
            return ()
        # Changes are rare, so only now: the newest stored samples show which ones are late.
        ids = list({change.series_id for change in changes})
        newest = await self._samples.newest(tenant_id, ids)
        self._watched.learn_newest(
            (series_id, sample.timestamp_ms) for series_id, sample in newest.items()
        )
        return self._watched.find_changes(*columns)

    def committed(self, changes: Sequence[LevelChange]) -> None:
        """Take over the levels of changes that were committed."""
        for change in changes:
            self._watched.learn(change.series_id, change.level, change.timestamp_ms)


def _level_columns(rows: Sequence[asyncpg.Record]) -> tuple[IntArray, IntArray, IntArray]:
    """Series, levels and times of rows."""
    series_ids, levels, times_ms = (
        np.fromiter((row[name] for row in rows), np.int64, len(rows))
        for name in ("series_id", "level", "ts_ms")
    )
    return series_ids, levels, times_ms


def _indexes_of(rows: Sequence[asyncpg.Record]) -> dict[str, ThresholdIndex]:
    """The thresholds of the rows that have one, by metric name."""
    decoded = ((row["name"], decode_threshold(row["alert_threshold"])) for row in rows)
    return {name: ThresholdIndex(threshold) for name, threshold in decoded if threshold is not None}


def _watched_series(
    rows: Sequence[asyncpg.Record], thresholds: Mapping[str, ThresholdIndex]
) -> tuple[WatchedSeries, Mapping[str, Collection[int]]]:
    """The series of metrics with their limits, and their ids by metric name."""
    limits: dict[int, SeriesLimits] = {}
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for series_id, name, labels in rows:
        limits[series_id] = thresholds[name].limits_of(labels_of_series(name, labels))
        ids[name].append(series_id)
    return WatchedSeries(limits), ids
