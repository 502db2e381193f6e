"""Rule groups as the YAML of rule files and of Mimir's ruler API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from promcompat.alerting.rule_files.rule_document import GroupDocument, RuleDocument
from promcompat.core.texts.durations import format_duration_ms

_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def yaml_text(value: object) -> str:
    """A document of mappings, lists and scalars as YAML."""
    text: str = yaml.dump(
        value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=1_000_000
    )
    return text


def namespaces_value(namespaces: Mapping[str, Sequence[GroupDocument]]) -> dict[str, object]:
    """Groups by namespace, as Mimir answers them."""
    return {name: [group_value(group) for group in groups] for name, groups in namespaces.items()}


def file_value(groups: Sequence[GroupDocument]) -> dict[str, object]:
    """A rule file."""
    return {"groups": [group_value(group) for group in groups]}


def group_value(group: GroupDocument) -> dict[str, object]:
    """One group; fields with their defaults are left out, since Grafana knows few of them."""
    value: dict[str, object] = {"name": group.name}
    if group.interval_ms is not None:
        value["interval"] = format_duration_ms(group.interval_ms)
    if group.query_offset_ms is not None:
        value["query_offset"] = format_duration_ms(group.query_offset_ms)
    if group.limit:
        value["limit"] = group.limit
    return {**value, "rules": [_rule_value(rule, group.labels) for rule in group.rules]}


def _rule_value(rule: RuleDocument, group_labels: Mapping[str, str]) -> dict[str, object]:
    """One rule; it gets the labels of its group, since Grafana knows no labels of groups."""
    value: dict[str, object] = {"record": rule.record} if rule.record else {"alert": rule.alert}
    value["expr"] = rule.expr
    for name, duration_ms in (("for", rule.for_ms), ("keep_firing_for", rule.keep_firing_for_ms)):
        if duration_ms:
            value[name] = format_duration_ms(duration_ms)
    if labels := {**group_labels, **rule.labels}:
        value["labels"] = labels
    if rule.annotations:
        value["annotations"] = dict(rule.annotations)
    return value
