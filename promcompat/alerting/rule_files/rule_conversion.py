"""Groups as written in files, and the rules that the store has for them."""

from collections.abc import Sequence
from typing import Final

from promcompat.alerting.rule_files.rule_document import GroupDocument, RuleDocument
from promcompat.core.alerting.alerts import Rule, RuleKind

DEFAULT_INTERVAL_MS: Final = 60_000
"""The interval of groups that state none: Prometheus' default."""
_MAX_LIMIT: Final = (1 << 31) - 1


def rules_of(namespace: str, group: GroupDocument) -> list[Rule]:
    """The rules of a group, with positions from 1 on; labels of the group are among theirs."""
    return [
        Rule(
            id=0,
            version=0,
            namespace=namespace,
            group=group.name,
            position=position,
            kind=RuleKind.RECORD if rule.record else RuleKind.ALERT,
            name=rule.name,
            expr=rule.expr,
            interval_ms=group.interval_ms or DEFAULT_INTERVAL_MS,
            inherits_interval=group.interval_ms is None,
            query_offset_ms=group.query_offset_ms or 0,
            for_ms=rule.for_ms,
            keep_firing_for_ms=rule.keep_firing_for_ms,
            # Below 0 there is none; what the store cannot hold, no rule reaches.
            max_alerts=min(max(group.limit, 0), _MAX_LIMIT),
            severity="",
            labels={**group.labels, **rule.labels},
            annotations=dict(rule.annotations),
            enabled=True,
            remediation=None,
        )
        for position, rule in enumerate(group.rules, 1)
    ]


def document_of(rules: Sequence[Rule]) -> GroupDocument:
    """The group of these rules, which are all of it.

    Rules of the native API may differ in interval, limit and offset: then the group has the
    shortest interval, the largest offset, and no limit.
    """
    limits = {rule.max_alerts for rule in rules}
    inherits = all(rule.inherits_interval for rule in rules)
    return GroupDocument(
        name=rules[0].group,
        interval_ms=None if inherits else min(rule.interval_ms for rule in rules),
        limit=limits.pop() if len(limits) == 1 else 0,
        query_offset_ms=max(rule.query_offset_ms for rule in rules) or None,
        rules=[_document_of_rule(rule) for rule in rules],
    )


def _document_of_rule(rule: Rule) -> RuleDocument:
    return RuleDocument(
        record=rule.name if rule.is_recording else "",
        alert="" if rule.is_recording else rule.name,
        expr=rule.expr,
        for_ms=rule.for_ms,
        keep_firing_for_ms=rule.keep_firing_for_ms,
        labels=dict(rule.all_labels),
        annotations=dict(rule.annotations),
    )
