"""`POST /api/v1/otlp/v1/metrics`: metrics of OpenTelemetry SDKs and collectors, by OTLP/HTTP.

Exporters send again after 429, 502, 503 and 504 only, and drop everything after other errors. So
what could not be stored of a request is reported with 200, as a partial success, and a database
that does not answer with 503.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Final

from aiohttp import hdrs, web

from promcompat.api.envelope import error_headers, error_status
from promcompat.core.errors import (
    OverloadedError,
    PayloadTooLargeError,
    PromcompatError,
    RequestTimeoutError,
    StaleKnowledgeError,
    StorageUnavailableError,
    UnsupportedMediaTypeError,
    WriteRejectedError,
)
from promcompat.core.texts.strconv import to_unicode
from promcompat.http.bodies import BODIES, held_by, media_type
from promcompat.http.context import (
    SETTINGS,
    TELEMETRY,
    ServiceUnavailableError,
    services_of,
    tenant_of,
)
from promcompat.limits.ingest_rates import RequestAllowance
from promcompat.otlp.batches import (
    PointBatch,
    count_rejected,
    decode_exemplars,
    find_series,
    make_batch,
)
from promcompat.otlp.deltas import TOO_FAR_AHEAD, RequestTotals
from promcompat.otlp.requests import PIECE_BYTES, split_request
from promcompat.otlp.responses import failure_body, success_body
from promcompat.otlp.samples import Samples

_LOGGER = logging.getLogger(__name__)
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"
_INTERNAL: Final = "internal error, see the server log; send the request again"
_ANSWERED_ELSEWHERE: Final = (
    web.HTTPException,
    web.RequestPayloadError,
    ConnectionError,
    ServiceUnavailableError,
)
_ATTEMPTS: Final = 3
_QUICK_BYTES: Final = 2 * PIECE_BYTES
"""Searched on the event loop, in two milliseconds; a piece may be larger than `PIECE_BYTES`."""
_AT_ONCE_BYTES: Final = 1 << 18
"""The same while other tenants have work."""
_FEW_UNKNOWN: Final = 100
"""New series, which take 5 µs each; a thread costs 0.5 ms."""
_FEW_ROWS: Final = 5_000
"""Handled by lists of Python, in a quarter of a microsecond each."""
_JSON_SHARE: Final = 4
"""A parsed document takes so many times the memory of a protobuf message."""


async def handle_export(request: web.Request) -> web.Response:
    """Store the data points of a request; answers have the encoding of the request."""
    tenant, is_json = tenant_of(request), media_type(request) == _JSON
    content_type = _JSON if is_json else _PROTOBUF
    try:
        rejected = await _export(request, tenant, is_json=is_json)
    except PromcompatError as exc:
        return _failure(request, exc, tenant, is_json=is_json)
    except _ANSWERED_ELSEWHERE:
        raise
    except Exception:
        # A fault of ours: what answers other requests would answer 500, and the data would be lost.
        _LOGGER.exception("request failed", extra={"path": request.path})
        return _failure(request, StorageUnavailableError(_INTERNAL), tenant, is_json=is_json)
    if rejected:
        fields = {"tenant": tenant, "points": rejected.total(), "first": next(iter(rejected))}
        _LOGGER.warning("OTLP data points rejected", extra=fields)
    body = success_body(rejected, is_json=is_json)
    return web.Response(body=body, content_type=content_type)


def _failure(
    request: web.Request, error: PromcompatError, tenant: str, *, is_json: bool
) -> web.Response:
    if isinstance(error, RequestTimeoutError):
        # Exporters drop what gets 408, and must not because of a slow network.
        error = OverloadedError(f"{error}; send the request again")
    status = error_status(error)
    request.app[TELEMETRY].otlp.requests_rejected.labels(str(status)).inc()
    fields = {"tenant": tenant, "status": status, "reason": str(error)}
    _LOGGER.warning("OTLP request rejected", extra=fields)
    return web.Response(
        status=status,
        body=failure_body(status, to_unicode(str(error)), is_json=is_json),
        content_type=_JSON if is_json else _PROTOBUF,
        headers=error_headers(error),
    )


async def _export(request: web.Request, tenant: str, *, is_json: bool) -> Counter[str]:
    """Store the request piece by piece; how many data points are rejected, by reason."""
    services = services_of(request)
    rates = services.limits.rates
    body = await _read(request, is_json=is_json)
    rates.check(tenant)
    allowance = rates.request(tenant)
    totals = services.otlp.totals.request(tenant, services.metrics.latest_ms(tenant))
    n_bytes = len(body)
    if is_json or n_bytes <= PIECE_BYTES:
        return await _store(request, tenant, body, allowance, totals, is_json=is_json)
    pieces = split_request(body)
    rejected: Counter[str] = Counter()
    while (piece := await request.app[BODIES].of(tenant).work(n_bytes, _next, pieces)) is not None:
        rejected += await _store(request, tenant, piece, allowance, totals, is_json=False)
    return rejected


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


async def _read(request: web.Request, *, is_json: bool) -> bytes:
    """The body, decompressed. Raises UnsupportedMediaTypeError and PayloadTooLargeError."""
    if not is_json and media_type(request) != _PROTOBUF:
        raise UnsupportedMediaTypeError(
            f"unsupported content type: {media_type(request)[:200]}, supported: "
            f"[{_JSON}, {_PROTOBUF}]"
        )
    settings, bodies = request.app[SETTINGS], request.app[BODIES]
    max_bytes = settings.write_max_decoded_bytes // (_JSON_SHARE if is_json else 1)
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").lower()
    if encoding == "gzip":
        return await bodies.read_unpacked(request, settings.write_max_body_bytes, max_bytes)
    if encoding not in ("", "identity"):
        raise UnsupportedMediaTypeError(
            f'unsupported compression: {encoding[:200]}. Only "gzip" or no compression supported'
        )
    body = await bodies.read(request, settings.write_max_body_bytes)
    if len(body) > max_bytes:
        raise PayloadTooLargeError(f"the request body is larger than {max_bytes} bytes")
    return body


async def _store(
    request: web.Request,
    tenant: str,
    message: bytes,
    allowance: RequestAllowance,
    totals: RequestTotals,
    *,
    is_json: bool,
) -> Counter[str]:
    """Store a piece; how many of its data points are rejected, by reason."""
    services, bodies = services_of(request), request.app[BODIES].of(tenant)
    held_by(request).take(len(message))
    samples = await _read_samples(request, tenant, message, totals, is_json=is_json)
    with allowance.admitted(len(samples)):
        refused = await _write(request, tenant, samples, len(message))
        if samples.exemplars:
            exemplars = await bodies.parse(len(message), decode_exemplars, samples.exemplars)
            await services.exemplars.write(tenant, exemplars)
    if n_ahead := samples.rejected[TOO_FAR_AHEAD]:
        services.metrics.count_refused(tenant, "creation_grace_period", n_ahead)
    rejected = samples.rejected + refused
    metrics = request.app[TELEMETRY].otlp
    metrics.points_received.inc(samples.n_translated + samples.rejected.total())
    metrics.points_rejected.inc(rejected.total())
    return rejected


async def _read_samples(
    request: web.Request, tenant: str, message: bytes, totals: RequestTotals, *, is_json: bool
) -> Samples:
    """The samples of a piece, read on the event loop if nearly all of it is known."""
    otlp, bodies = services_of(request).otlp, request.app[BODIES].of(tenant)
    found, n_bytes = None, len(message)
    if not is_json and n_bytes <= (_QUICK_BYTES if bodies.is_alone else _AT_ONCE_BYTES):
        found = await bodies.on_loop(n_bytes, otlp.find, message)
        if found is not None and len(found.refs) <= _FEW_ROWS:
            n_bytes = found.n_left_bytes
    return await bodies.parse(n_bytes, otlp.read, message, totals, is_json=is_json, found=found)


async def _make_batch(
    request: web.Request, tenant: str, samples: Samples, n_bytes: int
) -> PointBatch:
    """The batch of a piece; on the event loop if it is small and nearly all series are known."""
    service, bodies = services_of(request).metrics, request.app[BODIES].of(tenant)
    known, limits = service.known_series(tenant), service.label_limits(tenant)
    rows = None
    if len(samples) <= _FEW_ROWS and not samples.histogram_rows:
        rows = find_series(samples, known)
        if rows.n_unknown <= _FEW_UNKNOWN:
            return make_batch(samples, known, limits, rows)
    return await bodies.work(n_bytes, make_batch, samples, known, limits, rows)


async def _write(request: web.Request, tenant: str, samples: Samples, n_bytes: int) -> Counter[str]:
    """Store samples; make the batch again when series that it knew were removed meanwhile.

    Returns how many data points are rejected, by reason.
    """
    service = services_of(request).metrics
    for attempt in range(1, _ATTEMPTS + 1):
        made = await _make_batch(request, tenant, samples, n_bytes)
        if attempt == 1:
            service.count_faults(tenant, made.refused.values())
        try:
            if len(made.batch) or made.batch.metadata:
                await service.write(tenant, made.batch)
        except WriteRejectedError as exc:
            refused = {**dict.fromkeys(exc.rows, str(exc)), **exc.refused}
            return count_rejected(made.refused, made, refused)
        except StaleKnowledgeError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return count_rejected(made.refused, made, {})
    raise AssertionError("unreachable: the last attempt returns or raises")
