"""Alerts, their history and silences as JSON."""

from typing import Annotated, Self

from pydantic import Field

from native_api.definition_payloads import DurationText, LabelMap
from native_api.numbers import json_number
from native_api.parameters import LabelFilter, LabelFilters, StoredText, matchers_of
from native_api.route import BodyModel, QueryModel, ReplyModel
from native_api.times import format_time_ms
from promcompat.core.alerts import Alert, AlertState, AlertTransition, Silence
from promcompat.core.model import Labels

PersonName = Annotated[StoredText, Field(min_length=1, max_length=200)]
Value = float | str


def _number(value: float) -> Value:
    number = json_number(value)
    return 0.0 if number is None else number


def _time(unix_ms: int) -> str | None:
    return format_time_ms(unix_ms) if unix_ms else None


class AlertReply(ReplyModel):
    """One alert: one breach of one rule or threshold by one series."""

    id: int
    state: AlertState
    rule: str = Field(description="The name of the rule, or the metric of a threshold.")
    rule_id: int | None = Field(description="Null for the threshold of a definition.")
    group: str
    severity: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: Value = Field(description="NaN and infinities are strings.")
    query: str
    active_at: str | None
    fired_at: str | None
    resolved_at: str | None
    acknowledged_at: str | None
    acknowledged_by: str

    @classmethod
    def of_alert(cls, alert: Alert) -> Self:
        """The JSON of a value of the core."""
        return cls(
            id=alert.id,
            state=alert.state,
            rule=alert.rule_name,
            rule_id=alert.rule_id,
            group=alert.rule_group,
            severity=alert.severity,
            labels=alert.labels.as_dict(),
            annotations=dict(alert.annotations),
            value=_number(alert.value),
            query=alert.expr,
            active_at=_time(alert.active_at_ms),
            fired_at=_time(alert.fired_at_ms),
            resolved_at=_time(alert.resolved_at_ms),
            acknowledged_at=_time(alert.acknowledged_at_ms),
            acknowledged_by=alert.acknowledged_by,
        )


class AlertListReply(ReplyModel):
    """A page of alerts, newest first."""

    alerts: list[AlertReply]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class AlertListQuery(QueryModel):
    """Parameters of the list."""

    state: list[AlertState] = Field(default_factory=list, description="May be repeated.")
    severity: StoredText = ""
    rule: StoredText = Field("", description="The name of a rule, or the metric of a threshold.")
    label: LabelFilters = Field(default_factory=list)
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class TransitionReply(ReplyModel):
    """One step; from and to are equal for notes, such as an acknowledgement."""

    from_state: AlertState
    to_state: AlertState
    at: str
    value: Value
    note: str

    @classmethod
    def of_transition(cls, step: AlertTransition) -> Self:
        """The JSON of a value of the core."""
        return cls(
            from_state=step.from_state,
            to_state=step.to_state,
            at=format_time_ms(step.at_ms),
            value=_number(step.value),
            note=step.note,
        )


class HistoryReply(ReplyModel):
    """The steps of an alert, oldest first."""

    transitions: list[TransitionReply]


class AcknowledgePayload(BodyModel):
    """Who looks after the alert."""

    by: PersonName
    comment: Annotated[StoredText, Field(max_length=2000)] = ""


class SilencePayload(BodyModel):
    """Which alerts to keep quiet, until when and why."""

    labels: LabelMap = Field(default_factory=dict, description="Labels that must all be equal.")
    matchers: Annotated[list[LabelFilter], Field(max_length=100)] = Field(
        default_factory=list, description="Other conditions, such as `host=~web-.*`."
    )
    duration: DurationText = Field("1h", description="How long, from now on.")
    reason: Annotated[StoredText, Field(min_length=1, max_length=2000)]
    created_by: PersonName

    def to_silence(self, starts_ms: int, duration_ms: int) -> Silence:
        """The value of the core."""
        return Silence(
            id=0,
            labels=Labels.of(self.labels),
            matchers=matchers_of(self.matchers),
            reason=self.reason,
            created_by=self.created_by,
            starts_at_ms=starts_ms,
            ends_at_ms=starts_ms + duration_ms,
        )


class SilenceReply(ReplyModel):
    """A silence as it is stored."""

    id: int
    matchers: list[str]
    reason: str
    created_by: str
    starts_at: str
    ends_at: str
    is_active: bool

    @classmethod
    def of_silence(cls, silence: Silence, now_ms: int) -> Self:
        """The JSON of a value of the core."""
        return cls(
            id=silence.id,
            matchers=[f"{one.name}{one.op.value}{one.value}" for one in silence.all_matchers],
            reason=silence.reason,
            created_by=silence.created_by,
            starts_at=format_time_ms(silence.starts_at_ms),
            ends_at=format_time_ms(silence.ends_at_ms),
            is_active=silence.is_active(now_ms),
        )


class SilenceListReply(ReplyModel):
    """A page of silences, newest first."""

    silences: list[SilenceReply]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class SilenceListQuery(QueryModel):
    """Parameters of the list."""

    include_ended: bool = Field(False, description="Also those that are over.")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")
