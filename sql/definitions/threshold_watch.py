"""Finds changes of breach levels in written samples; they are stored in the samples' transaction.

The levels in this process may be out of date when another process writes the same series. No breach
is lost: a change that is recorded twice is handled once, and `ThresholdAlerts.verify` finds missed
changes in the newest samples. It also finds what was written under a changed threshold before this
process had it (table `threshold_review`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.thresholds import (
    NEVER_MS,
    AlertThreshold,
    BreachLevel,
    LevelChange,
    SeriesLimits,
    WatchedSeries,
)
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
        self._thresholds: dict[str, Mapping[str, AlertThreshold]] = {}
        self._versions: dict[str, int] = {}
        self._limits: dict[str, dict[int, SeriesLimits]] = {}
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
                if self._versions.get(tenant) != version:
                    await self._read_tenant(connection, tenant_id, tenant)
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

    async def _read_tenant(self, connection: Connection, tenant_id: int, tenant: str) -> None:
        """Read a tenant's thresholds and the series that have one."""
        rows = await connection.fetch(_DEFINITION_QUERIES["list_thresholds"], tenant_id)
        decoded = {row["name"]: decode_threshold(row["alert_threshold"]) for row in rows}
        thresholds = {
            name: threshold for name, threshold in decoded.items() if threshold is not None
        }
        # Set before the series are read, so that `offer` accepts a series created in the meantime.
        self._thresholds[tenant] = thresholds
        self._limits[tenant] = {}
        self._read_at = _LONG_AGO
        if thresholds:
            found = await connection.fetch(
                _QUERIES["series_of_metrics"], tenant_id, list(thresholds)
            )
            self._limits[tenant] |= {
                row["id"]: thresholds[row["metric_name"]].limits_of(
                    labels_of_series(row["metric_name"], row["labels"])
                )
                for row in found
            }
        everything = {
            series_id: limits
            for of_tenant in self._limits.values()
            for series_id, limits in of_tenant.items()
        }
        self._watched = self._watched.replaced_by(everything)

    async def _read_levels(self, connection: Connection) -> None:
        started = datetime.now(UTC)
        rows = await connection.fetch(_QUERIES["known_levels"], self._read_at)
        for row in rows:
            self._watched.learn(row["series_id"], BreachLevel(row["level"]), row["ts_ms"])
        self._read_at = started - _OVERLAP

    def watched_metrics(self, tenant: str) -> Collection[str]:
        """The names of a tenant's metrics that have a threshold."""
        return self._thresholds.get(tenant, {}).keys()

    def offer(self, tenant: str, series: Mapping[int, Labels]) -> None:
        """Watch the series whose metric has a threshold."""
        thresholds = self._thresholds.get(tenant)
        if not thresholds:
            return
        found = {
            series_id: threshold.limits_of(labels)
            for series_id, labels in series.items()
            if (threshold := thresholds.get(labels.get(METRIC_NAME))) is not None
            and series_id not in self._watched
        }
        if found:
            self._limits[tenant] |= found
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


async def insert_breaches(connection: Connection, changes: Sequence[LevelChange]) -> None:
    """Record changes, within the transaction of the connection."""
    await connection.execute(
        _QUERIES["insert_breaches"],
        [change.series_id for change in changes],
        [int(change.level) for change in changes],
        [change.value for change in changes],
        [change.timestamp_ms for change in changes],
    )
