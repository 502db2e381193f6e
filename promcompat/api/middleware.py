"""Around every handler: measures it, and turns whatever it raises into an answer."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from promcompat.api.context import (
    CORS_ORIGIN,
    STATE,
    TELEMETRY,
    Phase,
    ServiceUnavailableError,
)
from promcompat.api.envelope import (
    RETRY_AFTER_SECONDS,
    error_response,
    error_status,
    json_error,
    text_response,
)
from promcompat.core.errors import PromcompatError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOGGER = logging.getLogger(__name__)
_CLIENT_GONE = 499


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts and times the request, and logs it at debug level."""
    metrics = request.app[TELEMETRY].http
    started = time.perf_counter()
    status = _CLIENT_GONE
    metrics.requests_in_flight.inc()
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        metrics.requests_in_flight.dec()
        seconds = time.perf_counter() - started
        metrics.request_seconds.labels(_route_name(request), str(status)).observe(seconds)
        if _LOGGER.isEnabledFor(logging.DEBUG):
            fields = {
                "method": request.method,
                "path": request.path,
                "status": status,
                "seconds": round(seconds, 6),
                "peer": request.remote,
            }
            _LOGGER.debug("request", extra=fields)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error becomes the answer Prometheus gives to it."""
    try:
        return await handler(request)
    except PromcompatError as exc:
        if error_status(exc) == 500:
            _LOGGER.exception("request failed", extra={"path": request.path})
        return error_response(exc)
    except ServiceUnavailableError:
        stopping = request.app[STATE].phase is Phase.STOPPING
        headers = {
            "X-Prometheus-Stopping": str(stopping).lower(),
            hdrs.RETRY_AFTER: str(RETRY_AFTER_SECONDS),
        }
        return text_response(503, "Service Unavailable", headers)
    except web.HTTPException as exc:
        return _plain_answer(exc)
    except (ConnectionError, web.RequestPayloadError) as exc:
        # The client went away while sending; nobody reads this answer.
        _LOGGER.debug("request not read to its end", extra={"reason": str(exc)})
        return text_response(400, "request body could not be read\n")
    except asyncio.CancelledError:
        raise
    except Exception:
        # The boundary of the process: whatever is wrong, the client is told no more than this.
        _LOGGER.exception("request failed", extra={"path": request.path})
        return json_error(500, "internal", "internal error, see the log of the server")


def _plain_answer(error: web.HTTPException) -> web.Response:
    match error:
        # OPTIONS is routed for every path, so a path it alone is allowed on does not exist.
        case web.HTTPMethodNotAllowed() if set(error.allowed_methods) != {hdrs.METH_OPTIONS}:
            allow = ", ".join(sorted(error.allowed_methods))
            return text_response(405, "Method Not Allowed\n", {hdrs.ALLOW: allow})
        case web.HTTPNotFound() | web.HTTPMethodNotAllowed():
            return text_response(404, "404 page not found\n")
        case _:
            return text_response(error.status, error.text or f"{error.reason}\n")


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Lets pages of other origins read answers, by the setting `cors_origin`."""
    response.headers[hdrs.SERVER] = "promcompat"
    response.headers[hdrs.VARY] = "Origin"
    origin = request.headers.get(hdrs.ORIGIN, "")
    if not origin:
        return
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
        "Accept, Authorization, Content-Type, Origin"
    )
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, OPTIONS"
    response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "Date"
    if request.app[CORS_ORIGIN].fullmatch(origin) is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin


def _route_name(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical.removeprefix("/prometheus")
