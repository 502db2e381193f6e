"""Calls the handler of a request: validates parameters and body, answers errors as problems."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, get_origin
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web
from pydantic import TypeAdapter, ValidationError

from native_api.contract.problem import InvalidRequestError, fault, problem_of, problem_response
from native_api.contract.request_body import check_media_type, read_body
from native_api.contract.route import BASES, BELOW_BASES, Call, QueryModel, Route
from native_api.contract.validation import Expectations, refusal_of
from promcompat.core.errors import PromcompatError, StorageUnavailableError
from promcompat.http.bodies import BODIES, work_of
from promcompat.http.context import SETTINGS, ServiceUnavailableError, tenant_of

HttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MAX_PARAMETERS = 1_000
_MAX_DOCUMENT_BYTES = 1 << 20
"For a definition, a rule and similar documents; samples have limits of their own."
_LOGGER = logging.getLogger(__name__)


def http_handler(route: Route) -> HttpHandler:
    """The aiohttp handler of a route."""
    adapter = None if route.body is None or route.reads_body else route.body_adapter()

    async def handle(request: web.Request) -> web.StreamResponse:
        _check_path(request)
        call: Call[Any, Any] = Call(
            request=request,
            tenant=tenant_of(request),
            path=dict(request.match_info),
            query=await _read_query(request, route.query),
            body=await _parse_body(request, route, adapter),
        )
        return await route.handler(call)

    return handle


def _check_path(request: web.Request) -> None:
    """Raises InvalidRequestError for a path that is not UTF-8.

    Such bytes would stay escaped: `M%FCnchen` would be a name with a percent sign in it.
    """
    path = request.rel_url.raw_path
    if "%" not in path:
        return
    try:
        unquote_to_bytes(path).decode()
    except UnicodeError as exc:
        expected = "UTF-8, percent-encoded"
        raise InvalidRequestError([fault("path", "path", "is not UTF-8", expected)]) from exc


async def _read_query(request: web.Request, model: type[QueryModel]) -> QueryModel:
    """The parameters of the URL; in a thread where a hundred may have regular expressions."""
    text = request.rel_url.raw_query_string
    if "~" in text or "%7e" in text.lower():
        return await work_of(request).in_thread(parse_query, request, model)
    return parse_query(request, model)


def parse_query(request: web.Request, model: type[QueryModel]) -> QueryModel:
    """The parameters of the URL. Raises InvalidRequestError."""
    if request.rel_url.raw_query_string.count("&") >= _MAX_PARAMETERS:
        expected = f"at most {_MAX_PARAMETERS} parameters"
        raise InvalidRequestError([fault("query", "query", "has too many parameters", expected)])
    given: dict[str, object] = {}
    for name in request.query:
        values = request.query.getall(name)
        known = model.model_fields.get(name)
        if known is not None and get_origin(known.annotation) is list:
            given[name] = values
        elif len(values) == 1:
            given[name] = values[0]
        else:
            raise InvalidRequestError(
                [fault("query", name, "occurs more than once", "a single value")]
            )
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        raise refusal_of(exc, "query", expectations_of(model)) from exc


async def _parse_body(
    request: web.Request, route: Route, adapter: TypeAdapter[Any] | None
) -> object:
    if adapter is None:
        return None
    check_media_type(request, route.media_types)
    limit = min(request.app[SETTINGS].write_max_decoded_bytes, _MAX_DOCUMENT_BYTES)
    body = await read_body(request, limit, limit)
    # In a thread: expressions and templates are parsed too, which may take long for a short body.
    threads = request.app[BODIES].of(tenant_of(request))
    return await threads.in_thread(_validated, route, adapter, body)


def _validated(route: Route, adapter: TypeAdapter[Any], body: bytes) -> object:
    try:
        return adapter.validate_json(body)
    except ValidationError as exc:
        raise refusal_of(exc, "body", expectations_of(route.body)) from exc


@cache
def expectations_of(model: Any) -> Expectations:
    """What a model accepts; created once, at the first fault."""
    return Expectations.of(model)


def is_native(path: str) -> bool:
    """Whether a path belongs to the native API."""
    return path.startswith(BELOW_BASES) or path in BASES


@web.middleware
async def answer_problems(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
    """Answer every error below the native paths with problem details."""
    if not is_native(request.path):
        return await handler(request)
    try:
        return await handler(request)
    except ServiceUnavailableError:
        error = StorageUnavailableError("the service is starting; try again")
        return problem_of(error, "path")
    except PromcompatError as exc:
        response = problem_of(exc, next(iter(request.match_info), "path"))
        if response.status == 500:
            _LOGGER.exception("request failed", extra={"path": request.path})
        return response
    except web.HTTPException as exc:
        exc.__traceback__ = None
        return _http_problem(exc)
    except (ConnectionError, web.RequestPayloadError):
        return problem_response(400, "the request body could not be read")
    except asyncio.CancelledError:
        raise
    except Exception:
        # The boundary of the process: whatever went wrong, the client only learns this.
        _LOGGER.exception("request failed", extra={"path": request.path})
        return problem_response(500, "internal error, see the server log")


def _http_problem(error: web.HTTPException) -> web.Response:
    match error:
        case web.HTTPMethodNotAllowed() if set(error.allowed_methods) != {hdrs.METH_OPTIONS}:
            # OPTIONS is routed for every path, so a path with no other method does not exist.
            allow = ", ".join(sorted(error.allowed_methods))
            reason = f"{error.method} is not allowed for this path"
            faults = [fault("request", "method", reason, f"one of {allow}")]
            return problem_response(405, reason, faults, {hdrs.ALLOW: allow})
        case web.HTTPNotFound() | web.HTTPMethodNotAllowed():
            return problem_response(404, "there is no such path")
        case _:
            return problem_response(error.status, (error.text or error.reason).strip())
