"""Requests and replies of definitions."""

import math
from typing import Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from native_api.contract.merge_patch import patch_type
from native_api.contract.names import MAX_NAME_BYTES, label_name_fault
from native_api.contract.pages import PageQuery
from native_api.contract.parameters import StoredText, stored_json
from native_api.contract.problem import FieldError
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.validation import quoted_value
from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.alerting.thresholds import (
    NO_LIMIT,
    AlertThreshold,
    Direction,
    SeriesLimits,
    ThresholdOverride,
)
from promcompat.core.definitions import (
    Aggregation,
    DuplicatePolicy,
    MetricDefinition,
    MetricType,
)
from promcompat.core.model import EMPTY_LABELS, Labels
from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms
from promcompat.core.texts.storable_text import text_fault
from promcompat.core.texts.times import format_time_ms


def _check_duration(text: str) -> str:
    try:
        parse_duration_ms(text)
    except ValueError as exc:
        raise FieldError(str(exc), "a duration such as 30s, 5m or 1h30m") from exc
    return text


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if found := label_name_fault(name) or text_fault(value):
            raise FieldError(f"the label {quoted_value(name)} {found}", _LABELS)
        if not value:
            raise FieldError(
                f"the label {quoted_value(name)} has an empty value, which no series has", _LABELS
            )
    return labels


READ_ONLY = "Read-only. Accepted, so that a GET response can be sent back, and ignored."
_LABELS = "non-empty label names and values"
DurationText = Annotated[
    str, AfterValidator(_check_duration), WithJsonSchema({"type": "string", "examples": ["5m"]})
]
"""A duration as Prometheus writes it; `0s` for none."""
LabelMap = Annotated[dict[str, str], AfterValidator(_check_labels)]


