"""Remote write 1.0: protobuf in, a columnar WriteBatch out.

A sender repeats the labels of its series in every request, so their wire bytes are the cheapest
key of a series. One kernel finds the keys of a message in the table of known series and decodes
their samples; it also decodes the samples of other series that are written as usual, with labels
first. The labels of new series are checked by a second kernel (`new_series`). What is left is
series with something unusual, such as exemplars and histograms, and labels that are not plain
ASCII: these are parsed by the protobuf library, one by one. The histograms themselves are read by
kernels again (`histograms`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.histograms import HistogramCells, Histograms, without_histogram_bits
from promcompat.core.label_limits import LabelLimits
from promcompat.core.model import UNKNOWN_SERIES, BoolArray, IntArray, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    count_fields,
    decode_samples,
    split_points,
)
from promcompat.remote_write.histograms import HistogramSamples, decode_histograms
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.series_key import decode_series_key
from promcompat.remote_write.wire_fields import check_field_count, split_fields

PIECE_BYTES: Final = 1 << 20
"""The size of the pieces in which a larger request is decoded and written."""
_COUNTED_FROM_BYTES: Final = 1 << 16
"""The protobuf library decodes fewer bytes too fast to delay other requests."""
_MAX_FIELDS_OF_SERIES: Final = 100_000
_SERIES: Final = "series and metadata entries"
_DROPPED: Final = -2
"""In place of the id of a series or a sample that cannot be stored."""
_DESCRIBED: Final = 10
_SHOWN_CHARACTERS: Final = 500
"""Of the labels in the text for a histogram that is not valid."""


class WireExemplar(NamedTuple):
    """An Exemplar message, and the key of its series."""

    series_key: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Samples in the order of the request; the values as their bits.

    `is_histogram` marks histograms, and stale markers in their place; None: there are none.
    """

    ids: IntArray
    timestamps: IntArray
    bits: NDArray[np.uint64]
    is_histogram: BoolArray | None = None

    @classmethod
    def empty(cls, n_rows: int) -> "SampleRows":
        """Room for floats."""
        return cls(np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, "u8"))

    def with_others(self, places: IntArray, others: "SampleRows") -> "SampleRows":
        """These rows with others among them, each before the row with the number in `places`."""
        if not len(places):
            return self
        return SampleRows(
            np.insert(self.ids, places, others.ids),
            np.insert(self.timestamps, places, others.timestamps),
            np.insert(self._float_bits(others), places, others.bits),
            self._marks_with(places, others),
        )

    def take(self, index: BoolArray | slice) -> "SampleRows":
        marks = None if self.is_histogram is None else self.is_histogram[index]
        return SampleRows(self.ids[index], self.timestamps[index], self.bits[index], marks)

    def _float_bits(self, others: "SampleRows") -> NDArray[np.uint64]:
        """The bits, of which none may look like a histogram when there are others that do."""
        if others.is_histogram is None or self.is_histogram is not None:
            return self.bits
        return without_histogram_bits(self.bits.view(np.float64)).view(np.uint64)

    def _marks_with(self, places: IntArray, others: "SampleRows") -> BoolArray | None:
        if self.is_histogram is None and others.is_histogram is None:
            return None
        mine = np.zeros(len(self.ids), bool) if self.is_histogram is None else self.is_histogram
        theirs = others.is_histogram
        return np.insert(mine, places, False if theirs is None else theirs)


class DecodedRows(NamedTuple):
    """Samples of the same request that are decoded already.

    `places` has for each sample of the message the row that follows it.
    """

    rows: SampleRows
    places: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedWrite:
    """A decoded request: the samples that can be stored, and what was left out.

    `exemplars` are those of series that can be stored. `invalid_reasons` has a text for each
    distinct series that Prometheus skips without an error to the sender. `refusals` has one for
    each distinct series and each metadata entry that is too large; `n_undescribed` are further
    ones. `n_received` counts every float sample of the request, and `n_histograms` every histogram.
    `is_histogram` marks rows of the batch, None: no row. `histogram_faults` are the texts of some
    of the `n_bad_histograms`. Refusals and faults must be reported to the sender.
    """

    batch: WriteBatch
    n_received: int
    n_exemplars: int = 0
    n_histograms: int = 0
    is_histogram: BoolArray | None = None
    n_bad_histograms: int = 0
    histogram_faults: tuple[str, ...] = ()
    exemplars: tuple[WireExemplar, ...] = ()
    invalid_reasons: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    n_undescribed: int = 0
    n_start_timestamps: int = 0


