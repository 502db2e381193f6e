"""Rule groups as they are written in files and in requests of Mimir's ruler API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import yaml

from promcompat.alerting.recording_faults import recording_faults
from promcompat.alerting.templates.nodes import TemplateError
from promcompat.alerting.templates.template import check_template
from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import quote
from promcompat.core.texts.yaml_nodes import (
    Place,
    StrictReader,
    YamlError,
    documents,
    first_document,
    place_of,
)
from promql.parsing.parser import parse_expr

_FILE_FIELDS: Final = frozenset(["groups"])
_MIMIR_FIELDS: Final = frozenset(["evaluation_delay", "source_tenants"])
_GROUP_FIELDS: Final = frozenset(["name", "interval", "limit", "query_offset", "labels", "rules"])
_RULE_FIELDS: Final = frozenset(
    ["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleDocument:
    """One rule as written; `places` are those of its texts."""

    record: str
    alert: str
    expr: str
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.alert or self.record

    def place(self, name: str) -> Place:
        """Where a text is."""
        return self.places.get(name, Place())


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDocument:
    """A group as written; `interval_ms` and `query_offset_ms` are None when they are not stated."""

    name: str
    rules: Sequence[RuleDocument]
    interval_ms: int | None = None
    limit: int = 0
    query_offset_ms: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFile:
    """A rule file; `namespace` is what mimirtool's files may state."""

    groups: Sequence[GroupDocument]
    namespace: str = ""


