"""Finds changes of breach levels in what is written, for the outbox in the samples' transaction.

What a process believes of a series may be a moment old when another process writes it too. That
costs no breach: a change that was recorded already is recorded again, and the dispatcher knows it;
one that was missed is found by the dispatcher's look at the newest samples
(`ThresholdAlerts.verify`). A threshold that is new or changed is held against the newest samples
there are, since they may have been written before it was known here.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import orjson

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.thresholds import AlertThreshold, BreachLevel, Direction
from promcompat.core.watched_series import LevelChange, SeriesLimits, WatchedSeries
from sql.query_loader import load_queries
from sql.storage.connection_pool import Connection, Pool, acquired
from sql.storage.copy_format import SampleRows
from sql.storage.threshold_json import decode_threshold

_QUERIES: Final = load_queries("alerts")
_DEFINITION_QUERIES: Final = load_queries("definitions")
_OVERLAP: Final = timedelta(minutes=2)
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PRESENT_MS: Final = 300_000
"""How old a sample may be that a new threshold is held against: Prometheus' lookback delta."""


class ThresholdWatch:
    """The watched series of all tenants of this process."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._thresholds: dict[str, Mapping[str, AlertThreshold]] = {}
        self._versions: dict[str, int] = {}
        self._limits: dict[str, dict[int, SeriesLimits]] = {}
        self._watched = WatchedSeries()
        self._read_at = _LONG_AGO
        self._is_used = False
        self._refreshing = asyncio.Lock()
        self._is_started = False
        self._to_look_at: set[int] = set()

    @property
    def n_series(self) -> int:
        """How many series are watched."""
        return len(self._watched)

    async def refresh(self) -> None:
        """Take over definitions and levels that changed since the last call.

        Series of changed thresholds are looked at now and at the next call again, when writes that
        were on their way meanwhile are done. Not after a start: who wrote before knew them.
        """
        self._is_used = True
        changed: set[int] = set()
        async with self._refreshing, acquired(self._pool) as connection:
            for tenant_id, tenant, version in await connection.fetch(
                _QUERIES["definition_versions"]
            ):
                if self._versions.get(tenant) != version:
                    changed |= await self._read_tenant(connection, tenant_id, tenant)
                    # Here already, so that a failure below leaves it to the next call.
                    self._to_look_at |= changed
                    self._versions[tenant] = version
            if len(self._watched):
                await self._read_levels(connection)
            if self._is_started:
                await self._look_at(connection, self._to_look_at)
            self._to_look_at = changed if self._is_started else set()
            self._is_started = True

    async def _look_at(self, connection: Connection, series_ids: set[int]) -> None:
        """Record what the newest samples of series change, if they are of the present."""
        if not series_ids:
            return
        present_ms = time.time_ns() // 1_000_000 - _PRESENT_MS
        newest = await connection.fetch(_QUERIES["newest_samples"], list(series_ids))
        found = [row for row in newest if row["ts_ms"] > present_ms]
        changes = self._watched.find_changes(
            np.array([row["series_id"] for row in found], np.int64),
            np.array([row["ts_ms"] for row in found], np.int64),
            np.array([row["value"] for row in found], np.float64),
        )
        if changes:
            await insert_breaches(connection, changes)
            self.committed(changes)

    async def catch_up(self) -> None:
        """Take over what was just changed, unless this process watches nothing.

        Not now if the database is away: the next refresh does it.
        """
        if self._is_used:
            with suppress(StorageUnavailableError):
                await self.refresh()

    async def _read_tenant(self, connection: Connection, tenant_id: int, tenant: str) -> set[int]:
        """Take over a tenant's thresholds; the series of those that are new or changed."""
        rows = await connection.fetch(_DEFINITION_QUERIES["list_thresholds"], tenant_id)
        decoded = {row["name"]: decode_threshold(row["alert_threshold"]) for row in rows}
        thresholds = {name: one for name, one in decoded.items() if one is not None}
        known = self._thresholds.get(tenant, {})
        changed_names = {name for name, one in thresholds.items() if known.get(name) != one}
        changed: set[int] = set()
        # Before the series are read: one that is made meanwhile is offered, and found by this.
        self._thresholds[tenant] = thresholds
        self._limits[tenant] = {}
        self._read_at = _LONG_AGO
        if thresholds:
            found = await connection.fetch(
                _QUERIES["series_of_metrics"], tenant_id, list(thresholds)
            )
            self._limits[tenant] |= {
                row["id"]: limits_of(
                    thresholds[row["metric_name"]], _labels_of(row["metric_name"], row["labels"])
                )
                for row in found
            }
            changed = {row["id"] for row in found if row["metric_name"] in changed_names}
        everything = {
            series_id: limits
            for of_tenant in self._limits.values()
            for series_id, limits in of_tenant.items()
        }
        self._watched = self._watched.replaced_by(everything)
        return changed

    async def _read_levels(self, connection: Connection) -> None:
        started = datetime.now(UTC)
        rows = await connection.fetch(_QUERIES["known_levels"], self._read_at)
        for row in rows:
            self._watched.learn(row["series_id"], BreachLevel(row["level"]), row["ts_ms"])
        self._read_at = started - _OVERLAP

    def offer(self, tenant: str, series: Mapping[int, Labels]) -> None:
        """Watch those of these series whose metric has a threshold."""
        thresholds = self._thresholds.get(tenant)
        if not thresholds:
            return
        found = {
            series_id: limits_of(threshold, labels)
            for series_id, labels in series.items()
            if (threshold := thresholds.get(labels.get(METRIC_NAME))) is not None
            and series_id not in self._watched
        }
        if found:
            self._limits[tenant] |= found
            self._watched = self._watched.with_series(found)

    async def check(self, rows: SampleRows) -> Sequence[LevelChange]:
        """The level changes that must be recorded with these rows."""
        values = rows.bits.view("float64")
        changes = self._watched.find_changes(rows.series_ids, rows.timestamps, values)
        if not changes:
            return ()
        # Only now, as changes are rare: is the sample older than what is stored?
        ids = list({change.series_id for change in changes})
        async with acquired(self._pool) as connection:
            newest = await connection.fetch(_QUERIES["newest_samples"], ids)
        self._watched.learn_newest((row["series_id"], row["ts_ms"]) for row in newest)
        return self._watched.find_changes(rows.series_ids, rows.timestamps, values)

    def committed(self, changes: Sequence[LevelChange]) -> None:
        """From now on these are known."""
        for change in changes:
            self._watched.learn(change.series_id, change.level, change.timestamp_ms)


def limits_of(threshold: AlertThreshold, labels: Labels) -> SeriesLimits:
    """The limits of one series of a metric."""
    warning, critical = threshold.limits_of(labels)
    return SeriesLimits(warning, critical, threshold.direction is Direction.ABOVE)


def _labels_of(metric_name: str, document: str) -> Labels:
    return Labels([(METRIC_NAME, metric_name), *orjson.loads(document).items()])


async def insert_breaches(connection: Connection, changes: Sequence[LevelChange]) -> None:
    """Record changes, within the transaction of the connection."""
    await connection.execute(
        _QUERIES["insert_breaches"],
        [change.series_id for change in changes],
        [int(change.level) for change in changes],
        [change.value for change in changes],
        [change.timestamp_ms for change in changes],
    )
