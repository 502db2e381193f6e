"""The PostgreSQL side of `promcompat.core.alerting.ports`: what receivers wait for and know."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import asyncpg
import orjson

from promcompat.core.alerting.alerts import AlertState
from promcompat.core.alerting.ports import (
    AlertNote,
    Delivery,
    LabelSetState,
    LabelSetStates,
    Postponement,
    RemediationDeliveries,
    Repetition,
    StatePostponement,
)
from promcompat.core.texts.storable_text import storable_text
from sql.alerting.alert_rows import alert_document, alert_of_row, decode_alert, document
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("deliveries")
_TRY_LOCK: Final = load_queries("alerts")["try_lock"]
_MAX_ERROR_LENGTH: Final = 1000


class PostgresStepDeliveries(RemediationDeliveries):
    """The table `alert_delivery`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int
    ) -> Sequence[Delivery]:
        """See the port."""
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["claim_deliveries"], receiver, now_ms, until_ms, limit
            )
        return sorted(map(_delivery_of, rows), key=lambda delivery: delivery.id)

    async def done(self, delivery_ids: Sequence[int], notes: Sequence[AlertNote] = ()) -> None:
        """See the port."""
        if not delivery_ids:
            return
        async with acquired(self._pool) as connection, connection.transaction():
            await connection.execute(_QUERIES["delete_deliveries"], list(delivery_ids))
            if notes:
                await connection.execute(_QUERIES["note_alerts"], *_note_columns(notes))

    async def postpone(self, postponements: Sequence[Postponement], now_ms: int) -> None:
        """See the port."""
        if not postponements:
            return
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["postpone_deliveries"],
                [postponement.delivery_id for postponement in postponements],
                [int(postponement.counts) for postponement in postponements],
                [postponement.delay_seconds for postponement in postponements],
                [_short(postponement.error) for postponement in postponements],
                now_ms,
            )

    async def drop_alert(self, receiver: str, alert_id: int) -> None:
        """See the port."""
        async with acquired(self._pool) as connection:
            await connection.execute(_QUERIES["drop_deliveries_of_alert"], alert_id, receiver)

    async def drop_unheard(self, delivery_id: int) -> None:
        """See the port."""
        async with acquired(self._pool) as connection:
            await connection.execute(_QUERIES["drop_unheard"], delivery_id)

    async def drop_overflow(self, receiver: str, max_waiting: int, now_ms: int) -> int:
        """See the port."""
        text = f"notification to {receiver} given up: more than {max_waiting} are waiting"
        async with acquired(self._pool) as connection, connection.transaction():
            rows = await connection.fetch(_QUERIES["drop_overflow"], receiver, max_waiting)
            if rows:
                alert_ids = sorted({row["alert_id"] for row in rows})
                notes = [AlertNote(alert_id=one, at_ms=now_ms, text=text) for one in alert_ids]
                await connection.execute(_QUERIES["note_alerts"], *_note_columns(notes))
        return len(rows)

    async def last_remediation_ms(self, alert_id: int) -> int:
        """See the port."""
        async with acquired(self._pool) as connection:
            return await connection.fetchval(_QUERIES["last_remediation"], alert_id) or 0

    async def remediated(self, delivery_id: int, note: AlertNote) -> None:
        """See the port."""
        async with acquired(self._pool) as connection, connection.transaction():
            await connection.execute(_QUERIES["mark_remediated"], note.alert_id, note.at_ms)
            await connection.execute(_QUERIES["note_alerts"], *_note_columns([note]))
            await connection.execute(_QUERIES["delete_deliveries"], [delivery_id])


class PostgresLabelSetStates(LabelSetStates):
    """The table `alertmanager_alert`, beside the table `alert`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int, repetition: Repetition
    ) -> Sequence[LabelSetState]:
        """See the port. With the lock a second process sees what the first one claimed."""
        async with acquired(self._pool) as connection, connection.transaction():
            if not await connection.fetchval(_TRY_LOCK, f"receiver {receiver}"):
                return []
            await connection.execute(
                _QUERIES["forget_states"], receiver, now_ms, now_ms - repetition.resolved_for_ms
            )
            rows = await connection.fetch(
                _QUERIES["claim_states"],
                receiver,
                now_ms,
                until_ms,
                now_ms - repetition.every_ms,
                limit,
            )
        return list(map(_state_of, rows))

    async def sent(self, receiver: str, states: Sequence[LabelSetState], at_ms: int) -> None:
        """See the port."""
        if not states:
            return
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["record_told_states"],
                receiver,
                [state.tenant_id for state in states],
                [state.key for state in states],
                [document(alert_document(state.alert)) for state in states],
                at_ms,
            )

    async def postpone(
        self, receiver: str, postponements: Sequence[StatePostponement], now_ms: int
    ) -> None:
        """See the port."""
        if not postponements:
            return
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["postpone_states"],
                receiver,
                [postponement.state.tenant_id for postponement in postponements],
                [postponement.state.key for postponement in postponements],
                [int(postponement.counts) for postponement in postponements],
                [postponement.delay_seconds for postponement in postponements],
                [_short(postponement.error) for postponement in postponements],
                now_ms,
            )


def _delivery_of(row: asyncpg.Record) -> Delivery:
    return Delivery(
        id=row["id"],
        tenant=row["tenant"],
        alert=decode_alert(row["alert"]),
        attempts=row["attempts"],
        created_at_ms=row["created_at_ms"],
        is_over=not AlertState(row["current_state"]).is_open,
        begins=row["begins"],
    )


def _state_of(row: asyncpg.Record) -> LabelSetState:
    """The firing alert, or the one that was last sent, as resolved, with its last annotations."""
    if row["id"] is not None:
        alert = alert_of_row(row)
    else:
        told = decode_alert(row["told_alert"])
        alert = replace(told, state=AlertState.RESOLVED, resolved_at_ms=row["ended_at_ms"])
        if row["last_annotations"] is not None:
            alert = replace(alert, annotations=orjson.loads(row["last_annotations"]))
    return LabelSetState(
        tenant=row["tenant"],
        tenant_id=row["claimed_tenant_id"],
        key=row["claimed_fingerprint"],
        alert=alert,
        failures=row["failures"],
    )


def _note_columns(notes: Sequence[AlertNote]) -> tuple[list[int], list[int], list[str]]:
    texts = [_short(note.text) for note in notes]
    return [note.alert_id for note in notes], [note.at_ms for note in notes], texts


def _short(text: str) -> str:
    """The beginning of a receiver's text, as the database can store it."""
    return storable_text(text[:_MAX_ERROR_LENGTH])
