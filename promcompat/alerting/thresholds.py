"""From breaches in the outbox to alerts of thresholds, and the look whether they still hold.

The value of a series holds until its next sample. A breach with `for` fires when a sample that
long after its first still breaches, or when that long has passed since it was noticed and no
sample said otherwise: late data must not wait. Only a silence of `expiry_ms` ends an alert. A
threshold that changed is held against the newest sample of each series at once. A sample that is
too old raises no level: it says nothing of the present.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.state_machine import (
    AlertTiming,
    advance_alert,
    close_change,
    progress_of,
    transitions_between,
    with_progress,
)
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alert_ports import (
    AlertRepository,
    BreachEvent,
    LevelState,
    TenantAlert,
    ThresholdReview,
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
from promcompat.core.durations import format_duration_ms
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.ports import DefinitionRepository
from promcompat.core.thresholds import (
    AlertThreshold,
    BreachLevel,
    Direction,
    find_breach_levels,
)
from promcompat.querying.metric_service import MetricService

THRESHOLD_GROUP = "thresholds"
_BATCH = 500
_REVIEWED_SERIES = 2000
_MAX_REVIEWS = 10
"""Pages of series of changed thresholds that one look takes."""
_CHANGED = "the threshold changed"
_SERIES_INTERVAL_MS = 60_000
"""How often the series `ALERTS` of open alerts get a sample: Prometheus' evaluation interval."""
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
    before: Alert | None = field(init=False)
    """The open alert that it came with."""

    def __post_init__(self) -> None:
        self.before = self.alert

    def advance(self, level: BreachLevel, value: float, at_ms: int) -> None:
        """Take over a level found in a sample."""
        self.level, self.known_ms = level, at_ms
        self.step(level, value, at_ms)

    def review(self, state: LevelState, level: BreachLevel, at_ms: int) -> bool:
        """Take over what a changed threshold makes of the newest sample; whether that is new."""
        value = state.newest_value
        if value is not None and level is not self.level:
            self.level, self.known_ms = level, max(self.known_ms, state.newest_ms)
            self.step(level, value, at_ms, _CHANGED)
            return True
        if self.alert is not None and value is not None and level is not BreachLevel.NONE:
            self._describe(level, value)
            return True
        return False

    def step(self, level: BreachLevel, value: float, at_ms: int, note: str = "") -> None:
        """Advance the alert; one that ends makes room for the next. `note` says why."""
        before = None if self.alert is None else progress_of(self.alert)
        timing = AlertTiming(self.threshold.for_ms)
        given = None if level is BreachLevel.NONE else value
        after = advance_alert(before, given, at_ms, timing)
        if after is None:
            return
        if given is None:
            after = replace(after, value=value)
        alert = self.alert or self._new_alert(level, value, at_ms)
        severity = _SEVERITIES.get(level, "")
        self.steps += [
            replace(one, note=note, severity=severity) for one in transitions_between(before, after)
        ]
        self.alert = with_progress(alert, after)
        if level is not BreachLevel.NONE:
            self._set_severity(level, value, at_ms, is_new=before is None)
        if not self.alert.state.is_open:
            self.finish()

    def expire(self, state: LevelState, at_ms: int) -> None:
        """End the alert of a series that sends nothing any more."""
        assert self.alert is not None
        last_ms = max(state.timestamp_ms, state.newest_ms)
        self.level, self.known_ms = BreachLevel.NONE, last_ms
        silent = format_duration_ms((at_ms - last_ms) // 1000 * 1000)
        self.step(BreachLevel.NONE, self.alert.value, at_ms, f"expired: no sample for {silent}")

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
                    from_state=state,
                    to_state=state,
                    at_ms=at_ms,
                    value=value,
                    note=note,
                    severity=severity,
                    from_severity=self.alert.severity,
                )
            )
        self._describe(level, value)

    def _describe(self, level: BreachLevel, value: float) -> None:
        """What the open alert says of its level and of the threshold of now."""
        assert self.alert is not None
        severity = _SEVERITIES[level]
        self.alert = replace(
            self.alert,
            severity=severity,
            labels=self.alert.labels.with_label(SEVERITY, severity),
            annotations=_annotations(self.threshold, self.labels, level, value),
            expr=threshold_query(self.threshold, self.labels),
            remediation=self.threshold.remediation,
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
        max_sample_age_ms: int = 0,
        expiry_ms: int = 0,
    ) -> None:
        """A sample older than `max_sample_age_ms` raises no alert (0: of any age).

        The alert of a series that sends nothing for `expiry_ms` ends (0: never).
        """
        self._alerts = alerts
        self._definitions = definitions
        self._metrics = metrics
        self._stats = stats
        self._now_ms = now_ms
        self._max_sample_age_ms = max_sample_age_ms
        self._expiry_ms = expiry_ms
        self._series_written_ms = 0
        self._repeated_ms = 0

    async def dispatch_breaches(self) -> int:
        """Turn breaches of the outbox into alerts, and review thresholds that changed.

        How much there was to do; 0 when another process does it.
        """
        async with self._alerts.thresholds() as session:
            if session is None:
                return 0
            events = await session.take_breaches(_BATCH)
            if events:
                await self._handle(session, events)
            n_reviews = 0
            while n_reviews < _MAX_REVIEWS:
                review = await session.take_review(_REVIEWED_SERIES)
                if review is None:
                    break
                await self._review(session, review)
                n_reviews += 1
        self._stats.breaches_handled += len(events)
        return len(events) + n_reviews

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
                await self._repeat_series(session)

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
            # Its writer may not have known the threshold of now.
            found = level_of(threshold, event.labels, event.value)
            if event.timestamp_ms > one.known_ms and found is not one.level:
                one.advance(found, event.value, event.timestamp_ms)
        await self._record(session, list(series.values()))

    async def _review(self, session: ThresholdSession, review: ThresholdReview) -> None:
        """Hold series against a threshold that changed, at this moment."""
        definition = await self._definitions.find(review.tenant, review.metric_name)
        threshold = None if definition is None else definition.alert_threshold
        ids = {state.series_id for state in review.series}
        open_alerts = await session.open_alerts(ids)
        if threshold is None:
            await self._forget(session, ids, open_alerts)
            return
        alerts = {one.alert.series_id: one.alert for one in open_alerts}
        touched: list[_Series] = []
        for state in review.series:
            one = _series_of(state, threshold, alerts.get(state.series_id))
            if one.review(state, self._newest_level(one, state), self._now_ms()):
                touched.append(one)
        await self._record(session, touched)

    def _newest_level(self, series: _Series, state: LevelState) -> BreachLevel:
        """The level of the newest sample; one that is too old, or expired, raises none."""
        if state.newest_value is None:
            return series.level
        level = level_of(series.threshold, series.labels, state.newest_value)
        max_age_ms = self._max_sample_age_ms
        is_old = max_age_ms > 0 and self._now_ms() - state.newest_ms > max_age_ms
        return min(level, series.level) if is_old or self._is_silent(state) else level

    async def _forget(
        self, session: ThresholdSession, series_ids: Collection[int], alerts: Iterable[TenantAlert]
    ) -> None:
        """Series without a threshold are no longer watched, and their alerts end."""
        await self._close(session, alerts)
        if series_ids:
            await session.record("", (), (), list(series_ids))

    async def _close(self, session: ThresholdSession, alerts: Iterable[TenantAlert]) -> None:
        """End alerts and the series that show them."""
        now_ms = self._now_ms()
        for tenant, members in _by_tenant(alerts).items():
            await self._write_series(tenant, members, ())
            await session.record(tenant, [close_change(alert, now_ms) for alert in members])

    async def _verify(
        self,
        session: ThresholdSession,
        states: Sequence[LevelState],
        open_alerts: Sequence[TenantAlert],
    ) -> None:
        tenants = {state.tenant for state in states} | {one.tenant for one in open_alerts}
        thresholds = await self._thresholds(tenants)
        alerts = {one.alert.series_id: one for one in open_alerts}
        touched: list[_Series] = []
        forgotten: list[int] = []
        ended: list[TenantAlert] = []
        for state in states:
            threshold = _threshold_of(thresholds, state.tenant, state.labels)
            known = alerts.get(state.series_id)
            if state.labels is None or threshold is None:
                forgotten.append(state.series_id)
                ended += [] if known is None else [known]
                continue
            one = _series_of(state, threshold, None if known is None else known.alert)
            if self._look_again(one, state):
                touched.append(one)
        await self._record(session, touched)
        await self._forget(session, forgotten, ended)

    def _look_again(self, series: _Series, state: LevelState) -> bool:
        """Whether a newer sample, or the time that went by, changed anything."""
        if state.newest_value is not None:
            level = self._newest_level(series, state)
            if level is not series.level:
                series.advance(level, state.newest_value, state.newest_ms)
                return True
        alert = series.alert
        if alert is not None and self._is_silent(state):
            series.expire(state, self._now_ms())
            return True
        if alert is None or alert.state is not AlertState.PENDING:
            return False
        due_ms = alert.active_at_ms + series.threshold.for_ms
        has_passed = self._now_ms() >= alert.noticed_at_ms + series.threshold.for_ms
        if state.newest_ms < due_ms and not has_passed:
            return False
        series.step(series.level, alert.value, max(due_ms, state.newest_ms))
        return True

    def _is_silent(self, state: LevelState) -> bool:
        """Whether a series has sent nothing for too long."""
        last_ms = max(state.timestamp_ms, state.newest_ms)
        return 0 < self._expiry_ms < self._now_ms() - last_ms

    async def _close_orphans(self, session: ThresholdSession) -> None:
        """Alerts of rules that were deleted or disabled end."""
        await self._close(session, await session.orphans())

    async def _repeat_series(self, session: ThresholdSession) -> None:
        """Show open alerts to PromQL again before its lookback forgets them."""
        if self._now_ms() - self._repeated_ms < _SERIES_INTERVAL_MS:
            return
        self._repeated_ms = self._now_ms()
        for tenant, alerts in _by_tenant(await session.open_alerts(None)).items():
            await self._write_series(tenant, (), alerts)

    async def _write_series(
        self, tenant: str, before: Iterable[Alert], after: Iterable[Alert]
    ) -> None:
        """Show to PromQL what became of alerts."""
        # Two changes within a millisecond: the second sample of a time would not be stored.
        at_ms = max(self._now_ms(), self._series_written_ms + 1)
        self._series_written_ms = at_ms
        await write_alert_series(self._metrics, tenant, before, after, at_ms)

    async def _record(self, session: ThresholdSession, series: Sequence[_Series]) -> None:
        by_tenant: defaultdict[str, list[_Series]] = defaultdict(list)
        for one in series:
            one.finish()
            by_tenant[one.tenant].append(one)
        for tenant, members in by_tenant.items():
            changes = [change for one in members for change in one.changes]
            before = [one.before for one in members if one.before is not None]
            after = [change.alert for change in changes]
            # Before the states: after a crash in between the same is done again.
            await self._write_series(tenant, before, after)
            await session.record(tenant, changes, [one.state() for one in members])

    async def _thresholds(self, tenants: Iterable[str]) -> dict[str, Mapping[str, AlertThreshold]]:
        names = {name for name in tenants if name}
        return {name: await self._definitions.list_thresholds(name) for name in names}


def _threshold_of(
    thresholds: Mapping[str, Mapping[str, AlertThreshold]], tenant: str, labels: Labels | None
) -> AlertThreshold | None:
    return None if labels is None else thresholds.get(tenant, {}).get(labels.get(METRIC_NAME))


def _by_tenant(alerts: Iterable[TenantAlert]) -> Mapping[str, list[Alert]]:
    members: defaultdict[str, list[Alert]] = defaultdict(list)
    for one in alerts:
        members[one.tenant].append(one.alert)
    return members


def _series_of(state: LevelState, threshold: AlertThreshold, alert: Alert | None) -> _Series:
    assert state.labels is not None, "a series that is there"
    return _Series(
        state.tenant,
        state.series_id,
        state.labels,
        threshold,
        state.level,
        state.timestamp_ms,
        alert,
    )


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
) -> Mapping[str, str]:
    warning, critical = threshold.limits_of(labels)
    limit = critical if level is BreachLevel.CRITICAL else warning
    side = "at or above" if threshold.direction is Direction.ABOVE else "at or below"
    name = labels.get(METRIC_NAME)
    summary = f"{name} is {value:g}, {side} its {_SEVERITIES[level]} limit of {limit:g}"
    return {"summary": summary}
