"""The input of the reference workflow."""

from typing import Any

import pytest

from promcompat.core.errors import BadDataError
from promcompat.remediation.plans import (
    CommandAction,
    HttpAction,
    encode_action,
    parse_action,
    parse_plan,
)

HTTP = {"type": "http", "url": "http://ops/fix"}


def test_defaults_of_a_plan() -> None:
    plan = parse_plan({"action": HTTP})
    assert plan.action == HttpAction(type="http", url="http://ops/fix")
    assert (plan.verify.wait, plan.verify.checks, plan.verify.interval) == (30_000, 3, 15_000)
    assert (plan.rollback, plan.cleanup, plan.escalate) == (None, None, None)


def test_texts_of_templates_become_numbers_and_durations() -> None:
    plan = parse_plan({"action": {**HTTP, "tries": "5", "timeout": "1m30s"}})
    assert (plan.action.tries, plan.action.timeout) == (5, 90_000)


def test_encoded_action_is_read_as_the_same() -> None:
    action = parse_action({"type": "command", "name": "x", "timeout": "1h", "tries": 1})
    assert isinstance(action, CommandAction)
    assert encode_action(action)["timeout"] == "1h"
    assert parse_action(encode_action(action)) == action


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({}, "action: is missing"),
        ({"action": {"type": "shell"}}, "action: has the type 'shell'; expected a `type` of http"),
        (
            {"action": {**HTTP, "timeout": "soon"}},
            'action.timeout: not a valid duration string: "soon"',
        ),
        ({"action": {**HTTP, "timeout": "0s"}}, "action.timeout: is '0s'; expected more than 0"),
        ({"action": {**HTTP, "tries": 0}}, "action.tries: is '0'; expected at least 1"),
        (
            {"action": {**HTTP, "shell": "x"}},
            "action.shell: is not recognized; expected one of tries, type, url",
        ),
        ({"action": HTTP, "verify": {"checks": 0}}, "verify.checks: is '0'; expected at least 1"),
        ({"action": HTTP, "rollbak": HTTP}, "rollbak: is not recognized; expected one of action"),
    ],
)
def test_fault_is_named_by_its_field(plan: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadDataError) as caught:
        parse_plan(plan)
    assert reason in str(caught.value)
