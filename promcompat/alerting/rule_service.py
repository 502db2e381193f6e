"""Rules: checked, stored, and listed in groups."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from promcompat.alerting.recording_faults import RECORD, recording_faults
from promcompat.alerting.templates.nodes import TemplateError
from promcompat.alerting.templates.template import check_template
from promcompat.alerting.threshold_series import (
    THRESHOLD_GROUP,
    THRESHOLD_INTERVAL_MS,
    threshold_query,
)
from promcompat.core.alerting.alerts import SEVERITY, Alert, AlertState, Rule, RuleEvaluation
from promcompat.core.alerting.ports import AlertRepository, RuleRepository
from promcompat.core.alerting.remediation import (
    RemediationCheck,
    RemediationSpec,
    accept_remediation,
)
from promcompat.core.alerting.thresholds import AlertThreshold
from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    FieldFault,
    InvalidFieldsError,
    NotFoundError,
    PreconditionFailedError,
)
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits, StoredAmount
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.offloading import offload
from promcompat.core.ports import DefinitionRepository, LongParsing, work_in_thread
from promql.ast import ValueType
from promql.parsing.parser import parse_expr
from promql.parsing.printer import print_expr
from promql.parsing.type_checker import value_type

THRESHOLD_FILE: Final = "definitions"
_MAX_TEXT_BYTES: Final = 1 << 18
"""Of labels and annotations together, as every alert of the rule has a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleStatus:
    """A rule, its last evaluation (None before the first) and its open alerts."""

    rule: Rule
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

    @property
    def limit(self) -> int:
        """The limit that all its rules have, else 0."""
        limits = {status.rule.max_alerts for status in self.rules}
        return limits.pop() if len(limits) == 1 else 0


