"""What receivers are told, and what a receiver is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.alerts import Alert
from promcompat.core.errors import PromcompatError


class NotificationError(PromcompatError):
    """A receiver did not take a notification; try again later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """An alert as it was when it fired or ended. `key` is the same when it is sent again."""

    key: str
    tenant: str
    alert: Alert


class Notifier(Protocol):
    """One receiver."""

    @property
    def name(self) -> str:
        """What deliveries call it; the same for the same address in every process."""

    @property
    def wants_repetition(self) -> bool:
        """Whether it must be told again and again that an alert fires, as Alertmanager must."""

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """Tell of all of them. Raises NotificationError when not all were taken."""
