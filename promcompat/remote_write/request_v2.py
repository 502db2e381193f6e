"""Remote write 2.0: a Request in, pieces of remote write 1.0 out.

Symbols are written out as labels (`symbol_kernels`), a piece of about a megabyte at a time, and
each piece is decoded as a request of version 1.0: so both versions share the series that are known,
and everything that was made fast for one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from promcompat.core.errors import BadDataError
from promcompat.core.label_limits import LabelLimits
from promcompat.core.model import IntArray, MetricMetadata
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import UNUSUAL
from promcompat.remote_write.decoder import PIECE_BYTES, DecodedWrite, decode_write_request
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.remote_pb2 import MetricMetadata as WireMetadata
from promcompat.remote_write.remote_v2_pb2 import Request, TimeSeries
from promcompat.remote_write.snappy_block import unpack
from promcompat.remote_write.symbol_faults import describe_fault
from promcompat.remote_write.symbol_kernels import (
    N_EXEMPLARS,
    N_HISTOGRAMS,
    N_LONG_EXEMPLARS,
    N_SCRATCH,
    N_START_TIMESTAMPS,
    N_TOTALS,
    NOT_CANONICAL,
    find_parts,
    write_out,
)
from promcompat.remote_write.wire_fields import check_field_count

_SERIES: Final = "series"
_SYMBOLS_PER_SERIES: Final = 4
_MAX_EXPANSION: Final = 4
"""How many times as large as the largest request its labels may be when they are written out."""
_LINES: Final = 4_096
"""Faults, and entries of metadata, of a piece."""
_MAX_FIELDS_OF_SERIES: Final = 100_000
_COUNTED_FROM_BYTES: Final = 1 << 16
_FAULTS_DESCRIBED: Final = 10
_SUFFIXES_OF_TYPE: Final[dict[int, tuple[bytes, ...]]] = {
    WireMetadata.HISTOGRAM: (b"_bucket", b"_sum", b"_count"),
    WireMetadata.GAUGEHISTOGRAM: (b"_bucket", b"_sum", b"_count"),
    WireMetadata.SUMMARY: (b"_sum", b"_count"),
}
_LARGEST_TYPE: Final = max(WireMetadata.MetricType.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOut:
    """Series of a request as a WriteRequest of version 1.0, and what that does not hold.

    `faults` describes some of the `n_faults` series, exemplars and metadata that are invalid.
    Histograms, and exemplars with too long labels, are counted only.
    """

    message: bytes
    metadata: tuple[MetricMetadata, ...]
    faults: tuple[str, ...]
    n_faults: int
    n_histograms: int
    n_exemplars: int
    n_long_exemplars: int
    n_start_timestamps: int


@dataclass(slots=True)
class SymbolRequest:
    """A Request of version 2.0 that is read piece by piece.

    Raises BadDataError when it is malformed, or has more than `max_series` series or four times
    as many symbols; `max_bytes` is the largest size of a request.
    """

    message: bytes
    limits: LabelLimits
    max_series: int
    max_bytes: int
    _symbols: IntArray = field(init=False)
    _series: IntArray = field(init=False)
    _next: int = 0
    _n_written: int = 0
    _n_described: int = 0
    _metadata_seen: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._find_parts()

    @property
    def is_done(self) -> bool:
        """Whether every series was written out."""
        return self._next >= len(self._series)

    def next_piece(self) -> WrittenOut:
        """The next series, as many as take about a megabyte. Raises BadDataError."""
        out, is_canonical = np.empty(PIECE_BYTES, np.uint8), False
        faults, metadata = np.empty((_LINES, 2), np.int64), np.empty((_LINES, 4), np.int64)
        while True:
            totals, scratch = np.zeros(N_TOTALS, np.int64), np.empty(N_SCRATCH, np.int64)
            following, n_bytes, n_faults, n_metadata = write_out(
                np.frombuffer(self.message, np.uint8),
                self._symbols,
                self._series,
                self._next,
                self.limits.max_key_bytes,
                out,
                faults,
                metadata,
                totals,
                scratch,
            )
            if n_bytes > len(out):
                out = np.empty(n_bytes, np.uint8)
            elif not n_faults or faults[n_faults - 1, 1] != NOT_CANONICAL:
                break
            elif is_canonical:
                raise _malformed()
            else:
                self._make_canonical()
                is_canonical = True
        self._count_written(n_bytes)
        self._next = following
        refused = list(self._describe(faults[:n_faults]))
        entries, refusals = self._read_metadata(metadata[:n_metadata])
        return WrittenOut(
            message=out[:n_bytes].tobytes(),
            metadata=entries,
            faults=(*refused, *refusals),
            n_faults=n_faults + len(refusals),
            n_histograms=int(totals[N_HISTOGRAMS]),
            n_exemplars=int(totals[N_EXEMPLARS]),
            n_long_exemplars=int(totals[N_LONG_EXEMPLARS]),
            n_start_timestamps=int(totals[N_START_TIMESTAMPS]),
        )

    def _find_parts(self) -> None:
        nothing = np.empty((0, 2), np.int64)
        n_symbols, n_series = find_parts(np.frombuffer(self.message, np.uint8), nothing, nothing)
        if n_symbols == UNUSUAL:
            self.message = self._parse().SerializeToString()
            view = np.frombuffer(self.message, np.uint8)
            n_symbols, n_series = find_parts(view, nothing, nothing)
        if n_series > self.max_series:
            raise BadDataError(f"the request has more than {self.max_series} {_SERIES}")
        max_symbols = _SYMBOLS_PER_SERIES * self.max_series
        if n_symbols > max_symbols:
            raise BadDataError(f"the request has more than {max_symbols} symbols")
        self._symbols = np.empty((n_symbols, 2), np.int64)
        self._series = np.empty((n_series, 2), np.int64)
        find_parts(np.frombuffer(self.message, np.uint8), self._symbols, self._series)

    def _parse(self) -> Request:
        if len(self.message) > _COUNTED_FROM_BYTES:
            most = (_SYMBOLS_PER_SERIES + 1) * self.max_series
            check_field_count(self.message, most, "series and symbols")
        try:
            request = Request.FromString(self.message)
        except DecodeError as exc:
            raise _malformed() from exc
        request.DiscardUnknownFields()
        return request

    def _make_canonical(self) -> None:
        """Write every series in the usual way, which the kernel reads."""
        request = self._parse()
        series = [_canonical(wire) for wire in request.timeseries]
        message = Request(symbols=request.symbols, timeseries=series)
        self.message = message.SerializeToString()
        self._find_parts()

    def _count_written(self, n_bytes: int) -> None:
        self._n_written += n_bytes
        if self._n_written > _MAX_EXPANSION * self.max_bytes:
            raise BadDataError(
                "the labels of the request are too long: written out, its series take more than "
                f"{_MAX_EXPANSION * self.max_bytes} bytes; send fewer in one request"
            )

    def _describe(self, faults: IntArray) -> Iterator[str]:
        described = faults[: _FAULTS_DESCRIBED - self._n_described].tolist()
        self._n_described += len(described)
        for number, fault in described:
            first, end = self._series[number].tolist()
            series = _parse_series(self.message[first:end])
            yield describe_fault(fault, series, self._symbol, len(self._symbols), self.limits)

    def _symbol(self, number: int) -> bytes:
        first, end = self._symbols[number].tolist()
        return self.message[first:end]

    def _read_metadata(self, lines: IntArray) -> tuple[tuple[MetricMetadata, ...], list[str]]:
        """Entries that the request did not have before, and why some are refused."""
        if not len(lines):
            return (), []
        entries = []
        for line in map(tuple, np.unique(lines, axis=0).tolist()):
            name, kind, help_text, unit = line
            if name == UNUSUAL or line in self._metadata_seen:
                continue
            self._metadata_seen.add(line)
            kind = kind if kind <= _LARGEST_TYPE else WireMetadata.UNKNOWN
            entries.append(
                WireMetadata(
                    type=kind,
                    metric_family_name=family_of(self._symbol(name), kind),
                    help=self._optional_symbol(help_text),
                    unit=self._optional_symbol(unit),
                )
            )
        return decode_metadata(entries, self.limits.max_metadata_bytes)

    def _optional_symbol(self, number: int) -> bytes:
        return self._symbol(number) if number else b""


def family_of(metric_name: bytes, kind: int) -> bytes:
    """The family of a metric; the parts of histograms and summaries are metrics of their own."""
    for suffix in _SUFFIXES_OF_TYPE.get(kind, ()):
        if metric_name.endswith(suffix) and metric_name != suffix:
            return metric_name.removesuffix(suffix)
    return metric_name


def _canonical(wire: bytes) -> bytes:
    """A series as senders write it: its fields in order, references packed."""
    series = _parse_series(wire)
    series.DiscardUnknownFields()
    return series.SerializeToString()


def _parse_series(wire: bytes) -> TimeSeries:
    """Raises BadDataError if it is malformed: the kernel does not read on after a fault."""
    if len(wire) > _COUNTED_FROM_BYTES:
        check_field_count(wire, _MAX_FIELDS_OF_SERIES, "fields in one series")
    try:
        return TimeSeries.FromString(wire)
    except DecodeError as exc:
        raise _malformed() from exc


def _malformed() -> BadDataError:
    return BadDataError("proto: cannot decode io.prometheus.write.v2.Request")


@dataclass(slots=True)
class SymbolPieces:
    """Decodes the pieces of a request, given as a snappy block, one after another.

    `decode` decodes the same piece until `advance`: a store may need it again. `max_bytes` is the
    largest size of a request.
    """

    block: bytes
    n_bytes: int
    max_bytes: int
    _request: SymbolRequest | None = None
    _piece: WrittenOut | None = None

    def decode(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> DecodedWrite:
        """The batch of a piece; the sender is told of invalid labels, which version 1.0 skips.

        Raises BadDataError as `decode_write_request` does.
        """
        if self._request is None:
            message = unpack(self.block)
            self._request = SymbolRequest(message, limits, max_series, self.max_bytes)
        if self._piece is None:
            self._piece = self._request.next_piece()
        piece = self._piece
        decoded = decode_write_request(piece.message, known, limits, max_series)
        return replace(
            decoded,
            batch=replace(decoded.batch, metadata=piece.metadata),
            n_exemplars=piece.n_exemplars,
            n_histograms=piece.n_histograms,
            invalid_reasons=(),
            refusals=(*piece.faults, *decoded.invalid_reasons, *decoded.refusals),
            n_undescribed=piece.n_faults - len(piece.faults) + piece.n_long_exemplars,
            n_start_timestamps=piece.n_start_timestamps,
        )

    def advance(self) -> bool:
        """Go on to the next piece; whether there is one."""
        self._piece = None
        return self._request is not None and not self._request.is_done
