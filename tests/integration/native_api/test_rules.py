"""Alert rules over HTTP: what goes in comes out, and goes in again."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from native_api.rules.payloads import RuleReply
from promcompat.core.alerting.alerts import Rule, RuleEvaluation
from tests.support.services.native_service import NativeClient, running_native_service, unix_time

pytestmark = pytest.mark.integration

RULE = {
    "kind": "alert",
    "namespace": "files",
    "group": "queues",
    "query_offset": "10s",
    "name": "QueueTooLong",
    "expr": "queue_length > 500",
    "interval": "30s",
    "for": "5m",
    "keep_firing_for": "1m",
    "severity": "critical",
    "labels": {"team": "x", "host": "", "mün.chen": "{{ $labels.a }}", "alertname": "y"},
    "annotations": {"summary": "{{ $value }}", "a note": "", "dot": "{{ . }}"},
    "max_alerts": 7,
    "enabled": True,
    "remediation": None,
}
READ_ONLY = {"id", "version", "health", "last_error", "last_evaluation", "evaluation_seconds"}


@pytest.fixture
async def native(plain_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(plain_database_url) as client:
        yield client


async def make(native: NativeClient, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = await native.send("POST", "/rules", status=201, body=RULE | changes)
    return made


async def test_rules_are_shown_by_a_thread_as_each_may_be_large(
    native: NativeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    show = RuleReply.of_evaluated

    def noted(rule: Rule, evaluation: RuleEvaluation | None) -> RuleReply:
        threads.append(threading.current_thread())
        return show(rule, evaluation)

    monkeypatch.setattr(RuleReply, "of_evaluated", noted)
    made = await make(native)
    await native.get(f"/rules/{made['id']}")
    await native.get("/rules")
    assert len(threads) == 3
    assert threading.main_thread() not in threads


async def test_a_rule_goes_through_every_method_unchanged(native: NativeClient) -> None:
    made = await make(native)
    assert {name: made[name] for name in RULE} == RULE
    assert set(made) == {*RULE, *READ_ONLY}
    path = f"/rules/{made['id']}"
    read = await native.get(path)
    assert read == made
    assert (await native.get("/rules"))["rules"] == [read]
    put = await native.send("PUT", path, status=200, body=read)
    assert put == {**read, "version": read["version"] + 1}
    patched = await native.send("PATCH", path, status=200, body=put)
    assert patched == {**put, "version": put["version"] + 1}
    await native.send("DELETE", path, status=200)
    made_again = await native.send("POST", "/rules", status=201, body=patched)
    assert {name: made_again[name] for name in RULE} == RULE


async def test_the_id_in_the_body_agrees_with_the_path(native: NativeClient) -> None:
    made = await make(native)
    for method in ("PUT", "PATCH"):
        body = {**made, "id": made["id"] + 1}
        found = await native.send(method, f"/rules/{made['id']}", status=400, body=body)
        assert found["errors"][0]["field"] == "id"


async def test_patch_changes_what_it_names(native: NativeClient) -> None:
    made = await make(native)
    path = f"/rules/{made['id']}"
    change = {"for": "10m", "severity": None, "labels": {"team": None, "host": "h"}}
    found = await native.send("PATCH", path, status=200, body=change)
    labels = {name: text for name, text in RULE["labels"].items() if name != "team"}  # type: ignore[attr-defined]
    assert found["for"] == "10m"
    assert found["severity"] == ""
    assert found["labels"] == {**labels, "host": "h"}
    assert found["expr"] == RULE["expr"]
    headers = {"If-Match": f'"{made["version"]}"'}
    await native.send("PATCH", path, status=412, body={"for": "1m"}, headers=headers)
    # Only a rule that is not there yet: this one is.
    headers = {"If-None-Match": "*"}
    found = await native.send("PUT", path, status=412, body=RULE, headers=headers)
    assert found["errors"][0]["field"] == "If-None-Match"
    found = await native.send("PATCH", path, status=400, body={"expr": "sum(", "fro": "1m"})
    assert found["errors"][0]["field"] == "fro"
    found = await native.send("PATCH", path, status=400, body={"expr": "sum("})
    assert found["errors"][0]["field"] == "expr"


async def test_a_rule_is_disabled_and_enabled(native: NativeClient) -> None:
    made = await make(native)
    path = f"/rules/{made['id']}"
    off = await native.send("POST", f"{path}/disable", status=200)
    assert (off["enabled"], off["version"]) == (False, 2)
    again = await native.send("POST", f"{path}/disable", status=200)
    assert again["version"] == 2
    assert (await native.prometheus("rules"))["groups"] == []
    headers = {"If-Match": '"1"'}
    await native.send("POST", f"{path}/enable", status=412, headers=headers)
    on = await native.send("POST", f"{path}/enable", status=200)
    assert (on["enabled"], on["version"]) == (True, 3)
    await native.send("POST", "/rules/99/enable", status=404)


async def test_rules_share_a_name_unless_they_are_the_same(native: NativeClient) -> None:
    await make(native)
    await make(native, severity="warning")
    await make(native, labels={"team": "y"})
    await make(native, expr="queue_length > 600")
    await make(native, group="other")
    await native.send("POST", "/rules", status=409, body={**RULE, "for": "1m"})
    found = (await native.prometheus("rules"))["groups"]
    assert [len(group["rules"]) for group in found] == [1, 4]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "ü" * 1001}, "name"),
        ({"group": "g" * 2001}, "group"),
        ({"interval": "500ms"}, "interval"),
        ({"for": "-5m"}, "for"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"__name__": "x"}}, "labels"),
        ({"labels": {"a": "\0"}}, "labels.a"),
        ({"labels": {"a": "{{ nope }}"}}, "labels.a"),
        ({"annotations": {"": "x"}}, "annotations"),
        ({"annotations": {"b": "{{ 99999999999999999999 }}"}}, "annotations.b"),
        ({"annotations": {"b": "x" * 300_000}}, "annotations"),
        ({"expr": "queue_length[5m]"}, "expr"),
    ],
)
async def test_what_no_rule_has_is_refused_with_its_place(
    native: NativeClient, changes: dict[str, Any], field: str
) -> None:
    found = await native.send("POST", "/rules", status=400, body=RULE | changes)
    assert [fault["field"] for fault in found["errors"]] == [field]
    assert found["errors"][0]["expected"]


async def test_what_prometheus_takes_is_taken(native: NativeClient) -> None:
    await make(native, name="x" * 2000, group="g" * 1000)
    await make(native, name='Odd {name} of "rules"\n', expr="1")
    made = await make(native, name="None", labels=None, annotations=None)
    assert (made["labels"], made["annotations"]) == ({}, {})
    odd = "{{ printf `%c` 55296 }}{{ printf `%99999999d` 1 }}{{ index `a` 9223372036854775807 }}"
    made = await make(native, name="Many", annotations={f"n{n}": odd for n in range(500)})
    assert len(made["annotations"]) == 500


async def test_a_rule_that_takes_long_to_check_holds_up_nobody(native: NativeClient) -> None:
    """Both parsers get much; meanwhile the service answers."""
    expr = " + ".join(["queue_length"] * 4000)
    texts = {f"n{n}": "{{ if $value }}{{ $labels.a }}{{ end }}" * 100 for n in range(50)}
    loop = asyncio.get_running_loop()
    making = asyncio.create_task(make(native, expr=expr, annotations=texts))
    begun, longest = loop.time(), 0.0
    while not making.done():
        started = loop.time()
        await asyncio.sleep(0.001)
        longest = max(longest, loop.time() - started)
    await making
    # On a busy machine everything takes longer, but nobody waits for the whole of it.
    assert longest < max(1.0, (loop.time() - begun) / 4)


async def test_remediations_are_checked_when_they_are_defined(native: NativeClient) -> None:
    spec = {"workflow_type": "RemediationWorkflow", "task_queue": "promcompat", "input": {}}
    for method, path, body, prefix in (
        ("POST", "/rules", {**RULE, "remediation": spec}, "remediation"),
        (
            "PUT",
            "/definitions/queue",
            {"alert_threshold": {"warning": 1, "remediation": spec}},
            "alert_threshold.remediation",
        ),
    ):
        spec["input"] = {"action": {"type": "command", "name": "rm", "args": []}}
        found = await native.send(method, path, status=400, body=body)
        assert [fault["field"] for fault in found["errors"]] == [f"{prefix}.input.action.args"]
        assert found["errors"][0]["expected"] == "one of tries, type, name, arguments, timeout"
        spec["input"] = {"action": {"type": "command", "name": "rm"}}
        found = await native.send(method, path, status=400, body=body)
        assert found["errors"][0]["reason"] == "the command rm is not allowed"
        spec["input"] = {"action": {"type": "http", "url": "http://127.0.0.1:1/{{ $value }}"}}
        await native.send(method, path, status=201, body=body)


async def test_a_remediation_is_bound_to_a_level_that_the_rule_has(native: NativeClient) -> None:
    spec = {"workflow_type": "W", "task_queue": "q", "levels": ["critical"]}
    await make(native, remediation=spec)
    await make(native, severity="{{ $labels.level }}", remediation=spec)
    await make(native, severity="", labels={}, remediation=spec)
    body = {**RULE, "severity": "warning", "remediation": spec}
    found = await native.send("POST", "/rules", status=400, body=body)
    assert found["errors"][0]["field"] == "remediation.levels"
    assert found["errors"][0]["expected"] == "the severity of the rule, 'warning'"


async def test_a_remediation_that_is_no_longer_allowed_keeps_no_rule_from_changing(
    plain_database_url: str,
) -> None:
    action = {"type": "command", "name": "fix"}
    spec = {"workflow_type": "RemediationWorkflow", "task_queue": "promcompat"}
    rule = {**RULE, "remediation": {**spec, "input": {"action": action}}}
    commands = {"fix": ("/bin/true",)}
    async with running_native_service(plain_database_url, remediation_commands=commands) as client:
        made = await client.send("POST", "/rules", status=201, body=rule)
    async with running_native_service(plain_database_url) as two:
        await two.send("POST", f"/rules/{made['id']}/disable", status=200)
        await two.send("POST", "/rules", status=400, body={**rule, "name": "Other"})


async def test_a_rule_is_tested_with_the_past_and_leaves_nothing(native: NativeClient) -> None:
    start = 1_795_000_000
    points = [
        {"name": "depth", "value": 9 if 4 <= minute < 9 else 1, "timestamp": start + 60 * minute}
        for minute in range(20)
    ]
    await native.ingest(*points)
    rule = {"name": "Deep", "expr": "depth > 5", "for": "2m", "severity": "page"}
    body = {**rule, "labels": {"at": "{{ $value }}"}, "start": start, "end": start + 1200}
    found = await native.send("POST", "/rules/test", status=200, body=body)
    (alert,) = found["alerts"]
    assert (alert["state"], alert["labels"]) == (
        "resolved",
        {"alertname": "Deep", "severity": "page"},
    )
    assert (found["fired"], found["most_at_once"], found["evaluations"]) == (1, 1, 20)
    times = [unix_time(alert[name]) for name in ("active_at", "fired_at", "resolved_at")]
    # At the first evaluation of each kind, which is at most a minute later.
    late = [time - start - 60 * minute for time, minute in zip(times, (4, 6, 9), strict=True)]
    assert all(0 <= seconds < 60 for seconds in late)
    assert (await native.get("/rules"))["rules"] == []
    for changes, field in (({"expr": "depth >"}, "expr"), ({"start": "noon"}, "start")):
        answer = await native.send("POST", "/rules/test", status=400, body=body | changes)
        assert [fault["field"] for fault in answer["errors"]] == [field]
    for changes, reason in (
        ({"interval": "1s", "end": start + 86_400}, "86400 times"),
        ({"kind": "record", "name": "x", "severity": ""}, "no alerts"),
    ):
        answer = await native.send(
            "POST", "/rules/test", status=400, body=body | {"for": "0s"} | changes
        )
        assert reason in answer["detail"]
