"""One series that has a threshold, on its way through samples, changed limits and time.

Pure: time comes in as a parameter, and the caller stores what becomes of the alert.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from promcompat.alerting.state_machine import (
    AlertTiming,
    advance_alert,
    progress_of,
    transitions_between,
    with_progress,
)
from promcompat.core.alerting.alerts import (
    ALERT_NAME,
    SEVERITY,
    Alert,
    AlertChange,
    AlertState,
    AlertTransition,
)
from promcompat.core.alerting.ports import LevelState
from promcompat.core.alerting.thresholds import AlertThreshold, BreachLevel, SeriesLimits
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.texts.durations import format_duration_ms
from promql.parsing.literals import quote_literal

THRESHOLD_GROUP: Final = "thresholds"
THRESHOLD_INTERVAL_MS: Final = 60_000
"""What clients see as the evaluation interval of thresholds: Prometheus' default."""
_CHANGED: Final = "the threshold changed"
_NO_SAMPLES: Final = "the samples were deleted or moved"
_PLAIN_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)


@dataclass(slots=True)
class ThresholdSeries:
    """A series between two records of its state.

    `level` and `known_ms` are the level last found and the time of its sample; `changes` are those
    changes of alerts that are complete.
    """

    tenant: str
    series_id: int
    labels: Labels
    threshold: AlertThreshold
    level: BreachLevel
    known_ms: int
    alert: Alert | None
    steps: list[AlertTransition] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)
    limits: SeriesLimits = field(init=False)
    before: Alert | None = field(init=False)
    """The alert that was open at the last record."""

    def __post_init__(self) -> None:
        self.limits = self.threshold.limits_of(self.labels)
        self.before = self.alert

    @classmethod
    def of_state(cls, state: LevelState, threshold: AlertThreshold, alert: Alert | None) -> Self:
        """A series as recorded, which must still exist."""
        assert state.labels is not None, "the series exists"
        return cls(
            state.tenant,
            state.series_id,
            state.labels,
            threshold,
            state.level,
            state.timestamp_ms,
            alert,
        )

    @property
    def name(self) -> str:
        """The name of the metric."""
        return self.labels.get(METRIC_NAME)

    def level_of(self, value: float) -> BreachLevel:
        """The level of a value under the present threshold."""
        return self.limits.level_of(value)

    def advance(self, level: BreachLevel, value: float, at_ms: int) -> None:
        """Take over the level of a sample."""
        self.level, self.known_ms = level, at_ms
        self.step(level, value, at_ms)

    def review(self, state: LevelState, level: BreachLevel, at_ms: int) -> bool:
        """Take over the level that the newest sample has under a changed threshold.

        Without any sample, as after they were deleted, nothing breaches. Returns whether that
        changes anything.
        """
        value = state.newest_value
        if value is None and self.level is not BreachLevel.NONE:
            self.level = BreachLevel.NONE
            self.step(BreachLevel.NONE, self._last_value, at_ms, _NO_SAMPLES)
            return True
        if value is not None and level is not self.level:
            self.level, self.known_ms = level, max(self.known_ms, state.newest_ms)
            self.step(level, value, at_ms, _CHANGED)
            return True
        if self.alert is not None and value is not None and level is not BreachLevel.NONE:
            self._describe(level, value)
            return True
        return False

    def step(self, level: BreachLevel, value: float, at_ms: int, note: str = "") -> None:
        """Advance the alert; when it ends, the next one may begin. `note` says why."""
        before = None if self.alert is None else progress_of(self.alert)
        timing = AlertTiming(self.threshold.for_ms)
        given = None if level is BreachLevel.NONE else value
        after = advance_alert(before, given, at_ms, timing)
        if after is None:
            return
        if given is None:
            after = replace(after, value=value)
        alert = self.alert or self._new_alert(level, value, at_ms)
        self.steps += [
            replace(step, note=note, severity=level.severity)
            for step in transitions_between(before, after)
        ]
        self.alert = with_progress(alert, after)
        if level is not BreachLevel.NONE:
            self._set_severity(level, value, at_ms, is_new=before is None)
        if not self.alert.state.is_open:
            self.finish()

    def expire(self, state: LevelState, at_ms: int) -> None:
        """End the alert of a series that no longer sends samples."""
        assert self.alert is not None
        last_ms = max(state.timestamp_ms, state.newest_ms)
        self.level, self.known_ms = BreachLevel.NONE, last_ms
        silent = format_duration_ms((at_ms - last_ms) // 1000 * 1000)
        self.step(BreachLevel.NONE, self.alert.value, at_ms, f"expired: no sample for {silent}")

    @property
    def _last_value(self) -> float:
        return 0.0 if self.alert is None else self.alert.value

    def finish(self) -> None:
        """Complete the change of the alert."""
        if self.alert is not None and (self.steps or self.alert.id):
            self.changes.append(AlertChange(alert=self.alert, transitions=tuple(self.steps)))
        self.alert, self.steps = None, []

    def _set_severity(self, level: BreachLevel, value: float, at_ms: int, *, is_new: bool) -> None:
        assert self.alert is not None
        state, severity = self.alert.state, self.alert.severity
        if severity != level.severity and not is_new:
            self.steps.append(
                AlertTransition(
                    from_state=state,
                    to_state=state,
                    at_ms=at_ms,
                    value=value,
                    note=f"severity: {severity} → {level.severity}",
                    severity=level.severity,
                    from_severity=severity,
                )
            )
        self._describe(level, value)

    def _describe(self, level: BreachLevel, value: float) -> None:
        """Bring the open alert up to date with its level, its value and the present threshold."""
        assert self.alert is not None
        self.alert = replace(
            self.alert,
            value=value,
            severity=level.severity,
            labels=self.alert.labels.with_label(SEVERITY, level.severity),
            annotations=_annotations(self.name, self.limits, level, value),
            expr=threshold_query(self.name, self.limits),
            remediation=self.threshold.remediation,
        )

    def _new_alert(self, level: BreachLevel, value: float, at_ms: int) -> Alert:
        labels = self.labels.without_name().with_label(ALERT_NAME, self.name)
        return Alert(
            id=0,
            rule_id=None,
            series_id=self.series_id,
            rule_name=self.name,
            rule_group=THRESHOLD_GROUP,
            labels=labels.with_label(SEVERITY, level.severity),
            series_labels=self.labels.without_name(),
            annotations=_annotations(self.name, self.limits, level, value),
            state=AlertState.PENDING,
            severity=level.severity,
            value=value,
            active_at_ms=at_ms,
            fired_at_ms=0,
            resolved_at_ms=0,
            keep_firing_since_ms=0,
            acknowledged_at_ms=0,
            acknowledged_by="",
            expr=threshold_query(self.name, self.limits),
            interval_ms=THRESHOLD_INTERVAL_MS,
            remediation=self.threshold.remediation,
        )

    def state(self) -> LevelState:
        """The state to record."""
        return LevelState(
            series_id=self.series_id,
            tenant=self.tenant,
            metric_name=self.name,
            labels=self.labels,
            level=self.level,
            timestamp_ms=self.known_ms,
        )


def threshold_query(metric_name: str, limits: SeriesLimits) -> str:
    """The PromQL query that has a result for a series while it breaches one of its limits."""
    limit = limits.critical if math.isnan(limits.warning) else limits.warning
    is_plain = _PLAIN_NAME.fullmatch(metric_name)
    selector = metric_name if is_plain else f"{{{quote_literal(metric_name)}}}"
    return f"{selector} {'>=' if limits.is_above else '<='} {limit!r}"


def _annotations(
    metric_name: str, limits: SeriesLimits, level: BreachLevel, value: float
) -> Mapping[str, str]:
    side = "at or above" if limits.is_above else "at or below"
    limit = limits.limit_of(level)
    summary = f"{metric_name} is {value:g}, {side} its {level.severity} limit of {limit:g}"
    return {"summary": summary}
