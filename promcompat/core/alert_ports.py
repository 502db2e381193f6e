"""What alerting asks of the database, as Protocols. A tenant is named by its `str` name.

Deliveries: work is claimed for a while (a lease), done without a database connection, and
finished. If its process dies in between, the work can be claimed again when the lease has ended.

Every method raises StorageUnavailableError when the database cannot answer.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.alerts import (
    Alert,
    AlertChange,
    AlertFilter,
    AlertRule,
    AlertTransition,
    RuleEvaluation,
    Silence,
)
from promcompat.core.model import Labels
from promcompat.core.thresholds import BreachLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledGroup:
    """A rule group with enabled rules, and the oldest of the latest evaluations of its rules."""

    tenant: str
    group: str
    interval_ms: int
    evaluated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantAlert:
    """An alert and whose it is."""

    tenant: str
    alert: Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachEvent:
    """A change of level out of the outbox; `labels` is None when the series is gone."""

    id: int
    series_id: int
    tenant: str
    labels: Labels | None
    level: BreachLevel
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """What was last handled of a series, and its newest sample since if there is one.

    `labels` is None when the series is gone. A series of which nothing was handled has no breach
    and `timestamp_ms` 0.
    """

    series_id: int
    tenant: str
    metric_name: str
    labels: Labels | None
    level: BreachLevel
    timestamp_ms: int
    newest_value: float | None = None
    newest_ms: int = 0


@dataclass(frozen=True, slots=True)
class SeriesValue:
    """The newest sample of a series; None and 0 when it has none."""

    value: float | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdReview:
    """Some series of a metric whose threshold changed, each with its newest sample of any age."""

    tenant: str
    metric_name: str
    series: Sequence[LevelState]


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


class RuleRepository(Protocol):
    """Where alert rules are kept."""

    async def list_rules(
        self, tenant: str, group: str | None = None, rule_id: int | None = None
    ) -> list[AlertRule]:
        """Rules by group, then in the order they were made."""

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """The last evaluation of each rule that had one."""

    async def count_rules(self, tenant: str, group: str) -> tuple[int, int]:
        """How many rules the tenant has, and how many of them the group."""

    async def save_rule(self, tenant: str, rule: AlertRule) -> AlertRule | None:
        """Make a rule (id 0) or replace that of its id and version.

        None when there is none of this version, or a new one is in its group already, with the
        same name, labels and expression. Raises ConflictError when a changed one is.
        """

    async def delete_rule(self, tenant: str, rule_id: int, version: int) -> bool:
        """Delete the rule of this version; False when there is none."""


class EvaluationSession(Protocol):
    """One group, held by nobody else; what is recorded is committed at its end, or nothing is."""

    rules: Sequence[tuple[AlertRule, int]]
    """The enabled rules in order, each with the time of its latest evaluation."""

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """The open alerts of a rule."""

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """How an evaluation went and what became of the alerts."""


class ThresholdSession(Protocol):
    """The outbox of breaches, held by nobody else; committed at its end or not at all."""

    async def take_breaches(self, limit: int) -> list[BreachEvent]:
        """Changes not handled yet, oldest first; they are gone when the session commits."""

    async def take_review(self, limit: int) -> ThresholdReview | None:
        """Up to `limit` series of a metric whose threshold changed; None when there is nothing.

        The next call continues. All series of the metric come twice, some seconds apart.
        """

    async def states(self, series_ids: Collection[int]) -> Mapping[int, tuple[BreachLevel, int]]:
        """Level and time last handled of each series that has one."""

    async def verified_states(self) -> list[LevelState]:
        """Every series that breaches or did a moment ago, with its newest sample."""

    async def open_alerts(self, series_ids: Collection[int] | None) -> list[TenantAlert]:
        """Open alerts of thresholds, of these series or of all."""

    async def orphans(self) -> list[TenantAlert]:
        """Open alerts of rules that were deleted or disabled."""

    async def record(
        self,
        tenant: str,
        changes: Sequence[AlertChange],
        states: Sequence[LevelState] = (),
        forgotten: Sequence[int] = (),
    ) -> None:
        """What became of alerts and levels; `forgotten` are series that are no longer watched."""


class AlertRepository(Protocol):
    """Where alerts, their history and silences are kept."""

    async def scheduled_groups(self) -> list[ScheduledGroup]:
        """Every group that has an enabled rule, of all tenants."""

    def evaluating(
        self, tenant: str, group: str
    ) -> AbstractAsyncContextManager[EvaluationSession | None]:
        """Hold a group; None when another process does."""

    def thresholds(self) -> AbstractAsyncContextManager[ThresholdSession | None]:
        """Hold the outbox of breaches; None when another process does."""

    async def active_alerts(self, tenant: str) -> list[Alert]:
        """Every pending or firing alert."""

    async def list_alerts(self, tenant: str, wanted: AlertFilter) -> list[Alert]:
        """A page of alerts, newest first."""

    async def find_alert(self, tenant: str, alert_id: int) -> Alert | None:
        """One alert."""

    async def series_value(self, tenant: str, series_id: int) -> SeriesValue | None:
        """The newest sample of the series of a threshold's alert; None when it is gone."""

    async def history(self, tenant: str, alert_id: int) -> list[AlertTransition]:
        """The steps of an alert, oldest first."""

    async def acknowledge(
        self, tenant: str, alert_id: int, actor: str, at_ms: int, reason: str
    ) -> bool:
        """Record who looks after an open alert; False when somebody does, or it is not open."""

    async def end_alert(self, tenant: str, change: AlertChange) -> bool:
        """Store the end of an alert; False when it was over.

        A series of a threshold counts as one that does not breach until its next sample.
        """

    async def count_silences(self, tenant: str, now_ms: int) -> int:
        """How many silences have not ended."""

    async def save_silence(self, tenant: str, silence: Silence) -> Silence:
        """Make a silence; its id is new."""

    async def end_silence(self, tenant: str, silence_id: int, at_ms: int) -> bool:
        """End a silence; False when it has ended or there is none."""

    async def list_silences(
        self,
        tenant: str,
        *,
        after_ms: int | None = None,
        silence_id: int | None = None,
        before_id: int = 0,
        limit: int = 100,
    ) -> list[Silence]:
        """Silences, newest first; with `after_ms` those that end later."""

    async def active_silences(self, tenant: str, now_ms: int) -> Sequence[Silence]:
        """The silences that hold at a time."""

    async def receiver_depths(self, tenant: str) -> Mapping[str, ReceiverDepth]:
        """What of a tenant waits, by the names of receivers; absent where nothing waits."""

    async def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Open alerts by state, and rows that wait by outbox."""

    async def prune(self, before_ms: int, receivers: Sequence[str], now_ms: int) -> int:
        """Forget alerts and silences that ended before a time, and work for other receivers."""


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
