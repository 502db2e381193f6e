"""Alerts and silences: lists, history, acknowledgement, resolution by hand."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.deliveries import Notifier
from promcompat.alerting.silence_index import SilenceIndex
from promcompat.alerting.state_machine import close_change
from promcompat.core.alert_ports import AlertRepository, ReceiverDepth
from promcompat.core.alerts import Alert, AlertFilter, AlertTransition, Silence
from promcompat.core.errors import ConflictError, FieldFault, InvalidFieldsError, NotFoundError
from promcompat.core.tenant_limits import Limits
from promcompat.metrics.metric_service import MetricService


class AlertService:
    """Alerts and silences of tenants."""

    def __init__(
        self,
        alerts: AlertRepository,
        metrics: MetricService,
        *,
        limits: Limits,
        receivers: Sequence[Notifier] = (),
    ) -> None:
        """`receivers` get the notifications.

        Concurrent requests may exceed the limit of a tenant's silences a little.
        """
        self._alerts = alerts
        self._metrics = metrics
        self._limits = limits
        self._receivers = receivers
        self._now_ms = metrics.now_ms

    async def active(self, tenant: str) -> list[Alert]:
        """Every pending or firing alert."""
        return await self._alerts.active_alerts(tenant)

    async def list_alerts(self, tenant: str, wanted: AlertFilter) -> list[Alert]:
        """A page of alerts, newest first."""
        return await self._alerts.list_alerts(tenant, wanted)

    async def get(self, tenant: str, alert_id: int) -> Alert:
        """One alert. Raises NotFoundError."""
        found = await self._alerts.find_alert(tenant, alert_id)
        if found is None:
            raise NotFoundError(f"there is no alert {alert_id}")
        return found

    async def history(self, tenant: str, alert_id: int) -> list[AlertTransition]:
        """The steps of an alert, oldest first. Raises NotFoundError."""
        await self.get(tenant, alert_id)
        return await self._alerts.history(tenant, alert_id)

    async def silenced_by(self, tenant: str, alerts: Iterable[Alert]) -> Mapping[int, list[int]]:
        """The ids of the active silences that match each open alert, by the id of the alert."""
        silences = await self._alerts.active_silences(tenant, self._now_ms())
        if not silences:
            return {}
        # In a thread, as a thousand silences and as many alerts take long.
        return await asyncio.to_thread(_silenced_by, silences, alerts)

    async def acknowledge(self, tenant: str, alert_id: int, actor: str, reason: str) -> Alert:
        """Record who takes care of an open alert; the first acknowledgement is kept.

        Raises NotFoundError, and ConflictError for an alert that has ended.
        """
        await self._get_open(tenant, alert_id)
        await self._alerts.acknowledge(tenant, alert_id, actor, self._now_ms(), reason)
        return await self.get(tenant, alert_id)

    async def resolve(self, tenant: str, alert_id: int, actor: str, reason: str) -> Alert:
        """End an open alert by hand. A new one fires when its condition is found to hold again.

        Raises NotFoundError, and ConflictError for an alert that has ended.
        """
        found, now_ms = await self._get_open(tenant, alert_id), self._now_ms()
        change = close_change(found, now_ms)
        steps = [
            replace(step, actor=actor, note=f"ended by {actor}: {reason}")
            for step in change.transitions
        ]
        if not await self._alerts.end_alert(tenant, replace(change, transitions=tuple(steps))):
            raise ConflictError(f"the alert {alert_id} has just ended")
        await write_alert_series(self._metrics, tenant, [found], [change.alert], now_ms)
        return await self.get(tenant, alert_id)

    async def receivers(self, tenant: str) -> list[tuple[Notifier, ReceiverDepth]]:
        """The receivers of notifications, and what is waiting for each from this tenant."""
        depths = await self._alerts.receiver_depths(tenant)
        idle = ReceiverDepth(n_waiting=0, n_failing=0, since_ms=0, last_error="")
        return [(receiver, depths.get(receiver.name, idle)) for receiver in self._receivers]

    async def _get_open(self, tenant: str, alert_id: int) -> Alert:
        found = await self.get(tenant, alert_id)
        if not found.state.is_open:
            raise ConflictError(f"the alert {alert_id} is {found.state.value}")
        return found

    async def silence(self, tenant: str, silence: Silence) -> Silence:
        """Create a silence.

        Raises InvalidFieldsError for one that has ended or would match every alert, and
        ConflictError when there are too many.
        """
        if silence.ends_at_ms <= max(silence.starts_at_ms, self._now_ms()):
            fault = FieldFault(
                "ends_at", "is over", "an end after the start and after the current time"
            )
            raise InvalidFieldsError([fault])
        matchers = silence.all_matchers
        if all(matcher.matches_empty() for matcher in matchers):
            expected = (
                "a label or matcher, in `labels` or `matchers`, that does not match the empty "
                "string"
            )
            raise InvalidFieldsError([FieldFault("matchers", "match every alert", expected)])
        limit = self._limits.of(tenant).alertmanager_max_silences_count
        if limit and await self._alerts.count_silences(tenant, self._now_ms()) >= limit:
            raise ConflictError(self._limits.refuse(tenant, "alertmanager_max_silences_count"))
        return await self._alerts.save_silence(tenant, silence)

    async def get_silence(self, tenant: str, silence_id: int) -> Silence:
        """One silence. Raises NotFoundError."""
        found = await self._alerts.list_silences(tenant, silence_id=silence_id)
        if not found:
            raise NotFoundError(f"there is no silence {silence_id}")
        return found[0]

    async def silences(
        self, tenant: str, *, includes_ended: bool, before_id: int, limit: int
    ) -> Sequence[Silence]:
        """A page of silences, newest first."""
        after_ms = None if includes_ended else self._now_ms()
        return await self._alerts.list_silences(
            tenant, after_ms=after_ms, before_id=before_id, limit=limit
        )

    async def end_silence(self, tenant: str, silence_id: int) -> Silence:
        """End a silence now. Raises NotFoundError."""
        found = await self.get_silence(tenant, silence_id)
        await self._alerts.end_silence(tenant, silence_id, self._now_ms())
        return await self.get_silence(tenant, found.id)


def _silenced_by(silences: Sequence[Silence], alerts: Iterable[Alert]) -> Mapping[int, list[int]]:
    index = SilenceIndex(silences)
    found = {
        alert.id: sorted(silence.id for silence in index.matching(alert.labels))
        for alert in alerts
        if alert.state.is_open
    }
    return {alert_id: ids for alert_id, ids in found.items() if ids}
