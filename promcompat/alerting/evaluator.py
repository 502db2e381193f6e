"""Evaluates groups of rules: each group in each interval by exactly one process."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from promcompat.alerting.read_time import ReadTime
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.state_machine import group_slot
from promcompat.alerting.stats import AlertingStats
from promcompat.core.alerting.alerts import Rule
from promcompat.core.alerting.ports import AlertRepository, EvaluationSession, ScheduledGroup
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.limits.tenant_limits import SameLimits, TenantLimitReader
from promcompat.core.limits.turns import Claim, Turns
from promcompat.metrics.metric_service import MetricService

_MAX_PARALLEL_GROUPS = 2
_EXTRA_GROUPS = 2
"""For tenants of which no group is evaluated, while others' are."""
_SAME_LIMITS = SameLimits()


class RuleEvaluator:
    """The loop of rules.

    Tenants take turns: a group that takes long keeps only groups of its own tenant waiting.

    If the clock is set back, the last evaluations are later than now. Such a group is evaluated
    once no process has evaluated it for two of its intervals: until then, a process whose clock is
    ahead of this one's may be evaluating it.
    """

    def __init__(
        self,
        alerts: AlertRepository,
        metrics: MetricService,
        runner: RuleRunner,
        stats: AlertingStats,
        limits: TenantLimitReader = _SAME_LIMITS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alerts = alerts
        self._metrics = metrics
        self._runner = runner
        self._stats = stats
        self._limits = limits
        self._turns = Turns(_MAX_PARALLEL_GROUPS, _EXTRA_GROUPS)
        self._running: dict[tuple[str, str, str], asyncio.Task[None]] = {}
        self._awake_since_ms = 0
        """Since when this process has asked for due groups, and the database answered; 0: not."""
        self._monotonic = monotonic
        self._ahead: dict[ScheduledGroup, float] = {}
        """Groups whose last evaluation is later than now, and since when it has been the last."""

    async def start_due(self) -> None:
        """Begin to evaluate every group that is due, unless it is being evaluated.

        Raises StorageUnavailableError, also for an evaluation that has ended since the last call;
        evaluations that were not recorded are repeated.
        """
        faults = self._take_ended()
        now_ms = self._metrics.now_ms()
        try:
            groups = await self._alerts.scheduled_groups()
        except StorageUnavailableError:
            self._awake_since_ms = 0
            raise
        self._awake_since_ms = min(self._awake_since_ms or now_ms, now_ms)
        left_behind = self._find_left_behind(groups, now_ms)
        for group in groups:
            key = group.tenant, group.namespace, group.group
            is_due = _slot(group, group.interval_ms, now_ms) > group.evaluated_at_ms
            is_left_behind = group in left_behind
            if (is_due or is_left_behind) and key not in self._running:
                work = self._take_turn(group, is_left_behind=is_left_behind)
                self._running[key] = asyncio.create_task(work, name=f"rules of {group.tenant}")
        if faults:
            raise faults[0]

    def _find_left_behind(
        self, groups: Iterable[ScheduledGroup], now_ms: int
    ) -> set[ScheduledGroup]:
        """The groups with an evaluation later than now, to which no later one has been added."""
        now = self._monotonic()
        ahead = {
            # Whatever else the group has evaluated meanwhile, this evaluation is still the last.
            group: replace(group, evaluated_at_ms=0)
            for group in groups
            if group.last_evaluated_at_ms > now_ms
        }
        self._ahead = {last: self._ahead.get(last, now) for last in ahead.values()}
        return {
            group
            for group, last in ahead.items()
            if (now - self._ahead[last]) * 1000 >= 2 * group.interval_ms
        }

    async def run_due(self) -> None:
        """Evaluate every group that is due, and wait for the end of that. Raises as `start_due`."""
        await self.start_due()
        if self._running:
            await asyncio.wait(self._running.values())
        if faults := self._take_ended():
            raise faults[0]

    async def close(self) -> None:
        """Stop what runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    def _take_ended(self) -> list[BaseException]:
        """Forget the evaluations that have ended; returns the errors of theirs."""
        ended = {key: task for key, task in self._running.items() if task.done()}
        for key in ended:
            del self._running[key]
        return [fault for task in ended.values() if (fault := task.exception()) is not None]

    async def _take_turn(self, group: ScheduledGroup, *, is_left_behind: bool) -> None:
        weight = self._limits.of(group.tenant).weight
        async with self._turns.turn(Claim(tenant=group.tenant, weight=weight)):
            await self._evaluate_group(group, is_left_behind=is_left_behind)

    async def end_removed(self) -> None:
        """Write stale markers for the series of recording rules that were removed."""
        async with self._alerts.removed_rules(self._metrics.now_ms()) as removed:
            for rule in removed:
                await self._runner.recorder.end_series(rule.tenant, rule.series, rule.at_ms)

    async def _evaluate_group(self, group: ScheduledGroup, *, is_left_behind: bool) -> None:
        unavailable: StorageUnavailableError | None = None
        async with self._alerts.evaluating(group.tenant, group.namespace, group.group) as session:
            if session is not None:
                unavailable = await self._evaluate_rules(
                    session, group, is_left_behind=is_left_behind
                )
        # Only now, as the session records the other rules when it ends without an error.
        if unavailable is not None:
            raise unavailable

    async def _evaluate_rules(
        self, session: EvaluationSession, group: ScheduledGroup, *, is_left_behind: bool
    ) -> StorageUnavailableError | None:
        """Evaluate the rules of a group that are due; returns why one could not be evaluated.

        All of them at the slot of one moment, however long they take: a rule must not be evaluated
        at a time at which those before it, whose samples it may read, have not been yet.
        """
        unavailable: StorageUnavailableError | None = None
        read_time, sample_ms, now_ms = ReadTime(), 0, self._metrics.now_ms()
        for rule, evaluated_ms in session.rules:
            at_ms = _slot(group, rule.interval_ms, now_ms)
            if at_ms <= evaluated_ms and not (is_left_behind and evaluated_ms > now_ms):
                continue
            self._count_missed(rule, evaluated_ms, at_ms)
            sample_ms = at_ms - rule.query_offset_ms
            outage_ms = evaluated_ms if self._ends_outage(rule, evaluated_ms, at_ms) else 0
            try:
                await self._runner.evaluate(
                    session, group.tenant, rule, at_ms, read_time, outage_ms
                )
            except StorageUnavailableError as exc:
                # The database may fail to answer the query of this rule only.
                unavailable = exc
        # After the rules, as Prometheus: what another rule has just written does not end.
        if unavailable is None and sample_ms and (series := await session.take_removed()):
            await self._runner.recorder.end_series(group.tenant, series, sample_ms)
        return unavailable

    def _ends_outage(self, rule: Rule, evaluated_ms: int, at_ms: int) -> bool:
        """Whether nobody could evaluate the rule since the last time, and slots were missed.

        Slots that a process misses because it has too much to do are no outage, as in Prometheus:
        otherwise alerts that wait for long would never fire there.
        """
        next_ms = evaluated_ms + rule.interval_ms
        return next_ms <= self._awake_since_ms and at_ms > next_ms

    def _count_missed(self, rule: Rule, evaluated_ms: int, at_ms: int) -> None:
        if evaluated_ms:
            missed = (at_ms - evaluated_ms) // rule.interval_ms - 1
            self._stats.rule_evaluations_missed += max(0, missed)


def _slot(group: ScheduledGroup, interval_ms: int, now_ms: int) -> int:
    return group_slot(group.tenant, group.namespace, group.group, interval_ms, now_ms)
