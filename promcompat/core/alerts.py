"""Alert rules as data, alerts and their states, silences."""

from dataclasses import dataclass
from enum import StrEnum

from promcompat.core.model import Labels
from promcompat.core.remediation import RemediationSpec


class AlertState(StrEnum):
    """Where an alert is; `resolved` is the end of one, a later breach opens another."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """A PromQL alert rule. Names are unique within a group, groups within a tenant.

    `labels` and `annotations` values are templates (Go text/template, as in Prometheus).
    """

    id: int
    group: str
    name: str
    expr: str
    interval_ms: int
    for_ms: int
    keep_firing_for_ms: int
    severity: str
    labels: Labels
    annotations: Labels
    enabled: bool
    remediation: RemediationSpec | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert of one rule (or definition) and series; times are ms, 0 for not yet.

    `rule_id` is None for the alert of a definition's threshold, whose `rule_name` is the metric's.
    """

    id: int
    rule_id: int | None
    rule_name: str
    labels: Labels
    annotations: Labels
    state: AlertState
    severity: str
    value: float
    active_at_ms: int
    fired_at_ms: int
    resolved_at_ms: int
    keep_firing_since_ms: int
    acknowledged_at_ms: int
    acknowledged_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Keeps matching alerts from notifying and remediating until `ends_at_ms`."""

    id: int
    labels: Labels
    reason: str
    created_by: str
    starts_at_ms: int
    ends_at_ms: int
