"""Lets a request reach its handler only if its principal may use the route."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from promcompat.access.credentials import read_credential
from promcompat.core.access import ANYBODY, Principal
from promcompat.core.errors import AccessError, ForbiddenError, UnauthenticatedError
from promcompat.http.audit import begin_record
from promcompat.http.browsers import BROWSER_RULES
from promcompat.http.context import (
    BASIC_USER,
    DEFAULT_TENANT,
    PRINCIPAL,
    SETTINGS,
    names_tenant,
    services_of,
    tenant_of,
)
from promcompat.http.route_roles import Need, need_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BEARER: Final = 'Bearer realm="promcompat"'


def challenge_headers(error: AccessError) -> dict[str, str]:
    """What the answer to an error says about the credentials that would be accepted."""
    if not isinstance(error, UnauthenticatedError):
        return {}
    return {hdrs.WWW_AUTHENTICATE: _BEARER}


def guarded(method: str, path: str, handler: Handler) -> Handler:
    """The handler of a route behind the check of its role; every route is registered with it.

    `path` is the path without a prefix. The body is not read before the check. Raises LookupError
    when the table of roles has no such route.
    """
    need = need_of(method, path)
    if need.role is None:
        return handler

    async def handle(request: web.Request) -> web.StreamResponse:
        request.app[BROWSER_RULES].check(request, need)
        if request.app[SETTINGS].access == "tokens":
            await _admit(request, need)
        else:
            request[PRINCIPAL] = ANYBODY
        if need.is_change(request.method):
            await begin_record(request, path)
        return await handler(request)

    return handle


async def _admit(request: web.Request, need: Need) -> None:
    """Find the principal of a request, and check what they may do.

    Raises UnauthenticatedError, ForbiddenError, and while a credential cannot be checked
    StorageUnavailableError and ServiceUnavailableError.
    """
    access = services_of(request).access
    credential = read_credential(request.headers)
    principal = await access.authenticator.principal(credential)
    request[PRINCIPAL] = principal
    request[BASIC_USER] = "" if credential is None else credential.user
    if need.role is not None and need.role not in principal.roles:
        raise ForbiddenError(f"{principal.name} does not have the role {need.role.value}")
    _check_tenants(request, need, principal)


def _check_tenants(request: web.Request, need: Need, principal: Principal) -> None:
    if request.app[SETTINGS].tenancy == "single":
        if not principal.may_work_for(DEFAULT_TENANT):
            raise ForbiddenError(f"{principal.name} has no access to the tenant {DEFAULT_TENANT}")
        return
    if need.is_service_wide and principal.tenants is not None:
        raise ForbiddenError(f"this is about all tenants, and {principal.name} has only some")
    if names_tenant(request):
        tenant_of(request)
