"""Remediations are checked when a rule or a definition names them."""

from typing import Any

import pytest

from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.spec_check import SpecChecker

POLICY = ActionPolicy(
    commands={"scale": ("/bin/scale", "--replicas={n}")},
    http_hosts=frozenset({"ops.internal"}),
    sql_functions=frozenset({"ops.repair"}),
)
CHECK = SpecChecker("promcompat", POLICY, frozenset({"RemediationWorkflow", "Mine"}))
HTTP = {"type": "http", "url": "http://ops.internal/fix"}


def faults(
    workflow_input: dict[str, Any],
    workflow_type: str = "RemediationWorkflow",
    task_queue: str = "promcompat",
) -> list[tuple[str, str]]:
    spec = RemediationSpec(
        workflow_type=workflow_type, task_queue=task_queue, input_template=workflow_input
    )
    return [(fault.field, fault.reason) for fault in CHECK(spec)]


@pytest.mark.parametrize(
    "workflow_input",
    [
        {"action": HTTP},
        {"action": {**HTTP, "url": "http://ops.internal/{{ $labels.host }}", "timeout": "5s"}},
        {"action": {**HTTP, "url": "http://{{ $labels.host }}/fix"}},
        {"action": {**HTTP, "url": "{{ $labels.url }}"}},
        {"action": {**HTTP, "timeout": "{{ $labels.timeout }}"}},
        {"action": HTTP, "verify": {"query": "up == 0", "wait": "1m"}, "rollback": None},
        {"action": HTTP, "verify": {"query": 'up{host="{{ $labels.host }}"} == 0'}},
        {"action": {"type": "command", "name": "scale", "arguments": {"n": "{{ $value }}"}}},
        {"action": {"type": "sql", "function": "ops.repair", "argument": {"a": [1, None]}}},
    ],
)
def test_what_can_run_is_accepted(workflow_input: dict[str, Any]) -> None:
    assert faults(workflow_input) == []


@pytest.mark.parametrize(
    ("workflow_input", "field", "reason"),
    [
        ({}, "input.action", "is missing"),
        ({"action": {}}, "input.action", "has no type"),
        ({"action": {"type": "shell"}}, "input.action", "has the type 'shell'"),
        ({"action": {"type": "http"}}, "input.action.url", "is missing"),
        ({"action": {**HTTP, "uri": "x"}}, "input.action.uri", "is not recognized"),
        ({"action": HTTP, "verify": {"waits": "1s"}}, "input.verify.waits", "is not recognized"),
        ({"action": HTTP, "then": {}}, "input.then", "is not recognized"),
        ({"action": {**HTTP, "method": "BREW"}}, "input.action.method", "is 'BREW'"),
        ({"action": {**HTTP, "tries": 0}}, "input.action.tries", "is '0'"),
        (
            {"action": {**HTTP, "timeout": "soon"}},
            "input.action.timeout",
            'not a valid duration string: "soon"',
        ),
        (
            {"action": {**HTTP, "url": "http://evil.example/"}},
            "input.action.url",
            "the host evil.example:80 is not allowed",
        ),
        (
            {"action": {**HTTP, "url": "http://evil.example/{{ $value }}"}},
            "input.action.url",
            "the host evil.example:80 is not allowed",
        ),
        (
            {"action": {**HTTP, "url": "ftp://{{ $labels.host }}/"}},
            "input.action.url",
            "the URL must be http:// or https:// and name a host",
        ),
        (
            {"action": HTTP, "escalate": {"type": "command", "name": "rm"}},
            "input.escalate.name",
            "the command rm is not allowed",
        ),
        (
            {"action": {"type": "command", "name": "scale", "arguments": {"m": "1"}}},
            "input.action.name",
            "the command scale takes exactly the arguments n",
        ),
        (
            {"action": {"type": "sql", "function": "pg_sleep"}},
            "input.action.function",
            "the SQL function pg_sleep is not allowed",
        ),
        (
            {"action": HTTP, "verify": {"query": "up[5m]"}},
            "input.verify.query",
            "is not a PromQL expression that returns an instant vector",
        ),
    ],
)
def test_what_can_never_run_is_named(
    workflow_input: dict[str, Any], field: str, reason: str
) -> None:
    assert faults(workflow_input) == [(field, reason)]


def test_every_string_is_a_template() -> None:
    workflow_input = {"action": {**HTTP, "body": {"a": ["ok", "{{ nope }}"]}}, "x": "{{"}
    found = [field for field, _ in faults(workflow_input)]
    assert found == ["input.action.body.a[1]", "input.x"]
    assert [field for field, _ in faults({"x": "{{"}, "Mine")] == ["input.x"]


def test_workflows_of_our_own_queue_are_known() -> None:
    assert faults({"anything": 1}, "Mine") == []
    ((field, reason),) = faults({}, "Theirs")
    assert field == "workflow_type"
    assert "no worker of the task queue 'promcompat' runs the workflow type 'Theirs'" in reason
    assert faults({}, "Theirs", task_queue="theirs") == []
    unknown = SpecChecker("promcompat", POLICY, None)
    spec = RemediationSpec(workflow_type="T", task_queue="promcompat", input_template={})
    assert unknown(spec) == []


def test_of_other_queues_only_the_shape_is_known() -> None:
    other = {"action": {"type": "command", "name": "rm"}, "verify": {"wait": "x"}}
    assert [field for field, _ in faults(other, task_queue="theirs")] == ["input.verify.wait"]
    del other["verify"]
    assert faults(other, task_queue="theirs") == []
