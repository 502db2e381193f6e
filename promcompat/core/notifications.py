"""What receivers are told, and what a receiver is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.alerts import Alert
from promcompat.core.errors import PromcompatError


class NotificationError(PromcompatError):
    """A receiver did not take a notification; try again later."""


class NotificationRefusedError(NotificationError):
    """A receiver refused what it was sent: something in it is at fault, the rest may be fine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """An alert as it was when it fired or ended. `key` is the same when it is sent again."""

    key: str
    tenant: str
    alert: Alert


class Notifier(Protocol):
    """One receiver, of steps of alerts or of states of label sets."""

    @property
    def name(self) -> str:
        """What deliveries call it; the same for the same address in every process."""

    @property
    def address(self) -> str:
        """Where it is, as anybody may see it."""

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        """Tell of all of them, which belong to one tenant.

        Raises NotificationError when not all were taken.
        """
