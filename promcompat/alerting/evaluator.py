"""Evaluates rules: each group in each interval by exactly one process."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.moment import Moment
from promcompat.alerting.recording import Recorder
from promcompat.alerting.state_machine import (
    AlertProgress,
    AlertTiming,
    advance_alerts,
    check_limit,
    close_change,
    progress_of,
    slot_of,
    transitions_between,
    with_progress,
)
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Expand, TemplateExpander, elements_of
from promcompat.core.alert_ports import AlertRepository, EvaluationSession, ScheduledGroup
from promcompat.core.alerts import (
    ALERT_NAME,
    DEFAULT_NAMESPACE,
    Alert,
    AlertChange,
    Rule,
    RuleEvaluation,
)
from promcompat.core.errors import ExecutionError, PromcompatError, StorageUnavailableError
from promcompat.core.model import EvalRange, Labels
from promcompat.metrics.metric_service import MetricService
from promql.query import Query, QueryRunner
from promql.values.matrix import QueryResult

_LOGGER = logging.getLogger(__name__)
_MAX_PARALLEL_GROUPS = 2


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One evaluation of a rule, and the alerts that are open before it."""

    tenant: str
    rule: Rule
    at_ms: int
    moment: Moment
    known: Mapping[Labels, Alert]


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of the result, with its expanded annotations."""

    series_labels: Labels
    annotations: Mapping[str, str]
    value: float


class RuleEvaluator:
    """The loop of rules."""

    def __init__(
        self,
        alerts: AlertRepository,
        metrics: MetricService,
        queries: QueryRunner,
        stats: AlertingStats,
        external_url: str,
    ) -> None:
        """`external_url` is the address of this service for people."""
        self._recorder = Recorder(metrics, queries)
        self._alerts = alerts
        self._metrics = metrics
        self._queries = queries
        self._stats = stats
        self._external_url = external_url

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
                await self._recorder.end_series(rule.tenant, rule.series, rule.at_ms)

    async def _evaluate_group(self, group: ScheduledGroup) -> None:
        async with self._alerts.evaluating(group.tenant, group.namespace, group.group) as session:
            if session is None:
                return
            unavailable: StorageUnavailableError | None = None
            moment, sample_ms = Moment(), 0
            for rule, evaluated_ms in session.rules:
                at_ms = _slot(group, rule.interval_ms, self._metrics.now_ms())
                if at_ms > evaluated_ms:
                    if evaluated_ms:
                        missed = (at_ms - evaluated_ms) // rule.interval_ms - 1
                        self._stats.rule_evaluations_missed += max(0, missed)
                    sample_ms = at_ms - rule.query_offset_ms
                    try:
                        await self._evaluate_rule(session, group.tenant, rule, at_ms, moment)
                    except StorageUnavailableError as exc:
                        # The database may fail to answer the query of this rule only.
                        unavailable = exc
            if unavailable is not None:
                raise unavailable
            # After the rules, as Prometheus: what another rule has just written does not end.
            if sample_ms and (series := await session.take_removed()):
                await self._recorder.end_series(group.tenant, series, sample_ms)

    async def _evaluate_rule(
        self,
        session: EvaluationSession,
        tenant: str,
        rule: Rule,
        at_ms: int,
        moment: Moment,
    ) -> None:
        started = time.perf_counter()
        opened = [] if rule.is_recording else await session.open_alerts(rule.id)
        known = {alert.labels: alert for alert in opened}
        asked = _Evaluation(tenant, rule, at_ms, moment, known)
        changes, error = await self._try_to_advance(session, asked)
        seconds = time.perf_counter() - started
        self._stats.rule_evaluations += 1
        self._stats.rule_evaluation_failures += bool(error)
        self._stats.rule_evaluation_seconds += seconds
        if error:
            _LOGGER.warning(
                "rule failed", extra={"tenant": tenant, "rule": rule.name, "reason": error}
            )
        evaluation = RuleEvaluation(evaluated_at_ms=at_ms, duration_seconds=seconds, error=error)
        await session.record(rule.id, evaluation, changes)

    async def _try_to_advance(
        self, session: EvaluationSession, asked: _Evaluation
    ) -> tuple[list[AlertChange], str]:
        """As `_advance`, with its errors as text. Raises StorageUnavailableError."""
        tenant, rule, at_ms = asked.tenant, asked.rule, asked.at_ms
        try:
            if rule.is_recording:
                error = await self._recorder.record(session, tenant, rule, at_ms, asked.moment)
                return [], error
            return await self._advance(asked)
        except StorageUnavailableError:
            raise
        except _LimitExceededError as exc:
            changes = [close_change(alert, at_ms) for alert in asked.known.values()]
            await self._write_series(asked, changes)
            return changes, str(exc)
        except PromcompatError as exc:
            return [], str(exc)
        except Exception:
            # The boundary of one rule: whatever is wrong with it, the others must be evaluated.
            fields = {"tenant": tenant, "rule": rule.name}
            _LOGGER.exception("rule failed", extra=fields)
            return [], "internal error, see the server log"

    async def _advance(self, asked: _Evaluation) -> tuple[list[AlertChange], str]:
        """The changes of the rule's alerts, and an error that did not stop them, or `""`."""
        rule, at_ms, known = asked.rule, asked.at_ms, asked.known
        found, fault = await self._find_elements(asked)
        previous = {labels: progress_of(alert) for labels, alert in known.items()}
        timing = AlertTiming(rule.for_ms, rule.keep_firing_for_ms)
        values = {labels: element.value for labels, element in found.items()}
        advanced = advance_alerts(previous, values, at_ms, timing)
        try:
            check_limit(advanced.values(), rule.max_alerts)
        except ExecutionError as exc:
            raise _LimitExceededError(str(exc)) from exc
        changes = [
            _change(rule, labels, progress, known.get(labels), found.get(labels))
            for labels, progress in advanced.items()
        ]
        # Before the states are recorded: a crash in between writes the same samples again.
        await self._write_series(asked, changes)
        return changes, fault

    async def _find_elements(self, asked: _Evaluation) -> tuple[dict[Labels, _Element], str]:
        """The elements by the labels of their alerts, and the fault of a template or `""`."""
        rule = asked.rule

        async def query(text: str, at_ms: int = asked.at_ms) -> QueryResult:
            at = EvalRange.instant(at_ms)
            question = Query(asked.tenant, text, at, asked_at=asked.moment.asked_at)
            return await self._queries.run(question)

        # Templates know nothing of the offset, as in Prometheus.
        templates = TemplateExpander(query, self._external_url, asked.at_ms)
        result = await query(rule.expr, asked.at_ms - rule.query_offset_ms)
        found = await templates.run(lambda expand: _elements_of_alerts(rule, result, expand))
        return found, templates.fault

    async def _write_series(self, asked: _Evaluation, changes: list[AlertChange]) -> None:
        after, before = [change.alert for change in changes], asked.known.values()
        sample_ms = asked.at_ms - asked.rule.query_offset_ms
        if await write_alert_series(self._metrics, asked.tenant, before, after, sample_ms):
            asked.moment.renew()


