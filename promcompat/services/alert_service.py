"""Alerts for people: lists, history, acknowledgement, silences; and the dispatch of breaches."""

from collections.abc import Callable, Sequence

from promcompat.core.alert_ports import AlertRepository
from promcompat.core.alerts import Alert, AlertFilter, AlertTransition, Silence
from promcompat.core.errors import BadDataError, ConflictError, NotFoundError


class AlertService:
    """Alerts and silences of tenants."""

    def __init__(self, alerts: AlertRepository, now_ms: Callable[[], int]) -> None:
        self._alerts = alerts
        self._now_ms = now_ms

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

    async def acknowledge(self, tenant: str, alert_id: int, by: str, comment: str) -> Alert:
        """Say who looks after an open alert; the first one who says so stays.

        Raises NotFoundError, and ConflictError for an alert that is over.
        """
        found = await self.get(tenant, alert_id)
        if not found.state.is_open:
            raise ConflictError(f"the alert {alert_id} is {found.state.value}")
        await self._alerts.acknowledge(tenant, alert_id, by, self._now_ms(), comment)
        return await self.get(tenant, alert_id)

    async def silence(self, tenant: str, silence: Silence) -> Silence:
        """Make a silence. Raises BadDataError for one that is over or would match everything."""
        if silence.ends_at_ms <= max(silence.starts_at_ms, self._now_ms()):
            raise BadDataError("a silence must end after it begins, and not in the past")
        matchers = silence.all_matchers
        if all(matcher.matches_empty() for matcher in matchers):
            raise BadDataError("a silence needs a matcher that does not match the empty string")
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
