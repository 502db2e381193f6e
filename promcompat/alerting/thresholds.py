"""Turns breaches from the outbox into alerts of thresholds, and verifies that they still hold.

The value of a series holds until its next sample. A breach with `for` fires when a sample that
long after the first one still breaches; or, as late data must not delay it, when that long has
passed since the breach was noticed and no sample ended it. Without samples an alert ends only
after `expiry_ms`. When a threshold changes, it is compared with the newest sample of each series at
once. A sample that is too old raises no level: it says nothing about the present.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.state_machine import close_change
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.threshold_series import THRESHOLD_INTERVAL_MS, ThresholdSeries
from promcompat.core.alerting.alerts import Alert, AlertState
from promcompat.core.alerting.ports import (
    AlertRepository,
    BreachEvent,
    LevelState,
    TenantAlert,
    ThresholdReview,
    ThresholdSession,
)
from promcompat.core.alerting.thresholds import NEVER_MS, AlertThreshold, BreachLevel
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.offloading import offload
from promcompat.core.ports import DefinitionRepository
from promcompat.metrics.metric_service import MetricService

_MAX_BREACHES: Final = 500
"""How many breaches one run takes."""
_REVIEW_PAGE: Final = 2000
"""How many series of a changed threshold are reviewed together."""
_MAX_REVIEW_PAGES: Final = 10
"""How many of these pages one run takes."""
_VERIFIED_AT_ONCE: Final = 2000
"""How many series one run verifies, at 0.1 ms each: the next runs go on with the others."""
_REPEATED_AT_ONCE: Final = 2000
"""The same of alerts whose series are written again."""


class ThresholdAlerts:
    """The two loops of thresholds: breaches as they are found, and verification."""

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

        The alert of a series without a sample for `expiry_ms` ends (0: never).
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
        # The series that the pages of verification and of repetition have come to.
        self._verified_id = self._repeated_id = 0

    async def dispatch_breaches(self) -> int:
        """Turn breaches of the outbox into alerts, and review thresholds that changed.

        Returns how much work was done; 0 when another process does it.
        """
        async with self._alerts.thresholds() as session:
            if session is None:
                return 0
            events = await session.take_breaches(_MAX_BREACHES)
            if events:
                await self._handle(session, events)
            n_reviews = 0
            while n_reviews < _MAX_REVIEW_PAGES:
                review = await session.take_review(_REVIEW_PAGE)
                if review is None:
                    break
                await self._review(session, review)
                n_reviews += 1
        self._stats.breaches_handled += len(events)
        return len(events) + n_reviews

    async def verify(self) -> None:
        """Fire what is due, and find what no breach reported: changed levels, deleted rules.

        A run looks at a bounded number of series; the next ones look at the others in turn.
        """
        async with self._alerts.thresholds() as session:
            if session is None:
                return
            await self._close_orphans(session)
            due = await session.due_states(_VERIFIED_AT_ONCE)
            page = await session.verified_states(self._verified_id, _VERIFIED_AT_ONCE)
            is_last = len(page) < _VERIFIED_AT_ONCE
            self._verified_id = 0 if is_last else page[-1].series_id
            if states := {state.series_id: state for state in (*due, *page)}:
                open_alerts = await session.open_alerts(states)
                await self._verify(session, list(states.values()), open_alerts)
            await self._repeat_series(session)

    async def _handle(self, session: ThresholdSession, events: Sequence[BreachEvent]) -> None:
        ids = {event.series_id for event in events}
        states = await session.states(ids)
        alerts = _by_series(await session.open_alerts(ids))
        thresholds = await self._thresholds((event.tenant, event.labels) for event in events)
        known = await offload(len(events), _advanced, events, states, alerts, thresholds)
        await self._record(session, known)

    async def _review(self, session: ThresholdSession, review: ThresholdReview) -> None:
        """Compare series with their changed threshold."""
        definition = await self._definitions.find(review.tenant, review.metric_name)
        threshold = None if definition is None else definition.alert_threshold
        ids = {state.series_id for state in review.series}
        open_alerts = await session.open_alerts(ids)
        if threshold is None:
            await self._forget(session, ids, open_alerts)
            return
        alerts = _by_series(open_alerts)
        touched = await offload(
            len(review.series), self._reviewed, review.series, threshold, alerts
        )
        await self._record(session, touched)

    def _reviewed(
        self,
        states: Sequence[LevelState],
        threshold: AlertThreshold,
        alerts: Mapping[int | None, Alert],
    ) -> list[ThresholdSeries]:
        """The series that a changed threshold changes, advanced."""
        touched: list[ThresholdSeries] = []
        for state in states:
            series = ThresholdSeries.of_state(state, threshold, alerts.get(state.series_id))
            if series.review(state, self._newest_level(series, state), self._now_ms()):
                touched.append(series)
        return touched

    def _newest_level(self, series: ThresholdSeries, state: LevelState) -> BreachLevel:
        """The level of the newest sample; a sample that is too old raises no level."""
        if state.newest_value is None:
            return series.level
        level = series.level_of(state.newest_value)
        max_age_ms = self._max_sample_age_ms
        is_old = max_age_ms > 0 and self._now_ms() - state.newest_ms > max_age_ms
        return min(level, series.level) if is_old or self._is_silent(state) else level

    async def _forget(
        self, session: ThresholdSession, series_ids: Collection[int], alerts: Iterable[TenantAlert]
    ) -> None:
        """Stop watching series that no longer have a threshold, and end their alerts."""
        await self._close(session, alerts)
        if series_ids:
            await session.record("", (), (), list(series_ids))

    async def _close(self, session: ThresholdSession, alerts: Iterable[TenantAlert]) -> None:
        """End alerts, and the series that show them to PromQL."""
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
        thresholds = await self._thresholds((state.tenant, state.labels) for state in states)
        alerts = _by_series(open_alerts)
        touched, forgotten = await offload(len(states), self._changed, states, thresholds, alerts)
        await self._record(session, touched)
        ended = [found for found in open_alerts if found.alert.series_id in forgotten]
        await self._forget(session, forgotten, ended)

    def _changed(
        self,
        states: Sequence[LevelState],
        thresholds: Mapping[str, Mapping[str, AlertThreshold]],
        alerts: Mapping[int | None, Alert],
    ) -> tuple[list[ThresholdSeries], set[int]]:
        """The series that have changed, advanced, and those without a threshold."""
        touched: list[ThresholdSeries] = []
        forgotten: set[int] = set()
        for state in states:
            threshold = _threshold_of(thresholds, state.tenant, state.labels)
            if threshold is None:
                forgotten.add(state.series_id)
                continue
            series = ThresholdSeries.of_state(state, threshold, alerts.get(state.series_id))
            if self._has_changed(series, state):
                touched.append(series)
        return touched, forgotten

    def _has_changed(self, series: ThresholdSeries, state: LevelState) -> bool:
        """Advance a series by its newest sample and by time; whether that changed anything."""
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
        """Whether a series has had no sample for too long."""
        last_ms = max(state.timestamp_ms, state.newest_ms)
        return 0 < self._expiry_ms < self._now_ms() - last_ms

    async def _close_orphans(self, session: ThresholdSession) -> None:
        """End the alerts of rules that were deleted or disabled."""
        await self._close(session, await session.orphans())

    async def _repeat_series(self, session: ThresholdSession) -> None:
        """Write the series of open alerts again, before PromQL's lookback loses them."""
        is_first = not self._repeated_id
        # Negative: the clock has been set back.
        if is_first and 0 <= self._now_ms() - self._repeated_ms < THRESHOLD_INTERVAL_MS:
            return
        page = await session.open_alerts_after(self._repeated_id, _REPEATED_AT_ONCE)
        if is_first and page:
            self._repeated_ms = self._now_ms()
        last_id = page[-1].alert.series_id if len(page) == _REPEATED_AT_ONCE else None
        self._repeated_id = last_id or 0
        for tenant, alerts in _by_tenant(page).items():
            await self._write_series(tenant, (), alerts)

    async def _write_series(
        self, tenant: str, before: Collection[Alert], after: Collection[Alert]
    ) -> None:
        """Show to PromQL how alerts changed."""
        at_ms, last_ms = self._now_ms(), self._series_written_ms
        # The second of two samples with the same time would not be stored. If the last one is much
        # later than now, the clock has been set back.
        if at_ms <= last_ms < at_ms + THRESHOLD_INTERVAL_MS:
            at_ms = last_ms + 1
        self._series_written_ms = at_ms
        await write_alert_series(self._metrics, tenant, before, after, at_ms)

    async def _record(self, session: ThresholdSession, series: Sequence[ThresholdSeries]) -> None:
        by_tenant: defaultdict[str, list[ThresholdSeries]] = defaultdict(list)
        for changed in series:
            changed.finish()
            by_tenant[changed.tenant].append(changed)
        for tenant, members in by_tenant.items():
            changes = [change for member in members for change in member.changes]
            before = [member.before for member in members if member.before is not None]
            after = [change.alert for change in changes]
            # Before the states are recorded: after a crash in between the same work is done again.
            await self._write_series(tenant, before, after)
            await session.record(tenant, changes, [member.state() for member in members])

    async def _thresholds(
        self, series: Iterable[tuple[str, Labels | None]]
    ) -> dict[str, Mapping[str, AlertThreshold]]:
        """The thresholds of the metrics of series, which come with their tenants."""
        metrics: defaultdict[str, set[str]] = defaultdict(set)
        for tenant, labels in series:
            if tenant and labels is not None:
                metrics[tenant].add(labels.get(METRIC_NAME))
        return {
            tenant: await self._definitions.list_thresholds(tenant, names)
            for tenant, names in metrics.items()
        }


