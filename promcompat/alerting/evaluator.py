"""Evaluates groups of rules: each group in each interval by exactly one process."""

import asyncio

from promcompat.alerting.moment import Moment
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.rule_slots import group_slot
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alert_ports import AlertRepository, EvaluationSession, ScheduledGroup
from promcompat.core.alerts import Rule
from promcompat.core.errors import StorageUnavailableError
from promcompat.metrics.metric_service import MetricService

_MAX_PARALLEL_GROUPS = 2


class RuleEvaluator:
    """The loop of rules."""

    def __init__(
        self,
        alerts: AlertRepository,
        metrics: MetricService,
        runner: RuleRunner,
        stats: AlertingStats,
    ) -> None:
        self._alerts = alerts
        self._metrics = metrics
        self._runner = runner
        self._stats = stats

    async def run_due(self) -> None:
        """Evaluate every group that is due, unless another process evaluates it.

        Raises StorageUnavailableError; evaluations that were not recorded are repeated.
        """
        now_ms = self._metrics.now_ms()
        slots = asyncio.Semaphore(_MAX_PARALLEL_GROUPS)

        async def evaluate(group: ScheduledGroup) -> None:
            async with slots:
                await self._evaluate_group(group)

        due = [
            group
            for group in await self._alerts.scheduled_groups()
            if _slot(group, group.interval_ms, now_ms) > group.evaluated_at_ms
        ]
        outcomes = await asyncio.gather(*map(evaluate, due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def end_removed(self) -> None:
        """Write stale markers for the series of recording rules that were removed."""
        async with self._alerts.removed_rules(self._metrics.now_ms()) as removed:
            for rule in removed:
                await self._runner.recorder.end_series(rule.tenant, rule.series, rule.at_ms)

    async def _evaluate_group(self, group: ScheduledGroup) -> None:
        async with self._alerts.evaluating(group.tenant, group.namespace, group.group) as session:
            if session is not None:
                await self._evaluate_rules(session, group)

    async def _evaluate_rules(self, session: EvaluationSession, group: ScheduledGroup) -> None:
        unavailable: StorageUnavailableError | None = None
        moment, sample_ms = Moment(), 0
        for rule, evaluated_ms in session.rules:
            at_ms = _slot(group, rule.interval_ms, self._metrics.now_ms())
            if at_ms <= evaluated_ms:
                continue
            self._count_missed(rule, evaluated_ms, at_ms)
            sample_ms = at_ms - rule.query_offset_ms
            try:
                await self._runner.evaluate(session, group.tenant, rule, at_ms, moment)
            except StorageUnavailableError as exc:
                # The database may fail to answer the query of this rule only.
                unavailable = exc
        if unavailable is not None:
            raise unavailable
        # After the rules, as Prometheus: what another rule has just written does not end.
        if sample_ms and (series := await session.take_removed()):
            await self._runner.recorder.end_series(group.tenant, series, sample_ms)

    def _count_missed(self, rule: Rule, evaluated_ms: int, at_ms: int) -> None:
        if evaluated_ms:
            missed = (at_ms - evaluated_ms) // rule.interval_ms - 1
            self._stats.rule_evaluations_missed += max(0, missed)


def _slot(group: ScheduledGroup, interval_ms: int, now_ms: int) -> int:
    return group_slot(group.tenant, group.namespace, group.group, interval_ms, now_ms)
