"""`POST /api/v1/write`: remote write 1.0. The status decides what a sender keeps.

204 only after the samples are committed; 4xx for samples that can never be stored (the sender drops
them); 5xx with Retry-After for samples that may be stored later (the sender retries forever).
"""

import logging
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from promcompat.api.envelope import error_status, text_error
from promcompat.core.errors import (
    OverloadedError,
    PromcompatError,
    RequestTimeoutError,
    StaleKnowledgeError,
    UnsupportedMediaTypeError,
    WriteRejectedError,
)
from promcompat.core.label_limits import LabelLimits
from promcompat.core.model import WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.http.bodies import BODIES, held_by
from promcompat.http.context import SETTINGS, TELEMETRY, services_of, tenant_of
from promcompat.remote_write.decoder import (
    PIECE_BYTES,
    DecodedWrite,
    decode_write_request,
    split_write_request,
)
from promcompat.remote_write.negotiation import (
    WriteMessage,
    check_content_encoding,
    negotiate_message,
)
from promcompat.remote_write.snappy_block import checked_length, unpack
from promcompat.telemetry import RemoteWriteMetrics

_LOGGER = logging.getLogger(__name__)
_REASONS_SHOWN = 10
_ATTEMPTS = 3


async def handle_write(request: web.Request) -> web.Response:
    """Store the samples of a request; errors are plain text, which senders log."""
    tenant = tenant_of(request)
    try:
        await _write(request, tenant)
    except PromcompatError as exc:
        error = _as_retryable(exc) if isinstance(exc, RequestTimeoutError) else exc
        status = error_status(error)
        request.app[TELEMETRY].remote_write.requests_rejected.labels(str(status)).inc()
        _log_rejection(error, status, tenant)
        return text_error(error)
    return web.Response(status=204)


def _as_retryable(error: RequestTimeoutError) -> PromcompatError:
    """503 instead of 408: senders drop samples on 4xx, and must not because of a slow network."""
    return OverloadedError(f"{error}; send the request again")


async def _write(request: web.Request, tenant: str) -> None:
    check_content_encoding(request.headers.get(hdrs.CONTENT_ENCODING, ""))
    message = negotiate_message(request.headers.get(hdrs.CONTENT_TYPE, ""))
    if message is WriteMessage.V2:
        raise UnsupportedMediaTypeError(
            f"{message.value} (remote write 2.0) is not supported by this server yet; configure "
            f"protobuf_message: {WriteMessage.V1.value}"
        )
    left_out = _LeftOut()
    for piece in await _read_pieces(request):
        await _store(request, tenant, piece, left_out)
    left_out.report()


async def _store(request: web.Request, tenant: str, piece: "_Piece", left_out: "_LeftOut") -> None:
    """Store a piece; decode it again when series that it knew were removed meanwhile."""
    decoded = await _decode(request, tenant, piece)
    _account(request.app[TELEMETRY].remote_write, decoded, tenant)
    left_out.add(decoded)
    for _ in range(_ATTEMPTS - 1):
        with suppress(StaleKnowledgeError):
            return await _write_batch(request, tenant, decoded.batch, left_out)
        decoded = await _decode(request, tenant, piece)
    await _write_batch(request, tenant, decoded.batch, left_out)


async def _write_batch(
    request: web.Request, tenant: str, batch: WriteBatch, left_out: "_LeftOut"
) -> None:
    if not len(batch) and not batch.metadata:
        return
    try:
        await services_of(request).metrics.write(tenant, batch)
    except WriteRejectedError as exc:
        left_out.rejections.append(str(exc))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A message of `n_bytes`, as it was sent or decompressed."""

    content: bytes
    n_bytes: int
    is_packed: bool

    def decode(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> DecodedWrite:
        message = unpack(self.content) if self.is_packed else self.content
        return decode_write_request(message, known, limits, max_series)


async def _decode(request: web.Request, tenant: str, piece: _Piece) -> DecodedWrite:
    service = services_of(request).metrics
    return await request.app[BODIES].work(
        piece.n_bytes,
        piece.decode,
        service.known_series(tenant),
        service.label_limits,
        request.app[SETTINGS].write_max_series,
    )


async def _read_pieces(request: web.Request) -> list[_Piece]:
    """The request in pieces that are decoded and stored one after another.

    A small one is decompressed and decoded by one call in a thread.
    """
    settings, bodies = request.app[SETTINGS], request.app[BODIES]
    body = await bodies.read(request, settings.write_max_body_bytes)
    n_bytes = checked_length(body, settings.write_max_decoded_bytes)
    held_by(request).take(n_bytes)
    if n_bytes <= PIECE_BYTES:
        return [_Piece(body, n_bytes, is_packed=True)]
    message = await bodies.work(n_bytes, unpack, body)
    pieces = await bodies.work(n_bytes, split_write_request, message, settings.write_max_series)
    return [_Piece(piece, len(piece), is_packed=False) for piece in pieces]


@dataclass(slots=True)
class _LeftOut:
    """The part of a request that was not stored, to be reported to the sender."""

    rejections: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    n_refused: int = 0
    n_histograms: int = 0

    def add(self, decoded: DecodedWrite) -> None:
        self.n_histograms += decoded.n_histograms
        self.n_refused += len(decoded.refusals)
        self.refusals += decoded.refusals[: _REASONS_SHOWN - len(self.refusals)]

    def report(self) -> None:
        """Raises WriteRejectedError if there is anything to report."""
        lines = self.rejections[:_REASONS_SHOWN]
        if self.n_refused:
            lines.append(
                f"{self.n_refused} series or metadata entries exceed a limit and were not stored; "
                "the rest of the request was stored:"
            )
            lines += self.refusals
        if self.n_histograms:
            lines.append(
                f"native histograms are not supported by this server yet: {self.n_histograms} "
                "histogram samples were not stored; float samples were stored"
            )
        if lines:
            raise WriteRejectedError("\n".join(lines))


def _account(metrics: RemoteWriteMetrics, decoded: DecodedWrite, tenant: str) -> None:
    metrics.samples_received.inc(decoded.n_received)
    metrics.metadata_received.inc(len(decoded.batch.metadata))
    metrics.series_invalid.inc(len(decoded.invalid_reasons) + len(decoded.refusals))
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
        "remote write rejected",
        extra={"tenant": tenant, "status": status, "reason": str(error)},
    )
