"""Evaluates one rule at one time: alerts change their states, samples are written."""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from promcompat.alerting.alert_series import write_alert_series
from promcompat.alerting.read_time import ReadTime
from promcompat.alerting.recording import Recorder
from promcompat.alerting.state_machine import (
    AlertProgress,
    AlertTiming,
    OutageRule,
    advance_alerts,
    after_outage,
    check_limit,
    close_change,
    no_later_than,
    progress_of,
    transitions_between,
    with_progress,
)
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import (
    Expand,
    Surroundings,
    TemplateExpander,
    elements_of,
    shown_elements,
)
from promcompat.core.alerting.alerts import ALERT_NAME, Alert, AlertChange, Rule, RuleEvaluation
from promcompat.core.alerting.ports import EvaluationSession
from promcompat.core.errors import ExecutionError, PromcompatError, StorageUnavailableError
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits
from promcompat.core.model import EvalRange, Labels
from promcompat.core.offloading import offload
from promcompat.core.ports import SampleWriter
from promcompat.core.texts.storable_text import is_storable_text, storable_text
from promql.query import Query, QueryRunner
from promql.values.matrix import QueryResult

_LOGGER = logging.getLogger(__name__)
_MAX_CHARACTERS: Final = 128 << 20
"""Of one evaluation: alerts are stored as one document, and each has a copy of the annotations."""


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One evaluation of a rule, and the alerts that are open before it."""

    tenant: str
    rule: Rule
    at_ms: int
    read_time: ReadTime
    known: Mapping[Labels, Alert]
    outage_since_ms: int = 0

    def progress_before(self, rule: OutageRule) -> dict[Labels, AlertProgress]:
        """How far the open alerts are; the time of an outage does not count."""
        before = {
            labels: no_later_than(progress_of(alert), self.at_ms)
            for labels, alert in self.known.items()
        }
        if not self.outage_since_ms:
            return before
        return {
            labels: after_outage(progress, self.outage_since_ms, self.at_ms, self.rule.for_ms, rule)
            for labels, progress in before.items()
        }


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of the result, with its expanded annotations."""

    series_labels: Labels
    annotations: Mapping[str, str]
    value: float


