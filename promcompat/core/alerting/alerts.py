"""Rules as data, alerts and their states, silences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EMPTY_LABELS, Labels

ALERT_NAME = "alertname"
SEVERITY = "severity"
REMEDIATION_RECEIVER = "remediation"
"""The receiver of deliveries that start a remediation and notify nobody."""

MAX_GROUP_NAME_BYTES = 1_000
"""Of a namespace, and of a group's name: an index has both, and takes 2,704 bytes."""
MAX_RULE_NAME_BYTES = 2_000


class AlertState(StrEnum):
    """The state of an alert. A `resolved` alert has ended; a later breach opens another one.

    An alert that ends before it fires is `inactive`.
    """

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"

    @property
    def is_open(self) -> bool:
        """Whether the alert is active, as Prometheus calls it."""
        return self in (AlertState.PENDING, AlertState.FIRING)


DEFAULT_NAMESPACE = "rules"
"""The namespace of rules that were created without one."""


class RuleKind(StrEnum):
    """What a rule makes of its result: alerts, or samples of the metric that is its name."""

    ALERT = "alert"
    RECORD = "record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A PromQL rule.

    A group is identified by its namespace and its name. The namespace is the name of a rule file
    for Prometheus and for Mimir's ruler.

    `labels` and `annotations` values of alerts are templates (Go text/template, as in Prometheus);
    a label that becomes empty is removed. Rules of a group at the same `position` may share a name,
    but not their name, labels and expression. Rules are evaluated by position, then by id.
    `max_alerts` limits the open alerts of the rule, or the series that it records (0: no limit), as
    `limit` does in Prometheus. The expression is evaluated `query_offset_ms` before the time of
    the evaluation, and samples are written with that earlier time. `inherits_interval`: its group
    states no interval.
    """

    id: int
    group: str
    name: str
    expr: str
    interval_ms: int
    for_ms: int
    keep_firing_for_ms: int
    severity: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    enabled: bool
    remediation: RemediationSpec | None
    version: int
    max_alerts: int = 0
    namespace: str = DEFAULT_NAMESPACE
    kind: RuleKind = RuleKind.ALERT
    position: int = 0
    query_offset_ms: int = 0
    inherits_interval: bool = False

    @property
    def is_recording(self) -> bool:
        """Whether the rule writes samples instead of alerts."""
        return self.kind is RuleKind.RECORD

    @property
    def all_labels(self) -> Mapping[str, str]:
        """The labels that the rule sets: its own, and its severity unless they contain one."""
        own = {SEVERITY: self.severity} if self.severity else {}
        return {**own, **self.labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEvaluation:
    """The outcome of the last evaluation of a rule; `error` is empty after a success."""

    evaluated_at_ms: int
    duration_seconds: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of one rule (or threshold) for one series; times are Unix ms, 0 for not yet.

    For the alert of a threshold `rule_id` is None, `rule_name` is the metric and `series_id` the
    series. `series_labels` are the labels of the element of the result of `expr` that the alert is
    for; `labels` include those of the rule. A new alert has the `id` 0.
    """

    id: int
    rule_id: int | None
    rule_name: str
    labels: Labels
    annotations: Mapping[str, str]
    state: AlertState
    severity: str
    value: float
    active_at_ms: int
    fired_at_ms: int
    resolved_at_ms: int
    keep_firing_since_ms: int
    acknowledged_at_ms: int
    acknowledged_by: str
    rule_group: str = ""
    expr: str = ""
    interval_ms: int = 0
    series_id: int | None = None
    series_labels: Labels = EMPTY_LABELS
    remediation: RemediationSpec | None = None
    noticed_at_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTransition:
    """One step of an alert; both states are equal for an acknowledgement and other notes.

    Only steps that are about to be stored have severities: `severity` is the alert's severity after
    the step (empty: its last one), `from_severity` the one before a step that changed it.

    `actor` is the person who took the step, empty for the service itself.
    """

    from_state: AlertState
    to_state: AlertState
    at_ms: int
    value: float
    note: str = ""
    severity: str = ""
    from_severity: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """The new state of an alert, and the steps that led to it, oldest first."""

    alert: Alert
    transitions: tuple[AlertTransition, ...] = ()

    def starts_remediation(self, step: AlertTransition) -> bool:
        """Whether a step starts the alert's remediation.

        The alert begins to fire with a severity that has one, or gets that severity while it fires.
        """
        spec = self.alert.remediation
        if spec is None or step.to_state is not AlertState.FIRING:
            return False
        if not spec.is_for(step.severity or self.alert.severity):
            return False
        if step.from_severity:
            return not spec.is_for(step.from_severity)
        return step.from_state is not AlertState.FIRING


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Suppresses notifications and remediations of matching alerts until `ends_at_ms`.

    `labels` must all be equal and `matchers` must all match; they are never both empty.
    """

    id: int
    labels: Labels
    reason: str
    created_by: str
    starts_at_ms: int
    ends_at_ms: int
    matchers: tuple[LabelMatcher, ...] = ()

    @property
    def all_matchers(self) -> tuple[LabelMatcher, ...]:
        """The conditions of `labels` and `matchers` together."""
        exact = (LabelMatcher(name, MatchOp.EQUAL, value) for name, value in self.labels)
        return (*exact, *self.matchers)

    def is_active(self, now_ms: int) -> bool:
        """Whether it suppresses alerts at a time."""
        return self.starts_at_ms <= now_ms < self.ends_at_ms

    def matches(self, labels: Labels) -> bool:
        """Whether it applies to an alert with these labels."""
        return matches_labels(self.all_matchers, labels)


def matches_labels(matchers: Sequence[LabelMatcher], labels: Labels) -> bool:
    """Whether a label set satisfies every matcher."""
    return all(matcher.matches(labels.get(matcher.name)) for matcher in matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts to list, newest first; an empty field does not restrict the list.

    `since_ms` and `until_ms` (Unix ms, None: no bound) leave out alerts that had ended before the
    one or became active after the other. `before_id` is where the previous page ended (0: the
    first page).
    """

    states: tuple[AlertState, ...] = ()
    severity: str = ""
    rule_name: str = ""
    matchers: tuple[LabelMatcher, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    before_id: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class AlertPage:
    """Alerts of a list, newest first, up to the limit of its filter.

    `next_before_id` is the `before_id` of the next page; 0 if this one is the last. A page that is
    not the last may have fewer alerts than the limit, or none: the database reads a bounded number
    of alerts for a page, and those that do not satisfy the matchers are left out afterwards.
    """

    alerts: Sequence[Alert]
    next_before_id: int
