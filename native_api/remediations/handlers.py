"""`/remediations`: repairs of breaches, and the decisions of people about them."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from native_api.contract.pages import encode_cursor, page_start
from native_api.contract.parameters import ID_PART, id_of
from native_api.contract.responses import document_response
from native_api.contract.route import Call, Example, NoQuery, Reply, Route
from native_api.remediations.payloads import (
    RemediationDetailReply,
    RemediationListQuery,
    RemediationListReply,
    RemediationReply,
    RulingPayload,
)
from promcompat.core.alerting.remediation import Decision, Remediation, RemediationFilter, Verdict
from promcompat.http.context import SETTINGS


async def handle_list_remediations(call: Call[RemediationListQuery, None]) -> web.Response:
    """A page of remediations, newest first."""
    query = call.query
    wanted = RemediationFilter(
        state=query.state,
        rule_name=query.rule,
        alert_id=query.alert,
        before_id=page_start(query, 0),
        limit=query.limit,
    )
    page, has_more = await call.services.remediations.list(call.tenant, wanted)
    next_cursor = encode_cursor(query, page[-1].id) if has_more else None

    def reply() -> RemediationListReply:
        remediations = [_reply(call, remediation) for remediation in page]
        return RemediationListReply(remediations=remediations, next_cursor=next_cursor)

    return await document_response(call.request, reply)


async def handle_get_remediation(call: Call[NoQuery, None]) -> web.Response:
    """One remediation with its steps."""
    found, steps = await call.services.remediations.get(call.tenant, id_of(call))
    run_url = _run_url(call, found)
    return await document_response(
        call.request, lambda: RemediationDetailReply.of_parts(found, steps, run_url)
    )


async def handle_approve_remediation(call: Call[NoQuery, RulingPayload]) -> web.Response:
    """Approve a waiting remediation."""
    return await _decide(call, Verdict.APPROVED)


async def handle_deny_remediation(call: Call[NoQuery, RulingPayload]) -> web.Response:
    """Deny a waiting remediation, which ends without acting."""
    return await _decide(call, Verdict.DENIED)


async def handle_cancel_remediation(call: Call[NoQuery, RulingPayload]) -> web.Response:
    """Ask an open remediation to clean up and end."""
    found = await call.services.remediations.cancel(
        call.tenant, id_of(call), call.actor(call.body.actor), call.body.reason
    )
    status = 200 if found.state.is_final else 202
    return await document_response(call.request, lambda: _reply(call, found), status)


async def _decide(call: Call[NoQuery, RulingPayload], verdict: Verdict) -> web.Response:
    decision = Decision(verdict, call.actor(call.body.actor), call.body.reason)
    found = await call.services.remediations.decide(call.tenant, id_of(call), decision)
    return await document_response(call.request, lambda: _reply(call, found))


def _reply(call: Call[Any, Any], remediation: Remediation) -> RemediationReply:
    return RemediationReply.of_remediation(remediation, _run_url(call, remediation))


def _run_url(call: Call[Any, Any], remediation: Remediation) -> str | None:
    settings = call.request.app[SETTINGS]
    if not settings.temporal_ui_url or not remediation.run_id:
        return None
    parts = (settings.temporal_namespace, "workflows", remediation.workflow_id, remediation.run_id)
    path = "/".join(quote(part, safe="") for part in parts)
    return f"{settings.temporal_ui_url}/namespaces/{path}/history"


_PARTS = {"id": ID_PART}
_UNKNOWN = {"id": "4711"}
_RULING = {"actor": "ann@example.org", "reason": "the disk is really full"}
_TAG = "Remediations"

ROUTES = (
    Route(
        method="GET",
        path="/remediations",
        handler=handle_list_remediations,
        tag=_TAG,
        summary="List remediations",
        description="Newest first. Remediations that have not been started on Temporal yet are "
        "in the state `requested`; `last_error` says why.",
        query=RemediationListQuery,
        replies={200: Reply("The matching remediations.", RemediationListReply)},
        examples=(
            Example(
                name="Waiting for approval",
                status=200,
                query={"state": "waiting_for_approval"},
                answer={"remediations": [], "next_cursor": None},
            ),
            Example(name="Unknown state", status=400, query={"state": "done"}),
        ),
    ),
    Route(
        method="GET",
        path="/remediations/{id}",
        handler=handle_get_remediation,
        tag=_TAG,
        summary="Read a remediation and its steps",
        parts=_PARTS,
        replies={200: Reply("The remediation.", RemediationDetailReply)},
        problems=(404,),
        examples=(Example(name="Unknown", status=404, path=_UNKNOWN),),
    ),
    Route(
        method="POST",
        path="/remediations/{id}/approve",
        handler=handle_approve_remediation,
        tag=_TAG,
        summary="Approve a waiting remediation",
        description="The first decision counts; approving again changes nothing. After a 503, "
        "the decision is recorded but the workflow could not be notified: send the request again.",
        parts=_PARTS,
        body=RulingPayload,
        replies={200: Reply("Approved.", RemediationReply)},
        problems=(404, 409),
        examples=(
            Example(name="Unknown", status=404, path=_UNKNOWN, body=_RULING),
            Example(name="By nobody", status=400, path=_UNKNOWN, body={"reason": "why not"}),
        ),
    ),
    Route(
        method="POST",
        path="/remediations/{id}/deny",
        handler=handle_deny_remediation,
        tag=_TAG,
        summary="Deny a waiting remediation",
        description="The remediation ends without having done anything.",
        parts=_PARTS,
        body=RulingPayload,
        replies={200: Reply("Denied.", RemediationReply)},
        problems=(404, 409),
        examples=(Example(name="Unknown", status=404, path=_UNKNOWN, body=_RULING),),
    ),
    Route(
        method="POST",
        path="/remediations/{id}/cancel",
        handler=handle_cancel_remediation,
        tag=_TAG,
        summary="Cancel an open remediation",
        description="If the workflow has begun to act, it cleans up and then ends. A remediation "
        "whose workflow never started ends at once.",
        parts=_PARTS,
        body=RulingPayload,
        replies={
            200: Reply("The remediation has ended.", RemediationReply),
            202: Reply("The workflow is notified and cleans up.", RemediationReply),
        },
        problems=(404, 409),
        examples=(Example(name="Unknown", status=404, path=_UNKNOWN, body=_RULING),),
    ),
)
