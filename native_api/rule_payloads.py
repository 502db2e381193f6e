"""Alert rules as JSON."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field

from native_api.definition_payloads import DurationText, LabelMap, RemediationPayload
from native_api.parameters import StoredText
from native_api.problem import FieldError
from native_api.route import BodyModel, QueryModel, ReplyModel
from native_api.times import format_time_ms
from promcompat.core.alerts import AlertRule, RuleEvaluation
from promcompat.core.durations import format_duration_ms, parse_duration_ms
from promcompat.core.model import Labels


def _check_interval(text: str) -> str:
    if not 1_000 <= parse_duration_ms(text) <= 86_400_000:
        raise FieldError(f"is {text}", "a duration from 1s to 1d")
    return text


Interval = Annotated[DurationText, AfterValidator(_check_interval)]
Annotations = Annotated[dict[StoredText, StoredText], Field(max_length=100)]


class RulePayload(BodyModel):
    """An alert rule; what is left out has its default."""

    group: Annotated[StoredText, Field(min_length=1, max_length=500)] = Field(
        "default", description="Rules of one group are evaluated one after the other."
    )
    name: Annotated[StoredText, Field(min_length=1, max_length=500)] = Field(
        description="Unique in its group; becomes the label `alertname`."
    )
    expr: Annotated[StoredText, Field(min_length=1, max_length=100_000)] = Field(
        description="PromQL; each element of its result is an alert."
    )
    interval: Interval = Field("1m", description="How often it is evaluated.")
    for_duration: DurationText = Field(
        "0s", alias="for", description="How long an element must be there before its alert fires."
    )
    keep_firing_for: DurationText = Field(
        "0s", description="How long an alert goes on firing without its element."
    )
    severity: Annotated[StoredText, Field(max_length=100)] = Field(
        "", description="Becomes the label `severity` unless `labels` has one."
    )
    labels: LabelMap = Field(
        default_factory=dict, description="Labels of its alerts; values are templates."
    )
    annotations: Annotations = Field(
        default_factory=dict,
        description="Texts about an alert; values are Go templates as in Prometheus, such as "
        "`{{ $labels.instance }} is at {{ $value | humanize }}`.",
    )
    max_alerts: int = Field(0, ge=0, le=1_000_000, description="More are an error; 0: no bound.")
    enabled: bool = True
    remediation: RemediationPayload | None = None

    def to_rule(self, rule_id: int = 0, version: int = 0) -> AlertRule:
        """The value of the core."""
        return AlertRule(
            id=rule_id,
            group=self.group,
            name=self.name,
            expr=self.expr,
            interval_ms=parse_duration_ms(self.interval),
            for_ms=parse_duration_ms(self.for_duration),
            keep_firing_for_ms=parse_duration_ms(self.keep_firing_for),
            severity=self.severity,
            labels=Labels.of(self.labels),
            annotations=Labels.of(self.annotations),
            max_alerts=self.max_alerts,
            enabled=self.enabled,
            remediation=None if self.remediation is None else self.remediation.to_spec(),
            version=version,
        )

    @classmethod
    def of_rule(cls, rule: AlertRule) -> Self:
        """The JSON of a value of the core."""
        remediation = rule.remediation
        return cls(
            group=rule.group,
            name=rule.name,
            expr=rule.expr,
            interval=format_duration_ms(rule.interval_ms),
            **{"for": format_duration_ms(rule.for_ms)},
            keep_firing_for=format_duration_ms(rule.keep_firing_for_ms),
            severity=rule.severity,
            labels=rule.labels.as_dict(),
            annotations=rule.annotations.as_dict(),
            max_alerts=rule.max_alerts,
            enabled=rule.enabled,
            remediation=None if remediation is None else RemediationPayload.of_spec(remediation),
        )


class RuleReply(ReplyModel):
    """A rule as it is stored, and how its last evaluation went."""

    id: int
    version: int = Field(description="Grows with each change; the ETag is it in quotes.")
    rule: RulePayload
    health: str = Field(description="`unknown` before the first evaluation, `ok` or `err`.")
    last_error: str
    last_evaluation: str | None
    evaluation_seconds: float

    @classmethod
    def of_rule(cls, rule: AlertRule, evaluation: RuleEvaluation | None) -> Self:
        """The JSON of a value of the core."""
        health = "unknown"
        if evaluation is not None:
            health = "err" if evaluation.error else "ok"
        return cls(
            id=rule.id,
            version=rule.version,
            rule=RulePayload.of_rule(rule),
            health=health,
            last_error="" if evaluation is None else evaluation.error,
            last_evaluation=None
            if evaluation is None
            else format_time_ms(evaluation.evaluated_at_ms),
            evaluation_seconds=0.0 if evaluation is None else evaluation.duration_seconds,
        )


class RuleListReply(ReplyModel):
    """Rules by group, then in the order they were made."""

    rules: list[RuleReply]


class RuleListQuery(QueryModel):
    """Parameters of the list."""

    group: StoredText | None = Field(None, description="Only the rules of this group.")


class RuleDeletedReply(ReplyModel):
    """What was deleted and what was not."""

    id: int
    deleted: bool
    detail: str