def split_write_request(message: bytes, max_series: int) -> list[bytes]:
    """A `prometheus.WriteRequest` as several of about a megabyte, which hold the same in order.

    Raises BadDataError for a request with more than `max_series` series and metadata entries.
    """
    ends = np.empty(len(message) // PIECE_BYTES, np.int64)
    n_pieces, n_fields = split_points(np.frombuffer(message, np.uint8), PIECE_BYTES, ends)
    if n_pieces == UNUSUAL or n_fields > max_series:
        return split_fields(message, PIECE_BYTES, max_series, _SERIES)
    bounds = [0, *ends[:n_pieces].tolist(), len(message)]
    return [message[start:end] for start, end in pairwise(bounds) if start < end]


def decode_write_request(
    message: bytes,
    known: KnownSeries,
    limits: LabelLimits,
    max_series: int,
    decoded: DecodedRows | None = None,
) -> DecodedWrite:
    """Decode a `prometheus.WriteRequest`, and join its samples with those `decoded` already.

    Labels of known series are not decoded. Rows keep the order of the request. Raises BadDataError
    for malformed protobuf and for more than `max_series` series, metadata entries or fields of one
    series.
    """
    wire = _read_wire(message, known, max_series)
    metadata, refusals = decode_metadata(wire.rest.metadata, limits.max_metadata_bytes)
    left = _LeftSeries.of(wire.left)
    new = NewSeries(limits)
    ids = left.resolve(known, new)
    rows = _join(wire.rows, left, ids)
    if decoded is not None:
        rows = decoded.rows.with_others(decoded.places, rows)
    is_kept = rows.ids != _DROPPED
    kept = rows if is_kept.all() else rows.take(is_kept)
    cells = HistogramCells(kept.bits.view(np.float64), left.histograms)
    if not is_kept.all():
        cells = cells.compacted()
    keys = left.unknown_keys(ids)
    batch = WriteBatch(
        kept.ids,
        kept.timestamps,
        cells.values,
        keys,
        new.labels if not left.faults else {key: new.labels[key] for key in keys},
        metadata,
        known_version=known.version,
        identities=new.identities,
        histograms=cells.histograms,
    )
    return DecodedWrite(
        batch=batch,
        n_received=len(rows.ids) - left.n_histograms,
        n_exemplars=len(left.exemplars),
        n_histograms=left.n_histograms,
        is_histogram=kept.is_histogram,
        n_bad_histograms=len(left.faults),
        histogram_faults=tuple(left.described_faults(ids)),
        exemplars=tuple(left.kept_exemplars(ids)),
        invalid_reasons=tuple(new.invalid.values()),
        refusals=(*new.refused.values(), *refusals),
        n_start_timestamps=left.n_start_timestamps,
    )


class _Left(NamedTuple):
    """A series that is not in the table: its key and its rows, or (UNUSUAL) its whole message."""

    wire: bytes
    first_row: int
    end_row: int


@dataclass(frozen=True, slots=True)
class _Wire:
    """What the kernel read of a message; `rest` are the fields that are not series."""

    rows: SampleRows
    left: Sequence[_Left]
    rest: WriteRequest


_NO_FIELDS: Final = WriteRequest()


def _read_wire(message: bytes, known: KnownSeries, max_series: int) -> _Wire:
    if not message:
        return _Wire(SampleRows.empty(0), [], _NO_FIELDS)
    view = np.frombuffer(message, np.uint8)
    n_series, n_others, n_samples = count_fields(view)
    if n_series == UNUSUAL:
        return _parse_wire(message, max_series)
    if n_series + n_others > max_series:
        raise BadDataError(f"the request has more than {max_series} {_SERIES}")
    rows = SampleRows.empty(n_samples)
    left, others = np.empty((n_series, 4), np.int64), np.empty((n_others, 4), np.int64)
    table, columns = known.table.arrays(), (rows.ids, rows.timestamps, rows.bits)
    n_rows, n_left, _ = decode_samples(*table, known.tenant, view, *columns, left, others)
    return _Wire(
        rows.take(slice(n_rows)),
        [
            _Left(message[first:end], first_row, end_row)
            for first, end, first_row, end_row in left[:n_left].tolist()
        ],
        _parse(b"".join([message[first:end] for first, end, _, _ in others.tolist()])),
    )


def _parse_wire(message: bytes, max_series: int) -> _Wire:
    """The same for a message with unusual fields. Raises BadDataError if it is malformed."""
    if len(message) > _COUNTED_FROM_BYTES:
        check_field_count(message, max_series, _SERIES)
    request = _parse(message)
    return _Wire(
        SampleRows.empty(0), [_Left(wire, 0, UNUSUAL) for wire in request.timeseries], request
    )


def _parse(message: bytes) -> WriteRequest:
    if not message:
        return _NO_FIELDS
    try:
        return WriteRequest.FromString(message)
    except DecodeError as exc:
        raise BadDataError("proto: cannot decode prometheus.WriteRequest") from exc


@dataclass(slots=True)
class _LeftSeries:
    """Keys of the series that are left, and the samples of those that are parsed.

    `n_rows` is the number of samples of each series; `is_parsed` says that they are not among the
    rows of the kernel, but here: `places` has for each the row of the kernel that follows it.
    `messages` are histograms, `rows_of_messages` their samples among those parsed, and
    `series_of_messages` their series.
    """

    keys: list[bytes] = field(default_factory=list)
    n_rows: list[int] = field(default_factory=list)
    is_parsed: list[bool] = field(default_factory=list)
    exemplars: list[tuple[int, bytes]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    rows_of_messages: list[int] = field(default_factory=list)
    series_of_messages: list[int] = field(default_factory=list)
    read: HistogramSamples | None = None
    fault: BadDataError | None = None

    @classmethod
    def of(cls, left: Sequence[_Left]) -> "_LeftSeries":
        """Stops at a malformed one, so that what is wrong before it is reported first."""
        found = cls()
        if all(series.end_row != UNUSUAL for series in left):
            found._add_usual(left)
            return found
        try:
            for series in left:
                if series.end_row == UNUSUAL:
                    found._parse(series)
                else:
                    found._add(series.wire, series.end_row - series.first_row)
            if found.messages:
                found.read = decode_histograms(found.messages)
        except BadDataError as fault:
            found.fault = fault
        return found

    def resolve(self, known: KnownSeries, new: NewSeries) -> IntArray:
        """The id of each series, UNKNOWN_SERIES for a new one, or _DROPPED.

        Raises BadDataError when a series is malformed.
        """
        ids = known.find(self.keys) if self.keys else np.empty(0, np.int64)
        unknown = np.flatnonzero(ids == UNKNOWN_SERIES)
        if len(unknown):
            accepted = new.accept([self.keys[index] for index in unknown.tolist()])
            ids[unknown[~np.array(accepted)]] = _DROPPED
        if self.fault is not None:
            raise self.fault
        return ids

    def unknown_keys(self, ids: IntArray) -> list[bytes]:
        """The key of each row of a new series; rows with a fault have none."""
        is_unknown = (ids == UNKNOWN_SERIES).tolist()
        if self.n_rows == [1] * len(self.n_rows) and not self.faults:
            return list(compress(self.keys, is_unknown))
        n_rows = np.array(self.n_rows, np.int64)
        for message in self.faults:
            n_rows[self.series_of_messages[message]] -= 1
        keys = zip(compress(self.keys, is_unknown), compress(n_rows, is_unknown), strict=True)
        return [key for key, n in keys for _ in range(n)]

    @property
    def n_histograms(self) -> int:
        """How many histograms the series have."""
        return len(self.messages)

    @property
    def histograms(self) -> Histograms | None:
        """What the bits of the rows refer to."""
        return self.read.histograms if self.read is not None and len(self.read.histograms) else None

    @property
    def faults(self) -> dict[int, str]:
        """What is wrong with the histograms of some messages."""
        return {} if self.read is None else self.read.faults

    @property
    def n_start_timestamps(self) -> int:
        """How many histograms say since when they count."""
        return 0 if self.read is None else self.read.n_start_timestamps

    def described_faults(self, ids: IntArray) -> Iterator[str]:
        """Texts for the first histograms that are not valid, of series that are not dropped."""
        for message, text in list(self.faults.items())[:_DESCRIBED]:
            series = self.series_of_messages[message]
            if ids[series] != _DROPPED:
                labels = str(decode_series_key(self.keys[series]))
                yield f"{text} for series {labels[:_SHOWN_CHARACTERS]}"

    def kept_exemplars(self, ids: IntArray) -> list[WireExemplar]:
        """The exemplars of the series that are not dropped."""
        return [
            WireExemplar(self.keys[index], message)
            for index, message in self.exemplars
            if ids[index] != _DROPPED
        ]

    def _add_usual(self, left: Sequence[_Left]) -> None:
        self.keys = [series.wire for series in left]
        self.n_rows = [series.end_row - series.first_row for series in left]
        self.is_parsed = [False] * len(left)

    def _add(self, key: bytes, n_rows: int, *, is_parsed: bool = False) -> None:
        self.keys.append(key)
        self.n_rows.append(n_rows)
        self.is_parsed.append(is_parsed)

    def _parse(self, left: _Left) -> None:
        if len(left.wire) > _COUNTED_FROM_BYTES:
            check_field_count(left.wire, _MAX_FIELDS_OF_SERIES, "fields in one series")
        try:
            series = TimeSeries.FromString(left.wire)
        except DecodeError as exc:
            raise BadDataError("proto: cannot decode prometheus.TimeSeries") from exc
        n_rows = len(series.samples) + len(series.histograms)
        self.places += [left.first_row] * n_rows
        self.timestamps += [sample.timestamp for sample in series.samples]
        self.bits += [sample.value for sample in series.samples]
        self.exemplars += [(len(self.keys), message) for message in series.exemplars]
        if series.histograms:
            self._add_histograms(series.histograms)
        self._add(_take_key(series), n_rows, is_parsed=True)

    def _add_histograms(self, messages: Sequence[bytes]) -> None:
        """Rows for the histograms of a series, which are read later, all at once."""
        n = len(messages)
        self.rows_of_messages += range(len(self.bits), len(self.bits) + n)
        self.series_of_messages += [len(self.keys)] * n
        self.messages += messages
        self.timestamps += [0] * n
        self.bits += [0] * n

    def parsed_rows(self, ids: IntArray) -> SampleRows:
        """The samples that are here; those of histograms that are not valid are dropped."""
        is_parsed, n_rows = np.array(self.is_parsed), np.array(self.n_rows)
        rows = SampleRows(
            np.repeat(ids[is_parsed], n_rows[is_parsed]),
            np.array(self.timestamps, np.int64),
            np.array(self.bits, np.uint64),
        )
        return rows if self.read is None else self._with_histograms(rows, self.read)

    def _with_histograms(self, rows: SampleRows, read: HistogramSamples) -> SampleRows:
        places = np.array(self.rows_of_messages, np.int64)
        bits = without_histogram_bits(rows.bits.view(np.float64)).view(np.uint64)
        rows.timestamps[places], bits[places] = read.timestamps, read.bits
        rows.ids[places[list(read.faults)]] = _DROPPED
        is_histogram = np.zeros(len(bits), bool)
        is_histogram[places] = True
        return SampleRows(rows.ids, rows.timestamps, bits, is_histogram)


def _take_key(series: TimeSeries) -> bytes:
    """The label fields alone, as encoded, joined; the message is modified."""
    series.ClearField("samples")
    series.ClearField("exemplars")
    series.ClearField("histograms")
    series.DiscardUnknownFields()
    return series.SerializeToString()


def _join(rows: SampleRows, left: _LeftSeries, ids: IntArray) -> SampleRows:
    """All rows in the order of the request, which decides between duplicates of one request."""
    if not left.keys:
        return rows
    is_parsed, n_rows = np.array(left.is_parsed), np.array(left.n_rows)
    rows.ids[rows.ids == UNKNOWN_SERIES] = np.repeat(ids[~is_parsed], n_rows[~is_parsed])
    if not left.places:
        return rows
    return rows.with_others(np.array(left.places, np.int64), left.parsed_rows(ids))
