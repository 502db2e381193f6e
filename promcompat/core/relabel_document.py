"""Relabelling rules as `relabel_configs` of Prometheus' configuration states them."""

from collections.abc import Sequence
from typing import Any, Final

import yaml

from promcompat.core.relabelling import RelabelRule, parse_action
from promcompat.core.yaml_nodes import StrictReader, first_document

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
