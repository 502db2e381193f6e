"""`/definitions`: metric definitions of application teams."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from native_api.contract.etags import etag_of, is_not_modified, precondition_of
from native_api.contract.merge_patch import patched
from native_api.contract.names import METRIC_NAME_TEXT, metric_name_fault
from native_api.contract.pages import page_of, page_start
from native_api.contract.parameters import (
    METRIC_NAME_PART,
    check_repeated,
    metric_name_of,
)
from native_api.contract.problem import InvalidRequestError, fault
from native_api.contract.responses import document_response, json_response
from native_api.contract.route import BASE, Call, Example, NoQuery, Reply, Route
from native_api.definitions.payloads import (
    DefinitionDeletedReply,
    DefinitionFields,
    DefinitionListQuery,
    DefinitionListReply,
    DefinitionPatch,
    DefinitionPayload,
    DefinitionReply,
    NewDefinitionPayload,
)
from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import NotFoundError
from promcompat.metrics.definition_service import SavedDefinition


async def handle_list_definitions(call: Call[DefinitionListQuery, None]) -> web.Response:
    """A page of definitions by name."""
    query = call.query
    found = await call.services.definitions.list(
        call.tenant, prefix=query.prefix, after=page_start(query, ""), limit=query.limit + 1
    )
    page, next_cursor = page_of(query, found, lambda definition: definition.name)

    def reply() -> DefinitionListReply:
        definitions = [DefinitionReply.of_definition(definition) for definition in page]
        return DefinitionListReply(definitions=definitions, next_cursor=next_cursor)

    return await document_response(call.request, reply)


async def handle_get_definition(call: Call[NoQuery, None]) -> web.Response:
    """One definition."""
    name = metric_name_of(call.path["name"])
    found = await call.services.definitions.get(call.tenant, name)
    if is_not_modified(call.request, found.version):
        return web.Response(status=304, headers={hdrs.ETAG: etag_of(found.version)})
    return await _reply(call, SavedDefinition(found, is_new=False))


async def handle_put_definition(call: Call[NoQuery, DefinitionPayload]) -> web.Response:
    """Create or replace a definition."""
    name = metric_name_of(call.path["name"])
    check_repeated("name", call.body.name, name)
    definition = call.body.to_definition(name)
    saved = await call.services.definitions.change(
        call.tenant, name, precondition_of(call.request), lambda _current: definition
    )
    return await _reply(call, saved)


async def handle_create_definition(call: Call[NoQuery, NewDefinitionPayload]) -> web.Response:
    """Create the definition of a metric that has none."""
    name = call.body.name
    if found := metric_name_fault(name):
        raise InvalidRequestError([fault("body", "name", found, METRIC_NAME_TEXT)])
    saved = await call.services.definitions.create(call.tenant, call.body.to_definition(name))
    location = f"{BASE}/definitions/{quote(name, safe='')}"
    return await _reply(call, SavedDefinition(saved, is_new=True), {hdrs.LOCATION: location})


async def handle_patch_definition(call: Call[NoQuery, dict[str, Any]]) -> web.Response:
    """Change fields of a definition."""
    name = metric_name_of(call.path["name"])
    check_repeated("name", call.body.get("name"), name)

    def edit(current: MetricDefinition | None) -> MetricDefinition:
        if current is None:
            raise NotFoundError(f"the metric {name!r} has no definition")
        present = DefinitionFields.of_definition(current)
        return patched(DefinitionPayload, present, call.body).to_definition(name)

    saved = await call.services.definitions.change(
        call.tenant, name, precondition_of(call.request), edit
    )
    return await _reply(call, saved)


async def handle_delete_definition(call: Call[NoQuery, None]) -> web.Response:
    """Delete a definition; its samples are kept."""
    name = metric_name_of(call.path["name"])
    await call.services.definitions.delete(call.tenant, name, precondition_of(call.request))
    reply = DefinitionDeletedReply(
        name=name,
        deleted=True,
        samples="kept",
        detail="The definition is deleted. The samples of the metric are kept; they no longer "
        "have a retention or threshold of their own.",
    )
    return json_response(call.request, reply)


async def _reply(
    call: Call[Any, Any], saved: SavedDefinition, headers: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    return await document_response(
        call.request,
        lambda: DefinitionReply.of_definition(saved.definition),
        status=201 if saved.is_new else 200,
        headers={hdrs.ETAG: etag_of(saved.definition.version), **headers},
    )


_DEFINITION = {
    "display_name": "Queue length",
    "description": "Jobs waiting in the queue.",
    "unit": "jobs",
    "type": "gauge",
    "retention_days": 30,
    "alert_threshold": {
        "warning": 100,
        "critical": 500,
        "direction": "above",
        "for": "5m",
        "overrides": [{"labels": {"queue": "mail"}, "critical": 900}],
    },
}
_LATENCY = {
    "name": "api_latency",
    "display_name": "API latency",
    "description": "How long the API takes to respond.",
    "unit": "ms",
    "type": "histogram",
    "aggregation": "percentile",
    "retention_days": 30,
    "alert_threshold": {"warning": 500, "critical": 1000},
}
_ETAG = {"ETag": "The version in quotes, for If-Match and If-None-Match."}
_LOCATION = {"Location": "The path of the definition."}
_IF_MATCH = (
    "ETags of the versions that may be changed, or `*` for any version. The answer is 412 if the "
    "current version is not one of them."
)
_PARTS = {"name": METRIC_NAME_PART}
_NAME = {"name": "queue_length"}
_IF_MATCH_HEADER = {"If-Match": _IF_MATCH}

ROUTES = (
    Route(
        method="GET",
        path="/definitions",
        handler=handle_list_definitions,
        tag="Definitions",
        summary="List definitions",
        query=DefinitionListQuery,
        replies={200: Reply("Definitions, ordered by name.", DefinitionListReply)},
        examples=(Example(name="All", status=200),),
    ),
    Route(
        method="POST",
        path="/definitions",
        handler=handle_create_definition,
        tag="Definitions",
        summary="Create a definition",
        description="Omitted fields get their defaults. The answer is 409 if the metric already "
        "has a definition.",
        body=NewDefinitionPayload,
        replies={201: Reply("Created.", DefinitionReply, _ETAG | _LOCATION)},
        problems=(409,),
        examples=(
            Example(name="A histogram with percentiles", status=201, body=_LATENCY),
            Example(name="It already exists", status=409, body=_LATENCY),
            Example(name="No name", status=400, body={"unit": "ms"}),
        ),
    ),
    Route(
        method="PUT",
        path="/definitions/{name}",
        handler=handle_put_definition,
        tag="Definitions",
        summary="Create or replace a definition",
        description="Omitted fields get their defaults. The body may be a GET response sent back "
        "unchanged: `name` must match the path, and `version`, `created_at` and `updated_at` are "
        "ignored. Prometheus' `/api/v1/metadata` shows the definition in preference to the "
        "metadata that senders report.",
        parts=_PARTS,
        body=DefinitionPayload,
        headers={
            **_IF_MATCH_HEADER,
            "If-None-Match": "`*`: create only. The answer is 412 if the definition already "
            "exists.",
        },
        replies={
            200: Reply("Replaced.", DefinitionReply, _ETAG),
            201: Reply("Created.", DefinitionReply, _ETAG),
        },
        problems=(409, 412),
        examples=(
            Example(name="A gauge with a threshold", status=201, path=_NAME, body=_DEFINITION),
            Example(
                name="Create only",
                status=412,
                path=_NAME,
                headers={"If-None-Match": "*"},
                body=_DEFINITION,
            ),
            Example(name="Unknown type", status=400, path=_NAME, body={"type": "meter"}),
            Example(
                name="A counter",
                status=201,
                path={"name": "orders_total"},
                body={"type": "counter", "unit": "orders"},
            ),
        ),
    ),
    Route(
        method="GET",
        path="/definitions/{name}",
        handler=handle_get_definition,
        tag="Definitions",
        summary="Read a definition",
        parts=_PARTS,
        headers={
            "If-None-Match": "ETags the client already has. The answer is 304 if the current "
            "version is one of them."
        },
        replies={
            200: Reply("The definition.", DefinitionReply, _ETAG),
            304: Reply("Not modified.", None, _ETAG),
        },
        problems=(404,),
        examples=(
            Example(name="By name", status=200, path=_NAME),
            Example(name="Not defined", status=404, path={"name": "unheard_of"}),
        ),
    ),
    Route(
        method="PATCH",
        path="/definitions/{name}",
        handler=handle_patch_definition,
        tag="Definitions",
        summary="Change fields of a definition",
        description="A JSON merge patch (RFC 7396).",
        parts=_PARTS,
        body=DefinitionPatch,
        media_types=("application/merge-patch+json", "application/json"),
        headers=_IF_MATCH_HEADER,
        replies={200: Reply("Changed.", DefinitionReply, _ETAG)},
        problems=(404, 409, 412),
        examples=(
            Example(
                name="Change a limit, remove the retention",
                status=200,
                path=_NAME,
                body={"retention_days": None, "alert_threshold": {"warning": 200}},
            ),
            Example(
                name="Changed by somebody else in the meantime",
                status=412,
                path=_NAME,
                headers={"If-Match": '"1000000"'},
                body={"unit": "items"},
            ),
        ),
    ),
    Route(
        method="DELETE",
        path="/definitions/{name}",
        handler=handle_delete_definition,
        tag="Definitions",
        summary="Delete a definition and keep the samples",
        parts=_PARTS,
        headers=_IF_MATCH_HEADER,
        replies={200: Reply("Deleted; the samples are kept.", DefinitionDeletedReply)},
        problems=(404, 409, 412),
        examples=(
            Example(
                name="The samples are kept",
                status=200,
                path=_NAME,
                answer={
                    "name": "queue_length",
                    "deleted": True,
                    "samples": "kept",
                    "detail": "The definition is deleted. The samples of the metric are kept; "
                    "they no longer have a retention or threshold of their own.",
                },
            ),
            Example(name="Not defined", status=404, path={"name": "unheard_of"}),
        ),
    ),
)
