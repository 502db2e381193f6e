"""Relabelling: refused rules, and what is not seen in the targets of a Prometheus."""

from typing import Any

import pytest
import yaml

from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.core.relabelling import RelabelRule, parse_relabel_rules, relabel


def test_a_rule_may_drop_a_label_set_and_later_rules_see_what_earlier_ones_made() -> None:
    rules = parse_relabel_rules(
        "[{source_labels: [a, b], target_label: c}, "
        "{source_labels: [c], regex: 'x;.*', action: Drop}]"
    )
    assert relabel(Labels.of({"a": "x"}), rules) is None
    assert relabel(Labels.of({"a": "y"}), rules) == Labels.of({"a": "y", "c": "y;"})


def test_the_hash_of_hashmod_is_that_of_prometheus() -> None:
    (rule,) = parse_relabel_rules(
        "[{source_labels: [a], target_label: d, action: hashmod, modulus: 1000}]"
    )
    found = relabel(Labels.of({"a": "baz"}), [rule])
    assert found is not None
    assert found.get("d") == "976"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"action": "hashmod", "target_label": "x"}, "requires non-zero modulus"),
        ({}, "relabel configuration for replace action requires 'target_label' value"),
        (
            {"action": "lowercase", "target_label": "x", "replacement": "y"},
            "'replacement' can not be set for lowercase action",
        ),
        (
            {"action": "labeldrop", "source_labels": ["x"]},
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            {"action": "keepequal", "target_label": "x", "regex": "y"},
            "keepequal action requires only 'source_labels' and `target_label`, and no other",
        ),
        ({"action": "keep", "regex": "("}, "error parsing regexp: missing closing )"),
        ({"action": "nothing"}, 'unknown relabel action "nothing"'),
        ({"action": "keep", "other": 1}, "field other not found in type relabel.plain"),
    ],
)
def test_rules_that_prometheus_refuses_are_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(BadDataError) as error:
        parse_relabel_rules(yaml.safe_dump([fields]))
    assert text in str(error.value)


def test_rules_are_compared_by_what_they_do() -> None:
    assert RelabelRule(target_label="x") == RelabelRule(target_label="x", regex="(.*)")
