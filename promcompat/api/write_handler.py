"""`POST /api/v1/write`: remote write 1.0. What it answers decides what a sender keeps.

204 only after the samples are committed; 4xx for what can never be stored (a sender drops it);
5xx with Retry-After for what can be stored later (a sender tries again for ever).
"""

import asyncio
import logging

from aiohttp import hdrs, web

from promcompat.api.context import SETTINGS, TELEMETRY, service_of, tenant_of
from promcompat.api.envelope import error_status, text_error
from promcompat.core.errors import (
    PayloadTooLargeError,
    PromcompatError,
    UnsupportedMediaTypeError,
    WriteRejectedError,
)
from promcompat.remote_write.decoder import DecodedWrite, decode_write_request
from promcompat.remote_write.negotiation import (
    WriteMessage,
    check_content_encoding,
    negotiate_message,
)
from promcompat.telemetry import RemoteWriteMetrics

_LOGGER = logging.getLogger(__name__)
_DECODE_IN_THREAD_FROM_BYTES = 1 << 18
"""Some 10,000 series: a larger body would hold up other requests for tens of milliseconds."""


async def handle_write(request: web.Request) -> web.Response:
    """Store the samples of a request; every error is plain text, which senders log."""
    tenant = tenant_of(request)
    try:
        await _write(request, tenant)
    except PromcompatError as exc:
        status = error_status(exc)
        request.app[TELEMETRY].remote_write.requests_rejected.labels(str(status)).inc()
        _log_rejection(exc, status, tenant)
        return text_error(exc)
    return web.Response(status=204)


async def _write(request: web.Request, tenant: str) -> None:
    check_content_encoding(request.headers.get(hdrs.CONTENT_ENCODING, ""))
    message = negotiate_message(request.headers.get(hdrs.CONTENT_TYPE, ""))
    if message is WriteMessage.V2:
        raise UnsupportedMediaTypeError(
            f"{message.value} (remote write 2.0) is not spoken by this server yet; "
            f"configure protobuf_message: {WriteMessage.V1.value}"
        )
    service = service_of(request)
    settings = request.app[SETTINGS]
    body = await _read_body(request, settings.write_max_body_bytes)
    arguments = body, service.known_series(tenant), settings.write_max_decoded_bytes
    if len(body) < _DECODE_IN_THREAD_FROM_BYTES:
        decoded = decode_write_request(*arguments)
    else:
        decoded = await asyncio.to_thread(decode_write_request, *arguments)
    _account(request.app[TELEMETRY].remote_write, decoded, tenant)
    if len(decoded.batch) or decoded.batch.metadata:
        await service.write(tenant, decoded.batch)
    if decoded.n_histograms:
        raise WriteRejectedError(
            "native histograms are not supported by this server yet: "
            f"{decoded.n_histograms} histogram samples were not stored, float samples were"
        )


async def _read_body(request: web.Request, max_bytes: int) -> bytes:
    """The whole body; PayloadTooLargeError as soon as it is known to be too large."""
    too_large = PayloadTooLargeError(f"request body is larger than {max_bytes} bytes")
    if (request.content_length or 0) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _account(metrics: RemoteWriteMetrics, decoded: DecodedWrite, tenant: str) -> None:
    metrics.samples_received.inc(decoded.n_received)
    metrics.metadata_received.inc(len(decoded.batch.metadata))
    metrics.series_invalid.inc(len(decoded.invalid_reasons))
    metrics.exemplars_ignored.inc(decoded.n_exemplars)
    metrics.histograms_rejected.inc(decoded.n_histograms)
    if decoded.invalid_reasons:
        _LOGGER.warning(
            "series with invalid labels skipped",
            extra={
                "tenant": tenant,
                "series": len(decoded.invalid_reasons),
                "first": decoded.invalid_reasons[0],
            },
        )


def _log_rejection(error: PromcompatError, status: int, tenant: str) -> None:
    _LOGGER.warning(
        "remote write not accepted",
        extra={"tenant": tenant, "status": status, "reason": str(error)},
    )