class RuleFileError(BadDataError):
    """What is wrong with a rule file, one text for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def parse_rule_file(text: str) -> Sequence[GroupDocument]:
    """The groups of a checked rule file. Raises RuleFileError with the texts of Prometheus."""
    try:
        found = _read_rule_file(first_document(text), _FILE_FIELDS)
    except YamlError as exc:
        raise RuleFileError([str(exc)]) from exc
    return _checked(found).groups


def parse_namespaces(text: str, namespace: str) -> Sequence[RuleFile]:
    """The checked documents of a file for mimirtool: several, each with a namespace if it has one.

    Others are for `namespace`. Raises RuleFileError.
    """
    try:
        found = [_read_rule_file(node, _FILE_FIELDS | {"namespace"}) for node in documents(text)]
    except YamlError as exc:
        raise RuleFileError([str(exc)]) from exc
    return [_checked(replace(file, namespace=file.namespace or namespace)) for file in found]


def _checked(file: RuleFile) -> RuleFile:
    if faults := group_faults(file.groups):
        raise RuleFileError(faults)
    return file


def _read_rule_file(node: yaml.Node | None, names: frozenset[str]) -> RuleFile:
    reader = StrictReader()
    fields = reader.fields(node, names, "rulefmt.RuleGroups")
    groups = [
        _read_group(reader, group)
        for group in reader.items(fields.get("groups"), "[]rulefmt.RuleGroup")
    ]
    namespace = reader.text(fields.get("namespace"))
    reader.finish()
    return RuleFile(groups=groups, namespace=namespace)


def read_group(node: yaml.Node | None) -> GroupDocument:
    """One group of Mimir's ruler API that is not checked yet; other fields are ignored, as there.

    `evaluation_delay` is Mimir's earlier name of `query_offset`. Raises YamlError.
    """
    reader = StrictReader(is_strict=False)
    group = _read_group(reader, node)
    fields = reader.fields(node, _MIMIR_FIELDS, "rulefmt.RuleGroup")
    if "evaluation_delay" in fields:
        delay_ms = reader.duration_ms(fields["evaluation_delay"])
        if group.query_offset_ms not in (None, delay_ms):
            raise YamlError(
                "query_offset and evaluation_delay, its earlier name, have different values; "
                "leave out evaluation_delay"
            )
        group = replace(group, query_offset_ms=delay_ms)
    if reader.items(fields.get("source_tenants"), "[]string"):
        raise YamlError(
            "source_tenants is not supported: rules read the samples of their own tenant only"
        )
    reader.finish()
    return group


def _read_group(reader: StrictReader, node: yaml.Node | None) -> GroupDocument:
    fields = reader.fields(node, _GROUP_FIELDS, "rulefmt.RuleGroup")
    offset = fields.get("query_offset")
    interval = fields.get("interval")
    return GroupDocument(
        name=reader.text(fields.get("name")),
        interval_ms=reader.duration_ms(interval) or None,
        limit=reader.integer(fields.get("limit")),
        query_offset_ms=None if offset is None else reader.duration_ms(offset),
        labels=reader.texts(fields.get("labels")),
        rules=[
            _read_rule(reader, rule) for rule in reader.items(fields.get("rules"), "[]rulefmt.Rule")
        ],
    )


def _read_rule(reader: StrictReader, node: yaml.Node) -> RuleDocument:
    fields = reader.fields(node, _RULE_FIELDS, "rulefmt.Rule")
    return RuleDocument(
        record=reader.text(fields.get("record")),
        alert=reader.text(fields.get("alert")),
        expr=reader.text(fields.get("expr")),
        for_ms=reader.duration_ms(fields.get("for")),
        keep_firing_for_ms=reader.duration_ms(fields.get("keep_firing_for")),
        labels=reader.texts(fields.get("labels")),
        annotations=reader.texts(fields.get("annotations")),
        places={name: place_of(fields.get(name)) for name in ("record", "alert", "expr")},
    )


def group_faults(groups: Sequence[GroupDocument]) -> list[str]:
    """What Prometheus refuses about groups, each with its place. It may take long."""
    faults: list[str] = []
    names: set[str] = set()
    for group in groups:
        if not group.name:
            faults.append("0:0: Groupname must not be empty")
        if group.name in names:
            faults.append(f"0:0: groupname: {quote(group.name)} is repeated in the same file")
        names.add(group.name)
        faults += [
            f"invalid label name: {name}"
            for name in group.labels
            if not name or name == METRIC_NAME
        ]
        for number, rule in enumerate(group.rules, 1):
            where = f"group {quote(group.name)}, rule {number}, {quote(rule.name)}: "
            faults += [f"{place}{where}{text}" for place, text in _rule_faults(rule)]
    return faults


_Fault = tuple[str, str]


def _rule_faults(rule: RuleDocument) -> list[_Fault]:
    """The faults of a rule, each with the place in front of its text."""
    record, alert, expr = (f"{rule.place(name)}: " for name in ("record", "alert", "expr"))
    faults: list[_Fault] = []
    if rule.record and rule.alert:
        faults.append((record + alert, "only one of 'record' and 'alert' must be set"))
    if not rule.record and not rule.alert:
        faults.append((record + alert, "one of 'record' or 'alert' must be set"))
    if not rule.expr:
        faults.append((expr, "field 'expr' must be set in rule"))
    elif text := _expression_fault(rule.expr):
        faults.append((expr, f"could not parse expression: {text}"))
    if rule.record:
        only_for_alerts = {
            "annotations": rule.annotations,
            "for": rule.for_ms,
            "keep_firing_for": rule.keep_firing_for_ms,
        }
        faults += [(record, text) for _, text in recording_faults(rule.record, only_for_alerts)]
    faults += [
        ("", f"invalid label name: {name}")
        for name in rule.labels
        if not name or name == METRIC_NAME
    ]
    faults += [("", f"invalid annotation name: {name}") for name in rule.annotations if not name]
    if rule.alert:
        faults += [("", text) for text in _template_faults(rule)]
    return faults


def _template_faults(rule: RuleDocument) -> list[str]:
    faults = []
    for kind, texts in (("label", rule.labels), ("annotation", rule.annotations)):
        for name, text in texts.items():
            if fault := _fault_of(lambda text=text: check_template(rule.alert, text)):  # type: ignore[misc]
                prefix = f"error parsing template __alert_{rule.alert}: "
                faults.append(f"{kind} {quote(name)}: {fault.removeprefix(prefix)}")
    return faults


def _expression_fault(expr: str) -> str:
    return _fault_of(lambda: parse_expr(expr))


def _fault_of(check: Callable[[], object]) -> str:
    try:
        check()
    except (BadDataError, TemplateError) as exc:
        return str(exc)
    return ""


def duplicate_rules(groups: Sequence[GroupDocument]) -> list[RuleDocument]:
    """Each rule that repeats the name and labels of another, as promtool's lint finds them."""
    seen: set[tuple[str, str, tuple[tuple[str, str], ...]]] = set()
    repeated: list[RuleDocument] = []
    for group in groups:
        for rule in group.rules:
            key = (rule.record, rule.alert, tuple(sorted({**group.labels, **rule.labels}.items())))
            if key in seen:
                repeated.append(rule)
            seen.add(key)
    return repeated
