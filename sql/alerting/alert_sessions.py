"""Transactions in which alerts advance: each holds what it works on until it commits.

Advisory locks are those of the transaction: a process that dies, or loses its connection, has
changed nothing and holds nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg
import orjson

from promcompat.core.alert_ports import (
    BreachEvent,
    LevelState,
    TenantAlert,
    ThresholdReview,
)
from promcompat.core.alerts import (
    REMEDIATION_RECEIVER,
    SEVERITY,
    Alert,
    AlertChange,
    AlertRule,
    AlertState,
    AlertTransition,
    RuleEvaluation,
)
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.thresholds import BreachLevel
from sql.alerting.alert_rows import (
    alert_document,
    alert_of_row,
    document,
)
from sql.database.connection_pool import Connection
from sql.database.tenants import Tenants
from sql.query_loader import load_queries
from sql.series.resolver import fingerprint_of

_QUERIES: Final = load_queries("alerts")
_THRESHOLD_QUERIES: Final = load_queries("thresholds")
_REPEATED_AFTER_SECONDS: Final = 5.0
"""When every process knows a changed threshold: each looks for changes every two seconds."""
_INSERT_DELIVERIES: Final = load_queries("deliveries")["insert_deliveries"]


class AlertWriter:
    """Stores changes of alerts, with their steps and the work that these make for receivers."""

    def __init__(self, connection: Connection, receivers: Sequence[str], now_ms: int) -> None:
        """`receivers` are told of every step of an alert that fires or has fired and ends."""
        self._connection = connection
        self._receivers = receivers
        self._now_ms = now_ms

    async def save(self, tenant_id: int, changes: Sequence[AlertChange]) -> bool:
        """Store changes; new alerts get their ids here. Whether anything was stored."""
        known = await self._with_ids([change for change in changes if not change.alert.id])
        old = [change for change in changes if change.alert.id]
        # Ends before beginnings: one alert may be open for a rule and series.
        if old:
            old = await self._update(old)
        if known:
            documents = document([alert_document(change.alert) for change in known])
            await self._connection.execute(
                _QUERIES["insert_alerts"], tenant_id, documents, self._now_ms
            )
        # Ends before beginnings here too: receivers are told in this order.
        stepped = [change for change in (*old, *known) if change.transitions]
        if stepped:
            await self._save_steps(stepped)
            await self._save_deliveries(tenant_id, stepped)
        return bool(old or known)

    async def _update(self, changes: Sequence[AlertChange]) -> list[AlertChange]:
        """Store known alerts; those that somebody ended meanwhile stay as they are."""
        documents = document([alert_document(change.alert) for change in changes])
        rows = await self._connection.fetch(_QUERIES["update_alerts"], documents)
        stored = {row["id"] for row in rows}
        return [change for change in changes if change.alert.id in stored]

    async def _with_ids(self, new: Sequence[AlertChange]) -> list[AlertChange]:
        if not new:
            return []
        rows = await self._connection.fetch(_QUERIES["reserve_alert_ids"], len(new))
        return [
            replace(change, alert=replace(change.alert, id=row["id"]))
            for change, row in zip(new, rows, strict=True)
        ]

    async def _save_steps(self, changes: Sequence[AlertChange]) -> None:
        steps = [(change.alert.id, step) for change in changes for step in change.transitions]
        await self._connection.execute(
            _QUERIES["insert_transitions"],
            [alert_id for alert_id, _ in steps],
            [step.from_state.value for _, step in steps],
            [step.to_state.value for _, step in steps],
            [step.at_ms for _, step in steps],
            [step.value for _, step in steps],
            [step.note for _, step in steps],
            [step.actor for _, step in steps],
        )

    async def _save_deliveries(self, tenant_id: int, changes: Sequence[AlertChange]) -> None:
        work = [
            (
                change.alert.id,
                receiver,
                _subject_of(change.alert),
                step.to_state is AlertState.FIRING and step.from_state is not step.to_state,
                document(alert_document(_alert_at(change.alert, step))),
            )
            for change in changes
            for step in change.transitions
            for receiver in self._receivers_of(change, step)
        ]
        if work:
            columns = map(list, zip(*work, strict=True))
            await self._connection.execute(_INSERT_DELIVERIES, tenant_id, *columns, self._now_ms)

    def _receivers_of(self, change: AlertChange, step: AlertTransition) -> list[str]:
        if step.from_state is step.to_state and not step.from_severity:
            return []
        match step.to_state:
            case AlertState.FIRING:
                is_remediated = change.starts_remediation(step)
                return [*self._receivers, *([REMEDIATION_RECEIVER] * is_remediated)]
            case AlertState.RESOLVED:
                return list(self._receivers)
            case _:
                return []


def _subject_of(alert: Alert) -> str:
    """What receivers are told of in order: the series of a threshold, the labels of a rule."""
    if alert.series_id is not None:
        return f"series {alert.series_id}"
    return (fingerprint_of(alert.labels) or b"").hex()


def _alert_at(alert: Alert, step: AlertTransition) -> Alert:
    """The alert as it was after a step."""
    ended_ms = step.at_ms if step.to_state is AlertState.RESOLVED else 0
    if step.severity:
        labels = alert.labels.with_label(SEVERITY, step.severity)
        alert = replace(alert, severity=step.severity, labels=labels)
    return replace(alert, state=step.to_state, value=step.value, resolved_at_ms=ended_ms)


class PostgresEvaluationSession:
    """See `promcompat.core.alert_ports.EvaluationSession`."""

    def __init__(
        self,
        connection: Connection,
        tenant_id: int,
        rules: Sequence[tuple[AlertRule, int]],
        writer: AlertWriter,
    ) -> None:
        self.rules = rules
        self._connection = connection
        self._tenant_id = tenant_id
        self._writer = writer

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["open_alerts_of_rule"], rule_id)
        return [alert_of_row(row) for row in rows]

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """See the port."""
        await self._connection.execute(
            _QUERIES["record_evaluation"],
            rule_id,
            evaluation.evaluated_at_ms,
            evaluation.duration_seconds,
            evaluation.error,
        )
        await self._writer.save(self._tenant_id, changes)


class PostgresThresholdSession:
    """See `promcompat.core.alert_ports.ThresholdSession`."""

    def __init__(self, connection: Connection, tenants: Tenants, writer: AlertWriter) -> None:
        self._connection = connection
        self._tenants = tenants
        self._writer = writer

    async def take_breaches(self, limit: int) -> list[BreachEvent]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["take_breaches"], limit)
        await self._connection.execute(_QUERIES["delete_breaches"], [row["id"] for row in rows])
        return [
            BreachEvent(
                id=row["id"],
                series_id=row["series_id"],
                tenant=row["tenant"] or "",
                labels=_series_labels(row),
                level=BreachLevel(row["level"]),
                value=row["value"],
                timestamp_ms=row["ts_ms"],
            )
            for row in rows
        ]

    async def take_review(self, limit: int) -> ThresholdReview | None:
        """See the port."""
        fetchrow, execute = self._connection.fetchrow, self._connection.execute
        review = await fetchrow(_THRESHOLD_QUERIES["take_review"])
        if review is None:
            return None
        key = review["tenant_id"], review["metric_name"]
        rows = await self._connection.fetch(
            _THRESHOLD_QUERIES["review_series"], *key, review["after_series_id"], limit
        )
        if len(rows) == limit:
            last_id = rows[-1]["series_id"]
            await execute(_THRESHOLD_QUERIES["continue_review"], *key, last_id)
        elif review["is_repeated"]:
            await execute(_THRESHOLD_QUERIES["end_review"], *key)
        else:
            await execute(_THRESHOLD_QUERIES["repeat_review"], *key, _REPEATED_AFTER_SECONDS)
        return ThresholdReview(
            tenant=review["tenant"],
            metric_name=review["metric_name"],
            series=[_level_state(row) for row in rows],
        )

    async def states(self, series_ids: Collection[int]) -> Mapping[int, tuple[BreachLevel, int]]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["threshold_states"], list(series_ids))
        return {row["series_id"]: (BreachLevel(row["level"]), row["ts_ms"]) for row in rows}

    async def verified_states(self) -> list[LevelState]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["verified_states"])
        return [_level_state(row) for row in rows]

    async def open_alerts(self, series_ids: Collection[int] | None) -> list[TenantAlert]:
        """See the port."""
        wanted = None if series_ids is None else list(series_ids)
        rows = await self._connection.fetch(_QUERIES["open_threshold_alerts"], wanted)
        return [TenantAlert(tenant=row["tenant"], alert=alert_of_row(row)) for row in rows]

    async def orphans(self) -> list[TenantAlert]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["orphaned_alerts"])
        return [TenantAlert(tenant=row["tenant"], alert=alert_of_row(row)) for row in rows]

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
                [state.series_id for state in states],
                [tenant_id] * len(states),
                [state.metric_name for state in states],
                [int(state.level) for state in states],
                [0.0 if state.newest_value is None else state.newest_value for state in states],
                [state.timestamp_ms for state in states],
            )
        if forgotten:
            await self._connection.execute(_QUERIES["delete_states"], list(forgotten))


def _level_state(row: asyncpg.Record) -> LevelState:
    return LevelState(
        series_id=row["series_id"],
        tenant=row["tenant"] or "",
        metric_name=row["metric_name"],
        labels=_series_labels(row),
        level=BreachLevel(row["level"]),
        timestamp_ms=row["ts_ms"] or 0,
        newest_value=row["newest_value"],
        newest_ms=row["newest_ts_ms"] or 0,
    )


def _series_labels(row: asyncpg.Record) -> Labels | None:
    if row["labels"] is None:
        return None
    return Labels([(METRIC_NAME, row["metric_name"]), *orjson.loads(row["labels"]).items()])
