"""Tells receivers of alerts and starts remediations: the work that waits in `alert_delivery`.

A delivery is held by a row lock while it is sent, and goes when that has succeeded: whatever dies
in between, it is sent again, under the same key.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from promcompat.core.alert_ports import AlertRepository, Delivery, DeliverySession, Postponement
from promcompat.core.alerts import REMEDIATION_RECEIVER, Alert, AlertState, Silence
from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.core.notifications import Notification, NotificationError, Notifier
from promcompat.core.remediation import RemediationLauncher, RemediationRequest
from promcompat.services.alert_texts import AlertTexts
from promcompat.services.alerting_stats import AlertingStats
from promcompat.services.metric_service import MetricService, QueryOptions
from promql.values import QueryResult

_LOGGER = logging.getLogger(__name__)
_BATCH: Final = 256
_REMEDIATION_BATCH: Final = 10
_MAX_DELAY_SECONDS: Final = 300.0
_SILENCED_SECONDS: Final = 5.0
_GIVE_UP_MS: Final = 24 * 3_600_000
_RESEND_DELAY_MS: Final = 60_000
_RESOLVED_FOR_MS: Final = 15 * 60_000
_TEMPLATE_FAULT: Final = "<error expanding template: "

Silences = Mapping[str, Sequence[Silence]]


class NotificationService:
    """What the loops of deliveries do; any number of processes may run them."""

    def __init__(
        self,
        alerts: AlertRepository,
        notifiers: Sequence[Notifier],
        launcher: RemediationLauncher,
        metrics: MetricService,
        stats: AlertingStats,
        *,
        external_url: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._alerts = alerts
        self._notifiers = notifiers
        self._launcher = launcher
        self._metrics = metrics
        self._stats = stats
        self._external_url = external_url
        self._now_ms = now_ms

    async def deliver(self) -> None:
        """Send what is due to each receiver, side by side. Raises StorageUnavailableError."""
        silences = await self._alerts.active_silences(self._now_ms())
        work = [self._deliver_to(notifier, silences) for notifier in self._notifiers]
        outcomes = await asyncio.gather(*work, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def remediate(self) -> None:
        """Start the remediations that are due. Raises StorageUnavailableError."""
        silences = await self._alerts.active_silences(self._now_ms())
        async with self._alerts.delivering(REMEDIATION_RECEIVER, _REMEDIATION_BATCH) as session:
            for delivery in await self._without_silenced(session, silences):
                await self._remediate_one(session, delivery)

    async def resend(self) -> None:
        """Tell Alertmanagers again of what fires or has just ended; a fault is not repeated."""
        repeating = [notifier for notifier in self._notifiers if notifier.wants_repetition]
        if not repeating:
            return
        now_ms = self._now_ms()
        silences = await self._alerts.active_silences(now_ms)
        due = await self._alerts.take_resends(now_ms, _RESEND_DELAY_MS, _RESOLVED_FOR_MS)
        notifications = [
            Notification(key=f"{one.alert.id}-again", tenant=one.tenant, alert=one.alert)
            for one in due
            if not _is_silenced(silences, one.tenant, one.alert)
        ]
        if notifications:
            sends = [notifier.send(notifications, now_ms) for notifier in repeating]
            for outcome in await asyncio.gather(*sends, return_exceptions=True):
                self._count(outcome, len(notifications))

    def _count(self, outcome: object, n_notifications: int) -> None:
        if isinstance(outcome, NotificationError):
            self._stats.notifications_failed += n_notifications
            _LOGGER.warning("alerts not sent again", extra={"reason": str(outcome)})
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            self._stats.notifications_sent += n_notifications

    async def _deliver_to(self, notifier: Notifier, silences: Silences) -> None:
        async with self._alerts.delivering(notifier.name, _BATCH) as session:
            due = await self._without_silenced(session, silences)
            if not due:
                return
            notifications = [
                Notification(key=f"{one.alert.id}-{one.id}", tenant=one.tenant, alert=one.alert)
                for one in due
            ]
            try:
                await notifier.send(notifications, self._now_ms())
            except NotificationError as exc:
                self._stats.notifications_failed += len(due)
                _LOGGER.warning(
                    "alerts not sent",
                    extra={"receiver": notifier.name, "alerts": len(due), "reason": str(exc)},
                )
                await self._retry_later(session, due, str(exc))
            else:
                self._stats.notifications_sent += len(due)
                await session.done([one.id for one in due])

    async def _retry_later(
        self, session: DeliverySession, failed: Sequence[Delivery], error: str
    ) -> None:
        """Wait longer each time; after a day nobody wants to hear of it any more."""
        too_old = self._now_ms() - _GIVE_UP_MS
        given_up = [one.id for one in failed if one.created_at_ms < too_old]
        if given_up:
            _LOGGER.error("notifications given up", extra={"n": len(given_up), "reason": error})
            await session.done(given_up)
        await session.postpone(
            [
                Postponement(one.id, _delay_seconds(one.attempts), error, counts=True)
                for one in failed
                if one.created_at_ms >= too_old
            ]
        )

    async def _without_silenced(
        self, session: DeliverySession, silences: Silences
    ) -> list[Delivery]:
        """Deliveries nobody silenced; the others wait, or go when their alert is over unheard."""
        silenced = [
            one for one in session.deliveries if _is_silenced(silences, one.tenant, one.alert)
        ]
        if not silenced:
            return list(session.deliveries)
        over = [
            one.alert.id for one in silenced if one.is_over and one.alert.state is AlertState.FIRING
        ]
        await session.drop_alerts(over)
        await session.postpone(
            [
                Postponement(one.id, _SILENCED_SECONDS, "silenced", counts=False)
                for one in silenced
                if one.alert.id not in over
            ]
        )
        quiet = {one.id for one in silenced}
        return [one for one in session.deliveries if one.id not in quiet]

    async def _remediate_one(self, session: DeliverySession, delivery: Delivery) -> None:
        alert, now_ms = delivery.alert, self._now_ms()
        spec = alert.remediation
        last_ms = await session.last_remediation_ms(alert.id)
        if spec is None or (last_ms and now_ms - last_ms < spec.cooldown_ms):
            await session.note(alert, now_ms, "remediation not started: within its cooldown")
            await session.done([delivery.id])
            return
        try:
            request = await self._request(delivery)
            await self._launcher.start(request)
        except StorageUnavailableError as exc:
            self._stats.remediations_failed += 1
            wait = Postponement(delivery.id, _delay_seconds(delivery.attempts), str(exc), True)
            await session.postpone([wait])
        except PromcompatError as exc:
            self._stats.remediations_failed += 1
            await session.note(alert, now_ms, f"remediation not started: {exc}"[:1000])
            await session.done([delivery.id])
        else:
            self._stats.remediations_requested += 1
            await session.mark_remediated(alert.id, now_ms)
            await session.note(alert, now_ms, f"remediation requested: {request.workflow_id}")
            await session.done([delivery.id])

    async def _request(self, delivery: Delivery) -> RemediationRequest:
        alert = delivery.alert
        assert alert.remediation is not None

        async def query(text: str) -> QueryResult:
            return await self._metrics.query(
                delivery.tenant, text, alert.fired_at_ms, QueryOptions()
            )

        texts = AlertTexts(query, self._external_url, alert.fired_at_ms)
        rendered = {
            name: await _render(value, texts, alert)
            for name, value in alert.remediation.input_template.items()
        }
        cause = f"rule-{alert.rule_id}" if alert.rule_id else f"threshold-{alert.series_id}"
        return RemediationRequest(
            tenant=delivery.tenant,
            # Ids start again in a new database and Temporal does not forget: the time tells apart.
            workflow_id=f"promcompat-{delivery.tenant}-{cause}-alert-{alert.id}-{alert.active_at_ms}",
            spec=alert.remediation,
            workflow_input=rendered,
            alert_id=alert.id,
            rule_name=alert.rule_name,
            query=alert.expr,
            series_labels=alert.series_labels.as_dict(),
        )


async def _render(value: object, texts: AlertTexts, alert: Alert) -> object:
    match value:
        case str():
            text = await texts.expand(value, alert.rule_name, alert.labels, alert.value)
            if text.startswith(_TEMPLATE_FAULT) and not value.startswith(_TEMPLATE_FAULT):
                raise PromcompatError(text)
            return text
        case Mapping():
            return {key: await _render(item, texts, alert) for key, item in value.items()}
        case list() | tuple():
            return [await _render(item, texts, alert) for item in value]
        case _:
            return value


def _is_silenced(silences: Silences, tenant: str, alert: Alert) -> bool:
    return any(silence.matches(alert.labels) for silence in silences.get(tenant, ()))


def _delay_seconds(attempts: int) -> float:
    return min(2.0 ** min(attempts, 10), _MAX_DELAY_SECONDS)
