"""Requests and replies of corrections."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from native_api.contract.names import METRIC_NAME_TEXT, label_name_fault, metric_name_fault
from native_api.contract.pages import PageQuery
from native_api.contract.parameters import (
    LabelFilter,
    PersonName,
    Reason,
    StoredText,
    TimeField,
    matchers_of,
)
from native_api.contract.problem import FieldError, InvalidRequestError, fault
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.times import MAX_TIME_MS, MIN_TIME_MS
from native_api.contract.validation import quoted_value
from promcompat.core.corrections import (
    Affected,
    Correction,
    RelabelSeries,
    ReplaceSamples,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, Labels, SampleBlock
from promcompat.core.texts.storable_text import UNICODE_TEXT, text_fault
from promcompat.core.texts.times import format_time_ms

MAX_REPLACEMENTS = 100_000
"""The most samples of one replacement, which is one transaction."""
_MAX_SERIES = 10_000
_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _ScopeFields(BodyModel):
    name: Annotated[StoredText, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="The metric name. `name` or `labels` must be given."
    )
    labels: Annotated[list[LabelFilter], Field(max_length=100)] = Field(
        default_factory=list,
        description="Label matchers, all of which must match: `host=web-1`, `host!=web-1`, "
        "`host=~web-.*`, `host!~web-.*` (RE2, anchored).",
    )
    start: TimeField | None = Field(
        None, description="The start of the range, inclusive. Default: no bound."
    )
    end: TimeField | None = Field(
        None, description="The end of the range, exclusive. Default: no bound."
    )
    requested_by: PersonName | None = Field(
        None,
        description="Who does this; recorded. Default: the address of the client. Where "
        "access is restricted, the name of the token is recorded instead.",
    )
    reason: Reason = Field("", description="Why; recorded.")
    dry_run: bool = Field(
        False, description="Only count the series and samples, and change nothing."
    )

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if self.name is None and not self.labels:
            raise FieldError("selects every series", "`name`, `labels` or both", "name")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise FieldError("is not before `end`", "a time before `end`", "start")
        return self

    @property
    def scope(self) -> SampleScope:
        """The samples that are selected."""
        matchers = matchers_of(self.labels)
        if self.name is not None:
            matchers = (LabelMatcher(METRIC_NAME, MatchOp.EQUAL, self.name), *matchers)
        start_ms = MIN_TIME_MS if self.start is None else self.start
        end_ms = MAX_TIME_MS if self.end is None else self.end - 1
        return SampleScope([matchers], start_ms, end_ms)


class DeletePayload(_ScopeFields):
    """Which samples to delete."""


class ScalePayload(_ScopeFields):
    """Which samples get the value `value * factor + offset`."""

    factor: float = Field(1.0, description="What values are multiplied with, such as 0.001.")
    offset: float = Field(0.0, description="What is added then.")

    @property
    def change(self) -> ScaleSamples:
        """The change."""
        return ScaleSamples(self.scope, self.factor, self.offset)


class RenamePayload(_ScopeFields):
    """Which series get another name or other labels."""

    new_name: StoredText | None = Field(None, description="The new metric name.")
    set_labels: dict[str, StoredText] = Field(
        default_factory=dict,
        description="Labels to set; an empty value removes the label.",
        max_length=100,
    )

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.new_name is None and not self.set_labels:
            raise FieldError("changes nothing", "`new_name`, `set_labels` or both", "new_name")
        if self.new_name is not None and (found := metric_name_fault(self.new_name)):
            raise FieldError(found, METRIC_NAME_TEXT, "new_name")
        for name in self.set_labels:
            if found := label_name_fault(name):
                raise FieldError(f"{quoted_value(name)} {found}", "label names", "set_labels")
        return self

    @property
    def change(self) -> RelabelSeries:
        """The change."""
        labels = dict(self.set_labels)
        if self.new_name is not None:
            labels[METRIC_NAME] = self.new_name
        return RelabelSeries(self.scope, labels)


class SeriesPayload(BodyModel):
    """The samples of a series."""

    name: str = Field(description="The metric name.")
    labels: dict[str, str] = Field(default_factory=dict, description="The other labels.")
    samples: Annotated[
        list[tuple[TimeField, float | Literal["NaN", "Infinity", "-Infinity"]]],
        Field(min_length=1, max_length=MAX_REPLACEMENTS),
    ] = Field(description="Pairs of time and value.")


class ReplacePayload(_ScopeFields):
    """Which samples to replace, and by which."""

    series: Annotated[list[SeriesPayload], Field(min_length=1, max_length=_MAX_SERIES)] = Field(
        description=f"The samples that take their place, at most {MAX_REPLACEMENTS:,}. Their "
        "series must be selected, and their times must lie in the range."
    )

    @property
    def change(self) -> ReplaceSamples:
        """The change. Raises InvalidRequestError."""
        scope = self.scope
        columns: dict[Labels, dict[int, float]] = {}
        for index, series in enumerate(self.series):
            labels = _labels_of(series, f"series[{index}]")
            if not scope.selects(labels):
                raise _refused(f"series[{index}]", "is not selected", "a series that is selected")
            if labels in columns:
                raise _refused(f"series[{index}]", "comes twice", "each series once")
            columns[labels] = _points_of(series, scope, f"series[{index}].samples")
        n_samples = sum(map(len, columns.values()))
        if n_samples > MAX_REPLACEMENTS:
            expected = f"at most {MAX_REPLACEMENTS} samples"
            raise _refused("series", f"has {n_samples} samples", expected)
        return ReplaceSamples(scope, _block_of(columns))


def _refused(field: str, reason: str, expected: str) -> InvalidRequestError:
    return InvalidRequestError([fault("body", field, reason, expected)])


def _labels_of(series: SeriesPayload, field: str) -> Labels:
    if found := metric_name_fault(series.name):
        raise _refused(f"{field}.name", found, METRIC_NAME_TEXT)
    for name, value in series.labels.items():
        if found := label_name_fault(name) or text_fault(value):
            raise _refused(f"{field}.labels", f"{quoted_value(name)} {found}", UNICODE_TEXT)
    return Labels.of({METRIC_NAME: series.name, **series.labels})


def _points_of(series: SeriesPayload, scope: SampleScope, field: str) -> dict[int, float]:
    points: dict[int, float] = {}
    for index, (time_ms, value) in enumerate(series.samples):
        if not scope.start_ms <= time_ms <= scope.end_ms:
            raise _refused(f"{field}[{index}]", "is not in the range", "a time in the range")
        if time_ms in points:
            raise _refused(f"{field}[{index}]", "has the time of another one", "each time once")
        points[time_ms] = _SPECIAL[value] if isinstance(value, str) else value
    return dict(sorted(points.items()))


def _block_of(columns: Mapping[Labels, Mapping[int, float]]) -> SampleBlock:
    return SampleBlock(
        tuple(columns),
        np.array([time_ms for points in columns.values() for time_ms in points], np.int64),
        np.array([value for points in columns.values() for value in points.values()], np.float64),
        np.cumsum([0, *map(len, columns.values())], dtype=np.int64),
    )


class AffectedReply(ReplyModel):
    """What a correction concerns."""

    series: int
    samples: int
    is_complete: bool = Field(
        description="False: counting took too long, and there were at least so many samples."
    )

    @classmethod
    def of_affected(cls, affected: Affected) -> Self:
        """The payload of a core value."""
        return cls(
            series=affected.n_series, samples=affected.n_samples, is_complete=affected.is_counted
        )


class CorrectionReply(ReplyModel):
    """What is recorded of a correction."""

    id: int | None = Field(description="Null for a dry run.")
    kind: str
    state: Literal["dry_run", "running", "done", "failed"]
    selectors: list[str] = Field(description="The selected series, as PromQL selectors.")
    start: str
    end: str = Field(description="Exclusive.")
    factor: float | None
    offset: float | None
    set_labels: dict[str, str] | None
    requested_by: str
    reason: str
    requested_at: str | None
    finished_at: str | None
    failure: str = Field(description="Why it failed; empty otherwise.")
    affected: AffectedReply = Field(
        description="The selected series, and the samples deleted, replaced or moved until now."
    )
    series_done: int = Field(description="The series that are finished.")
    is_hidden_only: bool = Field(
        description="Whether deleted samples still take space on disk; no query returns them."
    )
    warnings: list[str] = Field(default_factory=list)

    @classmethod
    def of_correction(cls, correction: Correction, warnings: list[str] | None = None) -> Self:
        """The payload of a core value."""
        finished_ms = correction.finished_ms
        return cls(
            id=correction.id,
            kind=correction.kind.value,
            state=correction.state.value,
            selectors=list(correction.selectors),
            start=format_time_ms(correction.first_ms),
            end=_end_text(correction.last_ms),
            factor=correction.factor,
            offset=correction.addend,
            set_labels=None if correction.labels is None else dict(correction.labels),
            requested_by=correction.requested_by,
            reason=correction.reason,
            requested_at=format_time_ms(correction.requested_ms),
            finished_at=None if finished_ms is None else format_time_ms(finished_ms),
            failure=correction.failure,
            affected=AffectedReply.of_affected(correction.affected),
            series_done=correction.n_series_done,
            is_hidden_only=correction.has_tombstones,
            warnings=warnings or [],
        )

    @classmethod
    def of_dry_run(
        cls, kind: str, body: _ScopeFields, affected: Affected, warnings: list[str]
    ) -> Self:
        """What a correction would concern."""
        scope = body.scope
        return cls(
            id=None,
            kind=kind,
            state="dry_run",
            selectors=scope.selectors,
            start=format_time_ms(scope.start_ms),
            end=_end_text(scope.end_ms),
            factor=body.factor if isinstance(body, ScalePayload) else None,
            offset=body.offset if isinstance(body, ScalePayload) else None,
            set_labels=dict(body.change.labels) if isinstance(body, RenamePayload) else None,
            requested_by=body.requested_by or "",
            reason=body.reason,
            requested_at=None,
            finished_at=None,
            failure="",
            affected=AffectedReply.of_affected(affected),
            series_done=0,
            is_hidden_only=False,
            warnings=warnings,
        )


def _end_text(last_ms: int) -> str:
    """The exclusive end of a range whose last millisecond this is."""
    return format_time_ms(min(last_ms + 1, MAX_TIME_MS))


class CorrectionListReply(ReplyModel):
    """A page of corrections, newest first."""

    corrections: list[CorrectionReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class CorrectionListQuery(PageQuery):
    """Parameters of the list."""
