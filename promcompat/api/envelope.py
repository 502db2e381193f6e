"""The JSON envelope of the Prometheus HTTP API, and the one table from errors to status codes."""

import math
from collections.abc import Sequence

from aiohttp import hdrs, web

from promcompat.api.json_text import dump_json
from promcompat.core.errors import (
    AccessError,
    BadDataError,
    ConflictError,
    ExecutionError,
    ForbiddenError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    PayloadTooLargeError,
    PreconditionFailedError,
    PromcompatError,
    QueryCanceledError,
    QueryTimeoutError,
    RateLimitedError,
    RequestTimeoutError,
    StorageUnavailableError,
    UnauthenticatedError,
    UnsupportedMediaTypeError,
)
from promcompat.core.texts.strconv import to_unicode
from promcompat.http.bodies import work_of
from promcompat.http.compression import GZIP_HEADERS, is_packed, packed
from promcompat.http.guard import challenge_headers

STATUS_OF_ERROR: dict[type[PromcompatError], int] = {
    PromcompatError: 500,
    BadDataError: 400,
    UnsupportedMediaTypeError: 415,
    PayloadTooLargeError: 413,
    RequestTimeoutError: 408,
    ExecutionError: 422,
    UnauthenticatedError: 401,
    ForbiddenError: 403,
    RateLimitedError: 429,
    NotFoundError: 404,
    ConflictError: 409,
    PreconditionFailedError: 412,
    QueryCanceledError: 499,
    QueryTimeoutError: 503,
    # Prometheus answers storage errors with 500; senders retry 503 too, and honour Retry-After.
    StorageUnavailableError: 503,
    NotSupportedError: 501,
}
RETRY_AFTER_SECONDS = 1

_JSON = "application/json"
_IN_THREAD_FROM_BYTES = 1 << 19
"""Packing half a megabyte takes 1.4 ms. On a busy machine, a thread waits longer than that for a
core."""


def error_status(error: PromcompatError) -> int:
    """The status code of an error: that of its nearest class in the table."""
    return next(STATUS_OF_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_OF_ERROR)


def error_headers(error: PromcompatError) -> dict[str, str]:
    """`Retry-After` (whole seconds) for errors that a retry may overcome."""
    match error:
        case OverloadedError() | RateLimitedError():
            return {hdrs.RETRY_AFTER: str(math.ceil(error.retry_after_seconds))}
        case StorageUnavailableError():
            return {hdrs.RETRY_AFTER: str(RETRY_AFTER_SECONDS)}
        case AccessError():
            return challenge_headers(error)
        case _:
            return {}


def error_response(error: PromcompatError) -> web.Response:
    """The error envelope; it has no `data` key, because Grafana's parser requires that."""
    return json_error(error_status(error), error.error_type, str(error), error_headers(error))


def json_error(
    status: int, error_type: str, text: str, headers: dict[str, str] | None = None
) -> web.Response:
    """An error envelope of any status."""
    body = {"status": "error", "errorType": error_type, "error": text}
    return web.Response(
        status=status, body=escape_html(dump_json(body)), content_type=_JSON, headers=headers
    )


def text_error(error: PromcompatError) -> web.Response:
    """An error as plain text, the form that senders log: the message and a line feed."""
    return text_response(error_status(error), f"{error}\n", error_headers(error))


def text_response(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """A plain text answer."""
    return web.Response(status=status, text=to_unicode(text), headers=headers)


async def success_response(
    request: web.Request,
    data: object,
    warnings: Sequence[str] = (),
    infos: Sequence[str] = (),
) -> web.Response:
    """The success envelope around `data`: bytes that are JSON already, or a value to dump.

    Empty `warnings` and `infos` are omitted: Grafana's parser cannot read null there.
    """
    encoded = data if isinstance(data, bytes) else dump_json(data)
    parts = [b'{"status":"success","data":', encoded]
    if warnings:
        parts += [b',"warnings":', dump_json(warnings)]
    if infos:
        parts += [b',"infos":', dump_json(infos)]
    parts.append(b"}")
    packs = is_packed(request, len(encoded))
    # One call, since each waits for its turn.
    if len(encoded) < _IN_THREAD_FROM_BYTES:
        body = _joined(parts, packs=packs)
    else:
        body = await work_of(request).in_thread(_joined, parts, packs=packs)
    return web.Response(body=body, content_type=_JSON, headers=GZIP_HEADERS if packs else None)


def _joined(parts: Sequence[bytes], *, packs: bool) -> bytes:
    """The parts as one body, escaped and, if so wanted, compressed."""
    body = escape_html(b"".join(parts))
    return packed(body) if packs else body


def escape_html(json: bytes) -> bytes:
    """As Go's encoder: `<`, `>` and `&`, which JSON has in strings only, become escapes."""
    return json.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
