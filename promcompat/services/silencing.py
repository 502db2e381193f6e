"""Which silences hold for an alert at the moment."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from promcompat.core.alert_ports import AlertRepository
from promcompat.core.alerts import Alert, Silence

_MAX_AGE_SECONDS: Final = 0.5


class ActiveSilences:
    """The silences of one round of notifications; a round that takes long reads them again."""

    def __init__(self, alerts: AlertRepository, now_ms: Callable[[], int]) -> None:
        self._alerts = alerts
        self._now_ms = now_ms
        self._read_at_seconds = float("-inf")
        self._by_tenant: Mapping[str, Sequence[Silence]] = {}

    async def silence(self, tenant: str, alert: Alert) -> bool:
        """Whether the alert is silenced now. Raises StorageUnavailableError."""
        if time.monotonic() - self._read_at_seconds > _MAX_AGE_SECONDS:
            self._by_tenant = await self._alerts.active_silences(self._now_ms())
            self._read_at_seconds = time.monotonic()
        now_ms = self._now_ms()
        return any(
            silence.is_active(now_ms) and silence.matches(alert.labels)
            for silence in self._by_tenant.get(tenant, ())
        )
