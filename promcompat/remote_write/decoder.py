"""Remote write 1.0: protobuf in, a columnar WriteBatch out.

A sender repeats the labels of its series in every request, so their wire bytes are the cheapest
key of a series. Nearly every series message is such a key followed by one sample field of a fixed
size; when the key is already known, one slice and one set lookup are all that is done per series,
and the sample fields are decoded together in numpy. Whatever does not fit is parsed in full.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from promcompat.core.errors import BadDataError
from promcompat.core.label_limits import LabelLimits
from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels, WriteBatch
from promcompat.remote_write.metadata import decode_metadata
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key
from promcompat.remote_write.wire_fields import check_field_count, split_fields

ByteMatrix = NDArray[np.uint8]

PIECE_BYTES = 1 << 20
"""The size of the pieces in which a larger request is decoded and written."""
_COUNTED_FROM_BYTES = 1 << 16
"""The protobuf library decodes fewer bytes too fast to delay other requests."""
_MAX_FIELDS_OF_SERIES = 100_000
_SERIES = "series and metadata entries"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedWrite:
    """A decoded request: the samples that can be stored, and what was left out.

    `invalid_reasons` has a text for each distinct series that Prometheus skips without an error to
    the sender. `refusals` has one for each distinct series and each metadata entry that is too
    large. `n_received` counts every float sample of the request. Refusals, and histograms, which
    are not in the batch either, must be reported to the sender.
    """

    batch: WriteBatch
    n_received: int
    n_exemplars: int = 0
    n_histograms: int = 0
    invalid_reasons: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def split_write_request(message: bytes, max_series: int) -> list[bytes]:
    """A `prometheus.WriteRequest` as several of about a megabyte, which hold the same in order.

    Raises BadDataError for a request with more than `max_series` series and metadata entries.
    """
    return split_fields(message, PIECE_BYTES, max_series, _SERIES)


def decode_write_request(
    message: bytes, known: Container[bytes], limits: LabelLimits, max_series: int
) -> DecodedWrite:
    """Decode a `prometheus.WriteRequest`.

    Labels of a key in `known` are not decoded. Rows keep the order of the request. Raises
    BadDataError for malformed protobuf and for more than `max_series` series, metadata entries or
    fields of one series.
    """
    if len(message) > _COUNTED_FROM_BYTES:
        check_field_count(message, max_series, _SERIES)
    try:
        request = WriteRequest.FromString(message)
    except DecodeError as exc:
        raise BadDataError("proto: cannot decode prometheus.WriteRequest") from exc
    raws = list(request.timeseries)
    pending: Sequence[int] = range(len(raws))
    parts: list[_Rows] = []
    for tail in _TAILS:
        rows, pending = _take_known(raws, pending, known, tail)
        parts.append(rows)
    slow = _SlowPath(known, limits)
    slow.add_all(raws, pending)
    parts.append(slow.rows())
    rows = _in_order(parts)
    metadata, metadata_refusals = decode_metadata(request.metadata, limits.max_metadata_bytes)
    batch = WriteBatch(rows.keys, rows.timestamps, rows.values, slow.labels, metadata)
    return DecodedWrite(
        batch=batch,
        n_received=len(rows.keys) + slow.n_dropped,
        n_exemplars=slow.n_exemplars,
        n_histograms=slow.n_histograms,
        invalid_reasons=tuple(slow.invalid.values()),
        refusals=(*slow.refused.values(), *metadata_refusals),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Columns of samples; `positions[i]` is the place of row i's series in the request."""

    positions: Sequence[int]
    keys: list[bytes]
    timestamps: IntArray
    values: FloatArray


@dataclass(frozen=True, slots=True)
class _Tail:
    """A sample field of one fixed size that ends most series messages.

    `fixed` are the bytes it has at fixed places (tags and lengths); its last six bytes are the
    timestamp, a varint of exactly six bytes: every millisecond from 1971-02-03 to 2109-05-15.
    """

    length: int
    fixed: tuple[tuple[int, int], ...]
    values_of: Callable[[ByteMatrix], FloatArray]


def _doubles(tails: ByteMatrix) -> FloatArray:
    return np.ascontiguousarray(tails[:, 3:11]).view("<f8").ravel()


def _zeros(tails: ByteMatrix) -> FloatArray:
    return np.zeros(len(tails))


_TAILS = (
    _Tail(18, ((0, 0x12), (1, 0x10), (2, 0x09), (11, 0x10)), _doubles),
    # Proto3 omits a zero, and zero is the most common value.
    _Tail(9, ((0, 0x12), (1, 0x07), (2, 0x10)), _zeros),
)
_TIMESTAMP_SHIFTS = np.arange(6, dtype=np.int64) * 7


