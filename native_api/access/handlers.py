"""`/tokens`, `/whoami` and `/audit`: who may use the service, who asks, and who changed what."""

from typing import Any

from aiohttp import web

from native_api.access.payloads import (
    AuditListReply,
    AuditQuery,
    AuditReply,
    NewTokenReply,
    TokenListReply,
    TokenPayload,
    TokenReply,
    WhoAmIReply,
)
from native_api.contract.pages import page_of, page_start
from native_api.contract.parameters import ID_PART, MAX_ID, id_of
from native_api.contract.responses import json_response, list_response
from native_api.contract.route import Call, Example, NoQuery, Reply, Route
from promcompat.access.token_service import TokenService
from promcompat.core.access import Principal
from promcompat.core.errors import ConflictError, ForbiddenError
from promcompat.http.context import SETTINGS, principal_of


async def handle_who_am_i(call: Call[NoQuery, None]) -> web.Response:
    """Who makes the request, and what they may do."""
    reply = WhoAmIReply.of_principal(principal_of(call.request), call.tenant)
    return json_response(call.request, reply)


async def handle_list_tokens(call: Call[NoQuery, None]) -> web.Response:
    """The tokens that are not revoked."""
    tokens, principal = _tokens_of(call)
    found = await tokens.list(principal)

    def reply() -> TokenListReply:
        return TokenListReply(tokens=[TokenReply.of_token(token) for token in found])

    return await list_response(call.request, len(found), reply)


async def handle_create_token(call: Call[NoQuery, TokenPayload]) -> web.Response:
    """Make a token."""
    tokens, principal = _tokens_of(call)
    token, text = await tokens.create(call.body.to_request(), principal)
    reply = NewTokenReply(token=text, about=TokenReply.of_token(token))
    return json_response(call.request, reply, status=201)


async def handle_revoke_token(call: Call[NoQuery, None]) -> web.Response:
    """Make a token useless."""
    tokens, principal = _tokens_of(call)
    revoked = await tokens.revoke(id_of(call), principal)
    return json_response(call.request, TokenReply.of_token(revoked))


async def handle_list_audit(call: Call[AuditQuery, None]) -> web.Response:
    """A page of the audit trail."""
    query = call.query
    if query.all_tenants and principal_of(call.request).tenants is not None:
        raise ForbiddenError("this is about all tenants, and the token has only some")
    found = await call.services.access.audit.list(
        query.to_filter(call.tenant), page_start(query, MAX_ID), query.limit + 1
    )
    page, next_cursor = page_of(query, found, lambda record: record.id)

    def reply() -> AuditListReply:
        records = [AuditReply.of_record(record) for record in page]
        return AuditListReply(records=records, next_cursor=next_cursor)

    return await list_response(call.request, len(page), reply)


def _tokens_of(call: Call[Any, Any]) -> tuple[TokenService, Principal]:
    """Raises ConflictError while anybody could make a token, to use it when that is over."""
    if call.request.app[SETTINGS].access != "tokens":
        raise ConflictError(
            "access is not restricted (PROMCOMPAT_ACCESS is not tokens), so that anybody could "
            "make tokens; use the command promcompat token"
        )
    return call.services.access.tokens, principal_of(call.request)


_PARTS = {"id": ID_PART}
_TOKEN = {"name": "prometheus-1", "roles": ["write"], "tenants": ["default"]}

ROUTES = (
    Route(
        method="GET",
        path="/whoami",
        handler=handle_who_am_i,
        tag="Tokens",
        summary="Read who makes the request",
        description="The name and the roles of the token, or of the subject of the OIDC issuer, "
        "and the tenant of the request. While access is not restricted, everybody is `anonymous` "
        "and has every role.",
        replies={200: Reply("Who it is.", WhoAmIReply)},
        examples=(Example(name="While access is not restricted", status=200),),
    ),
    Route(
        method="GET",
        path="/tokens",
        handler=handle_list_tokens,
        tag="Tokens",
        summary="List tokens",
        description="The tokens that are not revoked, of tenants that yours has access to, in the "
        "order in which they were made.",
        replies={200: Reply("All of them.", TokenListReply)},
        problems=(409,),
        examples=(Example(name="While access is not restricted", status=409),),
    ),
    Route(
        method="POST",
        path="/tokens",
        handler=handle_create_token,
        tag="Tokens",
        summary="Make a token",
        description="The token works at once, on every replica. Its tenants must be among those of "
        "the token that makes it.",
        body=TokenPayload,
        replies={201: Reply("Made.", NewTokenReply)},
        problems=(409,),
        examples=(
            Example(name="While access is not restricted", status=409, body=_TOKEN),
            Example(name="Without a role", status=400, body={**_TOKEN, "roles": []}),
        ),
    ),
    Route(
        method="DELETE",
        path="/tokens/{id}",
        handler=handle_revoke_token,
        tag="Tokens",
        summary="Revoke a token",
        description="The token stops working at once in the process that answers, and within "
        "a second or two in the others (five at most).",
        parts=_PARTS,
        replies={200: Reply("The revoked token.", TokenReply)},
        problems=(404, 409),
        examples=(Example(name="While access is not restricted", status=409, path={"id": "1"}),),
    ),
    Route(
        method="GET",
        path="/audit",
        handler=handle_list_audit,
        tag="Tokens",
        summary="Read the audit trail",
        description="Who changed what, newest first: every request that needs the role `edit`, "
        "`operate` or `admin` and is no `GET`, by this API or that of Prometheus, and the commands "
        "`promcompat token` and `promcompat limits`. It was recorded before it was carried out. A "
        "year is kept.",
        query=AuditQuery,
        replies={200: Reply("A page of records.", AuditListReply)},
        problems=(403,),
        examples=(
            Example(name="The last change", status=200, query={"limit": "1"}),
            Example(name="A cursor of another list", status=400, query={"cursor": "x"}),
        ),
    ),
)
