"""Which silences hold for an alert at the moment."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from promcompat.core.alert_ports import AlertRepository
from promcompat.core.alerts import Alert, Silence
from promcompat.core.model import Labels

_MAX_AGE_SECONDS: Final = 0.5


class ActiveSilences:
    """The silences of one round of notifications; a round that takes long reads them again."""

    def __init__(self, alerts: AlertRepository, now_ms: Callable[[], int]) -> None:
        self._alerts = alerts
        self._now_ms = now_ms
        self._by_tenant: dict[str, tuple[float, Sequence[Silence]]] = {}

    async def is_silenced(self, tenant: str, alert: Alert) -> bool:
        """Whether an alert is silenced now. Raises StorageUnavailableError."""
        read_at_seconds, silences = self._by_tenant.get(tenant, (float("-inf"), ()))
        if time.monotonic() - read_at_seconds > _MAX_AGE_SECONDS:
            silences = await self._alerts.active_silences(tenant, self._now_ms())
            self._by_tenant[tenant] = time.monotonic(), silences
        now_ms = self._now_ms()
        active = [one for one in silences if one.is_active(now_ms)]
        if any(matcher.has_pattern for silence in active for matcher in silence.matchers):
            return await asyncio.to_thread(_any_matches, active, alert.labels)
        return _any_matches(active, alert.labels)


def _any_matches(silences: Sequence[Silence], labels: Labels) -> bool:
    return any(silence.matches(labels) for silence in silences)
