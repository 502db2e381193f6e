"""Remote write 1.0: protobuf in, a columnar WriteBatch out.

A sender repeats the labels of its series in every request, so their wire bytes are the cheapest
key of a series. One kernel finds the keys of a message in the table of known series, decodes their
samples and finds their histograms, which are read by kernels again, all at once (`histograms`). It
does so for other series, too, that are written as usual: labels, then samples, then histograms. The
labels of new series are checked by a second kernel (`new_series`). What is left is series with
something unusual, such as exemplars, and labels that are not plain ASCII: these are parsed by the
protobuf library, one by one.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import UNKNOWN_SERIES, BoolArray, IntArray, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decode_kernels import (
    N_HISTOGRAM_COLUMNS,
    NO_ROOM,
    UNUSUAL,
    count_fields,
    count_series,
    decode_samples,
    split_points,
)
from promcompat.remote_write.decoded_rows import DecodedRows
from promcompat.remote_write.left_series import (
    COUNTED_FROM_BYTES,
    DROPPED,
    NO_HISTOGRAMS,
    FoundHistograms,
    Left,
    LeftSeries,
    SampleRows,
    WireExemplar,
)
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.new_series import NewSeries
from promcompat.remote_write.remote_pb2 import WriteRequest
from promcompat.remote_write.wire_fields import check_field_count, parse_message, split_fields

PIECE_BYTES: Final = 1 << 20
"""The size of the pieces in which a larger request is decoded and written."""
_SERIES: Final = "series and metadata entries"
_NOTHING_DECODED: Final = DecodedRows(SampleRows.empty(0), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedWrite:
    """A decoded request: the samples that can be stored, and what was left out.

    `exemplars` are those of series that can be stored. `invalid_reasons` has a text for each
    distinct series that Prometheus skips without an error to the sender. `refusals` has one for
    each distinct series and each metadata entry that is too large; `n_undescribed` are further
    ones. `n_received` counts every float sample of the request, and `n_histograms` every histogram.
    `is_histogram` marks rows of the batch, None: no row. `histogram_faults` are the texts of some
    of the `n_bad_histograms`, which are those of series that can be stored. Refusals and faults
    must be reported to the sender.
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


def count_samples(message: bytes) -> int:
    """The samples of a `prometheus.WriteRequest`; 0 if it is written in an unusual way."""
    if not message:
        return 0
    n_series, _, n_floats, n_histograms = count_fields(np.frombuffer(message, np.uint8))
    return 0 if n_series == UNUSUAL else int(n_floats + n_histograms)


def decode_write_request(
    message: bytes,
    known: KnownSeries,
    limits: LabelLimits,
    max_series: int,
    decoded: DecodedRows | None = None,
    starts: IntArray | None = None,
) -> DecodedWrite:
    """Decode a `prometheus.WriteRequest`, and join its samples with those `decoded` already.

    `starts` are the start timestamps of the rows of the message, 0 for histograms, which have
    their own.
    Labels of known series are not decoded. Rows keep the order of the request. Raises BadDataError
    for malformed protobuf and for more than `max_series` series, metadata entries or fields of one
    series.
    """
    wire = read_write_request(message, known, max_series)
    return decode_read_request(wire, known, limits, max_series, decoded, starts)