class RuleService:
    """Rules of tenants; concurrent requests may exceed a limit a little."""

    def __init__(
        self,
        rules: RuleRepository,
        alerts: AlertRepository,
        definitions: DefinitionRepository,
        limits: Limits = NO_LIMITS,
        check_remediation: RemediationCheck = accept_remediation,
        work: LongParsing = work_in_thread,
    ) -> None:
        self._rules = rules
        self._alerts = alerts
        self._definitions = definitions
        self._limits = limits
        self._check_remediation = check_remediation
        self._work = work

    async def list_rules(self, tenant: str, group: str | None = None) -> list[Rule]:
        """Rules by namespace and group, in the order of their evaluation."""
        return await self._rules.list_rules(tenant, group)

    async def get(self, tenant: str, rule_id: int) -> Rule:
        """One rule. Raises NotFoundError."""
        found = await self._rules.list_rules(tenant, rule_id=rule_id)
        if not found:
            raise NotFoundError(f"there is no rule {rule_id}")
        return found[0]

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """The last evaluation of each rule."""
        return await self._rules.evaluations(tenant)

    async def create(self, tenant: str, rule: Rule) -> Rule:
        """Create a rule.

        Raises InvalidFieldsError for an invalid rule, and ConflictError when its group has the same
        rule already or when the tenant or the group has as many rules as allowed.
        """
        # First, as it costs less than parsing: who is at the limit must not cost others much.
        await self._require_room(tenant, rule)
        await self.check(tenant, rule)
        saved = await self._rules.save_rule(tenant, replace(rule, id=0))
        if saved is None:
            raise ConflictError(
                f"the group {rule.group!r} already has a rule {rule.name!r} with the same labels "
                "and expression"
            )
        return saved

    async def replace(self, tenant: str, rule: Rule) -> Rule:
        """Replace the rule with this id and version.

        Raises as `create`, and PreconditionFailedError when the rule has another version.
        """
        known = await self.get(tenant, rule.id)
        rule = replace(rule, position=known.position)
        if rule.kind is not known.kind:
            reason = f"is {rule.kind.value}, but the rule is of the kind {known.kind.value}"
            raise InvalidFieldsError([FieldFault("kind", reason, "the kind it has, or a new rule")])
        await self.check(tenant, rule, known.remediation)
        if (rule.namespace, rule.group) != (known.namespace, known.group):
            of_group = await self._rules.count_group(tenant, rule.namespace, rule.group)
            self._require_room_in_group(tenant, of_group)
        self._require_bytes(tenant, await self._rules.amount(tenant), rule, known)
        saved = await self._rules.save_rule(tenant, rule)
        if saved is None:
            await self.get(tenant, rule.id)
            raise PreconditionFailedError("the rule has been changed in the meantime")
        return saved

    async def check(self, tenant: str, rule: Rule, known: RemediationSpec | None = None) -> None:
        """Raises InvalidFieldsError. A remediation that is the `known` one is not checked again."""
        texts = rule.expr, *rule.labels.values(), *rule.annotations.values()
        faults = await self._work(tenant, sum(map(len, texts)), partial(rule_faults, rule))
        if rule.remediation is not None and rule.remediation != known:
            faults += _level_faults(rule, rule.remediation)
            found = await asyncio.to_thread(self._check_remediation, rule.remediation)
            faults += [fault.within("remediation") for fault in found]
        if faults:
            raise InvalidFieldsError(faults)

    async def _require_room(self, tenant: str, rule: Rule) -> None:
        stored = await self._rules.amount(tenant)
        of_group = await self._rules.count_group(tenant, rule.namespace, rule.group)
        limits = self._limits.of(tenant)
        if stored.number >= limits.max_rules > 0:
            raise ConflictError(self._limits.refuse(tenant, "max_rules"))
        self._require_bytes(tenant, stored, rule, None)
        if not of_group and limits.ruler_max_rule_groups_per_tenant:
            groups = {(one.namespace, one.group) for one in await self._rules.list_rules(tenant)}
            if len(groups) >= limits.ruler_max_rule_groups_per_tenant:
                raise ConflictError(self._limits.refuse(tenant, "ruler_max_rule_groups_per_tenant"))
        self._require_room_in_group(tenant, of_group)

    def _require_bytes(
        self, tenant: str, stored: StoredAmount, rule: Rule, known: Rule | None
    ) -> None:
        name, after = "max_rules_bytes", self._rules.n_bytes(rule)
        before = 0 if known is None else self._rules.n_bytes(known)
        if not self._limits.has_room(tenant, name, stored.n_bytes, after=after, before=before):
            raise ConflictError(self._limits.refuse(tenant, name))

    def _require_room_in_group(self, tenant: str, of_group: int) -> None:
        if of_group >= self._limits.of(tenant).ruler_max_rules_per_rule_group > 0:
            raise ConflictError(self._limits.refuse(tenant, "ruler_max_rules_per_rule_group"))

    async def delete(self, tenant: str, rule_id: int, version: int) -> None:
        """Delete a rule. Its open alerts end soon, and their history is kept."""
        if not await self._rules.delete_rule(tenant, rule_id, version):
            await self.get(tenant, rule_id)
            raise PreconditionFailedError("the rule has been changed in the meantime")

    async def groups(self, tenant: str) -> Sequence[GroupStatus]:
        """Every group with its enabled rules, by file and name; thresholds are one group."""
        rules = [rule for rule in await self._rules.list_rules(tenant) if rule.enabled]
        evaluations = await self._rules.evaluations(tenant)
        alerts = await self._alerts.active_alerts(tenant)
        queries = await self._canonical_texts(tenant, rules)
        thresholds = await self._threshold_rules(tenant)
        of_thresholds = await self._canonical_texts(tenant, thresholds)
        return await offload(
            len(rules) + len(thresholds) + len(alerts),
            _grouped,
            list(zip(rules, queries, strict=True)),
            list(zip(thresholds, of_thresholds, strict=True)),
            evaluations,
            alerts,
        )

    async def _threshold_rules(self, tenant: str) -> list[Rule]:
        found = await self._definitions.list_thresholds(tenant)
        return await offload(
            len(found),
            lambda: [_threshold_rule(name, one) for name, one in sorted(found.items())],
        )

    async def _canonical_texts(self, tenant: str, rules: Sequence[Rule]) -> list[str]:
        """The expressions as Prometheus shows them; of thousands of rules, that takes seconds."""
        texts = [rule.expr for rule in rules]
        return await self._work(tenant, sum(map(len, texts)), partial(_canonical_texts, texts))


