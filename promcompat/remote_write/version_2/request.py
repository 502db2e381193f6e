"""Remote write 2.0: a Request in, columnar WriteBatches out, piece by piece.

One kernel decodes the samples of the series that are known, and finds their histograms
(`known_symbol_kernels`), whose messages are those of version 1.0, as their keys are. All other
series are written out with labels in place of symbols (`symbol_kernels`), and decoded as a request
of version 1.0: so both versions share everything else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import IntArray, MetricMetadata
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import N_HISTOGRAM_COLUMNS, UNUSUAL
from promcompat.remote_write.decoded_rows import DecodedRows
from promcompat.remote_write.decoder import PIECE_BYTES, DecodedWrite, decode_write_request
from promcompat.remote_write.left_series import FoundHistograms, SampleRows
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.remote_pb2 import Label, SeriesKey
from promcompat.remote_write.remote_pb2 import MetricMetadata as WireMetadata
from promcompat.remote_write.snappy_block import unpack
from promcompat.remote_write.version_2.known_symbol_kernels import decode_known
from promcompat.remote_write.version_2.remote_v2_pb2 import Request, TimeSeries
from promcompat.remote_write.version_2.start_kernels import read_starts
from promcompat.remote_write.version_2.symbol_faults import describe_fault
from promcompat.remote_write.version_2.symbol_kernels import (
    LEFT_END,
    LEFT_FIRST,
    LEFT_NUMBER,
    LEFT_ROW,
    LEFT_WRITTEN,
    N_EXEMPLARS,
    N_HISTOGRAMS,
    N_LEFT_COLUMNS,
    N_LONG_EXEMPLARS,
    N_SCRATCH,
    N_START_TIMESTAMPS,
    N_TOTALS,
    find_parts,
    write_out,
)
from promcompat.remote_write.version_2.symbol_label_kernels import NOT_CANONICAL
from promcompat.remote_write.wire_fields import check_field_count, parse_message

_REQUEST: Final = "io.prometheus.write.v2.Request"
_SERIES: Final = "series"
_SYMBOLS_PER_SERIES: Final = 4
_MAX_EXPANSION: Final = 4
"""How many times as large as the largest request its labels may be when they are written out."""
_PIECE_ROWS: Final = 8_192
"""The samples of known series that a piece has room for; a piece ends when half of it is used."""
_FEWEST_ROWS: Final = 1 << 11
_LINES: Final = 4_096
"""Series that are not known, faults, and entries of metadata, of a piece."""
_KEY_BYTES: Final = 1 << 14
"""Larger keys are not looked up by the kernel for version 2.0."""
_MAX_FIELDS_OF_SERIES: Final = 100_000
_COUNTED_FROM_BYTES: Final = 1 << 16
_FAULTS_DESCRIBED: Final = 10
_SUFFIXES_OF_TYPE: Final[dict[int, tuple[bytes, ...]]] = {
    WireMetadata.HISTOGRAM: (b"_bucket", b"_sum", b"_count"),
    WireMetadata.GAUGEHISTOGRAM: (b"_bucket", b"_sum", b"_count"),
    WireMetadata.SUMMARY: (b"_sum", b"_count"),
}
_TYPES: Final = {number: name for name, number in WireMetadata.MetricType.items()}


class _NotCanonicalError(Exception):
    """A series is not written in the usual way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOut:
    """Series of a request as a WriteRequest of version 1.0, and what that does not hold.

    `lines` are entries of metadata, as numbers of symbols. `faults` describes some of the
    `n_faults` series and exemplars that are invalid. Exemplars with too long labels are counted
    only. `starts` are the start timestamps of its rows but for histograms, None without any.
    """

    message: bytes
    lines: IntArray
    starts: IntArray | None
    faults: tuple[str, ...]
    n_faults: int
    n_histograms: int
    n_exemplars: int
    n_long_exemplars: int
    n_start_timestamps: int


