"""Middlewares around every handler: measure requests and turn exceptions into responses."""

import asyncio
import logging
import posixpath
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from yarl import URL

from promcompat.api.envelope import (
    RETRY_AFTER_SECONDS,
    error_response,
    error_status,
    json_error,
    text_error,
    text_response,
)
from promcompat.core.errors import AccessError, PromcompatError
from promcompat.http.context import STATE, TELEMETRY, Phase, ServiceUnavailableError

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
        metrics.observe(_route_name(request), status, seconds)
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
    """Answer every error as Prometheus does."""
    try:
        return await handler(request)
    except AccessError as exc:
        return text_error(exc)
    except PromcompatError as exc:
        # Some responses are 500 because Prometheus answers so; they are not faults of ours.
        if error_status(exc) == 500 and exc.error_type == PromcompatError.error_type:
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
        # aiohttp keeps the error of an unknown path with the request: a cycle with its frames.
        exc.__traceback__ = None
        if _is_unknown_path(exc) and (redirect := await _redirect_to_clean_path(request)):
            return redirect
        return _plain_answer(exc)
    except (ConnectionError, web.RequestPayloadError) as exc:
        # The client went away while sending; nobody reads this answer.
        _LOGGER.debug("request was not read to the end", extra={"reason": str(exc)})
        return text_response(400, "request body could not be read\n")
    except asyncio.CancelledError:
        raise
    except Exception:
        # The boundary of the process: whatever went wrong, the client only learns this.
        _LOGGER.exception("request failed", extra={"path": request.path})
        return json_error(500, "internal", "internal error, see the server log")


async def _redirect_to_clean_path(request: web.Request) -> web.Response | None:
    """Where to redirect a path with empty or dot segments or a final slash; None for other paths.

    As Go's ServeMux and Prometheus' router do. After a 301, clients repeat a POST as a GET without
    its body; 308 keeps both, so that a write to `//api/v1/write` is not lost.
    """
    path, mark, query = request.raw_path.partition("?")
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == path:
        return None
    target = request.clone(rel_url=URL(clean, encoded=True))
    if (await request.app.router.resolve(target)).http_exception is not None:
        return None
    is_read = request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
    return text_response(301 if is_read else 308, "", {hdrs.LOCATION: clean + mark + query})


def _plain_answer(error: web.HTTPException) -> web.Response:
    if _is_unknown_path(error):
        return text_response(404, "404 page not found\n")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allow = ", ".join(sorted(error.allowed_methods))
        return text_response(405, "Method Not Allowed\n", {hdrs.ALLOW: allow})
    return text_response(error.status, error.text or f"{error.reason}\n")


def _is_unknown_path(error: web.HTTPException) -> bool:
    """Whether the path has no other method: OPTIONS is routed for every path below /api/v1."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        return set(error.allowed_methods) == {hdrs.METH_OPTIONS}
    return isinstance(error, web.HTTPNotFound)


def _route_name(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "unmatched" if resource is None else resource.canonical.removeprefix("/prometheus")