def _grouped(
    rules: Sequence[tuple[Rule, str]],
    thresholds: Sequence[tuple[Rule, str]],
    evaluations: Mapping[int, RuleEvaluation],
    alerts: Iterable[Alert],
) -> list[GroupStatus]:
    """Rules, with their expressions as they are shown, as groups; thresholds are one group."""
    of_rule: defaultdict[int | None, list[Alert]] = defaultdict(list)
    of_threshold: defaultdict[str, list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.rule_id is None:
            of_threshold[alert.rule_name].append(alert)
        else:
            of_rule[alert.rule_id].append(alert)
    members: defaultdict[tuple[str, str], list[RuleStatus]] = defaultdict(list)
    for rule, query in rules:
        status = RuleStatus(
            rule=rule,
            query=query,
            evaluation=evaluations.get(rule.id),
            alerts=of_rule.get(rule.id, ()),
        )
        members[rule.namespace, rule.group].append(status)
    groups = [_group(file, name, statuses) for (file, name), statuses in members.items()]
    if thresholds:
        never = RuleEvaluation(evaluated_at_ms=0, duration_seconds=0.0, error="")
        statuses = [
            RuleStatus(
                rule=rule, query=query, evaluation=never, alerts=of_threshold.get(rule.name, ())
            )
            for rule, query in thresholds
        ]
        groups.insert(0, _group(THRESHOLD_FILE, THRESHOLD_GROUP, statuses))
    return sorted(groups, key=lambda group: (group.file, group.name))


def _group(file: str, name: str, statuses: Sequence[RuleStatus]) -> GroupStatus:
    interval_ms = min(status.rule.interval_ms for status in statuses)
    return GroupStatus(file=file, name=name, interval_ms=interval_ms, rules=statuses)


def _threshold_rule(metric_name: str, threshold: AlertThreshold) -> Rule:
    """The rule as which clients of Prometheus see a threshold."""
    limits = threshold.limits_of(Labels.of({METRIC_NAME: metric_name}))
    return Rule(
        id=0,
        group=THRESHOLD_GROUP,
        name=metric_name,
        expr=threshold_query(metric_name, limits),
        interval_ms=THRESHOLD_INTERVAL_MS,
        for_ms=threshold.for_ms,
        keep_firing_for_ms=0,
        severity="",
        labels={},
        annotations={},
        enabled=True,
        remediation=threshold.remediation,
        version=0,
    )


def _canonical_texts(expressions: Sequence[str]) -> list[str]:
    return [print_expr(parse_expr(expr)) for expr in expressions]


def rule_faults(rule: Rule) -> list[FieldFault]:
    """The faults of a rule, in Prometheus' words where it has any. It may take long."""
    faults = _expression_faults(rule.expr)
    if METRIC_NAME in rule.labels:
        name = f"labels.{METRIC_NAME}"
        faults.append(FieldFault(name, f"invalid label name: {METRIC_NAME}", "another name"))
    n_bytes = sum(
        len(name.encode()) + len(text.encode())
        for name, text in (*rule.labels.items(), *rule.annotations.items())
    )
    if n_bytes > _MAX_TEXT_BYTES:
        reason = f"labels and annotations together have {n_bytes} bytes"
        return [*faults, FieldFault("annotations", reason, f"at most {_MAX_TEXT_BYTES} bytes")]
    if rule.is_recording:
        return [*faults, *_recording_faults(rule)]
    templates = [
        *((f"labels.{name}", text) for name, text in rule.labels.items()),
        ("severity", rule.severity),
        *((f"annotations.{name}", text) for name, text in rule.annotations.items()),
    ]
    return [*faults, *template_faults(templates, rule.name)]


def _recording_faults(rule: Rule) -> list[FieldFault]:
    only_for_alerts: dict[str, object] = {
        "for": rule.for_ms,
        "keep_firing_for": rule.keep_firing_for_ms,
        "annotations": rule.annotations,
        "severity": rule.severity,
        "remediation": rule.remediation,
    }
    return [
        FieldFault("name", reason, "the name of a metric")
        if field == RECORD
        else FieldFault(field, reason, "a rule without it")
        for field, reason in recording_faults(rule.name, only_for_alerts)
    ]


def _level_faults(rule: Rule, spec: RemediationSpec) -> list[FieldFault]:
    """The fault of a remediation for severities that no alert of the rule can have."""
    severity = rule.all_labels.get(SEVERITY)
    # A rule without a severity takes that of its series, if they have the label.
    if severity is None or "{{" in severity or spec.is_for(severity):
        return []
    reason = f"{', '.join(spec.levels)}: no alert of the rule has this severity"
    expected = f"the severity of the rule, {severity!r}" if severity else "a rule with a severity"
    return [FieldFault("remediation.levels", reason, expected)]


def template_faults(templates: Iterable[tuple[str, str]], alert_name: str = "") -> list[FieldFault]:
    """The faults of these templates, which come with the names of their fields."""
    faults: list[FieldFault] = []
    for name, template in templates:
        try:
            check_template(alert_name, template)
        except TemplateError as exc:
            faults.append(FieldFault(name, str(exc), "a Go template as in Prometheus"))
    return faults


def _expression_faults(expr: str) -> list[FieldFault]:
    expected = "a PromQL expression that returns an instant vector or a scalar"
    if not expr:
        return [FieldFault("expr", "field 'expr' must be set in rule", expected)]
    try:
        kind = value_type(parse_expr(expr))
    except BadDataError as exc:
        return [FieldFault("expr", f"could not parse expression: {exc}", expected)]
    if kind in (ValueType.VECTOR, ValueType.SCALAR):
        return []
    reason = f"the expression is a {kind.document_name}, which a rule cannot evaluate"
    return [FieldFault("expr", reason, expected)]
