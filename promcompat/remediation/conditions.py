"""Checks whether the condition of an alert still holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promcompat.alerting.state_machine import AlertTiming, advance_alert, progress_of
from promcompat.alerting.templates.expansion import elements_of
from promcompat.core.alerting.alerts import Alert, Rule
from promcompat.core.alerting.ports import AlertRepository, RuleRepository
from promcompat.core.alerting.thresholds import BreachLevel
from promcompat.core.model import METRIC_NAME, EvalRange
from promcompat.core.ports import DefinitionRepository
from promcompat.querying.query_service import QueryService
from promql.query import Query

_TIMEOUT_SECONDS: Final = 60.0
_MAX_SHOWN_ELEMENTS: Final = 5


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a condition holds now, and details about it as JSON values."""

    holds: bool
    detail: Mapping[str, Any]


class ConditionChecker:
    """Checks conditions with our own engine and database, so that a worker needs nothing else.

    Both methods raise the errors of the engine, and ExecutionError for an expression that does not
    return an instant vector.
    """

    def __init__(
        self,
        queries: QueryService,
        alerts: AlertRepository,
        rules: RuleRepository,
        definitions: DefinitionRepository,
    ) -> None:
        self._queries = queries
        self._alerts = alerts
        self._rules = rules
        self._definitions = definitions

    async def of_query(
        self, tenant: str, query: str, series_labels: Mapping[str, str], offset_ms: int = 0
    ) -> Condition:
        """A query holds while its result has an element that has all of `series_labels`.

        It is asked `offset_ms` before now.
        """
        now = EvalRange.instant(self._queries.now_ms() - offset_ms)
        result = await self._queries.run(
            Query(tenant, query, now, timeout_seconds=_TIMEOUT_SECONDS)
        )
        left = [
            labels.as_dict()
            for labels, _ in elements_of(result)
            if all(labels.get(name) == value for name, value in series_labels.items())
        ]
        detail = {
            "query": query,
            "elements": len(left),
            "examples": left[:_MAX_SHOWN_ELEMENTS],
        }
        return Condition(bool(left), detail)

    async def of_alert(self, tenant: str, alert_id: int) -> Condition | None:
        """Whether the alert would still be open if it were evaluated now; None: no such alert."""
        alert = await self._alerts.find_alert(tenant, alert_id)
        if alert is None:
            return None
        if alert.series_id is not None:
            return await self._of_threshold(tenant, alert, alert.series_id)
        rules = await self._rules.list_rules(tenant, rule_id=alert.rule_id)
        if not rules or not rules[0].enabled:
            return Condition(False, {"reason": "the rule was deleted or disabled"})
        return await self._of_rule(tenant, alert, rules[0])

    async def _of_threshold(self, tenant: str, alert: Alert, series_id: int) -> Condition:
        """By the newest sample of any age, as a value holds until the next sample."""
        definition = await self._definitions.find(tenant, alert.rule_name)
        threshold = None if definition is None else definition.alert_threshold
        if threshold is None:
            return Condition(False, {"reason": "the threshold was deleted"})
        newest = await self._alerts.series_value(tenant, series_id)
        if newest is None:
            return Condition(False, {"reason": "the series was deleted"})
        if newest.value is None:
            return Condition(True, {"reason": "the series has no sample"})
        labels = alert.series_labels.with_label(METRIC_NAME, alert.rule_name)
        level = threshold.limits_of(labels).level_of(newest.value)
        detail = {
            "value": f"{newest.value:g}",
            "timestamp_ms": newest.timestamp_ms,
            "level": level.name.lower(),
        }
        return Condition(level is not BreachLevel.NONE, detail)

    async def _of_rule(self, tenant: str, alert: Alert, rule: Rule) -> Condition:
        """By the rule's present expression at this moment, as its next evaluation would."""
        series = alert.series_labels.as_dict()
        condition = await self.of_query(tenant, rule.expr, series, rule.query_offset_ms)
        if condition.holds:
            return condition
        timing = AlertTiming(rule.for_ms, rule.keep_firing_for_ms)
        next_progress = advance_alert(progress_of(alert), None, self._queries.now_ms(), timing)
        if alert.state.is_open and next_progress is not None and next_progress.state.is_open:
            reason = "the expression has no element, but keep_firing_for has not passed yet"
            return Condition(True, {**condition.detail, "reason": reason})
        return condition
