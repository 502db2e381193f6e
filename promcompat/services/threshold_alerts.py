"""From breaches in the outbox to alerts of thresholds, and the look whether they still hold.

The value of a series holds until its next sample. A breach with `for` fires when a sample that
long after its first still breaches, or when that long has passed since it was noticed and no
sample said otherwise: late data must not wait, and silence must not end an alert.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from promcompat.core.alert_ports import (
    AlertRepository,
    BreachEvent,
    LevelState,
    TenantAlert,
    ThresholdSession,
)
from promcompat.core.alerts import (
    ALERT_NAME,
    SEVERITY,
    Alert,
    AlertChange,
    AlertState,
    AlertTransition,
)
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.ports import DefinitionRepository
from promcompat.core.rule_groups import AlertTiming, advance_alert, transitions_between
from promcompat.core.thresholds import (
    AlertThreshold,
    BreachLevel,
    Direction,
    find_breach_levels,
)
from promcompat.services.alert_progress import progress_of, with_progress
from promcompat.services.alert_series import alert_batch, alert_series
from promcompat.services.alerting_stats import AlertingStats
from promcompat.services.metric_service import MetricService
from promcompat.services.rule_evaluator import close_change, write_alert_series

THRESHOLD_GROUP = "thresholds"
_BATCH = 500
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_SEVERITIES = {BreachLevel.WARNING: "warning", BreachLevel.CRITICAL: "critical"}


@dataclass(slots=True)
class _Series:
    """One series on its way through some events; `changes` are those that are complete."""

    tenant: str
    series_id: int
    labels: Labels
    threshold: AlertThreshold
    level: BreachLevel
    known_ms: int
    alert: Alert | None
    steps: list[AlertTransition] = field(default_factory=list)
    changes: list[AlertChange] = field(default_factory=list)

    def advance(self, level: BreachLevel, value: float, at_ms: int) -> None:
        """Take over a level found in a sample."""
        self.level, self.known_ms = level, at_ms
        self.step(level, value, at_ms)

    def step(self, level: BreachLevel, value: float, at_ms: int) -> None:
        """Advance the alert; one that ends makes room for the next."""
        before = None if self.alert is None else progress_of(self.alert)
        timing = AlertTiming(self.threshold.for_ms)
        given = None if level is BreachLevel.NONE else value
        after = advance_alert(before, given, at_ms, timing)
        if after is None:
            return
        if given is None:
            after = replace(after, value=value)
        alert = self.alert or self._new_alert(level, value, at_ms)
        self.steps += transitions_between(before, after)
        self.alert = with_progress(alert, after)
        if level is not BreachLevel.NONE:
            self._set_severity(level, value, at_ms, is_new=before is None)
        if not self.alert.state.is_open:
            self.finish()

    def finish(self) -> None:
        """What became of the alert is complete."""
        if self.alert is not None and (self.steps or self.alert.id):
            self.changes.append(AlertChange(alert=self.alert, transitions=tuple(self.steps)))
        self.alert, self.steps = None, []

    def _set_severity(self, level: BreachLevel, value: float, at_ms: int, *, is_new: bool) -> None:
        assert self.alert is not None
        severity = _SEVERITIES[level]
        if severity != self.alert.severity and not is_new:
            state = self.alert.state
            note = f"severity: {self.alert.severity} → {severity}"
            self.steps.append(
                AlertTransition(
                    from_state=state, to_state=state, at_ms=at_ms, value=value, note=note
                )
            )
        self.alert = replace(
            self.alert,
            severity=severity,
            labels=self.alert.labels.with_label(SEVERITY, severity),
            annotations=_annotations(self.threshold, self.labels, level, value),
        )

    def _new_alert(self, level: BreachLevel, value: float, at_ms: int) -> Alert:
        name = self.labels.get(METRIC_NAME)
        severity = _SEVERITIES[level]
        labels = self.labels.without_name().with_label(ALERT_NAME, name)
        return Alert(
            id=0,
            rule_id=None,
            series_id=self.series_id,
            rule_name=name,
            rule_group=THRESHOLD_GROUP,
            labels=labels.with_label(SEVERITY, severity),
            series_labels=self.labels.without_name(),
            annotations=_annotations(self.threshold, self.labels, level, value),
            state=AlertState.PENDING,
            severity=severity,
            value=value,
            active_at_ms=at_ms,
            fired_at_ms=0,
            resolved_at_ms=0,
            keep_firing_since_ms=0,
            acknowledged_at_ms=0,
            acknowledged_by="",
            expr=threshold_query(self.threshold, self.labels),
            interval_ms=60_000,
            remediation=self.threshold.remediation,
        )

    def state(self) -> LevelState:
        """What is now handled of the series."""
        return LevelState(
            series_id=self.series_id,
            tenant=self.tenant,
            metric_name=self.labels.get(METRIC_NAME),
            labels=self.labels,
            level=self.level,
            timestamp_ms=self.known_ms,
        )


class ThresholdAlerts:
    """What the loop of breaches does."""

    def __init__(
        self,
        alerts: AlertRepository,
        definitions: DefinitionRepository,
        metrics: MetricService,
        stats: AlertingStats,
        now_ms: Callable[[], int],
    ) -> None:
        self._alerts = alerts
        self._definitions = definitions
        self._metrics = metrics
        self._stats = stats
        self._now_ms = now_ms

    async def dispatch_breaches(self) -> int:
        """Turn breaches of the outbox into alerts; how many there were. 0 when another does it."""
        async with self._alerts.thresholds() as session:
            if session is None:
                return 0
            events = await session.take_breaches(_BATCH)
            if events:
                await self._handle(session, events)
        self._stats.breaches_handled += len(events)
        return len(events)

    async def verify(self) -> None:
        """Fire what is due, and find what no event told: levels that changed, rules that went."""
        async with self._alerts.thresholds() as session:
            if session is None:
                return
            await self._close_orphans(session)
            states = await session.verified_states()
            open_alerts = await session.open_alerts(None)
            if states or open_alerts:
                await self._verify(session, states, open_alerts)

    async def _handle(self, session: ThresholdSession, events: Sequence[BreachEvent]) -> None:
        ids = {event.series_id for event in events}
        known = await session.states(ids)
        alerts = {one.alert.series_id: one.alert for one in await session.open_alerts(ids)}
        thresholds = await self._thresholds(event.tenant for event in events)
        series: dict[int, _Series] = {}
        for event in sorted(events, key=lambda one: (one.timestamp_ms, one.id)):
            threshold = _threshold_of(thresholds, event.tenant, event.labels)
            if event.labels is None or threshold is None:
                continue
            level, known_ms = known.get(event.series_id, (BreachLevel.NONE, -(1 << 62)))
            one = series.setdefault(
                event.series_id,
                _Series(
                    event.tenant,
                    event.series_id,
                    event.labels,
                    threshold,
                    level,
                    known_ms,
                    alerts.get(event.series_id),
                ),
            )
            if event.timestamp_ms > one.known_ms and event.level is not one.level:
                one.advance(event.level, event.value, event.timestamp_ms)
        await _record(session, list(series.values()))

    async def _verify(
        self,
        session: ThresholdSession,
        states: Sequence[LevelState],
        open_alerts: Sequence[TenantAlert],
    ) -> None:
        tenants = {state.tenant for state in states} | {one.tenant for one in open_alerts}
        thresholds = await self._thresholds(tenants)
        alerts = {one.alert.series_id: one.alert for one in open_alerts}
        touched: list[_Series] = []
        forgotten: list[int] = []
        for state in states:
            threshold = _threshold_of(thresholds, state.tenant, state.labels)
            alert = alerts.pop(state.series_id, None)
            if state.labels is None or threshold is None:
                forgotten.append(state.series_id)
                if alert is not None:
                    await session.record(state.tenant, [close_change(alert, self._now_ms())])
                continue
            one = _Series(
                state.tenant,
                state.series_id,
                state.labels,
                threshold,
                state.level,
                state.timestamp_ms,
                alert,
            )
            if self._look_again(one, state):
                touched.append(one)
        await _record(session, touched)
        if forgotten:
            await session.record("", (), (), forgotten)

    def _look_again(self, series: _Series, state: LevelState) -> bool:
        """Whether a newer sample, or the time that went by, changed anything."""
        if state.newest_value is not None:
            level = level_of(series.threshold, series.labels, state.newest_value)
            if level is not series.level:
                series.advance(level, state.newest_value, state.newest_ms)
                return True
        alert = series.alert
        if alert is None or alert.state is not AlertState.PENDING:
            return False
        due_ms = alert.active_at_ms + series.threshold.for_ms
        has_passed = self._now_ms() >= alert.noticed_at_ms + series.threshold.for_ms
        if state.newest_ms < due_ms and not has_passed:
            return False
        series.step(series.level, alert.value, max(due_ms, state.newest_ms))
        return True

    async def _close_orphans(self, session: ThresholdSession) -> None:
        """Alerts of rules that were deleted or disabled end, and so do their series."""
        by_tenant: defaultdict[str, list[Alert]] = defaultdict(list)
        for one in await session.orphans():
            by_tenant[one.tenant].append(one.alert)
        now_ms = self._now_ms()
        for tenant, alerts in by_tenant.items():
            ended = alert_series({alert.labels: progress_of(alert) for alert in alerts})
            await write_alert_series(self._metrics, tenant, alert_batch({}, ended, now_ms))
            await session.record(tenant, [close_change(alert, now_ms) for alert in alerts])

    async def _thresholds(self, tenants: Iterable[str]) -> dict[str, Mapping[str, AlertThreshold]]:
        names = {name for name in tenants if name}
        return {name: await self._definitions.list_thresholds(name) for name in names}


def _threshold_of(
    thresholds: Mapping[str, Mapping[str, AlertThreshold]], tenant: str, labels: Labels | None
) -> AlertThreshold | None:
    return None if labels is None else thresholds.get(tenant, {}).get(labels.get(METRIC_NAME))


async def _record(session: ThresholdSession, series: Sequence[_Series]) -> None:
    by_tenant: defaultdict[str, list[_Series]] = defaultdict(list)
    for one in series:
        one.finish()
        by_tenant[one.tenant].append(one)
    for tenant, members in by_tenant.items():
        changes = [change for one in members for change in one.changes]
        await session.record(tenant, changes, [one.state() for one in members])


def level_of(threshold: AlertThreshold, labels: Labels, value: float) -> BreachLevel:
    """The level of one value of one series."""
    warning, critical = threshold.limits_of(labels)
    is_above = np.array([threshold.direction is Direction.ABOVE])
    levels = find_breach_levels(
        np.array([value]), np.array([warning]), np.array([critical]), is_above
    )
    return BreachLevel(int(levels[0]))


def threshold_query(threshold: AlertThreshold, labels: Labels) -> str:
    """The PromQL that has a result for the series as long as it breaches any limit."""
    warning, critical = threshold.limits_of(labels)
    limit = critical if np.isnan(warning) else warning
    name = labels.get(METRIC_NAME)
    quoted = json.dumps(name, ensure_ascii=False)
    selector = name if _PLAIN_NAME.fullmatch(name) else f"{{{quoted}}}"
    return f"{selector} {'>=' if threshold.direction is Direction.ABOVE else '<='} {limit!r}"


def _annotations(
    threshold: AlertThreshold, labels: Labels, level: BreachLevel, value: float
) -> Labels:
    warning, critical = threshold.limits_of(labels)
    limit = critical if level is BreachLevel.CRITICAL else warning
    side = "at or above" if threshold.direction is Direction.ABOVE else "at or below"
    name = labels.get(METRIC_NAME)
    summary = f"{name} is {value:g}, {side} its {_SEVERITIES[level]} limit of {limit:g}"
    return Labels.of({"summary": summary})
