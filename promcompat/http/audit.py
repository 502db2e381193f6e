"""Records who asks for changes, and how they ended: the audit trail of both HTTP APIs.

A change is recorded before it is made, so that none is made that could not be recorded. Its outcome
is recorded once it is known, by a middleware outside of those that answer errors.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from promcompat.core.audit import MAX_REQUEST_BYTES, MAX_TARGET_LENGTH, AuditEntry, kept_text
from promcompat.core.errors import StorageUnavailableError
from promcompat.http.context import actor_of, services_of, tenant_or_none

_LOGGER = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Audited:
    """The record of a request, and the beginning of its body once that was read."""

    record_id: int
    body: bytes = b""


_AUDITED = web.RequestKey("audited", _Audited)


async def begin_record(request: web.Request, path: str) -> None:
    """Record that a request for the route of this path is about to be carried out.

    Raises StorageUnavailableError.
    """
    entry = AuditEntry(
        actor=actor_of(request),
        tenant=tenant_or_none(request),
        action=f"{request.method} {path}",
        target=kept_text(request.raw_path.encode(errors="replace"))[:MAX_TARGET_LENGTH],
    )
    request[_AUDITED] = _Audited(await services_of(request).access.audit.begin(entry))


def keep_body(request: web.Request, body: bytes) -> None:
    """Keep the beginning of a body that was read, if the request is recorded."""
    audited = request.get(_AUDITED)
    if audited is not None:
        audited.body = body[:MAX_REQUEST_BYTES]


@web.middleware
async def end_record(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: record the status of the answer; that of a client that left stays unknown."""
    response = await handler(request)
    audited = request.get(_AUDITED)
    if audited is not None:
        audit = services_of(request).access.audit
        try:
            await audit.end(audited.record_id, response.status, kept_text(audited.body))
        except StorageUnavailableError as exc:
            fields = {"record": audited.record_id, "status": response.status, "reason": str(exc)}
            _LOGGER.warning("the outcome of a change was not recorded", extra=fields)
    return response
