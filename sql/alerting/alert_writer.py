"""Stores changes of alerts, their history, and the deliveries that these make."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from promcompat.core.alerting.alerts import (
    REMEDIATION_RECEIVER,
    SEVERITY,
    Alert,
    AlertChange,
    AlertState,
    AlertTransition,
)
from promcompat.core.offloading import offload
from promcompat.core.series_identity import fingerprint_of
from sql.alerting.alert_rows import alert_document, document
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("alerts")
_CHANGES_AT_ONCE: Final = 500
_INSERT_DELIVERIES: Final = load_queries("deliveries")["insert_deliveries"]


class AlertWriter:
    """Stores changes of alerts, with their steps and the work that these make for receivers."""

    def __init__(self, connection: Connection, receivers: Sequence[str], now_ms: int) -> None:
        """`receivers` get every step with which an alert fires, or ends after it fired."""
        self._connection = connection
        self._receivers = receivers
        self._now_ms = now_ms

    async def save(self, tenant_id: int, changes: Sequence[AlertChange]) -> bool:
        """Store changes; new alerts get their ids here. Returns whether anything was stored.

        Thousands are stored some at a time, so that others have their turn in between.
        """
        # Ends before beginnings, as only one alert may be open for a rule and series, and as
        # receivers get the steps in this order.
        ordered = sorted(changes, key=lambda change: not change.alert.id)
        is_stored = False
        for first in range(0, len(ordered), _CHANGES_AT_ONCE):
            is_stored |= await self._save_some(tenant_id, ordered[first : first + _CHANGES_AT_ONCE])
        return is_stored

    async def _save_some(self, tenant_id: int, changes: Sequence[AlertChange]) -> bool:
        known = await self._with_ids([change for change in changes if not change.alert.id])
        old = [change for change in changes if change.alert.id]
        if old:
            old = await self._update(old)
        if known:
            documents = await offload(len(known), _documents, known)
            await self._connection.execute(
                _QUERIES["insert_alerts"], tenant_id, documents, self._now_ms
            )
        stepped = [change for change in (*old, *known) if change.transitions]
        if stepped:
            await self._save_steps(stepped)
            await self._save_deliveries(tenant_id, stepped)
        return bool(old or known)

    async def _update(self, changes: Sequence[AlertChange]) -> list[AlertChange]:
        """Store known alerts; those that were ended in the meantime do not change."""
        documents = await offload(len(changes), _documents, changes)
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
        work = await offload(len(changes), self._deliveries, changes)
        if work:
            columns = map(list, zip(*work, strict=True))
            await self._connection.execute(_INSERT_DELIVERIES, tenant_id, *columns, self._now_ms)

    def _deliveries(self, changes: Sequence[AlertChange]) -> list[tuple[int, str, str, bool, str]]:
        """What receivers get: alert, receiver, subject, whether it begins, and the document."""
        return [
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


def _documents(changes: Sequence[AlertChange]) -> str:
    """The alerts as JSON; of thousands, that takes tenths of a second."""
    return document([alert_document(change.alert) for change in changes])


def _subject_of(alert: Alert) -> str:
    """The subject whose steps are sent in order: a threshold's series, a rule's label set."""
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