class RemediationPayload(BodyModel):
    """The Temporal workflow to start when the alert fires."""

    workflow_type: Annotated[StoredText, Field(min_length=1, max_length=200)]
    task_queue: Annotated[StoredText, Field(min_length=1, max_length=200)]
    input: Annotated[dict[str, Any], stored_json("input")] = Field(
        default_factory=dict,
        description="The input of the workflow. Strings are templates that can use the alert, "
        "such as `{{ $labels.instance }}` and `{{ $value }}`.",
    )
    cooldown: DurationText = Field(
        "0s",
        description="For how long after a start the same alert does not start another remediation.",
    )
    max_attempts: int = Field(1, ge=1, le=100)
    needs_approval: bool = Field(
        False, description="Wait for a person to approve the remediation first."
    )
    approval_timeout: DurationText = Field("1h", description="How long to wait for the approval.")
    levels: list[Annotated[StoredText, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list,
        max_length=20,
        description="The alert severities that start it, such as `critical`. Empty means every "
        "severity.",
    )

    def to_spec(self) -> RemediationSpec:
        """The core value of this payload."""
        return RemediationSpec(
            workflow_type=self.workflow_type,
            task_queue=self.task_queue,
            input_template=self.input,
            cooldown_ms=parse_duration_ms(self.cooldown),
            max_attempts=self.max_attempts,
            needs_approval=self.needs_approval,
            approval_timeout_ms=parse_duration_ms(self.approval_timeout),
            levels=tuple(dict.fromkeys(self.levels)),
        )

    @classmethod
    def of_spec(cls, spec: RemediationSpec) -> Self:
        """The payload of a core value."""
        return cls(
            workflow_type=spec.workflow_type,
            task_queue=spec.task_queue,
            input=dict(spec.input_template),
            cooldown=format_duration_ms(spec.cooldown_ms),
            max_attempts=spec.max_attempts,
            needs_approval=spec.needs_approval,
            approval_timeout=format_duration_ms(spec.approval_timeout_ms),
            levels=list(spec.levels),
        )


class OverridePayload(BodyModel):
    """Different limits for the series with all of these labels; the first match applies.

    An omitted limit is inherited from the threshold, as are its direction and `for`.
    """

    labels: Annotated[dict[str, str], Field(min_length=1), AfterValidator(_check_labels)]
    warning: float | None = Field(
        None,
        description="If omitted, the limit of the threshold applies. Null means these series "
        "have no warning limit.",
    )
    critical: float | None = Field(
        None,
        description="If omitted, the limit of the threshold applies. Null means these series "
        "have no critical limit.",
    )

    @model_validator(mode="after")
    def _names_a_limit(self) -> Self:
        if not {"warning", "critical"} & self.model_fields_set:
            raise FieldError("has no limit", "`warning`, `critical` or both; null disables a limit")
        return self

    @model_serializer(mode="wrap")
    def _without_inherited(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if name in self.model_fields_set}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of the fields: the serializer above omits fields but does not change any."""
        return handler(
            cast(
                "CoreSchema", {key: part for key, part in schema.items() if key != "serialization"}
            )
        )

    def to_override(self) -> ThresholdOverride:
        """The core value of this payload."""
        named = {
            name: NO_LIMIT if limit is None else limit
            for name, limit in (("warning", self.warning), ("critical", self.critical))
            if name in self.model_fields_set
        }
        return ThresholdOverride(Labels.of(self.labels), **named)

    @classmethod
    def of_override(cls, override: ThresholdOverride) -> Self:
        """The payload of a core value."""
        limits = {"warning": override.warning, "critical": override.critical}
        named = {
            name: None if math.isnan(limit) else limit
            for name, limit in limits.items()
            if limit is not None
        }
        return cls(labels=override.labels.as_dict(), **named)


def _check_order(limits: SeriesLimits, of_whom: str = "") -> None:
    """Raises FieldError if values reach the critical limit before the warning limit."""
    warning, critical = limits.warning, limits.critical
    side = "below" if limits.is_above else "above"
    if critical < warning if limits.is_above else critical > warning:
        raise FieldError(
            f"has critical {critical} {side} warning {warning}{of_whom}",
            f"a critical limit that is not {side} the warning limit, or the direction {side}",
        )


class ThresholdPayload(BodyModel):
    """Which values of the metric are a breach; a value equal to a limit is a breach."""

    warning: float | None = Field(None, description="The limit of the warning level.")
    critical: float | None = Field(None, description="The limit of the critical level.")
    direction: Direction = Field(
        Direction.ABOVE,
        description="`above`: values at or above a limit breach it; `below`: values at or below "
        "it.",
    )
    for_duration: DurationText = Field(
        "0s", alias="for", description="How long a breach must last before its alert fires."
    )
    overrides: list[OverridePayload] = Field(default_factory=list, max_length=1000)
    remediation: RemediationPayload | None = None

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Self:
        if self.warning is None and self.critical is None:
            raise FieldError("has no limit", "`warning`, `critical` or both")
        threshold = self.to_threshold()
        _check_order(threshold.limits_of(EMPTY_LABELS))
        for index, override in enumerate(threshold.overrides):
            limits = threshold.limits_under(override)
            _check_order(limits, f" in overrides[{index}], counting inherited limits")
        self._check_levels(threshold)
        return self

    @staticmethod
    def _check_levels(threshold: AlertThreshold) -> None:
        """Raises FieldError for a remediation of a level that no series can reach."""
        limits = [
            threshold.limits_of(EMPTY_LABELS),
            *(threshold.limits_under(override) for override in threshold.overrides),
        ]
        reachable = [
            level
            for level in ("warning", "critical")
            if not all(math.isnan(getattr(of_series, level)) for of_series in limits)
        ]
        for level in () if threshold.remediation is None else threshold.remediation.levels:
            if level not in reachable:
                raise FieldError(
                    f"has a remediation for the level {quoted_value(level)}, which has no limit",
                    " or ".join(reachable),
                )

    def to_threshold(self) -> AlertThreshold:
        """The core value of this payload."""
        return AlertThreshold(
            warning=self.warning,
            critical=self.critical,
            direction=self.direction,
            for_ms=parse_duration_ms(self.for_duration),
            overrides=tuple(override.to_override() for override in self.overrides),
            remediation=None if self.remediation is None else self.remediation.to_spec(),
        )

    @classmethod
    def of_threshold(cls, threshold: AlertThreshold) -> Self:
        """The payload of a core value."""
        remediation = threshold.remediation
        # The alias `for` is a Python keyword, so it cannot be a keyword argument.
        return cls(
            warning=threshold.warning,
            critical=threshold.critical,
            direction=threshold.direction,
            **{"for": format_duration_ms(threshold.for_ms)},
            overrides=[OverridePayload.of_override(override) for override in threshold.overrides],
            remediation=None if remediation is None else RemediationPayload.of_spec(remediation),
        )


class DefinitionFields(BodyModel):
    """The stored fields of a definition; omitted fields have their defaults."""

    display_name: Annotated[StoredText, Field(max_length=500)] = ""
    description: Annotated[StoredText, Field(max_length=20_000)] = ""
    unit: Annotated[StoredText, Field(max_length=100)] = ""
    type: MetricType = MetricType.GAUGE
    aggregation: Aggregation | None = Field(
        None,
        description="How the samples of a bucket are combined into one value. Null means the "
        "default of the type: avg for a gauge or summary, rate for a counter, percentile for a "
        "histogram.",
    )
    retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="How many days samples are kept. Null means the service's own retention.",
    )
    duplicate_policy: DuplicatePolicy = Field(
        DuplicatePolicy.FIRST,
        description="Which value is kept when a series gets two values for the same time.",
    )
    alert_threshold: ThresholdPayload | None = None

    def to_definition(self, name: str) -> MetricDefinition:
        """The core value of this payload."""
        threshold = self.alert_threshold
        return MetricDefinition(
            name=name,
            display_name=self.display_name,
            description=self.description,
            unit=self.unit,
            type=self.type,
            aggregation=self.aggregation,
            retention_days=self.retention_days,
            duplicate_policy=self.duplicate_policy,
            alert_threshold=None if threshold is None else threshold.to_threshold(),
        )

    @classmethod
    def of_definition(cls, definition: MetricDefinition) -> Self:
        """The payload of a core value."""
        threshold = definition.alert_threshold
        return cls(
            display_name=definition.display_name,
            description=definition.description,
            unit=definition.unit,
            type=definition.type,
            aggregation=definition.aggregation,
            retention_days=definition.retention_days,
            duplicate_policy=definition.duplicate_policy,
            alert_threshold=None if threshold is None else ThresholdPayload.of_threshold(threshold),
        )


class DefinitionPayload(DefinitionFields):
    """A definition in a request; a GET response is accepted unchanged."""

    name: Annotated[StoredText, Field(min_length=1, max_length=MAX_NAME_BYTES)] | None = Field(
        None,
        description="The metric name. PUT and PATCH take it from the path; if present, it must "
        "be the same.",
    )
    version: int | None = Field(None, description=READ_ONLY)
    created_at: str | None = Field(None, description=READ_ONLY)
    updated_at: str | None = Field(None, description=READ_ONLY)


class NewDefinitionPayload(DefinitionPayload):
    """A definition to create."""

    name: Annotated[StoredText, Field(min_length=1, max_length=MAX_NAME_BYTES)] = Field(
        description="The metric name."
    )


class DefinitionReply(ReplyModel):
    """A stored definition."""

    name: str
    display_name: str
    description: str
    unit: str
    type: MetricType
    aggregation: Aggregation | None
    retention_days: int | None
    duplicate_policy: DuplicatePolicy
    alert_threshold: ThresholdPayload | None
    version: int = Field(
        description="Increases with each change. The ETag is this number in quotes."
    )
    created_at: str
    updated_at: str

    @classmethod
    def of_definition(cls, definition: MetricDefinition) -> Self:
        """The payload of a core value."""
        payload = DefinitionFields.of_definition(definition)
        return cls(
            name=definition.name,
            **{field: getattr(payload, field) for field in DefinitionFields.model_fields},
            version=definition.version,
            created_at=format_time_ms(definition.created_ms),
            updated_at=format_time_ms(definition.updated_ms),
        )


class DefinitionListReply(ReplyModel):
    """A page of definitions."""

    definitions: list[DefinitionReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class DefinitionDeletedReply(ReplyModel):
    """The result of a deletion."""

    name: str
    deleted: bool
    samples: str = Field(description="What happened to the samples of the metric: `kept`.")
    detail: str


class DefinitionListQuery(PageQuery):
    """Parameters of the list."""

    prefix: StoredText = Field("", description="Only names that start with this prefix.")


DefinitionPatch = patch_type(DefinitionPayload, "DefinitionPatch")
