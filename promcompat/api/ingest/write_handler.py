"""`POST /api/v1/write`: remote write 1.0 and 2.0. The status decides what a sender keeps.

204 only after the samples are committed; 4xx for samples that can never be stored (the sender drops
them); 5xx with Retry-After for samples that may be stored later (the sender retries forever). What
a request with 4xx has that could be stored is stored, and headers count it.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web

from promcompat.api.envelope import error_status, text_error
from promcompat.core.errors import (
    OverloadedError,
    PromcompatError,
    RequestTimeoutError,
    StaleKnowledgeError,
    WriteRejectedError,
)
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.series_table import KnownSeries
from promcompat.http.bodies import BODIES, TenantWork, held_by
from promcompat.http.context import SETTINGS, TELEMETRY, services_of, tenant_of
from promcompat.limits.ingest_rates import IngestRates, RequestAllowance
from promcompat.remote_write.decoder import (
    PIECE_BYTES,
    DecodedWrite,
    WireRequest,
    count_samples,
    decode_read_request,
    read_write_request,
    split_write_request,
)
from promcompat.remote_write.exemplars import decode_exemplars
from promcompat.remote_write.negotiation import (
    WriteMessage,
    check_content_encoding,
    negotiate_message,
)
from promcompat.remote_write.outcome import WriteOutcome
from promcompat.remote_write.snappy_block import checked_length, unpack
from promcompat.remote_write.version_2.request import SymbolPieces
from promcompat.telemetry.ingest import RemoteWriteMetrics

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 3
_AT_ONCE_BYTES = 1 << 18
"""Counted, or decoded if the series are known, in 0.1 to 0.2 ms. A thread costs 0.5 ms, and stops
everything while it waits for a core and has the interpreter."""
_FEW_LEFT = 100
"""New series, histograms and metadata entries that take 5 µs each; a thread costs 0.5 ms."""
_QUICK_BYTES = 2 * PIECE_BYTES
"""Decoded on the event loop, in a millisecond; a piece may be larger than `PIECE_BYTES`."""


async def handle_write(request: web.Request) -> web.Response:
    """Store the samples of a request; errors are plain text, which senders log."""
    tenant, outcome = tenant_of(request), WriteOutcome()
    try:
        await _write(request, tenant, outcome)
    except PromcompatError as exc:
        # No variable of this frame may hold the error, which refers to the frame: the cycle would
        # keep the whole request until a garbage collection, which stops the process meanwhile.
        response = _refused(
            request, tenant, _as_retryable(exc) if isinstance(exc, RequestTimeoutError) else exc
        )
    else:
        response = web.Response(status=204)
    response.headers.update(outcome.headers(response.status))
    return response


def _refused(request: web.Request, tenant: str, error: PromcompatError) -> web.Response:
    status = error_status(error)
    request.app[TELEMETRY].remote_write.requests_rejected.labels(str(status)).inc()
    _log_rejection(error, status, tenant)
    return text_error(error)


def _as_retryable(error: RequestTimeoutError) -> PromcompatError:
    """503 instead of 408: senders drop samples on 4xx, and must not because of a slow network."""
    return OverloadedError(f"{error}; send the request again")


async def _write(request: web.Request, tenant: str, outcome: WriteOutcome) -> None:
    check_content_encoding(request.headers.get(hdrs.CONTENT_ENCODING, ""))
    rates = services_of(request).limits.rates
    allowance = rates.request(tenant)
    outcome.message = negotiate_message(request.headers.get(hdrs.CONTENT_TYPE, ""))
    if outcome.message is WriteMessage.V2:
        pieces = await _read_symbols(request)
        rates.check(tenant)
        await _store(request, tenant, pieces, outcome, allowance)
        while pieces.advance():
            await _store(request, tenant, pieces, outcome, allowance)
    else:
        for piece in await _read_pieces(request, tenant, rates):
            await _store(request, tenant, piece, outcome, allowance)
    outcome.report()


async def _store(
    request: web.Request,
    tenant: str,
    piece: "_Decodable",
    outcome: WriteOutcome,
    allowance: RequestAllowance,
) -> None:
    """Decode a piece, and store it if the tenant may write so much."""
    decoded = await _decode(request, tenant, piece)
    with allowance.admitted(len(decoded.batch)):
        await _store_decoded(request, tenant, piece, decoded, outcome)


async def _store_decoded(
    request: web.Request,
    tenant: str,
    piece: "_Decodable",
    decoded: DecodedWrite,
    outcome: WriteOutcome,
) -> None:
    """Store a piece; decode it again when series that it knew were removed meanwhile."""
    _account(request.app[TELEMETRY].remote_write, decoded, tenant)
    services_of(request).metrics.count_faults(tenant, decoded.refusals)
    outcome.add(decoded)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await _write_batch(request, tenant, decoded, outcome)
        except StaleKnowledgeError:
            if attempt == _ATTEMPTS:
                raise
            decoded = await _decode(request, tenant, piece)
        else:
            break
    await _write_exemplars(request, tenant, decoded, outcome)


async def _write_batch(
    request: web.Request, tenant: str, decoded: DecodedWrite, outcome: WriteOutcome
) -> None:
    if not len(decoded.batch) and not decoded.batch.metadata:
        return
    try:
        await services_of(request).metrics.write(tenant, decoded.batch)
    except WriteRejectedError as exc:
        outcome.add_written(decoded, exc)
    else:
        outcome.add_written(decoded)


async def _write_exemplars(
    request: web.Request, tenant: str, decoded: DecodedWrite, outcome: WriteOutcome
) -> None:
    """Store the exemplars after the samples, which count even if this fails."""
    n_stored = 0
    if decoded.exemplars:
        n_bytes = sum(len(exemplar.message) for exemplar in decoded.exemplars)
        bodies, service = request.app[BODIES].of(tenant), services_of(request).exemplars
        exemplars = await bodies.parse(n_bytes, decode_exemplars, decoded.exemplars)
        appended = await service.write(tenant, exemplars)
        outcome.add_exemplars(appended)
        n_stored = appended.n_stored
    metrics = request.app[TELEMETRY].remote_write
    if decoded.n_exemplars:
        metrics.exemplars_stored.inc(n_stored)
        metrics.exemplars_ignored.inc(decoded.n_exemplars - n_stored)


class _Read(Protocol):
    """A piece of which the first part is decoded."""

    @property
    def n_left(self) -> int:
        """How many new series, or what takes as long, are left for `decode`."""

    def decode(self) -> DecodedWrite:
        """See `_Decodable.decode`."""


class _Decodable(Protocol):
    """A part of a request of `n_bytes` that is decoded and stored on its own."""

    @property
    def n_bytes(self) -> int: ...

    def decode(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> DecodedWrite:
        """The same batch at every call."""

    def read(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> _Read:
        """The first part of `decode`, which takes about a nanosecond a byte."""


@dataclass(frozen=True, slots=True)
class _ReadPiece:
    wire: WireRequest
    known: KnownSeries
    limits: LabelLimits
    max_series: int

    @property
    def n_left(self) -> int:
        return self.wire.n_left

    def decode(self) -> DecodedWrite:
        return decode_read_request(self.wire, self.known, self.limits, self.max_series)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A message of `n_bytes`, as it was sent or decompressed."""

    content: bytes
    n_bytes: int
    is_packed: bool

    def decode(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> DecodedWrite:
        """See the protocol."""
        return self.read(known, limits, max_series).decode()

    def read(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> _ReadPiece:
        """See the protocol."""
        message = unpack(self.content) if self.is_packed else self.content
        wire = read_write_request(message, known, max_series)
        return _ReadPiece(wire, known, limits, max_series)


async def _decode(request: web.Request, tenant: str, piece: _Decodable) -> DecodedWrite:
    """Decode a piece: on the event loop if it is quick, or small while other tenants have work.

    To hand 2,000 known series to a thread and back takes as long as decoding them.
    """
    service, bodies = services_of(request).metrics, request.app[BODIES].of(tenant)
    known, limits = service.known_series(tenant), service.label_limits(tenant)
    max_series = request.app[SETTINGS].write_max_series
    # Symbols of version 2.0, which may have two bytes, take memory for each.
    is_quick = bodies.is_alone and isinstance(piece, _Piece)
    most_bytes = _QUICK_BYTES if is_quick else _AT_ONCE_BYTES
    if piece.n_bytes > most_bytes:
        return await bodies.work(piece.n_bytes, piece.decode, known, limits, max_series)
    read = await bodies.on_loop(piece.n_bytes, piece.read, known, limits, max_series)
    return read.decode() if read.n_left <= _FEW_LEFT else await bodies.in_thread(read.decode)


async def _read_block(request: web.Request) -> tuple[bytes, int]:
    """The body, and its size when it is decompressed."""
    settings = request.app[SETTINGS]
    body = await request.app[BODIES].read(request, settings.write_max_body_bytes)
    n_bytes = checked_length(body, settings.write_max_decoded_bytes)
    held_by(request).take(n_bytes)
    return body, n_bytes


async def _read_pieces(request: web.Request, tenant: str, rates: IngestRates) -> list[_Piece]:
    """The request in pieces that are decoded and stored one after another.

    A small one is decompressed and decoded by one call.
    """
    bodies = request.app[BODIES].of(tenant)
    body, n_bytes = await _read_block(request)
    rates.check(tenant)
    # A message has fewer samples than bytes.
    if n_bytes <= min(PIECE_BYTES, rates.room(tenant)):
        return [_Piece(body, n_bytes, is_packed=True)]
    message, n_samples = await _count(bodies, body, n_bytes)
    rates.check(tenant, n_samples)
    if n_bytes <= PIECE_BYTES:
        return [_Piece(message, n_bytes, is_packed=False)]
    max_series = request.app[SETTINGS].write_max_series
    pieces = await bodies.work(n_bytes, split_write_request, message, max_series)
    return [_Piece(piece, len(piece), is_packed=False) for piece in pieces]


async def _count(bodies: TenantWork, body: bytes, n_bytes: int) -> tuple[bytes, int]:
    """The decompressed message, and how many samples it has.

    Counting takes a hundredth of the time that decoding takes, less than to hand a body of usual
    size to a thread, and senders that are too fast send many.
    """

    def count() -> tuple[bytes, int]:
        message = unpack(body)
        return message, count_samples(message)

    if n_bytes < _AT_ONCE_BYTES:
        return count()
    return await bodies.in_thread(count)


async def _read_symbols(request: web.Request) -> SymbolPieces:
    body, n_bytes = await _read_block(request)
    return SymbolPieces(body, n_bytes, request.app[SETTINGS].write_max_decoded_bytes)


def _account(metrics: RemoteWriteMetrics, decoded: DecodedWrite, tenant: str) -> None:
    counts = (
        (metrics.samples_received, decoded.n_received),
        (metrics.metadata_received, len(decoded.batch.metadata)),
        (
            metrics.series_invalid,
            len(decoded.invalid_reasons) + len(decoded.refusals) + decoded.n_undescribed,
        ),
        (metrics.histograms_received, decoded.n_histograms),
        (metrics.histograms_rejected, decoded.n_bad_histograms),
        (metrics.start_timestamps_received, decoded.n_start_timestamps),
    )
    for counter, n in counts:
        # Most are 0 in most requests, and a counter takes a lock.
        if n:
            counter.inc(n)
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
