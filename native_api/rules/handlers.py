"""`/rules`: alert rules."""

from dataclasses import replace
from typing import Any

from aiohttp import hdrs, web

from native_api.contract.etags import etag_of, precondition_of
from native_api.contract.merge_patch import patched
from native_api.contract.parameters import ID_PART, check_repeated, id_of
from native_api.contract.responses import document_response, json_response
from native_api.contract.route import BASE, Call, Example, NoQuery, Reply, Route
from native_api.contract.times import MIN_TIME_MS
from native_api.rules.payloads import (
    RuleDeletedReply,
    RuleFields,
    RuleListQuery,
    RuleListReply,
    RulePatch,
    RulePayload,
    RuleReply,
    RuleTestPayload,
    RuleTestReply,
)
from promcompat.alerting.rule_trial import MAX_EVALUATIONS, try_rule
from promcompat.core.alerting.alerts import Rule

_DAY_MS = 86_400_000


async def handle_list_rules(call: Call[RuleListQuery, None]) -> web.Response:
    """Every rule with its health."""
    service = call.services.rules
    rules = await service.list_rules(call.tenant, call.query.group)
    evaluations = await service.evaluations(call.tenant)

    def reply() -> RuleListReply:
        return RuleListReply(
            rules=[RuleReply.of_evaluated(rule, evaluations.get(rule.id)) for rule in rules]
        )

    return await document_response(call.request, reply)


async def handle_create_rule(call: Call[NoQuery, RulePayload]) -> web.Response:
    """Create a rule."""
    saved = await call.services.rules.create(call.tenant, call.body.to_rule())
    headers: dict[str, str] = {
        hdrs.ETAG: etag_of(saved.version),
        hdrs.LOCATION: f"{BASE}/rules/{saved.id}",
    }
    return await document_response(
        call.request, lambda: RuleReply.of_evaluated(saved, None), 201, headers
    )


async def handle_test_rule(call: Call[NoQuery, RuleTestPayload]) -> web.Response:
    """What a rule would have done."""
    rule = call.body.to_rule()
    await call.services.rules.check(call.tenant, rule)
    end_ms = call.services.metrics.now_ms() if call.body.end is None else call.body.end
    a_day_before = max(end_ms - _DAY_MS, MIN_TIME_MS)
    start_ms = a_day_before if call.body.start is None else call.body.start
    trial = await try_rule(call.services.queries, call.tenant, rule, start_ms, end_ms)
    return await document_response(call.request, lambda: RuleTestReply.of_trial(trial))


async def handle_get_rule(call: Call[NoQuery, None]) -> web.Response:
    """One rule."""
    return await _answer(call, await call.services.rules.get(call.tenant, id_of(call)))


async def handle_put_rule(call: Call[NoQuery, RulePayload]) -> web.Response:
    """Replace a rule."""
    current = await _current(call)
    check_repeated("id", call.body.id, current.id)
    return await _replaced(call, call.body.to_rule(current.id, current.version))


async def handle_patch_rule(call: Call[NoQuery, dict[str, Any]]) -> web.Response:
    """Change fields of a rule."""
    current = await _current(call)
    check_repeated("id", call.body.get("id"), current.id)
    payload = patched(RulePayload, RuleFields.of_rule(current), call.body)
    return await _replaced(call, payload.to_rule(current.id, current.version))


async def handle_enable_rule(call: Call[NoQuery, None]) -> web.Response:
    """Enable a rule."""
    return await _switched(call, is_enabled=True)


async def handle_disable_rule(call: Call[NoQuery, None]) -> web.Response:
    """Disable a rule."""
    return await _switched(call, is_enabled=False)


async def _switched(call: Call[NoQuery, None], *, is_enabled: bool) -> web.Response:
    current = await _current(call)
    if current.enabled is is_enabled:
        return await _answer(call, current)
    return await _replaced(call, replace(current, enabled=is_enabled))


async def _replaced(call: Call[Any, Any], rule: Rule) -> web.Response:
    return await _answer(call, await call.services.rules.replace(call.tenant, rule))


async def handle_delete_rule(call: Call[NoQuery, None]) -> web.Response:
    """Delete a rule."""
    current = await _current(call)
    await call.services.rules.delete(call.tenant, current.id, current.version)
    reply = RuleDeletedReply(
        id=current.id,
        deleted=True,
        detail="The rule is deleted. Its open alerts end at the next evaluation; their history "
        "is kept.",
    )
    return json_response(call.request, reply)


async def _current(call: Call[Any, Any]) -> Rule:
    """The rule to change, if it satisfies the preconditions of the request."""
    rule = await call.services.rules.get(call.tenant, id_of(call))
    precondition_of(call.request).check("the rule", rule.version)
    return rule


async def _answer(call: Call[Any, Any], rule: Rule) -> web.Response:
    evaluations = await call.services.rules.evaluations(call.tenant)
    return await document_response(
        call.request,
        lambda: RuleReply.of_evaluated(rule, evaluations.get(rule.id)),
        headers={hdrs.ETAG: etag_of(rule.version)},
    )


