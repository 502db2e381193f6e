"""Requests and replies of alerts, silences and receivers."""

from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from native_api.contract.numbers import json_number
from native_api.contract.pages import PageQuery
from native_api.contract.parameters import (
    MAX_PATTERN_COST,
    ActorField,
    LabelFilter,
    LabelFilters,
    Reason,
    StoredText,
    TimeParameter,
    matchers_of,
)
from native_api.contract.problem import FieldError, InvalidRequestError, fault
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.times import (
    MAX_TIME_MS,
    TIME_TEXT,
    format_optional_time_ms,
    parse_iso8601_ms,
)
from native_api.definitions.payloads import DurationText, LabelMap
from promcompat.alerting.deliveries import Notifier
from promcompat.core.alerting.alerts import Alert, AlertState, AlertTransition, Silence
from promcompat.core.alerting.ports import ReceiverDepth
from promcompat.core.model import Labels
from promcompat.core.patterns.compiled import cost_of
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.core.texts.times import format_time_ms


def _parse_moment(value: object) -> object:
    if not isinstance(value, str):
        raise FieldError("is not a string", TIME_TEXT)
    return parse_iso8601_ms(value)


Moment = Annotated[
    int,
    BeforeValidator(_parse_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T05:00:00Z"]}),
]
"ISO 8601 with a time zone, as Unix milliseconds."
_SILENCE_DURATION: Final = "1h"
_MAX_SILENCE_CHARACTERS: Final = 16_384
Value = float | str


def _number(value: float) -> Value:
    number = json_number(value)
    return 0.0 if number is None else number


class AcknowledgementReply(ReplyModel):
    """Who takes care of an alert; the reason is in its history."""

    actor: str
    at: str

    @classmethod
    def of_alert(cls, alert: Alert) -> Self | None:
        """The payload of an acknowledged alert; None for any other."""
        if not alert.acknowledged_at_ms:
            return None
        return cls(actor=alert.acknowledged_by, at=format_time_ms(alert.acknowledged_at_ms))


class AlertReply(ReplyModel):
    """One alert: one breach of one rule or threshold by one series."""

    id: int
    state: AlertState
    rule: str = Field(description="The name of the rule, or the metric of a threshold.")
    rule_id: int | None = Field(description="Null for an alert of a definition's threshold.")
    group: str
    severity: str
    labels: dict[str, str]
    annotations: dict[str, str]
    value: Value = Field(description="NaN and the infinities are strings.")
    query: str
    active_at: str | None
    fired_at: str | None
    resolved_at: str | None
    silenced_by: list[int] = Field(
        description="The ids of the silences that currently apply to the alert."
    )
    acknowledgement: AcknowledgementReply | None = Field(
        description="Null until the alert is acknowledged."
    )

    @classmethod
    def of_alert(cls, alert: Alert, silenced_by: Sequence[int] = ()) -> Self:
        """The payload of a core value."""
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
            active_at=format_optional_time_ms(alert.active_at_ms),
            fired_at=format_optional_time_ms(alert.fired_at_ms),
            resolved_at=format_optional_time_ms(alert.resolved_at_ms),
            silenced_by=list(silenced_by),
            acknowledgement=AcknowledgementReply.of_alert(alert),
        )


