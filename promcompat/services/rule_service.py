"""Alert rules for people and their clients: kept, checked, and shown in groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from promcompat.core.alert_ports import AlertRepository, RuleRepository
from promcompat.core.alerts import ALERT_NAME, Alert, AlertRule, AlertState, RuleEvaluation
from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    NotFoundError,
    PreconditionFailedError,
)
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.ports import DefinitionRepository
from promcompat.core.templates.nodes import TemplateError
from promcompat.core.templates.template import check_template
from promcompat.services.threshold_alerts import THRESHOLD_GROUP, threshold_query
from promql.ast import ValueType
from promql.parsing.parser import parse_expr
from promql.parsing.printer import print_expr
from promql.parsing.type_checker import value_type

RULE_FILE: Final = "rules"
THRESHOLD_FILE: Final = "definitions"
_MAX_TEMPLATE_LENGTH: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """A rule, how it went and its open alerts; `evaluation` is None before the first."""

    rule: AlertRule
    query: str
    evaluation: RuleEvaluation | None
    alerts: Sequence[Alert]

    @property
    def state(self) -> AlertState:
        """The worst state of its alerts."""
        states = {alert.state for alert in self.alerts}
        if AlertState.FIRING in states:
            return AlertState.FIRING
        return AlertState.PENDING if states else AlertState.INACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """A group as `/api/v1/rules` shows it."""

    file: str
    name: str
    interval_ms: int
    rules: Sequence[RuleStatus] = field(default_factory=tuple)


class RuleService:
    """Alert rules of tenants."""

    def __init__(
        self,
        rules: RuleRepository,
        alerts: AlertRepository,
        definitions: DefinitionRepository,
    ) -> None:
        self._rules = rules
        self._alerts = alerts
        self._definitions = definitions

    async def list_rules(self, tenant: str, group: str | None = None) -> list[AlertRule]:
        """Rules by group, then in the order of making."""
        return await self._rules.list_rules(tenant, group)

    async def get(self, tenant: str, rule_id: int) -> AlertRule:
        """One rule. Raises NotFoundError."""
        found = await self._rules.list_rules(tenant, rule_id=rule_id)
        if not found:
            raise NotFoundError(f"there is no rule {rule_id}")
        return found[0]

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """The last evaluation of each rule."""
        return await self._rules.evaluations(tenant)

    async def create(self, tenant: str, rule: AlertRule) -> AlertRule:
        """Make a rule. Raises BadDataError for what is no rule, ConflictError for a taken name."""
        check_rule(rule)
        saved = await self._rules.save_rule(tenant, replace(rule, id=0))
        if saved is None:
            raise ConflictError(f"the group {rule.group!r} has a rule {rule.name!r} already")
        return saved

    async def replace(self, tenant: str, rule: AlertRule) -> AlertRule:
        """Replace the rule of this id and version. Raises as `create`, and
        PreconditionFailedError when somebody else was faster."""
        check_rule(rule)
        saved = await self._rules.save_rule(tenant, rule)
        if saved is None:
            await self.get(tenant, rule.id)
            raise PreconditionFailedError("the rule was changed meanwhile")
        return saved

    async def delete(self, tenant: str, rule_id: int, version: int) -> None:
        """Delete a rule; its open alerts end soon, its history stays."""
        if not await self._rules.delete_rule(tenant, rule_id, version):
            await self.get(tenant, rule_id)
            raise PreconditionFailedError("the rule was changed meanwhile")

    async def groups(self, tenant: str) -> Sequence[GroupStatus]:
        """Every group with its rules, by file and name; thresholds are a group of their own."""
        rules = [rule for rule in await self._rules.list_rules(tenant) if rule.enabled]
        evaluations = await self._rules.evaluations(tenant)
        alerts = await self._alerts.active_alerts(tenant)
        by_group: dict[str, list[RuleStatus]] = {}
        for rule in rules:
            status = RuleStatus(
                rule=rule,
                query=print_expr(parse_expr(rule.expr)),
                evaluation=evaluations.get(rule.id),
                alerts=[alert for alert in alerts if alert.rule_id == rule.id],
            )
            by_group.setdefault(rule.group, []).append(status)
        groups = [
            GroupStatus(
                file=RULE_FILE,
                name=name,
                interval_ms=min(status.rule.interval_ms for status in members),
                rules=members,
            )
            for name, members in sorted(by_group.items())
        ]
        thresholds = await self._threshold_group(tenant, alerts)
        return [*thresholds, *groups]

    async def _threshold_group(self, tenant: str, alerts: Sequence[Alert]) -> list[GroupStatus]:
        found = await self._definitions.list_thresholds(tenant)
        members = [
            RuleStatus(
                rule=AlertRule(
                    id=0,
                    group=THRESHOLD_GROUP,
                    name=name,
                    expr=(query := threshold_query(threshold, Labels.of({METRIC_NAME: name}))),
                    interval_ms=60_000,
                    for_ms=threshold.for_ms,
                    keep_firing_for_ms=0,
                    severity="",
                    labels=Labels(),
                    annotations=Labels(),
                    enabled=True,
                    remediation=threshold.remediation,
                    version=0,
                ),
                query=print_expr(parse_expr(query)),
                evaluation=RuleEvaluation(evaluated_at_ms=0, duration_seconds=0.0, error=""),
                alerts=[one for one in alerts if one.rule_id is None and one.rule_name == name],
            )
            for name, threshold in sorted(found.items())
        ]
        if not members:
            return []
        return [
            GroupStatus(
                file=THRESHOLD_FILE, name=THRESHOLD_GROUP, interval_ms=60_000, rules=members
            )
        ]


def check_rule(rule: AlertRule) -> None:
    """Raises BadDataError, in Prometheus' words where it has some, for what is no rule."""
    if not rule.expr:
        raise BadDataError("field 'expr' must be set in rule")
    try:
        kind = value_type(parse_expr(rule.expr))
    except BadDataError as exc:
        raise BadDataError(f"could not parse expression: {exc}") from exc
    if kind not in (ValueType.VECTOR, ValueType.SCALAR):
        raise BadDataError(f"the expression is a {kind.document_name}, which no rule can evaluate")
    for name, template in (*rule.all_labels, *rule.annotations):
        if len(template) > _MAX_TEMPLATE_LENGTH:
            raise BadDataError(f"the template of {name!r} is too long")
        try:
            check_template(rule.name, template)
        except TemplateError as exc:
            raise BadDataError(f"{name}: {exc}") from exc
    for name in (METRIC_NAME, ALERT_NAME):
        if rule.labels.get(name):
            raise BadDataError(f"invalid label name: {name}")
