"""Histogram messages of remote write, byte by byte, and the columns that they must become."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from promcompat.core.histograms import Histograms, Ragged
from tests.factories import encode_field, encode_varint
from tests.interned_histograms import columns_bytes
from tests.wire import bits_of

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class WireHistogram:
    """A histogram as its sender has it: absolute buckets; an int as `sum` is its bits."""

    timestamp_ms: int = 0
    schema: int = 0
    count: float = 0
    sum: float | int = 0.0
    zero_threshold: float = 0.0
    zero_count: float = 0
    positive_spans: Spans = ()
    positive: Sequence[float] = ()
    negative_spans: Spans = ()
    negative: Sequence[float] = ()
    custom_values: Sequence[float] = ()
    hint: int = 0
    start_ms: int = 0
    is_float: bool = False

    def but(self, **fields: Any) -> "WireHistogram":
        """The histogram with other fields."""
        return replace(self, **fields)

    def encode(self, *, is_packed: bool = True) -> bytes:
        """The message as gogo-protobuf writes it: zeros are left out, but for the oneofs."""
        packed = _packed if is_packed else _unpacked
        return b"".join(
            (
                _fixed(2, float(self.count)) if self.is_float else _varint(1, int(self.count)),
                _fixed(3, self.sum) if bits_of(self.sum) else b"",
                _varint(4, _zigzag(self.schema)) if self.schema else b"",
                _fixed(5, self.zero_threshold) if self.zero_threshold else b"",
                _fixed(7, float(self.zero_count))
                if self.is_float
                else _varint(6, int(self.zero_count)),
                b"".join(encode_field(8, _span(span)) for span in self.negative_spans),
                self._buckets(9, self.negative, packed),
                b"".join(encode_field(11, _span(span)) for span in self.positive_spans),
                self._buckets(12, self.positive, packed),
                _varint(14, self.hint) if self.hint else b"",
                _varint(15, self.timestamp_ms) if self.timestamp_ms else b"",
                packed(16, [_double(float(value)) for value in self.custom_values], 1),
                _varint(17, self.start_ms) if self.start_ms else b"",
            )
        )

    def _buckets(self, number: int, buckets: Sequence[float], packed: Any) -> bytes:
        if self.is_float:
            written: bytes = packed(number + 1, [_double(float(count)) for count in buckets], 1)
            return written
        deltas = np.diff(np.array([0, *buckets], np.int64)).tolist()
        return bytes(packed(number, [encode_varint(_zigzag(delta)) for delta in deltas], 0))


def columns_of(histograms: Sequence[WireHistogram]) -> Histograms:
    """The columns of valid histograms, made one by one."""
    return Histograms(
        np.array([h.schema for h in histograms], np.int8),
        np.array([h.hint for h in histograms], np.uint8),
        np.array([h.is_float for h in histograms], bool),
        np.array([h.zero_threshold for h in histograms], np.float64),
        np.array([_bits(h, h.zero_count) for h in histograms], np.int64),
        np.array([_bits(h, h.count) for h in histograms], np.int64),
        np.array([bits_of(h.sum) for h in histograms], np.uint64).view(np.float64),
        _ragged([[*h.positive_spans] for h in histograms], np.int32),
        _ragged([[*h.negative_spans] for h in histograms], np.int32),
        _ragged([[_bits(h, count) for count in h.positive] for h in histograms], np.int64),
        _ragged([[_bits(h, count) for count in h.negative] for h in histograms], np.int64),
        _ragged([[*h.custom_values] for h in histograms], np.float64),
    )


def same_histograms(one: Histograms, other: Histograms) -> bool:
    """Whether all columns are equal to the bit."""
    return columns_bytes(one) == columns_bytes(other)


def _bits(histogram: WireHistogram, count: float) -> int:
    if not histogram.is_float:
        return int(np.uint64(count).astype(np.int64))
    return int(struct.unpack("<q", struct.pack("<d", count))[0])


def _ragged(rows: list[list[Any]], kind: Any) -> Ragged[Any]:
    cells = np.array([cell for row in rows for cell in row], kind)
    if kind is np.int32:
        cells = cells.reshape(-1, 2)
    return Ragged.of_lengths(np.array([len(row) for row in rows], np.int64), cells)


def _zigzag(number: int) -> int:
    return (number << 1 ^ number >> 63) & (1 << 64) - 1


def _span(span: tuple[int, int]) -> bytes:
    offset, length = span
    return (_varint(1, _zigzag(offset)) if offset else b"") + (
        _varint(2, length) if length else b""
    )


def _double(value: float) -> bytes:
    return struct.pack("<Q", bits_of(value))


def _varint(number: int, value: int) -> bytes:
    return encode_varint(number << 3) + encode_varint(value & (1 << 64) - 1)


def _fixed(number: int, value: float) -> bytes:
    return encode_varint(number << 3 | 1) + _double(value)


def _packed(number: int, elements: list[bytes], _wire_type: int) -> bytes:
    return encode_field(number, b"".join(elements)) if elements else b""


def _unpacked(number: int, elements: list[bytes], wire_type: int) -> bytes:
    return b"".join(encode_varint(number << 3 | wire_type) + element for element in elements)