def decode_read_request(
    wire: "WireRequest",
    known: KnownSeries,
    limits: LabelLimits,
    max_series: int,
    decoded: DecodedRows | None = None,
    starts: IntArray | None = None,
) -> DecodedWrite:
    """The second part of `decode_write_request`: whatever is not done by the first kernel."""
    if not wire.n_left and decoded is None and starts is None:
        rows = wire.rows
        values = rows.bits.view(np.float64)
        batch = WriteBatch(rows.ids, rows.timestamps, values, [], {}, known_version=known.version)
        return DecodedWrite(batch=batch, n_received=len(batch))
    series, rest = _left_of(wire, max_series)
    metadata, refusals = decode_metadata(rest.metadata, limits.max_metadata_bytes)
    left = LeftSeries.of(series, wire.histograms)
    new = NewSeries(limits)
    ids = left.resolve(known, new)
    rows, histograms = _join(wire.rows, left, ids).with_starts(starts), left.histograms
    if decoded is None:
        decoded = _NOTHING_DECODED
    else:
        rows, histograms = decoded.joined(rows, histograms)
    n_histograms = decoded.n_histograms + left.n_histograms
    is_kept = rows.ids != DROPPED
    kept = rows if is_kept.all() else rows.take(is_kept)
    cells = HistogramCells(kept.bits.view(np.float64), histograms)
    if not is_kept.all():
        cells = cells.compacted()
    keys, faults = left.unknown_keys(ids), left.kept_faults(ids)
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
        starts=kept.starts,
    )
    return DecodedWrite(
        batch=batch,
        n_received=len(rows.ids) - n_histograms,
        n_exemplars=len(left.exemplars),
        n_histograms=n_histograms,
        is_histogram=kept.is_histogram,
        n_bad_histograms=decoded.n_bad_histograms + len(faults),
        histogram_faults=(*decoded.faults, *left.described(faults)),
        exemplars=tuple(left.kept_exemplars(ids)),
        invalid_reasons=tuple(new.invalid.values()),
        refusals=(*new.refused.values(), *refusals),
        n_start_timestamps=decoded.n_start_timestamps + left.n_start_timestamps,
    )


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What the first kernel read of a message, or nothing if `is_unusual`.

    `rows` are the samples of known series. `left` and `others` are those of `decode_samples`: the
    other series, and the fields that are not series.
    """

    message: bytes
    rows: SampleRows
    left: IntArray
    others: IntArray
    histograms: FoundHistograms
    is_unusual: bool = False

    @property
    def n_left(self) -> int:
        """How many series and other fields the second part has to read, or bytes.

        As many histograms as take as long count as one.
        """
        if self.is_unusual:
            return len(self.message)
        return len(self.left) + len(self.others) + self.histograms.n_like_series


_FIRST_ROW, _END_ROW = 2, 3
"""Columns of the lines of series that are left."""
_NO_FIELDS: Final = WriteRequest()
_NO_LINES: Final = np.empty((0, 4), np.int64)


def read_write_request(message: bytes, known: KnownSeries, max_series: int) -> WireRequest:
    """The first part of `decode_write_request`, which takes about a nanosecond a byte."""
    view = np.frombuffer(message, np.uint8)
    n_series, n_others = count_series(view)
    if n_series == UNUSUAL:
        return _unusual(message)
    if n_series + n_others > max_series:
        raise BadDataError(f"the request has more than {max_series} {_SERIES}")
    left, others = np.empty((n_series, 4), np.int64), np.empty((n_others, 4), np.int64)
    # Nearly all senders write a series again for each of its samples.
    n_samples, n_histograms = n_series, 0
    for _ in range(2):
        rows = SampleRows.empty(n_samples)
        found = np.empty((n_histograms, N_HISTOGRAM_COLUMNS), np.int64)
        n_rows, n_left, _, n_found = decode_samples(
            *known.table.arrays(), known.tenant, view, rows.ids, rows.timestamps, rows.bits,
            left, others, found,
        )  # fmt: skip
        if n_rows != NO_ROOM:
            histograms = FoundHistograms(message, found[:n_found])
            rows, left = rows.take(slice(n_rows)), left[:n_left]
            if known.refused and n_left:
                left = _without_refused(left, view, known, rows.ids)
            return WireRequest(message, rows, left, others, histograms)
        _, _, n_samples, n_histograms = count_fields(view)
    return _unusual(message)


def _without_refused(
    left: IntArray, view: NDArray[np.uint8], known: KnownSeries, ids: IntArray
) -> IntArray:
    """The lines of `left` but those of series that were refused lately, whose rows get their ids.

    Senders repeat what was refused in each request.
    """
    is_usual = left[:, _END_ROW] != UNUSUAL
    found = np.where(is_usual, known.find_refused(view, left), UNKNOWN_SERIES)
    n_rows = (left[:, _END_ROW] - left[:, _FIRST_ROW])[is_usual]
    ids[ids == UNKNOWN_SERIES] = np.repeat(found[is_usual], n_rows)
    remaining: IntArray = left[found == UNKNOWN_SERIES]
    return remaining


def _unusual(message: bytes) -> WireRequest:
    return WireRequest(
        message, SampleRows.empty(0), _NO_LINES, _NO_LINES, NO_HISTOGRAMS, is_unusual=True
    )


def _left_of(wire: WireRequest, max_series: int) -> tuple[list[Left], WriteRequest]:
    """The series that are left, and a message with the fields that are not series.

    Those of an unusual message are all parsed. Raises BadDataError if that is malformed.
    """
    message = wire.message
    if not wire.is_unusual:
        left = [
            Left(message[first:end], first_row, end_row)
            for first, end, first_row, end_row in wire.left.tolist()
        ]
        return left, _parse(
            b"".join([message[first:end] for first, end, _, _ in wire.others.tolist()])
        )
    if len(message) > COUNTED_FROM_BYTES:
        check_field_count(message, max_series, _SERIES)
    request = _parse(message)
    return [Left(series, 0, UNUSUAL) for series in request.timeseries], request


def _parse(message: bytes) -> WriteRequest:
    if not message:
        return _NO_FIELDS
    return parse_message(WriteRequest, message, "prometheus.WriteRequest")


def _join(rows: SampleRows, left: LeftSeries, ids: IntArray) -> SampleRows:
    """All rows in the order of the request, which decides between duplicates of one request."""
    if not left.keys:
        return left.with_found(rows)
    is_parsed, n_rows = np.array(left.is_parsed), np.array(left.n_rows)
    rows.ids[rows.ids == UNKNOWN_SERIES] = np.repeat(ids[~is_parsed], n_rows[~is_parsed])
    rows = left.with_found(rows)
    if not left.places:
        return rows
    return rows.with_others(np.array(left.places, np.int64), left.parsed_rows(ids))
