"""Which rules are refused."""

from typing import Any

import pytest

from promcompat.alerting.rule_service import rule_faults
from promcompat.core.alerting.alerts import RuleKind
from tests.support.services.alerting import make_rule


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"for_ms": 1}, "for"),
        ({"keep_firing_for_ms": 1}, "keep_firing_for"),
        ({"annotations": {"a": "b"}}, "annotations"),
        ({"severity": "page"}, "severity"),
        ({"name": "sum{a}"}, "name"),
        ({"expr": "m[5m]"}, "expr"),
        ({"labels": {"__name__": "x"}}, "labels.__name__"),
    ],
)
def test_a_recording_rule_that_prometheus_would_not_load_has_a_fault(
    changes: dict[str, Any], field: str
) -> None:
    rule = make_rule(**{"name": "r", "expr": "m", "kind": RuleKind.RECORD} | changes)
    assert [fault.field for fault in rule_faults(rule)] == [field]


def test_the_labels_of_a_recording_rule_are_no_templates() -> None:
    rule = make_rule("r", "m", kind=RuleKind.RECORD, labels={"a": "{{ no template"})
    assert rule_faults(rule) == []