class RuleRunner:
    """Evaluates rules of groups that are locked."""

    def __init__(
        self,
        writer: SampleWriter,
        queries: QueryRunner,
        stats: AlertingStats,
        surroundings: Surroundings,
        limits: Limits = NO_LIMITS,
        outages: OutageRule = OutageRule(),  # noqa: B008 (immutable)
    ) -> None:
        self.recorder = Recorder(writer, queries)
        self._writer = writer
        self._queries = queries
        self._stats = stats
        self._surroundings = surroundings
        self._limits = limits
        self._outages = outages

    async def evaluate(
        self,
        session: EvaluationSession,
        tenant: str,
        rule: Rule,
        at_ms: int,
        read_time: ReadTime,
        outage_since_ms: int = 0,
    ) -> None:
        """Evaluate a rule, and record how that went. Raises StorageUnavailableError.

        `outage_since_ms` is the last evaluation before an outage that this evaluation ends, or 0.
        """
        started = time.perf_counter()
        opened = [] if rule.is_recording else await session.open_alerts(rule.id)
        known = {alert.labels: alert for alert in opened}
        asked = _Evaluation(tenant, rule, at_ms, read_time, known, outage_since_ms)
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
                error = await self.recorder.record(session, tenant, rule, at_ms, asked.read_time)
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
        found, fault = await self._find_elements(asked)
        if not found and not asked.known:
            return [], fault
        changes = await offload(len(found) + len(asked.known), self._changes, asked, found)
        # Before the states are recorded: a crash in between writes the same samples again.
        await self._write_series(asked, changes)
        return changes, fault

    def _changes(self, asked: _Evaluation, found: Mapping[Labels, _Element]) -> list[AlertChange]:
        """How the alerts advance. Raises _LimitExceededError."""
        rule, known = asked.rule, asked.known
        previous = asked.progress_before(self._outages)
        timing = AlertTiming(rule.for_ms, rule.keep_firing_for_ms)
        values = {labels: element.value for labels, element in found.items()}
        advanced = advance_alerts(previous, values, asked.at_ms, timing)
        self._check_alerts(asked, advanced.values())
        return [
            _change(rule, labels, progress, known.get(labels), found.get(labels))
            for labels, progress in advanced.items()
        ]

    def _check_alerts(self, asked: _Evaluation, advanced: Collection[AlertProgress]) -> None:
        """Raises _LimitExceededError by the limit of the rule, and by that of its tenant."""
        try:
            check_limit(advanced, asked.rule.max_alerts)
        except ExecutionError as exc:
            raise _LimitExceededError(str(exc)) from exc
        limit = self._limits.of(asked.tenant).max_alerts_per_rule
        if sum(progress.state.is_open for progress in advanced) > limit > 0:
            raise _LimitExceededError(self._limits.refuse(asked.tenant, "max_alerts_per_rule"))

    async def _find_elements(self, asked: _Evaluation) -> tuple[dict[Labels, _Element], str]:
        """The elements by the labels of their alerts, and the fault of a template or `""`."""
        rule = asked.rule

        async def query(text: str, at_ms: int = asked.at_ms) -> QueryResult:
            at = EvalRange.instant(at_ms)
            asked_at = asked.read_time.asked_at
            question = Query(asked.tenant, text, at, asked_at=asked_at, for_rules=True)
            return await self._queries.run(question)

        # Templates know nothing of the offset, as in Prometheus.
        templates = TemplateExpander(query, self._surroundings, asked.at_ms)
        result = await query(rule.expr, asked.at_ms - rule.query_offset_ms)
        found = await templates.run(lambda expand: _elements_of_alerts(rule, result, expand))
        return found, templates.fault

    async def _write_series(self, asked: _Evaluation, changes: list[AlertChange]) -> None:
        after, before = [change.alert for change in changes], asked.known.values()
        sample_ms = asked.at_ms - asked.rule.query_offset_ms
        if await write_alert_series(self._writer, asked.tenant, before, after, sample_ms):
            asked.read_time.renew()


class _LimitExceededError(ExecutionError):
    """More alerts than the rule allows: all of them end, as in Prometheus."""


def _elements_of_alerts(rule: Rule, result: QueryResult, expand: Expand) -> dict[Labels, _Element]:
    """The elements of a result by the labels of their alerts.

    Raises ExecutionError when two alerts would have the same labels, and when all of them would
    have too much text.
    """
    found: dict[Labels, _Element] = {}
    n_characters = 0
    elements = zip(elements_of(result), shown_elements(result), strict=True)
    for (series_labels, value), (_, shown) in elements:
        labels = own_labels = _storable(series_labels.without_name())
        for name, template in rule.all_labels.items():
            labels = labels.with_label(name, expand(template, rule.name, series_labels, shown))
        labels = labels.with_label(ALERT_NAME, rule.name)
        if labels in found:
            raise ExecutionError(
                "vector contains metrics with the same labelset after applying alert labels"
            )
        annotations = {
            name: expand(template, rule.name, series_labels, shown)
            for name, template in rule.annotations.items()
        }
        n_characters += sum(map(len, annotations.values())) + sum(len(text) for _, text in labels)
        if n_characters > _MAX_CHARACTERS:
            raise ExecutionError(
                f"the labels and annotations of all alerts together have more than "
                f"{_MAX_CHARACTERS} characters"
            )
        found[labels] = _Element(own_labels, annotations, value)
    return found


def _storable(labels: Labels) -> Labels:
    """Labels as the database can hold them: `label_replace` may make any text."""
    if all(is_storable_text(name) and is_storable_text(value) for name, value in labels):
        return labels
    return Labels.of({storable_text(name): storable_text(value) for name, value in labels})


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
