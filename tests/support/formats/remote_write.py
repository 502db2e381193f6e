"""Requests of remote write 1.0 and 2.0 as senders make them, and what their histograms become."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import snappy

from promcompat.core.histograms.columns import Histograms, Ragged
from promcompat.remote_write.remote_pb2 import MetricMetadata
from promcompat.remote_write.version_2.remote_v2_pb2 import (
    Exemplar,
    Metadata,
    Request,
    Sample,
    TimeSeries,
)
from tests.support.factories import encode_field, encode_labels, encode_varint
from tests.support.fakes import columns_bytes

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
                _varint(4, zigzag(self.schema)) if self.schema else b"",
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
        return bytes(packed(number, [encode_varint(zigzag(delta)) for delta in deltas], 0))


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


def zigzag(number: int) -> int:
    return (number << 1 ^ number >> 63) & (1 << 64) - 1


def _span(span: tuple[int, int]) -> bytes:
    offset, length = span
    return (_varint(1, zigzag(offset)) if offset else b"") + (_varint(2, length) if length else b"")


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


Pairs = Sequence[tuple[str, str]]


def bits_of(value: float | int) -> int:
    """The bits of a value; an int is bits already."""
    return value if isinstance(value, int) else struct.unpack("<Q", struct.pack("<d", value))[0]


def encode_sample(timestamp_ms: int, value: float | int) -> bytes:
    """A sample field as gogo-protobuf writes it: zeros are left out; an int is the value's bits."""
    bits = bits_of(value)
    payload = b""
    if bits:
        payload += b"\x09" + struct.pack("<Q", bits)
    if timestamp_ms:
        payload += b"\x10" + encode_varint(timestamp_ms & (1 << 64) - 1)
    return encode_field(2, payload)


def encode_series(pairs: Pairs, *samples: tuple[int, float | int]) -> bytes:
    """A TimeSeries message: labels, then samples."""
    return encode_labels(pairs) + b"".join(encode_sample(*sample) for sample in samples)


def encode_metadata(family: str, kind: int = 1, help_text: str = "", unit: str = "") -> bytes:
    """A MetricMetadata message."""
    message = MetricMetadata(
        type=kind,  # type: ignore[arg-type]
        metric_family_name=family.encode(),
        help=help_text.encode(),
        unit=unit.encode(),
    )
    return message.SerializeToString()


def encode_request(series: Iterable[bytes] = (), metadata: Iterable[bytes] = ()) -> bytes:
    """A compressed WriteRequest."""
    fields = [encode_field(1, message) for message in series]
    fields += [encode_field(3, message) for message in metadata]
    return bytes(snappy.compress(b"".join(fields)))


V2_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}


@dataclass
class RequestV2:
    """Series, and the symbols that they use."""

    symbols: list[str] = field(default_factory=lambda: [""])
    series: list[bytes] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {text: number for number, text in enumerate(self.symbols)}

    def ref(self, text: str) -> int:
        """The number of a symbol."""
        number = self._numbers.setdefault(text, len(self.symbols))
        if number == len(self.symbols):
            self.symbols.append(text)
        return number

    def refs(self, pairs: Pairs) -> list[int]:
        """The references of labels."""
        return [self.ref(text) for pair in pairs for text in pair]

    def add(
        self,
        pairs: Pairs,
        *samples: tuple[int, float | int],
        start_ms: int = 0,
        histograms: Sequence[WireHistogram] = (),
        messages: Sequence[bytes] = (),
        exemplars: Sequence[tuple[Pairs, float, int]] = (),
        metadata: tuple[int, str, str] = (0, "", ""),
    ) -> None:
        """Add a series; samples are times and values (an int: bits), `messages` histograms."""
        kind, help_text, unit = metadata
        series = TimeSeries(
            labels_refs=self.refs(pairs),
            samples=[
                Sample(value=bits_of(value), timestamp=time_ms, start_timestamp=start_ms)
                for time_ms, value in samples
            ],
            histograms=[*(histogram.encode() for histogram in histograms), *messages],
            exemplars=[
                Exemplar(labels_refs=self.refs(labels), value=bits_of(value), timestamp=time_ms)
                for labels, value, time_ms in exemplars
            ],
        )
        if metadata != (0, "", ""):
            series.metadata.CopyFrom(
                Metadata(type=kind, help_ref=self.ref(help_text), unit_ref=self.ref(unit))
            )
        self.series.append(series.SerializeToString())

    def message(self) -> bytes:
        """The Request."""
        symbols = [symbol.encode() for symbol in self.symbols]
        return Request(symbols=symbols, timeseries=self.series).SerializeToString()

    def body(self) -> bytes:
        """The compressed Request."""
        return bytes(snappy.compress(self.message()))
