"""Relabelling as in Prometheus: rules that change, keep or drop label sets."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.core.patterns.compiled import CompiledPattern, compile_capturing
from promcompat.core.patterns.expansion import expand
from promcompat.core.texts.letter_case import to_lower, to_upper
from promcompat.core.texts.strconv import quote
from promcompat.core.texts.yaml_nodes import StrictReader, first_document

DEFAULT_SEPARATOR: Final = ";"
DEFAULT_REGEX: Final = "(.*)"
DEFAULT_REPLACEMENT: Final = "$1"


class RelabelAction(StrEnum):
    """What a rule does."""

    REPLACE = "replace"
    KEEP = "keep"
    DROP = "drop"
    KEEPEQUAL = "keepequal"
    DROPEQUAL = "dropequal"
    HASHMOD = "hashmod"
    LABELMAP = "labelmap"
    LABELDROP = "labeldrop"
    LABELKEEP = "labelkeep"
    LOWERCASE = "lowercase"
    UPPERCASE = "uppercase"


_WITH_TARGET: Final = frozenset(
    [
        RelabelAction.REPLACE,
        RelabelAction.HASHMOD,
        RelabelAction.LOWERCASE,
        RelabelAction.UPPERCASE,
        RelabelAction.KEEPEQUAL,
        RelabelAction.DROPEQUAL,
    ]
)
_WITHOUT_REPLACEMENT: Final = frozenset(
    [
        RelabelAction.LOWERCASE,
        RelabelAction.UPPERCASE,
        RelabelAction.KEEPEQUAL,
        RelabelAction.DROPEQUAL,
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelRule:
    """One rule; the defaults are those of Prometheus. Raises BadDataError, with its texts."""

    action: RelabelAction = RelabelAction.REPLACE
    source_labels: tuple[str, ...] = ()
    separator: str = DEFAULT_SEPARATOR
    regex: str = DEFAULT_REGEX
    modulus: int = 0
    target_label: str = ""
    replacement: str = DEFAULT_REPLACEMENT
    pattern: CompiledPattern = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        pattern = compile_capturing(f"^(?s:{self.regex})$")
        object.__setattr__(self, "pattern", pattern)
        if fault := self._fault():
            raise BadDataError(fault)

    def _fault(self) -> str:
        action = self.action
        if self.modulus == 0 and action is RelabelAction.HASHMOD:
            return "relabel configuration for hashmod requires non-zero modulus"
        if action in _WITH_TARGET and not self.target_label:
            return f"relabel configuration for {action} action requires 'target_label' value"
        if action in _WITHOUT_REPLACEMENT and self.replacement != DEFAULT_REPLACEMENT:
            return f"'replacement' can not be set for {action} action"
        is_equality = action in (RelabelAction.KEEPEQUAL, RelabelAction.DROPEQUAL)
        if is_equality and not self._has_defaults(ignores_regex=False):
            return (
                f"{action} action requires only 'source_labels' and `target_label`, "
                "and no other fields"
            )
        by_name = action in (RelabelAction.LABELDROP, RelabelAction.LABELKEEP)
        if by_name and (
            self.source_labels or self.target_label or not self._has_defaults(ignores_regex=True)
        ):
            return f"{action} action requires only 'regex', and no other fields"
        return ""

    def _has_defaults(self, *, ignores_regex: bool) -> bool:
        return (
            (ignores_regex or self.regex == DEFAULT_REGEX)
            and self.modulus == 0
            and self.separator == DEFAULT_SEPARATOR
            and self.replacement == DEFAULT_REPLACEMENT
        )

    def apply(self, labels: dict[str, str]) -> bool:
        """Change labels in place; False drops them. A label without a value must not be there."""
        value = self.separator.join(labels.get(name, "") for name in self.source_labels)
        return _ACTIONS[self.action](self, labels, value)


def relabel(labels: Labels, rules: Sequence[RelabelRule]) -> Labels | None:
    """The label set after all rules in order; None when one of them drops it."""
    changed = labels.as_dict()
    for rule in rules:
        if not rule.apply(changed):
            return None
        changed = {name: text for name, text in changed.items() if text}
    return Labels.of(changed)


_Action = Callable[[RelabelRule, dict[str, str], str], bool]


def _replace(rule: RelabelRule, labels: dict[str, str], value: str) -> bool:
    match = rule.pattern.search(value)
    if match is not None:
        target = expand(rule.target_label, rule.pattern, match)
        # Any text but the empty one is the name of a label.
        if target:
            labels[target] = expand(rule.replacement, rule.pattern, match)
    return True


def _hashmod(rule: RelabelRule, labels: dict[str, str], value: str) -> bool:
    digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
    # The last eight bytes only, as in Prometheus.
    labels[rule.target_label] = str(int.from_bytes(digest[8:]) % rule.modulus)
    return True


def _labelmap(rule: RelabelRule, labels: dict[str, str], _value: str) -> bool:
    for name, text in sorted(labels.items()):
        if (match := rule.pattern.search(name)) is not None:
            labels[expand(rule.replacement, rule.pattern, match)] = text
    labels.pop("", None)
    return True


def _filter_names(rule: RelabelRule, labels: dict[str, str], _value: str) -> bool:
    keeps = rule.action is RelabelAction.LABELKEEP
    for name in list(labels):
        if (rule.pattern.search(name) is not None) is not keeps:
            del labels[name]
    return True


def _change_case(rule: RelabelRule, labels: dict[str, str], value: str) -> bool:
    is_lower = rule.action is RelabelAction.LOWERCASE
    labels[rule.target_label] = to_lower(value) if is_lower else to_upper(value)
    return True


def _filter_by_value(rule: RelabelRule, _labels: dict[str, str], value: str) -> bool:
    return (rule.pattern.search(value) is not None) is (rule.action is RelabelAction.KEEP)


def _filter_by_equality(rule: RelabelRule, labels: dict[str, str], value: str) -> bool:
    is_equal = labels.get(rule.target_label, "") == value
    return is_equal is (rule.action is RelabelAction.KEEPEQUAL)


_ACTIONS: Final[Mapping[RelabelAction, _Action]] = {
    RelabelAction.REPLACE: _replace,
    RelabelAction.KEEP: _filter_by_value,
    RelabelAction.DROP: _filter_by_value,
    RelabelAction.KEEPEQUAL: _filter_by_equality,
    RelabelAction.DROPEQUAL: _filter_by_equality,
    RelabelAction.HASHMOD: _hashmod,
    RelabelAction.LABELMAP: _labelmap,
    RelabelAction.LABELDROP: _filter_names,
    RelabelAction.LABELKEEP: _filter_names,
    RelabelAction.LOWERCASE: _change_case,
    RelabelAction.UPPERCASE: _change_case,
}


def parse_action(text: str) -> RelabelAction:
    """The action of a name in any case. Raises BadDataError with Prometheus' text."""
    try:
        return RelabelAction(text.lower())
    except ValueError as exc:
        raise BadDataError(f"unknown relabel action {quote(text)}") from exc


