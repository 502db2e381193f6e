"""Alerts: lists, history, acknowledgement, resolution by hand."""

from collections.abc import Sequence
from dataclasses import replace

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.deliveries import Notifier
from promcompat.alerting.state_machine import close_change
from promcompat.core.alerting.alerts import Alert, AlertFilter, AlertPage, AlertTransition
from promcompat.core.alerting.ports import AlertRepository, ReceiverDepth
from promcompat.core.errors import ConflictError, NotFoundError
from promcompat.metrics.metric_service import MetricService


class AlertService:
    """Alerts of tenants."""

    def __init__(
        self,
        alerts: AlertRepository,
        metrics: MetricService,
        receivers: Sequence[Notifier] = (),
    ) -> None:
        """`receivers` get the notifications."""
        self._alerts = alerts
        self._metrics = metrics
        self._receivers = receivers
        self._now_ms = metrics.now_ms

    async def active(self, tenant: str) -> list[Alert]:
        """Every pending or firing alert."""
        return await self._alerts.active_alerts(tenant)

    async def list_alerts(self, tenant: str, wanted: AlertFilter) -> AlertPage:
        """A page of alerts. Raises QueryTimeoutError when its matchers take too long."""
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
        # Before the state is recorded: if that fails in between, the request can be repeated.
        await write_alert_series(self._metrics, tenant, [found], [change.alert], now_ms)
        if not await self._alerts.end_alert(tenant, replace(change, transitions=tuple(steps))):
            raise ConflictError(f"the alert {alert_id} has just ended")
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
