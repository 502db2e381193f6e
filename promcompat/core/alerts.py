"""Alert rules as data, alerts and their states, silences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.remediation import RemediationSpec

ALERT_NAME = "alertname"
SEVERITY = "severity"
REMEDIATION_RECEIVER = "remediation"
"""The receiver of deliveries that is not told of an alert but starts its remediation."""


class AlertState(StrEnum):
    """Where an alert is; `resolved` is the end of one, a later breach opens another.

    An alert that ends before it fired is `inactive`.
    """

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"

    @property
    def is_open(self) -> bool:
        """Whether the alert is active, as Prometheus calls it."""
        return self in (AlertState.PENDING, AlertState.FIRING)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """A PromQL alert rule.

    `labels` and `annotations` values are templates (Go text/template, as in Prometheus); a label
    that becomes empty is removed. Rules of a group may share a name, but not their name, labels
    and expression.
    `max_alerts` bounds the open alerts of the rule (0: no bound), as `limit` does in Prometheus.
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

    @property
    def all_labels(self) -> Mapping[str, str]:
        """The labels the rule sets: its own, and its severity unless they name one."""
        own = {SEVERITY: self.severity} if self.severity else {}
        return {**own, **self.labels}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleEvaluation:
    """How the last evaluation of a rule went; `error` is empty when it went well."""

    evaluated_at_ms: int
    duration_seconds: float
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of one rule (or definition) and series; times are ms, 0 for not yet.

    `rule_id` is None for the alert of a definition's threshold, whose `rule_name` is the metric's
    and whose series is `series_id`. `series_labels` are those of the element of the result of
    `expr` that the alert is for, `labels` those after the rule's. An `id` of 0 is a new alert.
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
    """One step of an alert; from and to are equal for an acknowledgement and other notes.

    Only steps that are about to be stored have severities: `severity` is the alert's after the
    step (empty: that it ends up with), `from_severity` what it was before a step that changed it.

    `actor` is who did it by hand, empty for what the service did by itself.
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
    """An alert as it is from now on, and the steps that brought it there, oldest first."""

    alert: Alert
    transitions: tuple[AlertTransition, ...] = ()

    def starts_remediation(self, step: AlertTransition) -> bool:
        """Whether a step starts the alert's remediation: it fires at a level that is bound to
        one, or gets there while it fires."""
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
    """Keeps matching alerts from notifying and remediating until `ends_at_ms`.

    `labels` must all be equal and `matchers` must all match; one of them is never empty.
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
        """The conditions of `labels` and `matchers` as one."""
        exact = (LabelMatcher(name, MatchOp.EQUAL, value) for name, value in self.labels)
        return (*exact, *self.matchers)

    def is_active(self, now_ms: int) -> bool:
        """Whether it keeps alerts quiet at a time."""
        return self.starts_at_ms <= now_ms < self.ends_at_ms

    def matches(self, labels: Labels) -> bool:
        """Whether an alert of these labels is meant."""
        return matches_labels(self.all_matchers, labels)


def matches_labels(matchers: Sequence[LabelMatcher], labels: Labels) -> bool:
    """Whether a label set satisfies every matcher."""
    return all(matcher.matches(labels.get(matcher.name)) for matcher in matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts to list, newest first; an empty part asks nothing.

    `before_id` is where an earlier page ended (0: the first page).
    """

    states: tuple[AlertState, ...] = ()
    severity: str = ""
    rule_name: str = ""
    rule_id: int | None = None
    matchers: tuple[LabelMatcher, ...] = ()
    before_id: int = 0
    limit: int = 100