_PARTS = {"id": ID_PART}
_ETAG = {"ETag": "The version in quotes, for If-Match."}
_LOCATION = {"Location": "The path of the rule."}
_IF_MATCH = {
    "If-Match": "ETags of the versions that may be changed. The answer is 412 if the current "
    "version is not one of them."
}
_RULE = {
    "group": "queues",
    "name": "QueueTooLong",
    "expr": "queue_length > 500",
    "interval": "30s",
    "for": "5m",
    "severity": "critical",
    "annotations": {"summary": "{{ $labels.queue }} holds {{ $value | humanize }} jobs"},
}

ROUTES = (
    Route(
        method="GET",
        path="/rules",
        handler=handle_list_rules,
        tag="Alert rules",
        summary="List alert rules",
        query=RuleListQuery,
        replies={200: Reply("Rules, ordered by group.", RuleListReply)},
        examples=(Example(name="All", status=200),),
    ),
    Route(
        method="POST",
        path="/rules",
        handler=handle_create_rule,
        tag="Alert rules",
        summary="Create an alert rule",
        description="The expression and the templates are checked at once; evaluation starts "
        "with the next interval.",
        body=RulePayload,
        replies={201: Reply("Created.", RuleReply, _ETAG | _LOCATION)},
        problems=(409,),
        examples=(
            Example(name="A queue that is too long", status=201, body=_RULE),
            Example(name="The same rule again", status=409, body=_RULE),
            Example(
                name="The same name with different labels",
                status=201,
                body={**_RULE, "expr": "queue_length > 100", "severity": "warning"},
            ),
            Example(name="No PromQL", status=400, body={"name": "Broken", "expr": "sum("}),
        ),
    ),
    Route(
        method="POST",
        path="/rules/test",
        handler=handle_test_rule,
        tag="Alert rules",
        summary="Test an alert rule",
        description="The alerts that the rule would have had in a past range, if it had been "
        "evaluated then; nothing is stored and nobody is notified. The range may have up to "
        f"{MAX_EVALUATIONS} evaluations.",
        body=RuleTestPayload,
        replies={200: Reply("What the rule would have done.", RuleTestReply)},
        examples=(
            Example(name="The last day", status=200, body=_RULE),
            Example(name="No PromQL", status=400, body={"name": "Broken", "expr": "sum("}),
            Example(
                name="Too many evaluations",
                status=400,
                body={**_RULE, "interval": "1s"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/rules/{id}",
        handler=handle_get_rule,
        tag="Alert rules",
        summary="Read an alert rule",
        parts=_PARTS,
        replies={200: Reply("The rule.", RuleReply, _ETAG)},
        problems=(404,),
        examples=(Example(name="By id", status=200, path={"id": "1"}),),
    ),
    Route(
        method="PUT",
        path="/rules/{id}",
        handler=handle_put_rule,
        tag="Alert rules",
        summary="Replace an alert rule",
        description="The body may be a GET response sent back unchanged: `id` must match the "
        "path, and the fields about evaluations are ignored.",
        parts=_PARTS,
        body=RulePayload,
        headers=_IF_MATCH,
        replies={200: Reply("Replaced.", RuleReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(
            Example(
                name="Disable it",
                status=200,
                path={"id": "1"},
                headers={"If-Match": '"1"'},
                body={**_RULE, "enabled": False},
            ),
            Example(
                name="Changed by somebody else in the meantime",
                status=412,
                path={"id": "1"},
                headers={"If-Match": '"1"'},
                body=_RULE,
            ),
        ),
    ),
    Route(
        method="PATCH",
        path="/rules/{id}",
        handler=handle_patch_rule,
        tag="Alert rules",
        summary="Change fields of an alert rule",
        description="A JSON merge patch (RFC 7396).",
        parts=_PARTS,
        body=RulePatch,
        media_types=("application/merge-patch+json", "application/json"),
        headers=_IF_MATCH,
        replies={200: Reply("Changed.", RuleReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(
            Example(
                name="Change a duration, remove an annotation",
                status=200,
                path={"id": "1"},
                body={"for": "10m", "annotations": {"summary": None, "runbook": "/queues"}},
            ),
        ),
    ),
    Route(
        method="POST",
        path="/rules/{id}/disable",
        handler=handle_disable_rule,
        tag="Alert rules",
        summary="Disable an alert rule",
        description="The rule is no longer evaluated, and its open alerts end within seconds. "
        "Disabling a disabled rule succeeds.",
        parts=_PARTS,
        headers=_IF_MATCH,
        replies={200: Reply("The rule is disabled.", RuleReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(Example(name="By id", status=200, path={"id": "1"}),),
    ),
    Route(
        method="POST",
        path="/rules/{id}/enable",
        handler=handle_enable_rule,
        tag="Alert rules",
        summary="Enable an alert rule",
        description="The rule is evaluated from its next interval on. Enabling an enabled rule "
        "succeeds.",
        parts=_PARTS,
        headers=_IF_MATCH,
        replies={200: Reply("The rule is enabled.", RuleReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(Example(name="By id", status=200, path={"id": "1"}),),
    ),
    Route(
        method="DELETE",
        path="/rules/{id}",
        handler=handle_delete_rule,
        tag="Alert rules",
        summary="Delete an alert rule",
        parts=_PARTS,
        headers=_IF_MATCH,
        replies={200: Reply("Deleted.", RuleDeletedReply)},
        problems=(404, 412),
        examples=(Example(name="Unknown id", status=404, path={"id": "999999"}),),
    ),
)
