"""What telling receivers of alerts asks of the outside, as Protocols.

Work is claimed for a while (a lease), done without a database connection, and settled. Whatever
dies in between, the work is claimed again when the lease has ended. Every method raises
StorageUnavailableError when the database cannot answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.alerts import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A step that waits for a receiver; `alert` is what the alert was after the step."""

    id: int
    tenant: str
    alert: Alert
    attempts: int
    created_at_ms: int
    is_over: bool
    """Whether the alert has ended by now."""
    begins: bool
    """Whether this step tells the receiver of the alert for the first time."""


@dataclass(frozen=True, slots=True)
class Postponement:
    """How long a delivery waits, and why; `counts` when it was tried."""

    delivery_id: int
    delay_seconds: float
    error: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSetState:
    """A label set of which a receiver is to be told: `alert` fires or is resolved.

    `key` identifies it within its tenant.
    """

    tenant: str
    tenant_id: int
    key: bytes
    alert: Alert
    failures: int


@dataclass(frozen=True, slots=True)
class StatePostponement:
    """How long a label set waits, and why; `counts` when the receiver did not take it."""

    state: LabelSetState
    delay_seconds: float
    error: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """When a receiver of states is told again, and for how long of those that ended, in ms."""

    every_ms: int
    resolved_for_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertNote:
    """A line for the history of an alert."""

    alert_id: int
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverDepth:
    """What waits for a receiver: how many, since when, and what failed last."""

    n_waiting: int
    n_failing: int
    since_ms: int
    last_error: str


class StepDeliveries(Protocol):
    """Steps of alerts that wait for receivers: each is told once, in order."""

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int
    ) -> Sequence[Delivery]:
        """Work that is due, for this caller alone until `until_ms`; the oldest of each subject."""

    async def done(self, delivery_ids: Sequence[int], notes: Sequence[AlertNote] = ()) -> None:
        """These are done, and this is to be remembered of them."""

    async def postpone(self, postponements: Sequence[Postponement], now_ms: int) -> None:
        """These wait."""

    async def drop_alert(self, receiver: str, alert_id: int) -> None:
        """The receiver need not hear of this alert any more."""

    async def drop_unheard(self, delivery_id: int) -> None:
        """The receiver need not hear of alerts that wait behind a delivery and are over."""

    async def drop_overflow(self, receiver: str, max_waiting: int, now_ms: int) -> int:
        """Give up the oldest work above the bound, noted in the alerts' history; how much."""


class RemediationDeliveries(StepDeliveries, Protocol):
    """Steps that start remediations."""

    async def last_remediation_ms(self, alert_id: int) -> int:
        """When a remediation for the same rule and labels was last started, 0 for never."""

    async def remediated(self, delivery_id: int, note: AlertNote) -> None:
        """The remediation of a delivery was started."""


class LabelSetStates(Protocol):
    """What receivers know of label sets, compared with what is."""

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int, repetition: Repetition
    ) -> Sequence[LabelSetState]:
        """Label sets to tell a receiver of, for this caller alone until `until_ms`.

        Nothing when another process looks at the same time.
        """

    async def told(self, receiver: str, states: Sequence[LabelSetState], at_ms: int) -> None:
        """The receiver took these."""

    async def postpone(
        self, receiver: str, postponements: Sequence[StatePostponement], now_ms: int
    ) -> None:
        """These wait."""
