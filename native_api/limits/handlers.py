"""`/api/v1/limits`: the limits of the tenant; `/api/v1/user_limits`: the same as Mimir has them."""

from typing import Any, Final

from aiohttp import web

from native_api.contract.etags import etag_of, precondition_of
from native_api.contract.merge_patch import patched
from native_api.contract.responses import json_response
from native_api.contract.route import (
    LIMITS_BASE,
    USER_LIMITS_BASE,
    Call,
    Example,
    NoQuery,
    Reply,
    Route,
)
from native_api.limits.payloads import (
    LimitsPatch,
    LimitsPayload,
    LimitsReply,
    parsed_overrides,
    shown_overrides,
)
from promcompat.core.limits.limit_definitions import LimitValues
from promcompat.core.limits.tenant_limits import StoredOverrides

_USER_LIMITS: Final = {
    "ingestion_rate": "ingestion_rate",
    "ingestion_burst_size": "ingestion_burst_size",
    "max_global_series_per_user": "max_global_series_per_user",
    "max_global_series_per_metric": "max_global_series_per_metric",
    "max_global_exemplars_per_user": "max_global_exemplars_per_user",
    "max_fetched_series_per_query": "max_fetched_series_per_query",
    "ruler_max_rules_per_rule_group": "ruler_max_rules_per_rule_group",
    "ruler_max_rule_groups_per_tenant": "ruler_max_rule_groups_per_tenant",
}


async def handle_get_limits(call: Call[NoQuery, None]) -> web.Response:
    """The limits of the tenant; never 304, as the file and the settings have no version."""
    return _reply(call, await call.services.limits.overrides(call.tenant))


async def handle_put_limits(call: Call[NoQuery, LimitsPayload]) -> web.Response:
    """Replace the overrides of the tenant."""
    values = parsed_overrides(call.body.overrides)
    return await _change(call, lambda _current: values)


async def handle_patch_limits(call: Call[NoQuery, dict[str, Any]]) -> web.Response:
    """Change some overrides of the tenant; null removes one."""

    def edit(current: LimitValues) -> LimitValues:
        present = LimitsPayload(overrides=shown_overrides(current))
        return parsed_overrides(patched(LimitsPayload, present, call.body).overrides)

    return await _change(call, edit)


async def handle_delete_limits(call: Call[NoQuery, None]) -> web.Response:
    """Remove all overrides of the tenant."""
    return await _change(call, lambda _current: {})


async def handle_user_limits(call: Call[NoQuery, None]) -> web.Response:
    """The limits of the tenant as Mimir shows them, as far as they exist here."""
    values = call.services.limits.values(call.tenant)
    retention = await call.services.retention.find(call.tenant)
    days = retention.service_days if retention.own_days is None else retention.own_days
    found = {name: values[own].value for name, own in _USER_LIMITS.items()}
    return json_response(
        call.request,
        {
            "compactor_blocks_retention_period_seconds": days * 86_400,
            "ingestion_burst_factor": 0,
            "max_fetched_chunks_per_query": 0,
            "max_fetched_chunk_bytes_per_query": 0,
            **found,
        },
    )


async def _change(call: Call[NoQuery, Any], edit: Any) -> web.Response:
    limits = call.services.limits
    return _reply(call, await limits.change(call.tenant, precondition_of(call.request), edit))


def _reply(call: Call[NoQuery, Any], stored: StoredOverrides) -> web.Response:
    found = LimitsReply.of(stored, call.services.limits.values(call.tenant))
    return json_response(call.request, found, headers={"ETag": etag_of(stored.version)})


_ETAG = {"ETag": "The version of the overrides in quotes, for If-Match."}
_IF_MATCH = {
    "If-Match": "ETags of the versions that may be changed, or `*` for any version. The answer is "
    "412 if the current version is not one of them."
}
_EFFECT = "Every process of the service uses them within about a second."
_TAG = "Limits"

ROUTES = (
    Route(
        method="GET",
        base=LIMITS_BASE,
        path="",
        handler=handle_get_limits,
        tag=_TAG,
        summary="Read the limits of the tenant",
        replies={200: Reply("The limits, and the overrides among them.", LimitsReply, _ETAG)},
        examples=(Example(name="As they are", status=200),),
    ),
    Route(
        method="PUT",
        base=LIMITS_BASE,
        path="",
        handler=handle_put_limits,
        tag=_TAG,
        summary="Replace the overrides of the tenant",
        description=f"Limits that the body does not name lose their override. {_EFFECT}",
        body=LimitsPayload,
        headers=_IF_MATCH,
        replies={200: Reply("Replaced.", LimitsReply, _ETAG)},
        problems=(409, 412),
        examples=(
            Example(
                name="A rate and a grace period",
                status=200,
                body={"overrides": {"ingestion_rate": 500_000, "creation_grace_period": "1h"}},
            ),
            Example(
                name="Changed by somebody else in the meantime",
                status=412,
                headers={"If-Match": '"1000000"'},
                body={"overrides": {}},
            ),
            Example(name="No such limit", status=400, body={"overrides": {"max_magic": 1}}),
        ),
    ),
    Route(
        method="PATCH",
        base=LIMITS_BASE,
        path="",
        handler=handle_patch_limits,
        tag=_TAG,
        summary="Change some overrides of the tenant",
        description=f"A JSON merge patch (RFC 7396): null removes an override. {_EFFECT}",
        body=LimitsPatch,
        media_types=("application/merge-patch+json", "application/json"),
        headers=_IF_MATCH,
        replies={200: Reply("Changed.", LimitsReply, _ETAG)},
        problems=(409, 412),
        examples=(
            Example(
                name="One more, one less",
                status=200,
                body={"overrides": {"max_rules": 500, "ingestion_rate": None}},
            ),
        ),
    ),
    Route(
        method="DELETE",
        base=LIMITS_BASE,
        path="",
        handler=handle_delete_limits,
        tag=_TAG,
        summary="Remove all overrides of the tenant",
        description=_EFFECT,
        headers=_IF_MATCH,
        replies={200: Reply("Removed.", LimitsReply, _ETAG)},
        problems=(409, 412),
        examples=(Example(name="All of them", status=200),),
    ),
    Route(
        method="GET",
        base=USER_LIMITS_BASE,
        path="",
        handler=handle_user_limits,
        tag=_TAG,
        summary="Read the limits of the tenant in Mimir's form",
        description="What Mimir has and promcompat has not is 0.",
        replies={200: Reply("Values by Mimir's names.", dict[str, int])},
        examples=(Example(name="As they are", status=200),),
    ),
)