def _take_known(
    raws: Sequence[bytes], pending: Sequence[int], known: Container[bytes], tail: _Tail
) -> tuple[_Rows, Sequence[int]]:
    """The rows of series that are a known key followed by such a tail, and the remaining series."""
    length = tail.length
    found = [(i, key) for i in pending if (key := raws[i][:-length]) in known]
    packed = b"".join([raws[i][-length:] for i, _ in found])
    if len(packed) != length * len(found):
        # A message can only be shorter than the tail if `known` contains the empty key.
        found, packed = [], b""
    tails = np.frombuffer(packed, np.uint8).reshape(-1, length)
    fits = _fits(tails, tail)
    if not fits.all():
        found = [pair for pair, ok in zip(found, fits.tolist(), strict=True) if ok]
        tails = tails[fits]
    positions = [i for i, _ in found]
    rows = _Rows(positions, [key for _, key in found], _timestamps(tails), tail.values_of(tails))
    if len(found) == len(pending):
        return rows, ()
    taken = frozenset(positions)
    return rows, [i for i in pending if i not in taken]


def _fits(tails: ByteMatrix, tail: _Tail) -> BoolArray:
    fits = (tails[:, -6:-1] >= 0x80).all(axis=1) & (tails[:, -1] < 0x80)
    for column, byte in tail.fixed:
        fits &= tails[:, column] == byte
    return np.asarray(fits)


def _timestamps(tails: ByteMatrix) -> IntArray:
    groups = (tails[:, -6:] & 0x7F).astype(np.int64) << _TIMESTAMP_SHIFTS
    return np.asarray(groups.sum(axis=1), np.int64)


@dataclass(slots=True)
class _SlowPath:
    """Full parse of series messages: new series, several samples, odd encodings."""

    known: Container[bytes]
    limits: LabelLimits
    labels: dict[bytes, Labels] = field(default_factory=dict)
    invalid: dict[bytes, str] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    n_exemplars: int = 0
    n_histograms: int = 0
    n_dropped: int = 0
    _positions: list[int] = field(default_factory=list)
    _keys: list[bytes] = field(default_factory=list)
    _timestamps: list[int] = field(default_factory=list)
    _bits: list[int] = field(default_factory=list)

    def add_all(self, raws: Sequence[bytes], positions: Sequence[int]) -> None:
        """Parse the messages at these positions; BadDataError when one is malformed."""
        for position in positions:
            if len(raws[position]) > _COUNTED_FROM_BYTES:
                check_field_count(raws[position], _MAX_FIELDS_OF_SERIES, "fields in one series")
            try:
                series = TimeSeries.FromString(raws[position])
            except DecodeError as exc:
                raise BadDataError("proto: cannot decode prometheus.TimeSeries") from exc
            self._add(position, series)

    def rows(self) -> _Rows:
        """The samples of every valid series."""
        values = np.array(self._bits, np.uint64).view(np.float64)
        return _Rows(self._positions, self._keys, np.array(self._timestamps, np.int64), values)

    def _add(self, position: int, series: TimeSeries) -> None:
        samples = [(sample.timestamp, sample.value) for sample in series.samples]
        self.n_exemplars += len(series.exemplars)
        n_histograms = len(series.histograms)
        key = _take_key(series)
        if not self._is_valid(key):
            self.n_dropped += len(samples)
            return
        self.n_histograms += n_histograms
        if samples:
            self._positions += [position] * len(samples)
            self._keys += [key] * len(samples)
            self._timestamps += [timestamp for timestamp, _ in samples]
            self._bits += [bits for _, bits in samples]

    def _is_valid(self, key: bytes) -> bool:
        if key in self.labels or key in self.known:
            return True
        if key in self.invalid or key in self.refused:
            return False
        if len(key) > self.limits.max_key_bytes:
            self.refused[key] = (
                f"the labels of a series take {len(key)} bytes, more than the limits allow"
            )
            return False
        try:
            labels = decode_series_key(key)
        except InvalidLabelsError as exc:
            self.invalid[key] = str(exc)
            return False
        if fault := self.limits.fault_of(labels):
            self.refused[key] = fault
            return False
        self.labels[key] = labels
        return True


def _take_key(series: TimeSeries) -> bytes:
    """The label fields alone, as encoded, joined; the message is modified."""
    series.ClearField("samples")
    series.ClearField("exemplars")
    series.ClearField("histograms")
    series.DiscardUnknownFields()
    return series.SerializeToString()


def _in_order(parts: Sequence[_Rows]) -> _Rows:
    """All rows in the order of the request, which decides between duplicates of one request."""
    filled = [part for part in parts if part.keys]
    if len(filled) == 1:
        return filled[0]
    positions = [position for part in filled for position in part.positions]
    keys = [key for part in filled for key in part.keys]
    order = np.argsort(np.array(positions, np.int64), kind="stable")
    return _Rows(
        positions,
        [keys[i] for i in order.tolist()],
        np.concatenate([np.empty(0, np.int64), *(part.timestamps for part in filled)])[order],
        np.concatenate([np.empty(0), *(part.values for part in filled)])[order],
    )
