"""`/rules`: alert rules as data."""

from dataclasses import replace

from aiohttp import hdrs, web

from native_api.context import ready
from native_api.etags import etag_of, precondition_of
from native_api.parameters import id_of
from native_api.responses import json_response
from native_api.route import Call, Example, NoQuery, PathPart, Reply, Route
from native_api.rule_payloads import (
    RuleDeletedReply,
    RuleListQuery,
    RuleListReply,
    RulePayload,
    RuleReply,
)
from promcompat.core.alerts import AlertRule, RuleEvaluation
from promcompat.core.errors import PreconditionFailedError
from promcompat.services.rule_service import RuleService


async def handle_list_rules(call: Call[RuleListQuery, None]) -> web.Response:
    """Every rule with its health."""
    service = ready(call.state.rules)
    rules = await service.list_rules(call.tenant, call.query.group)
    evaluations = await service.evaluations(call.tenant)
    reply = RuleListReply(
        rules=[RuleReply.of_rule(rule, evaluations.get(rule.id)) for rule in rules]
    )
    return json_response(call.request, reply)


async def handle_create_rule(call: Call[NoQuery, RulePayload]) -> web.Response:
    """Make a rule."""
    saved = await ready(call.state.rules).create(call.tenant, call.body.to_rule())
    return _reply(call.request, saved, None, status=201)


async def handle_get_rule(call: Call[NoQuery, None]) -> web.Response:
    """One rule."""
    service = ready(call.state.rules)
    rule = await service.get(call.tenant, id_of(call.path["id"]))
    evaluations = await service.evaluations(call.tenant)
    return _reply(call.request, rule, evaluations.get(rule.id))


async def handle_put_rule(call: Call[NoQuery, RulePayload]) -> web.Response:
    """Replace a rule."""
    service = ready(call.state.rules)
    current = await _current(service, call.request, call.tenant, call.path["id"])
    changed = call.body.to_rule(current.id, current.version)
    return _reply(call.request, await service.replace(call.tenant, changed), None)


async def handle_delete_rule(call: Call[NoQuery, None]) -> web.Response:
    """Delete a rule."""
    service = ready(call.state.rules)
    current = await _current(service, call.request, call.tenant, call.path["id"])
    await service.delete(call.tenant, current.id, current.version)
    reply = RuleDeletedReply(
        id=current.id,
        deleted=True,
        detail="The rule is gone. Its open alerts end with the next evaluation; their history "
        "is kept.",
    )
    return json_response(call.request, reply)


async def _current(
    service: RuleService, request: web.Request, tenant: str, rule_id: str
) -> AlertRule:
    """The rule to change, of a version that If-Match allows."""
    rule = await service.get(tenant, id_of(rule_id))
    versions = precondition_of(request).versions
    if versions is not None and rule.version not in versions:
        raise PreconditionFailedError(f"the rule has version {rule.version}")
    return replace(rule)


def _reply(
    request: web.Request, rule: AlertRule, evaluation: RuleEvaluation | None, status: int = 200
) -> web.Response:
    headers: dict[str, str] = {hdrs.ETAG: etag_of(rule.version)}
    return json_response(request, RuleReply.of_rule(rule, evaluation), status, headers)


ID_PART = PathPart(description="The number it was given.", schema={"type": "integer", "minimum": 1})
_PARTS = {"id": ID_PART}
_ETAG = {"ETag": "The version in quotes, for If-Match."}
_IF_MATCH = {"If-Match": "ETags of the versions to change; 412 when it has another by now."}
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
        replies={200: Reply("Rules by group.", RuleListReply)},
        examples=(Example(name="All", status=200),),
    ),
    Route(
        method="POST",
        path="/rules",
        handler=handle_create_rule,
        tag="Alert rules",
        summary="Make an alert rule",
        description="The expression and the templates are checked here; the rule is evaluated "
        "from its next interval on.",
        body=RulePayload,
        replies={201: Reply("Made.", RuleReply, _ETAG)},
        problems=(409,),
        examples=(
            Example(name="A queue that is too long", status=201, body=_RULE),
            Example(name="The same name again", status=409, body=_RULE),
            Example(name="No PromQL", status=400, body={"name": "Broken", "expr": "sum("}),
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
        examples=(Example(name="The first one", status=200, path={"id": "1"}),),
    ),
    Route(
        method="PUT",
        path="/rules/{id}",
        handler=handle_put_rule,
        tag="Alert rules",
        summary="Replace an alert rule",
        parts=_PARTS,
        body=RulePayload,
        headers=_IF_MATCH,
        replies={200: Reply("Replaced.", RuleReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(
            Example(
                name="Switch it off",
                status=200,
                path={"id": "1"},
                headers={"If-Match": '"1"'},
                body={**_RULE, "enabled": False},
            ),
            Example(
                name="Somebody was faster",
                status=412,
                path={"id": "1"},
                headers={"If-Match": '"1"'},
                body=_RULE,
            ),
        ),
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
        examples=(Example(name="No such rule", status=404, path={"id": "999999"}),),
    ),
)
