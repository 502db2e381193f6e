"""What alerting asks of the database, as Protocols. A tenant is named by its `str` name.

Deliveries: work is claimed for a while (a lease), done without a database connection, and
finished. If its process dies in between, the work can be claimed again when the lease has ended.

Every method raises StorageUnavailableError when the database cannot answer.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from promcompat.core.alerting.alerts import (
    Alert,
    AlertChange,
    AlertFilter,
    AlertPage,
    AlertTransition,
    Rule,
    RuleEvaluation,
    Silence,
)
from promcompat.core.alerting.thresholds import BreachLevel
from promcompat.core.limits.tenant_limits import StoredAmount
from promcompat.core.model import Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledGroup:
    """The enabled rules of a group that have one interval.

    Each was evaluated at `evaluated_at_ms` or later, and none after `last_evaluated_at_ms`.
    """

    tenant: str
    namespace: str
    group: str
    interval_ms: int
    evaluated_at_ms: int
    last_evaluated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRule:
    """A recording rule that is gone or disabled, and the series that it wrote last.

    They end at `at_ms`.
    """

    tenant: str
    at_ms: int
    series: Collection[Labels]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantAlert:
    """An alert and its tenant."""

    tenant: str
    alert: Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class BreachEvent:
    """A change of level from the outbox; `labels` is None when the series no longer exists."""

    id: int
    series_id: int
    tenant: str
    labels: Labels | None
    value: float
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """The last recorded level of a series, and its newest sample since then if there is one.

    `labels` is None when the series no longer exists. A series without a recorded level has no
    breach and `timestamp_ms` 0.
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
    """Series of a metric whose threshold changed, each with its newest sample of any age."""

    tenant: str
    metric_name: str
    series: Sequence[LevelState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A step that waits for a receiver; `alert` is the alert after the step."""

    id: int
    tenant: str
    alert: Alert
    attempts: int
    created_at_ms: int
    is_over: bool
    """Whether the alert has ended by now."""
    begins: bool
    """Whether this step is the first that the receiver gets about the alert."""


@dataclass(frozen=True, slots=True)
class Postponement:
    """How long a delivery waits, and why; `counts` if it was a failed attempt."""

    delivery_id: int
    delay_seconds: float
    error: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSetState:
    """A label set that is due for a receiver: `alert` is firing or resolved.

    `key` identifies it within its tenant.
    """

    tenant: str
    tenant_id: int
    key: bytes
    alert: Alert
    failures: int


@dataclass(frozen=True, slots=True)
class StatePostponement:
    """How long a label set waits, and why; `counts` if it was a failed attempt."""

    state: LabelSetState
    delay_seconds: float
    error: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """How often a receiver gets the same state again, and for how long after its end."""

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
    """The work that waits for a receiver: how much, since when, and the last error."""

    n_waiting: int
    n_failing: int
    since_ms: int
    last_error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleGroupsChange:
    """What to do to bring groups of rules into a wanted state.

    `kept` are rules that change, each as it is stored and as it shall be, with the same id and
    version; `new` are those without ids.
    """

    kept: Sequence[tuple[Rule, Rule]]
    new: Sequence[Rule]
    deleted: Sequence[Rule]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.kept or self.new or self.deleted)

    @property
    def groups(self) -> Sequence[tuple[str, str]]:
        """Namespace and name of each group that changes, in order."""
        rules = (*(rule for pair in self.kept for rule in pair), *self.new, *self.deleted)
        return sorted({(rule.namespace, rule.group) for rule in rules})


class RuleRepository(Protocol):
    """Stores rules."""

    async def list_rules(
        self,
        tenant: str,
        group: str | None = None,
        rule_id: int | None = None,
        namespace: str | None = None,
    ) -> list[Rule]:
        """Rules by namespace and group, in the order of their evaluation."""

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """The last evaluation of each rule that was evaluated."""

    async def amount(self, tenant: str) -> StoredAmount:
        """How many rules the tenant has, and how large they are."""

    async def count_group(self, tenant: str, namespace: str, group: str) -> int:
        """The number of rules of a group."""

    def n_bytes(self, rule: Rule) -> int:
        """How large a rule is when it is stored."""

    async def store_groups(self, tenant: str, change: RuleGroupsChange) -> None:
        """Make the rules of some groups what they shall be, all of them or none."""

    async def save_rule(self, tenant: str, rule: Rule) -> Rule | None:
        """Create a rule (id 0), or replace the one with its id and version.

        None when no rule has this id and version, or when the group of a new rule already has one
        with the same name, labels and expression. For a changed rule the latter raises
        ConflictError.
        """

    async def delete_rule(self, tenant: str, rule_id: int, version: int) -> bool:
        """Delete the rule with this id and version; False when there is none."""


class EvaluationSession(Protocol):
    """One group, locked for this session; all records are committed at its end, or none."""

    rules: Sequence[tuple[Rule, int]]
    """The enabled rules in order, each with the time of its latest evaluation."""

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """The open alerts of a rule."""

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """Record an evaluation and the changes of alerts."""

    async def recorded_series(self, rule_id: int) -> Collection[Labels]:
        """The series that the last successful evaluation of a recording rule wrote."""

    async def save_recorded(self, rule: Rule, series: Collection[Labels]) -> None:
        """Remember the series that a recording rule wrote."""

    async def take_removed(self) -> Collection[Labels]:
        """The last series of recording rules that were in this group; they are forgotten."""


class ThresholdSession(Protocol):
    """The outbox of breaches, locked for this session; committed at its end, or not at all."""

    async def take_breaches(self, limit: int) -> list[BreachEvent]:
        """Changes that were not handled, the oldest of each tenant; the commit removes them.

        Of too many that wait, only the newest of each series are left.
        """

    async def take_review(self, limit: int) -> ThresholdReview | None:
        """Up to `limit` series of a metric whose threshold changed; None when there are none.

        The next call continues. All series of the metric are reviewed twice, some seconds apart.
        """

    async def states(self, series_ids: Collection[int]) -> Mapping[int, tuple[BreachLevel, int]]:
        """The last recorded level and its time, of each series that has one."""

    async def verified_states(self, after_id: int, limit: int) -> list[LevelState]:
        """Series that breach, or did recently, by id, each with its newest sample."""

    async def due_states(self, limit: int) -> list[LevelState]:
        """The same of series whose alert waits for its `for`, in the order in which that ends."""

    async def open_alerts(self, series_ids: Collection[int]) -> list[TenantAlert]:
        """Open alerts of the thresholds of these series."""

    async def open_alerts_after(self, series_id: int, limit: int) -> list[TenantAlert]:
        """Open alerts of thresholds by the ids of their series."""

    async def orphans(self) -> list[TenantAlert]:
        """Open alerts of rules that were deleted or disabled."""

    async def record(
        self,
        tenant: str,
        changes: Sequence[AlertChange],
        states: Sequence[LevelState] = (),
        forgotten: Sequence[int] = (),
    ) -> None:
        """Record alerts and levels; `forgotten` are series that are no longer watched."""


class AlertRepository(Protocol):
    """Stores alerts and their history, and opens the sessions in which they change."""

    async def scheduled_groups(self) -> list[ScheduledGroup]:
        """Every group that has an enabled rule, of all tenants: once for each interval."""

    def evaluating(
        self, tenant: str, namespace: str, group: str
    ) -> AbstractAsyncContextManager[EvaluationSession | None]:
        """Lock a group; None when another process has the lock."""

    def removed_rules(self, now_ms: int) -> AbstractAsyncContextManager[Sequence[RemovedRule]]:
        """Recording rules that were removed two intervals ago; they are forgotten afterwards.

        Without series that another rule records by now. Empty while another process has the lock.
        """

    def thresholds(self) -> AbstractAsyncContextManager[ThresholdSession | None]:
        """Lock the outbox of breaches; None when another process has the lock."""

    async def active_alerts(self, tenant: str) -> list[Alert]:
        """Every pending or firing alert."""

    async def list_alerts(self, tenant: str, wanted: AlertFilter) -> AlertPage:
        """A page of alerts, shorter where they are large.

        Raises QueryTimeoutError when its matchers take too long.
        """

    async def find_alert(self, tenant: str, alert_id: int) -> Alert | None:
        """One alert."""

    async def series_value(self, tenant: str, series_id: int) -> SeriesValue | None:
        """The newest sample of the series of a threshold's alert; None when the series is gone."""

    async def history(self, tenant: str, alert_id: int) -> list[AlertTransition]:
        """The newest steps of an alert, at most 10,000, oldest first."""

    async def acknowledge(
        self, tenant: str, alert_id: int, actor: str, at_ms: int, reason: str
    ) -> bool:
        """Record who takes care of an open alert; False when it is acknowledged or not open."""

    async def end_alert(self, tenant: str, change: AlertChange) -> bool:
        """Store the end of an alert; False, and nothing changes, when it had already ended.

        The series of a threshold counts as not breaching until its next sample.
        """

    async def receiver_depths(self, tenant: str) -> Mapping[str, ReceiverDepth]:
        """The waiting work of a tenant by receiver; receivers without any are absent."""

    async def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """The number of open alerts by state, and of waiting rows by outbox."""

    async def prune(self, before_ms: int, receivers: Sequence[str], now_ms: int) -> int:
        """Delete alerts and silences that ended before a time, and work for unknown receivers."""


class SilenceRepository(Protocol):
    """Silences. All methods raise StorageUnavailableError."""

    async def count(self, tenant: str, now_ms: int) -> int:
        """The number of silences that have not ended."""

    async def save(self, tenant: str, silence: Silence) -> Silence:
        """Create a silence; it gets its id here."""

    async def end(self, tenant: str, silence_id: int, at_ms: int) -> bool:
        """End a silence; False when it has ended or there is none."""

    async def page(
        self,
        tenant: str,
        *,
        after_ms: int | None = None,
        silence_id: int | None = None,
        before_id: int = 0,
        limit: int = 100,
    ) -> Sequence[Silence]:
        """Silences, newest first; with `after_ms` those that end later."""

    async def active(self, tenant: str, now_ms: int) -> Sequence[Silence]:
        """The silences that are active at a time."""


class StepDeliveries(Protocol):
    """Steps of alerts that wait for receivers: each is sent once, in order."""

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int
    ) -> Sequence[Delivery]:
        """The oldest due work of each subject, claimed for this caller until `until_ms`."""

    async def done(self, delivery_ids: Sequence[int], notes: Sequence[AlertNote] = ()) -> None:
        """Remove finished work, and add notes to the histories of its alerts."""

    async def postpone(self, postponements: Sequence[Postponement], now_ms: int) -> None:
        """Delay these deliveries."""

    async def drop_alert(self, receiver: str, alert_id: int) -> None:
        """Remove the work of an alert for a receiver."""

    async def drop_unheard(self, delivery_id: int) -> None:
        """Remove the deliveries behind this one whose alerts ended before anybody was notified."""

    async def drop_overflow(self, receiver: str, max_waiting: int, now_ms: int) -> int:
        """Remove the oldest work above the limit, noted in the alerts' histories; how much."""


class RemediationDeliveries(StepDeliveries, Protocol):
    """Steps that start remediations."""

    async def last_remediation_ms(self, alert_id: int) -> int:
        """When a remediation of the same rule and labels was last started; 0 for never."""

    async def remediated(self, delivery_id: int, note: AlertNote) -> None:
        """Record that the remediation of a delivery was started."""


class LabelSetStates(Protocol):
    """The states of label sets, compared with what receivers were last sent."""

    async def claim(
        self, receiver: str, limit: int, now_ms: int, until_ms: int, repetition: Repetition
    ) -> Sequence[LabelSetState]:
        """Label sets that are due for a receiver, claimed for this caller until `until_ms`.

        Empty when another process claims at the same time.
        """

    async def sent(self, receiver: str, states: Sequence[LabelSetState], at_ms: int) -> None:
        """Record that the receiver accepted these states."""

    async def postpone(
        self, receiver: str, postponements: Sequence[StatePostponement], now_ms: int
    ) -> None:
        """Delay these label sets."""