def _slot(group: ScheduledGroup, interval_ms: int, now_ms: int) -> int:
    """See `slot_of`; groups without a namespace keep the times they had before there were any."""
    named = () if group.namespace == DEFAULT_NAMESPACE else (group.namespace,)
    return slot_of((group.tenant, *named, group.group), interval_ms, now_ms)


class _LimitExceededError(ExecutionError):
    """More alerts than the rule allows: all of them end, as in Prometheus."""


def _elements_of_alerts(rule: Rule, result: QueryResult, expand: Expand) -> dict[Labels, _Element]:
    """The elements of a result by the labels of their alerts.

    Raises ExecutionError when two alerts would have the same labels.
    """
    found: dict[Labels, _Element] = {}
    for series_labels, value in elements_of(result):
        labels = series_labels.without_name()
        for name, template in rule.all_labels.items():
            labels = labels.with_label(name, expand(template, rule.name, series_labels, value))
        labels = labels.with_label(ALERT_NAME, rule.name)
        if labels in found:
            raise ExecutionError(
                "vector contains metrics with the same labelset after applying alert labels"
            )
        annotations = {
            name: expand(template, rule.name, series_labels, value)
            for name, template in rule.annotations.items()
        }
        found[labels] = _Element(series_labels.without_name(), annotations, value)
    return found


def _change(
    rule: Rule,
    labels: Labels,
    progress: AlertProgress,
    known: Alert | None,
    element: _Element | None,
) -> AlertChange:
    alert = known or Alert(
        id=0,
        rule_id=rule.id,
        rule_name=rule.name,
        rule_group=rule.group,
        labels=labels,
        series_labels=element.series_labels if element else Labels(),
        annotations={},
        state=progress.state,
        severity=labels.get("severity"),
        value=progress.value,
        active_at_ms=progress.active_at_ms,
        fired_at_ms=0,
        resolved_at_ms=0,
        keep_firing_since_ms=0,
        acknowledged_at_ms=0,
        acknowledged_by="",
    )
    current = replace(
        with_progress(alert, progress),
        annotations=element.annotations if element else alert.annotations,
        expr=rule.expr,
        interval_ms=rule.interval_ms,
        remediation=rule.remediation,
    )
    before = None if known is None else progress_of(known)
    return AlertChange(alert=current, transitions=transitions_between(before, progress))
