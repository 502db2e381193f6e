"""Requests and replies of rules."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field

from native_api.contract.merge_patch import patch_type
from native_api.contract.names import MAX_NAME_BYTES, label_name_fault
from native_api.contract.numbers import json_number
from native_api.contract.parameters import StoredText, TimeField
from native_api.contract.problem import FieldError
from native_api.contract.route import BodyModel, QueryModel, ReplyModel
from native_api.contract.times import format_optional_time_ms
from native_api.contract.validation import quoted_value
from native_api.definitions.payloads import (
    READ_ONLY,
    DurationText,
    RemediationPayload,
)
from promcompat.alerting.rule_trial import RuleTrial, TrialAlert
from promcompat.core.alerting.alerts import (
    DEFAULT_NAMESPACE,
    MAX_GROUP_NAME_BYTES,
    AlertState,
    Rule,
    RuleEvaluation,
    RuleKind,
)
from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms
from promcompat.core.texts.times import format_time_ms

MAX_TESTED_ALERTS = 1_000
_MIN_INTERVAL_MS, _MAX_INTERVAL_MS = 1_000, 366 * 86_400_000


def _check_interval(text: str) -> str:
    if not _MIN_INTERVAL_MS <= parse_duration_ms(text) <= _MAX_INTERVAL_MS:
        raise FieldError(f"is {quoted_value(text)}", "a duration from 1s to 366d")
    return text


def _check_name(text: str) -> str:
    return _of_at_most(MAX_NAME_BYTES, text)


def _check_group_name(text: str) -> str:
    return _of_at_most(MAX_GROUP_NAME_BYTES, text)


def _of_at_most(n_bytes: int, text: str) -> str:
    size = len(text.encode())
    if size > n_bytes:
        raise FieldError(f"has {size} bytes", f"at most {n_bytes} bytes")
    return text


def _check_rule_labels(labels: dict[str, str]) -> dict[str, str]:
    for name in labels:
        if found := label_name_fault(name):
            raise FieldError(f"the label {quoted_value(name)} {found}", "label names")
    return labels


def _check_annotations(annotations: dict[str, str]) -> dict[str, str]:
    if "" in annotations:
        raise FieldError("has an annotation with an empty name", "non-empty annotation names")
    return annotations


Interval = Annotated[DurationText, AfterValidator(_check_interval)]
RuleName = Annotated[StoredText, Field(min_length=1), AfterValidator(_check_name)]
GroupName = Annotated[StoredText, Field(min_length=1), AfterValidator(_check_group_name)]
RuleLabels = Annotated[dict[str, StoredText], AfterValidator(_check_rule_labels)]
Annotations = Annotated[dict[StoredText, StoredText], AfterValidator(_check_annotations)]


class RuleFields(BodyModel):
    """The stored fields of a rule; absent fields have their defaults."""

    kind: RuleKind = Field(
        RuleKind.ALERT,
        description="`alert`: each element of the result is an alert. `record`: the result is "
        "written as samples of the metric `name`. A rule keeps its kind.",
    )
    namespace: GroupName = Field(
        DEFAULT_NAMESPACE,
        description="What the group belongs to: the `file` of Prometheus' API, the namespace of "
        "Mimir's.",
    )
    group: GroupName = Field(
        "default",
        description="The rule group. The rules of a group are evaluated one after another.",
    )
    name: RuleName = Field(
        description="Becomes the label `alertname`, or the name of the recorded metric. Rules of a "
        "group may have the same name if their labels or expressions differ."
    )
    expr: Annotated[StoredText, Field(min_length=1, max_length=100_000)] = Field(
        description="A PromQL expression that returns an instant vector or a scalar."
    )
    interval: Interval = Field("1m", description="How often the rule is evaluated.")
    query_offset: DurationText = Field(
        "0s",
        description="How long before the time of an evaluation the expression is evaluated, for "
        "samples that arrive late. What the rule writes has that earlier time too.",
    )
    for_duration: DurationText = Field(
        "0s", alias="for", description="How long an element must be present before its alert fires."
    )
    keep_firing_for: DurationText = Field(
        "0s", description="How long an alert keeps firing after its element has disappeared."
    )
    severity: Annotated[StoredText, Field(max_length=100)] = Field(
        "", description="Becomes the label `severity`, unless `labels` contains one."
    )
    labels: RuleLabels | None = Field(
        default_factory=dict,
        description="Labels added to the alerts or recorded series; values of alert rules are "
        "templates. An empty value, also as the result of a template, removes the label.",
    )
    annotations: Annotations | None = Field(
        default_factory=dict,
        description="Texts about the alert. Values are Go templates as in Prometheus, such as "
        "`{{ $labels.instance }} is at {{ $value | humanize }}`.",
    )
    max_alerts: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="The maximum number of alerts, or of recorded series; an evaluation with more "
        "is an error. 0 means no limit.",
    )
    enabled: bool = True
    remediation: RemediationPayload | None = None

    def to_rule(self, rule_id: int = 0, version: int = 0) -> Rule:
        """The core value of this payload."""
        return Rule(
            id=rule_id,
            group=self.group,
            name=self.name,
            expr=self.expr,
            interval_ms=parse_duration_ms(self.interval),
            for_ms=parse_duration_ms(self.for_duration),
            keep_firing_for_ms=parse_duration_ms(self.keep_firing_for),
            severity=self.severity,
            # null is none, as in the files of Prometheus.
            labels=self.labels or {},
            annotations=self.annotations or {},
            max_alerts=self.max_alerts,
            enabled=self.enabled,
            remediation=None if self.remediation is None else self.remediation.to_spec(),
            version=version,
            kind=self.kind,
            namespace=self.namespace,
            query_offset_ms=parse_duration_ms(self.query_offset),
        )

    @classmethod
    def of_rule(cls, rule: Rule) -> "RuleFields":
        """The payload of a core value, which is not checked: rule files may have longer texts."""
        remediation = rule.remediation
        return cls.model_construct(
            kind=rule.kind,
            namespace=rule.namespace,
            group=rule.group,
            name=rule.name,
            expr=rule.expr,
            interval=format_duration_ms(rule.interval_ms),
            query_offset=format_duration_ms(rule.query_offset_ms),
            for_duration=format_duration_ms(rule.for_ms),
            keep_firing_for=format_duration_ms(rule.keep_firing_for_ms),
            severity=rule.severity,
            labels=dict(rule.labels),
            annotations=dict(rule.annotations),
            max_alerts=rule.max_alerts,
            enabled=rule.enabled,
            remediation=None if remediation is None else RemediationPayload.of_spec(remediation),
        )


class RulePayload(RuleFields):
    """A rule in a request; a GET response is accepted unchanged."""

    id: int | None = Field(None, description="The id in the path, or no id.")
    version: int | None = Field(None, description=READ_ONLY)
    health: str | None = Field(None, description=READ_ONLY)
    last_error: str | None = Field(None, description=READ_ONLY)
    last_evaluation: str | None = Field(None, description=READ_ONLY)
    evaluation_seconds: float | None = Field(None, description=READ_ONLY)


class RuleTestPayload(RulePayload):
    """A rule to test, and the past range to test it with."""

    start: TimeField | None = Field(None, description="Default: a day before `end`.")
    end: TimeField | None = Field(None, description="Default: the current time.")


class TestedAlertReply(ReplyModel):
    """An alert that the rule would have had."""

    labels: dict[str, str] = Field(description="Without labels whose values are templates.")
    state: AlertState = Field(
        description="At the end of the range, or at the end of the alert: `resolved`, or "
        "`inactive` if it ended before it fired."
    )
    value: float | str = Field(
        description="When it fired, or became active. NaN and the infinities are strings."
    )
    active_at: str
    fired_at: str | None
    resolved_at: str | None

    @classmethod
    def of_alert(cls, alert: TrialAlert) -> Self:
        """The payload of a core value."""
        progress = alert.progress
        value = json_number(progress.value)
        return cls(
            labels=alert.labels.as_dict(),
            state=progress.state,
            value=0.0 if value is None else value,
            active_at=format_time_ms(progress.active_at_ms),
            fired_at=format_optional_time_ms(progress.fired_at_ms),
            resolved_at=format_optional_time_ms(progress.resolved_at_ms),
        )


class RuleTestReply(ReplyModel):
    """What the rule would have done."""

    start: str = Field(description="The first evaluation.")
    end: str = Field(description="The last evaluation.")
    evaluations: int
    fired: int = Field(description="How many alerts would have fired.")
    most_at_once: int = Field(
        description="The highest number of elements at once; more than `max_alerts` of them would "
        "have been an error."
    )
    alerts: list[TestedAlertReply] = Field(
        description=f"Up to {MAX_TESTED_ALERTS}, those that became active first at the front."
    )

    @classmethod
    def of_trial(cls, trial: RuleTrial) -> Self:
        """The payload of a core value."""
        return cls(
            start=format_time_ms(trial.times.start_ms),
            end=format_time_ms(trial.times.end_ms),
            evaluations=trial.times.n_steps,
            fired=sum(alert.progress.fired_at_ms > 0 for alert in trial.alerts),
            most_at_once=trial.most_at_once,
            alerts=[TestedAlertReply.of_alert(alert) for alert in trial.alerts[:MAX_TESTED_ALERTS]],
        )


class RuleReply(RuleFields):
    """A stored rule and its last evaluation."""

    id: int
    version: int = Field(
        description="Increases with each change. The ETag is this number in quotes."
    )
    health: str = Field(description="`ok` or `err`; `unknown` before the first evaluation.")
    last_error: str
    last_evaluation: str | None
    evaluation_seconds: float

    @classmethod
    def of_evaluated(cls, rule: Rule, evaluation: RuleEvaluation | None) -> "RuleReply":
        """The payload of core values."""
        fields = RuleFields.of_rule(rule)
        health = "unknown"
        if evaluation is not None:
            health = "err" if evaluation.error else "ok"
        return cls.model_construct(
            # By alias, as `for` is a keyword of Python.
            **{
                info.alias or name: getattr(fields, name)
                for name, info in RuleFields.model_fields.items()
            },
            id=rule.id,
            version=rule.version,
            health=health,
            last_error="" if evaluation is None else evaluation.error,
            last_evaluation=None
            if evaluation is None
            else format_time_ms(evaluation.evaluated_at_ms),
            evaluation_seconds=0.0 if evaluation is None else evaluation.duration_seconds,
        )


class RuleListReply(ReplyModel):
    """Rules by namespace and group, in the order of their evaluation."""

    rules: list[RuleReply]


class RuleListQuery(QueryModel):
    """Parameters of the list."""

    group: StoredText | None = Field(None, description="Only the rules of this group.")


class RuleDeletedReply(ReplyModel):
    """The result of a deletion."""

    id: int
    deleted: bool
    detail: str


RulePatch = patch_type(RulePayload, "RulePatch")