class AlertListReply(ReplyModel):
    """A page of alerts, newest first."""

    alerts: list[AlertReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class AlertListQuery(PageQuery):
    """Parameters of the list."""

    state: list[AlertState] = Field(default_factory=list, description="May be repeated.")
    severity: StoredText = ""
    rule: StoredText = Field("", description="The name of a rule, or the metric of a threshold.")
    label: LabelFilters = Field(default_factory=list)
    start: TimeParameter | None = Field(None, description="Without alerts that ended before.")
    end: TimeParameter | None = Field(None, description="Without alerts that became active later.")


class TransitionReply(ReplyModel):
    """One step. Both states are equal for notes, such as an acknowledgement."""

    from_state: AlertState
    to_state: AlertState
    at: str
    value: Value
    actor: str = Field(description="Who made the change; empty for the service itself.")
    note: str

    @classmethod
    def of_transition(cls, step: AlertTransition) -> Self:
        """The payload of a core value."""
        return cls(
            from_state=step.from_state,
            to_state=step.to_state,
            at=format_time_ms(step.at_ms),
            value=_number(step.value),
            actor=step.actor,
            note=step.note,
        )


class HistoryReply(ReplyModel):
    """The steps of an alert, oldest first."""

    transitions: list[TransitionReply]


class AcknowledgePayload(BodyModel):
    """Who takes care of the alert."""

    actor: ActorField = None
    reason: Reason = ""


class ResolvePayload(BodyModel):
    """Who ends the alert, and why."""

    actor: ActorField = None
    reason: Annotated[Reason, Field(min_length=1)]


class SilencePayload(BodyModel):
    """Which alerts to silence, until when, and why."""

    labels: LabelMap = Field(default_factory=dict, description="Labels that must all be equal.")
    matchers: Annotated[list[LabelFilter], Field(max_length=100)] = Field(
        default_factory=list, description="Further label matchers, such as `host=~web-.*`."
    )
    starts_at: Moment | None = Field(
        None, description="When the silence begins. Default: the current time."
    )
    ends_at: Moment | None = Field(
        None, description="When the silence ends. Use this or `duration`."
    )
    duration: DurationText | None = Field(
        None, description="How long the silence lasts. Default: 1h."
    )
    reason: Annotated[Reason, Field(min_length=1)]
    actor: ActorField = None

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        """All silences of a tenant are read whenever alerts are listed or sent."""
        n_characters = sum(map(len, (*self.labels, *self.labels.values(), *self.matchers)))
        if n_characters > _MAX_SILENCE_CHARACTERS:
            raise FieldError(
                f"has {n_characters} characters of labels and matchers",
                f"at most {_MAX_SILENCE_CHARACTERS}",
            )
        # Compiled ones are kept up to a bound for all tenants, and each alert is compared with
        # every silence.
        patterns = [one.value for one in matchers_of(self.matchers) if one.has_pattern]
        if sum(map(cost_of, patterns)) > MAX_PATTERN_COST:
            raise FieldError(
                "has regular expressions that are too large together",
                "fewer or shorter ones, or several silences",
                "matchers",
            )
        return self

    def to_silence(self, now_ms: int, created_by: str) -> Silence:
        """The core value of this payload.

        Raises InvalidRequestError when it has two ends, or one after the year 9999.
        """
        if self.ends_at is not None and self.duration is not None:
            reason = "cannot be combined with `duration`"
            raise InvalidRequestError([fault("body", "ends_at", reason, "only one of the two")])
        starts_ms = now_ms if self.starts_at is None else self.starts_at
        ends_ms = self.ends_at
        if ends_ms is None:
            ends_ms = starts_ms + parse_duration_ms(self.duration or _SILENCE_DURATION)
        if ends_ms > MAX_TIME_MS:
            reason = "is longer than until the end of the year 9999"
            raise InvalidRequestError([fault("body", "duration", reason, "a shorter duration")])
        return Silence(
            id=0,
            labels=Labels.of(self.labels),
            matchers=matchers_of(self.matchers),
            reason=self.reason,
            created_by=created_by,
            starts_at_ms=starts_ms,
            ends_at_ms=ends_ms,
        )


class SilenceReply(ReplyModel):
    """A silence as it is stored."""

    id: int
    matchers: list[str]
    reason: str
    actor: str
    starts_at: str
    ends_at: str
    is_active: bool = Field(
        description="Whether the silence is active: it has begun and has not ended."
    )

    @classmethod
    def of_silence(cls, silence: Silence, now_ms: int) -> Self:
        """The payload of a core value."""
        return cls(
            id=silence.id,
            matchers=[
                f"{matcher.name}{matcher.op.value}{matcher.value}"
                for matcher in silence.all_matchers
            ],
            reason=silence.reason,
            actor=silence.created_by,
            starts_at=format_time_ms(silence.starts_at_ms),
            ends_at=format_time_ms(silence.ends_at_ms),
            is_active=silence.is_active(now_ms),
        )


class SilenceListReply(ReplyModel):
    """A page of silences, newest first."""

    silences: list[SilenceReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class SilenceListQuery(PageQuery):
    """Parameters of the list."""

    include_ended: bool = Field(False, description="Include silences that have ended.")


class ReceiverReply(ReplyModel):
    """A receiver of notifications, and the work of the tenant that waits for it."""

    name: str = Field(description="The name of the receiver in the histories of alerts.")
    address: str = Field(description="The address without secrets; for a webhook only its host.")
    waiting: int = Field(
        description="How many alert transitions (webhook) or label sets (Alertmanager) it has "
        "not accepted yet."
    )
    failing: int = Field(description="How many of these were sent but not accepted.")
    waiting_since: str | None
    last_error: str = Field(description="Why the oldest of the failing ones was not accepted.")

    @classmethod
    def of_receiver(cls, receiver: Notifier, depth: ReceiverDepth) -> Self:
        """The payload of core values."""
        return cls(
            name=receiver.name,
            address=receiver.address,
            waiting=depth.n_waiting,
            failing=depth.n_failing,
            waiting_since=format_optional_time_ms(depth.since_ms),
            last_error=depth.last_error,
        )


class ReceiverListReply(ReplyModel):
    """The receivers of notifications."""

    receivers: list[ReceiverReply]
