"""The transaction in which alerts of thresholds advance.

Its advisory lock belongs to the transaction: a process that dies, or loses its connection, has
changed nothing and holds nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from promcompat.core.alerting.alerts import AlertChange
from promcompat.core.alerting.ports import (
    BreachEvent,
    LevelState,
    TenantAlert,
    ThresholdReview,
    ThresholdSession,
)
from promcompat.core.alerting.thresholds import BreachLevel
from promcompat.core.model import Labels
from sql.alerting.alert_rows import alert_of_row
from sql.alerting.alert_writer import AlertWriter
from sql.database.connection_pool import Connection
from sql.database.rows import labels_of_series, read_rows
from sql.database.tenants import Tenants
from sql.definitions.sample_lookup import NewestSample, SampleLookup
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("thresholds")
_ORPHANED_ALERTS: Final = load_queries("alerts")["orphaned_alerts"]
_MAX_WAITING_BREACHES: Final = 10_000
"""While more wait, a series that crosses its limits with every sample counts with the last one."""
_REPEATED_AFTER_SECONDS: Final = 5.0
"""After this time every process has a changed threshold: each looks for changes every 2 s."""


class PostgresThresholdSession(ThresholdSession):
    """The session of one transaction."""

    def __init__(
        self, connection: Connection, tenants: Tenants, writer: AlertWriter, samples: SampleLookup
    ) -> None:
        self._connection = connection
        self._samples = samples
        self._tenants = tenants
        self._writer = writer

    async def take_breaches(self, limit: int) -> list[BreachEvent]:
        """See the port.

        A breach counts if its sample is stored. The sample may have lost its place to another one
        of the same time, whose value counts then, or have been deleted since.
        """
        await self._connection.execute(_QUERIES["drop_superseded"], _MAX_WAITING_BREACHES)
        rows = await self._connection.fetch(_QUERIES["take_breaches"], limit)
        await self._connection.execute(_QUERIES["delete_breaches"], [row["id"] for row in rows])
        stored: dict[int, float] = {}
        for tenant_id, of_tenant in _by_tenant(rows).items():
            keys = [row["series_id"] for row in of_tenant], [row["ts_ms"] for row in of_tenant]
            values = await self._samples.values_at(tenant_id, *keys)
            for row, value in zip(of_tenant, values, strict=True):
                if value is not None:
                    stored[row["id"]] = value
        return [
            BreachEvent(
                id=row["id"],
                series_id=row["series_id"],
                tenant=row["tenant"],
                labels=_series_labels(row),
                value=stored[row["id"]],
                timestamp_ms=row["ts_ms"],
            )
            for row in rows
            if row["id"] in stored
        ]

    async def take_review(self, limit: int) -> ThresholdReview | None:
        """See the port."""
        fetchrow, execute = self._connection.fetchrow, self._connection.execute
        review = await fetchrow(_QUERIES["take_review"])
        if review is None:
            return None
        key = review["tenant_id"], review["metric_name"]
        rows = await self._connection.fetch(
            _QUERIES["review_series"], *key, review["after_series_id"], limit
        )
        if len(rows) == limit:
            last_id = rows[-1]["series_id"]
            await execute(_QUERIES["continue_review"], *key, last_id)
        elif review["is_repeated"]:
            await execute(_QUERIES["end_review"], *key)
        else:
            await execute(_QUERIES["repeat_review"], *key, _REPEATED_AFTER_SECONDS)
        return ThresholdReview(
            tenant=review["tenant"],
            metric_name=review["metric_name"],
            series=await self._level_states(rows),
        )

    async def states(self, series_ids: Collection[int]) -> Mapping[int, tuple[BreachLevel, int]]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["threshold_states"], list(series_ids))
        return {row["series_id"]: (BreachLevel(row["level"]), row["ts_ms"]) for row in rows}

    async def verified_states(self, after_id: int, limit: int) -> list[LevelState]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["verified_states"], after_id, limit)
        return await self._newer_states(rows)

    async def due_states(self, limit: int) -> list[LevelState]:
        """See the port."""
        return await self._newer_states(await self._connection.fetch(_QUERIES["due_states"], limit))

    async def _newer_states(self, rows: Sequence[asyncpg.Record]) -> list[LevelState]:
        """The states of rows; a newest sample is one that is newer than the level."""
        states = await self._level_states(rows)
        return [
            state if state.newest_ms > state.timestamp_ms else _alone(state) for state in states
        ]

    async def _level_states(self, rows: Sequence[asyncpg.Record]) -> list[LevelState]:
        """The states of rows, each with the newest sample of its series."""
        newest: dict[int, NewestSample] = {}
        for tenant_id, of_tenant in _by_tenant(rows).items():
            ids = [row["series_id"] for row in of_tenant]
            newest |= await self._samples.newest(tenant_id, ids)
        return await read_rows(rows, lambda row: _level_state(row, newest.get(row["series_id"])))

    async def open_alerts(self, series_ids: Collection[int]) -> list[TenantAlert]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["open_threshold_alerts"], list(series_ids))
        return await read_rows(rows, _tenant_alert)

    async def open_alerts_after(self, series_id: int, limit: int) -> list[TenantAlert]:
        """See the port."""
        rows = await self._connection.fetch(
            _QUERIES["open_threshold_alerts_after"], series_id, limit
        )
        return await read_rows(rows, _tenant_alert)

    async def orphans(self) -> list[TenantAlert]:
        """See the port."""
        rows = await self._connection.fetch(_ORPHANED_ALERTS)
        return await read_rows(rows, _tenant_alert)

    async def record(
        self,
        tenant: str,
        changes: Sequence[AlertChange],
        states: Sequence[LevelState] = (),
        forgotten: Sequence[int] = (),
    ) -> None:
        """See the port."""
        tenant_id = await self._tenants.find_or_create(tenant) if changes or states else 0
        if changes:
            await self._writer.save(tenant_id, changes)
        if states:
            await self._connection.execute(
                _QUERIES["save_threshold_states"],
                tenant_id,
                [state.series_id for state in states],
                [state.metric_name for state in states],
                [int(state.level) for state in states],
                [state.timestamp_ms for state in states],
            )
        if forgotten:
            await self._connection.execute(_QUERIES["delete_states"], list(forgotten))


def _by_tenant(rows: Sequence[asyncpg.Record]) -> Mapping[int, list[asyncpg.Record]]:
    """Rows by the tenant of their series, without those whose series is gone."""
    found: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        if row["tenant_id"] is not None:
            found[row["tenant_id"]].append(row)
    return found


def _tenant_alert(row: asyncpg.Record) -> TenantAlert:
    return TenantAlert(tenant=row["tenant"], alert=alert_of_row(row))


def _level_state(row: asyncpg.Record, newest: NewestSample | None) -> LevelState:
    return LevelState(
        series_id=row["series_id"],
        tenant=row["tenant"] or "",
        metric_name=row["metric_name"],
        labels=_series_labels(row),
        level=BreachLevel(row["level"]),
        timestamp_ms=row["ts_ms"] or 0,
        newest_value=None if newest is None else newest.value,
        newest_ms=0 if newest is None else newest.timestamp_ms,
    )


def _alone(state: LevelState) -> LevelState:
    """The state without a newest sample."""
    return replace(state, newest_value=None, newest_ms=0)


def _series_labels(row: asyncpg.Record) -> Labels | None:
    """None when the series is gone."""
    labels = row["labels"]
    return None if labels is None else labels_of_series(row["metric_name"], labels)