def _advanced(
    events: Sequence[BreachEvent],
    states: Mapping[int, tuple[BreachLevel, int]],
    alerts: Mapping[int | None, Alert],
    thresholds: Mapping[str, Mapping[str, AlertThreshold]],
) -> list[ThresholdSeries]:
    """The series of breaches, advanced by these in the order of their samples."""
    found: dict[int, ThresholdSeries] = {}
    for event in sorted(events, key=lambda event: (event.timestamp_ms, event.id)):
        threshold = _threshold_of(thresholds, event.tenant, event.labels)
        if event.labels is None or threshold is None:
            continue
        series = found.get(event.series_id)
        if series is None:
            series = found[event.series_id] = ThresholdSeries(
                event.tenant,
                event.series_id,
                event.labels,
                threshold,
                *states.get(event.series_id, (BreachLevel.NONE, NEVER_MS)),
                alerts.get(event.series_id),
            )
        # The process that wrote the sample may not have had the present threshold.
        level = series.level_of(event.value)
        if event.timestamp_ms > series.known_ms and level is not series.level:
            series.advance(level, event.value, event.timestamp_ms)
    # A breach whose sample lost its place to another one may leave a series without a state.
    return [series for series in found.values() if series.known_ms != NEVER_MS]


def _threshold_of(
    thresholds: Mapping[str, Mapping[str, AlertThreshold]], tenant: str, labels: Labels | None
) -> AlertThreshold | None:
    return None if labels is None else thresholds.get(tenant, {}).get(labels.get(METRIC_NAME))


def _by_tenant(alerts: Iterable[TenantAlert]) -> Mapping[str, list[Alert]]:
    members: defaultdict[str, list[Alert]] = defaultdict(list)
    for found in alerts:
        members[found.tenant].append(found.alert)
    return members


def _by_series(alerts: Iterable[TenantAlert]) -> Mapping[int | None, Alert]:
    return {found.alert.series_id: found.alert for found in alerts}