_NOTHING: Final = WrittenOut(
    message=b"",
    lines=np.empty((0, 4), np.int64),
    starts=None,
    faults=(),
    n_faults=0,
    n_histograms=0,
    n_exemplars=0,
    n_long_exemplars=0,
    n_start_timestamps=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolPiece:
    """Some series of a request: the samples of known ones, and the other series.

    `metadata` are the entries that no piece before has, as numbers of symbols. `following` is the
    number of the series that is next.
    """

    known: DecodedRows
    others: WrittenOut
    metadata: tuple[tuple[int, ...], ...]
    n_start_timestamps: int
    following: int


class KnownPart(NamedTuple):
    """Samples of known series, and their histograms; `left` and `lines` as of `decode_known`."""

    following: int
    rows: SampleRows
    left: IntArray
    histograms: FoundHistograms
    lines: IntArray
    has_start_timestamps: bool

    @property
    def n_left(self) -> int:
        """How many series and entries of metadata are to be read, and what takes as long."""
        return len(self.left) + len(self.lines) + self.histograms.n_like_series


@dataclass(slots=True)
class SymbolRequest:
    """A Request of version 2.0 that is read piece by piece.

    Raises BadDataError when it has more than `max_series` series or four times
    as many symbols; `max_bytes` is the largest size of a request.
    """

    message: bytes
    limits: LabelLimits
    max_series: int
    max_bytes: int
    _symbols: IntArray = field(init=False)
    _series: IntArray = field(init=False)
    _is_usual: bool = field(init=False)
    _next: int = 0
    _n_written: int = 0
    _n_described: int = 0
    _metadata_seen: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._find_parts()

    @property
    def is_done(self) -> bool:
        """Whether there is no further series."""
        return self._is_usual and self._next >= len(self._series)

    def find_known(self, known: KnownSeries) -> KnownPart | None:
        """The first part of `read_piece`; None for a message that the kernels do not read."""
        return self._decode_known(known) if self._is_usual else None

    def read_piece(self, known: KnownSeries, found: KnownPart | None = None) -> SymbolPiece:
        """The next series, of which those known are `found`; the same ones until `advance`.

        Raises BadDataError when they are malformed.
        """
        if not self._is_usual:
            self.message = self._parse().SerializeToString()
            self._find_parts()
        try:
            return self._read_piece(known, found)
        except _NotCanonicalError:
            self._make_canonical()
        try:
            return self._read_piece(known)
        except _NotCanonicalError as exc:
            raise _malformed() from exc

    def advance(self, piece: SymbolPiece) -> None:
        """Go on behind a piece."""
        self._next = piece.following
        self._n_written += len(piece.others.message)
        self._n_described += len(piece.others.faults)
        self._metadata_seen.update(piece.metadata)

    def read_metadata(
        self, lines: Iterable[tuple[int, ...]]
    ) -> tuple[tuple[MetricMetadata, ...], list[str]]:
        """Entries of metadata, and why some are refused."""
        entries = []
        for name, kind, help_text, unit in lines:
            entries.append(
                WireMetadata(
                    type=_TYPES.get(kind, "UNKNOWN"),
                    metric_family_name=family_of(self._symbol(name), kind),
                    help=self._optional_symbol(help_text),
                    unit=self._optional_symbol(unit),
                )
            )
        return decode_metadata(entries, self.limits.max_metadata_bytes)

    def _read_piece(self, known: KnownSeries, found: KnownPart | None = None) -> SymbolPiece:
        found = found or self._decode_known(known)
        following, left, n_rows = found.following, found.left, len(found.rows.ids)
        n_written, others = self._write_out(left) if len(left) else (0, _NOTHING)
        if n_written < len(left):
            # What is known behind these series is read again with the next piece.
            following, n_rows = left[n_written, [LEFT_NUMBER, LEFT_ROW]].tolist()
            left = left[:n_written]
        decoded = DecodedRows.of(
            found.rows.take(slice(n_rows)),
            np.repeat(left[:, LEFT_ROW], left[:, LEFT_WRITTEN]),
            found.histograms.before(n_rows),
        )
        n_starts = 0
        if found.has_start_timestamps:
            known_series = np.delete(
                self._series[self._next : following], left[:, LEFT_NUMBER] - self._next, axis=0
            )
            starts = self._starts_of_floats(decoded.rows, known_series)
            decoded = replace(decoded, rows=decoded.rows.with_starts(starts))
            n_starts = int(np.count_nonzero(starts))
        return SymbolPiece(
            known=decoded,
            others=others,
            metadata=self._new_metadata(np.concatenate((found.lines, others.lines))),
            n_start_timestamps=n_starts + others.n_start_timestamps,
            following=following,
        )

    def _decode_known(self, known: KnownSeries) -> KnownPart:
        """The samples of known series from the next one on."""
        n_series = min(_LINES, len(self._series) - self._next)
        rows = SampleRows.empty(min(_PIECE_ROWS, max(_FEWEST_ROWS, 2 * n_series)))
        left = np.empty((n_series, N_LEFT_COLUMNS), np.int64)
        histograms = np.empty((len(rows.ids), N_HISTOGRAM_COLUMNS), np.int64)
        lines = np.empty((n_series, 4), np.int64)
        following, n_rows, n_left, n_histograms, n_lines, n_starts = decode_known(
            *known.table.arrays(),
            known.tenant,
            np.frombuffer(self.message, np.uint8),
            self._symbols,
            self._series,
            self._next,
            rows.ids,
            rows.timestamps.view(np.uint64),
            rows.bits,
            left,
            histograms,
            PIECE_BYTES,
            lines,
            np.zeros((len(self._symbols), 3), np.int64),
            np.empty(_KEY_BYTES, np.uint8),
            np.empty(N_SCRATCH, np.int64),
        )
        return KnownPart(
            following,
            rows.take(slice(n_rows)),
            left[:n_left],
            FoundHistograms(self.message, histograms[:n_histograms], self._key_of),
            lines[:n_lines],
            n_starts > 0,
        )

    def _write_out(self, left: IntArray) -> tuple[int, WrittenOut]:
        """How many series of `left` are written out, and what they become."""
        out = np.empty(PIECE_BYTES, np.uint8)
        faults, lines = np.empty((_LINES, 2), np.int64), np.empty((_LINES, 4), np.int64)
        while True:
            totals, scratch = np.zeros(N_TOTALS, np.int64), np.empty(N_SCRATCH, np.int64)
            n_written, n_bytes, n_faults, n_lines = write_out(
                np.frombuffer(self.message, np.uint8),
                self._symbols,
                left,
                0,
                self.limits.max_key_bytes,
                out,
                faults,
                lines,
                totals,
                scratch,
            )
            if n_bytes <= len(out):
                break
            out = np.empty(n_bytes, np.uint8)
        if n_faults and faults[n_faults - 1, 1] == NOT_CANONICAL:
            raise _NotCanonicalError
        self._check_size(n_bytes)
        written = left[:n_written][left[:n_written, LEFT_WRITTEN] > 0]
        return n_written, WrittenOut(
            message=out[:n_bytes].tobytes(),
            lines=lines[:n_lines],
            starts=self._starts(
                written[:, [LEFT_FIRST, LEFT_END]],
                written[:, LEFT_WRITTEN],
                int(written[:, LEFT_WRITTEN].sum()),
            )
            if totals[N_START_TIMESTAMPS]
            else None,
            faults=tuple(self._describe(left, faults[:n_faults])),
            n_faults=n_faults,
            n_histograms=int(totals[N_HISTOGRAMS]),
            n_exemplars=int(totals[N_EXEMPLARS]),
            n_long_exemplars=int(totals[N_LONG_EXEMPLARS]),
            n_start_timestamps=int(totals[N_START_TIMESTAMPS]),
        )

    def _starts_of_floats(self, rows: SampleRows, series: IntArray) -> IntArray:
        """The start timestamp of each row of known series, 0 for histograms and where none is."""
        is_float = np.ones(len(rows.ids), bool) if rows.is_histogram is None else ~rows.is_histogram
        starts = np.zeros(len(rows.ids), np.int64)
        starts[is_float] = self._starts(series, 0, int(np.count_nonzero(is_float)))
        return starts

    def _key_of(self, first: int, end: int) -> bytes:
        """The key of the series whose message begins and ends there."""
        symbols = [self._symbol(ref) for ref in _parse_series(self.message[first:end]).labels_refs]
        pairs = zip(symbols[::2], symbols[1::2], strict=True)
        return SeriesKey(labels=[Label(name=n, value=v) for n, v in pairs]).SerializeToString()

    def _starts(self, series: IntArray, rows_of_each: IntArray | int, n_rows: int) -> IntArray:
        """The start timestamps of the samples of series; see `read_starts`."""
        starts, columns = np.zeros(n_rows, np.int64), np.empty((len(series), 3), np.int64)
        columns[:, :2], columns[:, 2] = series, rows_of_each
        read_starts(np.frombuffer(self.message, np.uint8), columns, starts)
        return starts

    def _find_parts(self) -> None:
        nothing = np.empty((0, 2), np.int64)
        n_symbols, n_series = find_parts(np.frombuffer(self.message, np.uint8), nothing, nothing)
        self._is_usual = n_symbols != UNUSUAL
        if not self._is_usual:
            self._symbols = self._series = nothing
            return
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
        return parse_message(Request, self.message, _REQUEST)

    def _make_canonical(self) -> None:
        """Write every series in the usual way, which the kernel reads."""
        request = self._parse()
        series = [_canonical(wire) for wire in request.timeseries]
        message = Request(symbols=request.symbols, timeseries=series)
        self.message = message.SerializeToString()
        self._find_parts()

    def _check_size(self, n_bytes: int) -> None:
        if self._n_written + n_bytes > _MAX_EXPANSION * self.max_bytes:
            raise BadDataError(
                "the labels of the request are too long: written out, its series take more than "
                f"{_MAX_EXPANSION * self.max_bytes} bytes; send fewer in one request"
            )

    def _describe(self, left: IntArray, faults: IntArray) -> Iterator[str]:
        for line, fault in faults[: max(0, _FAULTS_DESCRIBED - self._n_described)].tolist():
            first, end = left[line, [LEFT_FIRST, LEFT_END]].tolist()
            series = _parse_series(self.message[first:end])
            yield describe_fault(fault, series, self._symbol, len(self._symbols), self.limits)

    def _new_metadata(self, lines: IntArray) -> tuple[tuple[int, ...], ...]:
        """The entries of metadata that no piece before has, each once."""
        if not len(lines):
            return ()
        named = lines[lines[:, 0] != UNUSUAL]
        found = map(tuple, np.unique(named, axis=0).tolist())
        return tuple(line for line in found if line not in self._metadata_seen)

    def _symbol(self, number: int) -> bytes:
        first, end = self._symbols[number].tolist()
        return self.message[first:end]

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
    return _parse_series(wire).SerializeToString()


def _parse_series(wire: bytes) -> TimeSeries:
    """Raises BadDataError if it is malformed: the kernel does not read on after a fault."""
    if len(wire) > _COUNTED_FROM_BYTES:
        check_field_count(wire, _MAX_FIELDS_OF_SERIES, "fields in one series")
    return parse_message(TimeSeries, wire, _REQUEST)


def _malformed() -> BadDataError:
    return BadDataError(f"proto: cannot decode {_REQUEST}")


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
    _piece: SymbolPiece | None = None

    def decode(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> DecodedWrite:
        """The batch of a piece; the sender is told of invalid labels, which version 1.0 skips.

        Raises BadDataError as `decode_write_request` does.
        """
        return self.read(known, limits, max_series).decode()

    def read(self, known: KnownSeries, limits: LabelLimits, max_series: int) -> "ReadSymbols":
        """The first part of `decode`, which takes about a nanosecond a byte."""
        if self._request is None:
            message = unpack(self.block)
            self._request = SymbolRequest(message, limits, max_series, self.max_bytes)
        return ReadSymbols(self, self._request, self._request.find_known(known), known)

    def note(self, piece: SymbolPiece) -> None:
        """This is the piece to advance from."""
        self._piece = piece

    def advance(self) -> bool:
        """Go on to the next piece; whether there is one."""
        if self._request is None or self._piece is None:
            return False
        self._request.advance(self._piece)
        self._piece = None
        return not self._request.is_done


@dataclass(frozen=True, slots=True)
class ReadSymbols:
    """A piece of which the series that are known were `found`; None: nothing is read yet."""

    pieces: SymbolPieces
    request: SymbolRequest
    found: KnownPart | None
    known: KnownSeries

    @property
    def n_left(self) -> int:
        """How many series, entries of metadata and such are still to be read, or bytes."""
        return len(self.request.message) if self.found is None else self.found.n_left

    def decode(self) -> DecodedWrite:
        """See `SymbolPieces.decode`."""
        piece = self.request.read_piece(self.known, self.found)
        self.pieces.note(piece)
        metadata, refusals = self.request.read_metadata(piece.metadata)
        others = piece.others
        limits, max_series = self.request.limits, self.request.max_series
        decoded = decode_write_request(
            others.message, self.known, limits, max_series, piece.known, others.starts
        )
        return replace(
            decoded,
            batch=replace(decoded.batch, metadata=metadata),
            n_exemplars=others.n_exemplars,
            n_histograms=piece.known.n_histograms + others.n_histograms,
            invalid_reasons=(),
            refusals=(*others.faults, *refusals, *decoded.invalid_reasons, *decoded.refusals),
            n_undescribed=others.n_faults - len(others.faults) + others.n_long_exemplars,
            n_start_timestamps=piece.n_start_timestamps + decoded.n_start_timestamps,
        )