_GO_TYPE: Final = "relabel.plain"
_FIELDS: Final = frozenset(
    ["source_labels", "separator", "regex", "modulus", "target_label", "replacement", "action"]
)


def parse_relabel_rules(text: str) -> Sequence[RelabelRule]:
    """The rules of a YAML list. Raises BadDataError with the texts of Prometheus."""
    reader = StrictReader()
    rules = read_relabel_rules(reader, first_document(text))
    reader.finish()
    return rules


def read_relabel_rules(reader: StrictReader, node: yaml.Node | None) -> Sequence[RelabelRule]:
    """The rules of a list that is part of a document. Raises as `parse_relabel_rules`."""
    return [_read_rule(reader, item) for item in reader.items(node, "[]*relabel.Config")]


def _read_rule(reader: StrictReader, node: yaml.Node) -> RelabelRule:
    fields = reader.fields(node, _FIELDS, _GO_TYPE)
    stated: dict[str, Any] = {
        name: reader.text(fields[name])
        for name in ("separator", "regex", "target_label", "replacement")
        if name in fields
    }
    if "source_labels" in fields:
        items = reader.items(fields["source_labels"], "model.LabelNames")
        stated["source_labels"] = tuple(map(reader.text, items))
    if "modulus" in fields:
        stated["modulus"] = reader.natural(fields["modulus"], "uint64")
    if "action" in fields:
        stated["action"] = parse_action(reader.text(fields["action"]))
    return RelabelRule(**stated)
