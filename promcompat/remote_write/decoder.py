"""Remote write 1.0: protobuf in, a columnar WriteBatch out.

A sender repeats the labels of its series in every request, so their wire bytes are the cheapest
key of a series. One kernel finds the keys of a message in the table of known series and decodes
their samples; it also decodes the samples of other series that are written as usual, with labels
first. The labels of new series are checked by a second kernel (`new_series`). What is left is
series with something unusual, such as exemplars and histograms, and labels that are not plain
ASCII: these are parsed by the protobuf library, one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.label_limits import LabelLimits
from promcompat.core.model import UNKNOWN_SERIES, BoolArray, IntArray, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    count_fields,
    decode_samples,
    split_points,
)
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.wire_fields import check_field_count, split_fields

PIECE_BYTES: Final = 1 << 20
"""The size of the pieces in which a larger request is decoded and written."""
_COUNTED_FROM_BYTES: Final = 1 << 16
"""The protobuf library decodes fewer bytes too fast to delay other requests."""
_MAX_FIELDS_OF_SERIES: Final = 100_000
_SERIES: Final = "series and metadata entries"
_DROPPED: Final = -2
"""In place of the id of a series that cannot be stored."""


class WireExemplar(NamedTuple):
    """An Exemplar message, and the key of its series."""

    series_key: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class SampleRows:
    """Samples in the order of the request; the values as their bits."""

    ids: IntArray
    timestamps: IntArray
    bits: NDArray[np.uint64]

    @classmethod
    def empty(cls, n_rows: int) -> "SampleRows":
        return cls(np.empty(n_rows, np.int64), np.empty(n_rows, np.int64), np.empty(n_rows, "u8"))

    def with_others(self, places: IntArray, others: "SampleRows") -> "SampleRows":
        """These rows with others among them, each before the row with the number in `places`."""
        if not len(places):
            return self
        return SampleRows(
            np.insert(self.ids, places, others.ids),
            np.insert(self.timestamps, places, others.timestamps),
            np.insert(self.bits, places, others.bits),
        )

    def take(self, index: BoolArray | slice) -> "SampleRows":
        return SampleRows(self.ids[index], self.timestamps[index], self.bits[index])


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
    ones. `n_received` counts every float sample of the request. Refusals, and histograms, which
    are not in the batch either, must be reported to the sender.
    """

    batch: WriteBatch
    n_received: int
    n_exemplars: int = 0
    n_histograms: int = 0
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
    batch = WriteBatch(
        kept.ids,
        kept.timestamps,
        kept.bits.view(np.float64),
        left.unknown_keys(ids),
        new.labels,
        metadata,
        known_version=known.version,
        identities=new.identities,
    )
    return DecodedWrite(
        batch=batch,
        n_received=len(rows.ids),
        n_exemplars=len(left.exemplars),
        n_histograms=left.n_histograms(ids),
        exemplars=tuple(left.kept_exemplars(ids)),
        invalid_reasons=tuple(new.invalid.values()),
        refusals=(*new.refused.values(), *refusals),
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
    """

    keys: list[bytes] = field(default_factory=list)
    n_rows: list[int] = field(default_factory=list)
    is_parsed: list[bool] = field(default_factory=list)
    exemplars: list[tuple[int, bytes]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    histograms: list[int] = field(default_factory=list)
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
        """The key of each row of a new series."""
        is_unknown = (ids == UNKNOWN_SERIES).tolist()
        if self.n_rows == [1] * len(self.n_rows):
            return list(compress(self.keys, is_unknown))
        n_rows = compress(self.n_rows, is_unknown)
        keys = compress(self.keys, is_unknown)
        return [key for key, n in zip(keys, n_rows, strict=True) for _ in range(n)]

    def n_histograms(self, ids: IntArray) -> int:
        """How many histograms the series have that are not dropped."""
        counted = zip(self.histograms, ids.tolist(), strict=True)
        return sum(n for n, series_id in counted if series_id != _DROPPED)

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
        self.histograms = [0] * len(left)

    def _add(
        self, key: bytes, n_rows: int, n_histograms: int = 0, *, is_parsed: bool = False
    ) -> None:
        self.keys.append(key)
        self.n_rows.append(n_rows)
        self.histograms.append(n_histograms)
        self.is_parsed.append(is_parsed)

    def _parse(self, left: _Left) -> None:
        if len(left.wire) > _COUNTED_FROM_BYTES:
            check_field_count(left.wire, _MAX_FIELDS_OF_SERIES, "fields in one series")
        try:
            series = TimeSeries.FromString(left.wire)
        except DecodeError as exc:
            raise BadDataError("proto: cannot decode prometheus.TimeSeries") from exc
        n_rows = len(series.samples)
        self.places += [left.first_row] * n_rows
        self.timestamps += [sample.timestamp for sample in series.samples]
        self.bits += [sample.value for sample in series.samples]
        self.exemplars += [(len(self.keys), message) for message in series.exemplars]
        n_histograms = len(series.histograms)
        self._add(_take_key(series), n_rows, n_histograms, is_parsed=True)


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
    parsed = SampleRows(
        np.repeat(ids[is_parsed], n_rows[is_parsed]),
        np.array(left.timestamps, np.int64),
        np.array(left.bits, np.uint64),
    )
    return rows.with_others(np.array(left.places, np.int64), parsed)
