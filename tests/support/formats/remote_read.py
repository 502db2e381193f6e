"""Reads the streamed answers of remote read and their chunks, bit by bit without our encoder."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
import snappy

from promcompat.core.matchers import MatchOp
from promcompat.remote_read.remote_read_pb2 import (
    Chunk,
    ChunkedReadResponse,
    LabelMatcher,
    Query,
    ReadRequest,
    SeriesChunks,
)
from promcompat.remote_write.remote_pb2 import SeriesKey
from tests.support.formats.remote_write import WireHistogram

BitPoints = list[tuple[int, int]]
"""Times and the bits of values."""
_NUMBERS = {MatchOp.EQUAL: 0, MatchOp.NOT_EQUAL: 1, MatchOp.REGEX: 2, MatchOp.NOT_REGEX: 3}


def encode_read_request(
    queries: list[tuple[int, int, list[tuple[str, str, str]]]], accepted: list[int]
) -> bytes:
    """The compressed request for queries: first and last time, and matchers."""
    request = ReadRequest(
        queries=[
            Query(
                start_timestamp_ms=start,
                end_timestamp_ms=end,
                matchers=[
                    LabelMatcher(
                        type=_NUMBERS[MatchOp(op)], name=name.encode(), value=value.encode()
                    )
                    for name, op, value in matchers
                ],
            )
            for start, end, matchers in queries
        ],
        accepted_response_types=accepted,
    )
    return bytes(snappy.compress(request.SerializeToString()))


@dataclass
class Bits:
    """The bits of a chunk, the highest of a byte first."""

    data: bytes
    at: int = 0

    def read(self, n_bits: int) -> int:
        whole = int.from_bytes(self.data, "big")
        self.at += n_bits
        return whole >> (8 * len(self.data) - self.at) & ((1 << n_bits) - 1)

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.read(8)) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def change(self) -> int:
        for n_bits in (0, 14, 17, 20):
            if not self.read(1):
                raw = self.read(n_bits) if n_bits else 0
                return raw - (1 << n_bits) if n_bits and raw > 1 << (n_bits - 1) else raw
        raw = self.read(64)
        return raw - (1 << 64) if raw >> 63 else raw


def read_chunk(data: bytes) -> BitPoints:
    """The samples of an XOR chunk."""
    bits = Bits(data)
    points: BitPoints = []
    time = distance = value = leading = n_bits = 0
    for row in range(bits.read(16)):
        if row == 0:
            raw = bits.varint()
            time = (raw >> 1) ^ -(raw & 1)
            value = bits.read(64)
        else:
            distance = bits.varint() if row == 1 else distance + bits.change()
            time += distance
            if bits.read(1):
                if bits.read(1):
                    leading, n_bits = bits.read(5), bits.read(6) or 64
                value ^= bits.read(n_bits) << (64 - leading - n_bits)
        points.append((time, value))
    assert len(data) == -(-bits.at // 8)
    return points


@dataclass
class ReadAnswer:
    """The series of each query, in the order in which they came, and the bytes of each frame."""

    queries: dict[int, dict[tuple[tuple[str, str], ...], BitPoints]] = field(default_factory=dict)
    frame_bytes: list[int] = field(default_factory=list)


def read_stream(body: bytes) -> ReadAnswer:
    """A whole streamed answer; asserts what the protocol demands of its frames."""
    answer = ReadAnswer()
    for data in frames(body):
        answer.frame_bytes.append(len(data))
        frame = ChunkedReadResponse.FromString(data)
        (series,) = frame.chunked_series
        labels = labels_of(series)
        of_query = answer.queries.setdefault(frame.query_index, {})
        assert labels not in of_query or list(of_query)[-1] == labels, "a series was resumed"
        points = of_query.setdefault(labels, [])
        for chunk in SeriesChunks.FromString(series).chunks:
            points += _checked(chunk)
    return answer


def labels_of(series: bytes) -> tuple[tuple[str, str], ...]:
    """The labels of a series message, whatever else it has."""
    message = SeriesKey.FromString(series)
    return tuple((label.name.decode(), label.value.decode()) for label in message.labels)


def _checked(chunk: Chunk) -> BitPoints:
    points = read_chunk(chunk.data)
    assert (chunk.type, chunk.min_time_ms, chunk.max_time_ms) == (1, points[0][0], points[-1][0])
    assert len(points) <= 120
    return points


def frames(body: bytes) -> Iterator[bytes]:
    """The content of each frame."""
    at = 0
    while at < len(body):
        length = shift = 0
        while body[at] & 0x80:
            length |= (body[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
        length, at = length | body[at] << shift, at + 1
        (checksum,) = struct.unpack(">I", body[at : at + 4])
        data = body[at + 4 : at + 4 + length]
        assert checksum == google_crc32c.value(data)
        yield data
        at += 4 + length


def bits_of(points: Mapping[int, float]) -> BitPoints:
    """Points by their bits."""
    values = np.fromiter(points.values(), np.float64).view(np.uint64).tolist()
    return list(zip(points, values, strict=True))


_WIDTHS = (0, 3, 6, 9, 12, 18, 25, 56, 64)
_HINTS = {0b00: 0, 0b10: 1, 0b01: 2, 0b11: 3}


class _Varbits(Bits):
    """The numbers of variable length in a chunk."""

    def unsigned(self) -> int:
        return self._number()[1]

    def signed(self) -> int:
        n_bits, raw = self._number()
        if not n_bits:
            return 0
        limit = 1 << n_bits - 1
        is_negative = raw >= limit if n_bits == 64 else raw > limit
        return raw - (1 << n_bits) if is_negative else raw

    def _number(self) -> tuple[int, int]:
        """The width and the bits of a number."""
        n_ones = 0
        while n_ones < 8 and self.read(1):
            n_ones += 1
        return _WIDTHS[n_ones], self.read(_WIDTHS[n_ones]) if n_ones else 0

    def bound(self) -> float:
        short = self.unsigned()
        return (short - 1) / 1000 if short else _double(self.read(64))

    def threshold(self) -> float:
        short = self.read(8)
        if short == 255:
            return _double(self.read(64))
        return 0.5 * 2.0 ** (short - 243) if short else 0.0

    def spans(self) -> tuple[tuple[int, int], ...]:
        found = []
        for _ in range(self.unsigned()):
            length = self.unsigned()
            found.append((self.signed(), length))
        return tuple(found)


@dataclass
class _Xor:
    """A float that is written as the XOR with the one before it."""

    bits: int = 0
    leading: int = 0
    n_bits: int = 0

    def next(self, chunk: _Varbits, *, is_first: bool) -> int:
        if is_first:
            self.bits = chunk.read(64)
        elif chunk.read(1):
            if chunk.read(1):
                self.leading, self.n_bits = chunk.read(5), chunk.read(6) or 64
            self.bits ^= chunk.read(self.n_bits) << (64 - self.leading - self.n_bits)
        return self.bits


@dataclass
class _Change:
    """An integer that is written as the change of its difference."""

    value: int = 0
    difference: int = 0

    def next(self, number: int, *, is_first: bool) -> int:
        if is_first:
            self.value = number
        else:
            self.difference += number
            self.value += self.difference
        return self.value


def read_histogram_chunk(data: bytes, kind: int) -> list[WireHistogram]:
    """The histograms of a chunk of type 2 or 3; the hint of all but the first one is 2 or gauge."""
    chunk = _Varbits(data)
    n_rows, hint = chunk.read(16), _HINTS[chunk.read(2)]
    assert chunk.read(6) == 0
    layout: dict[str, Any] = {"zero_threshold": chunk.threshold(), "schema": chunk.signed()}
    layout["positive_spans"], layout["negative_spans"] = chunk.spans(), chunk.spans()
    if layout["schema"] == -53:
        layout["custom_values"] = tuple(chunk.bound() for _ in range(chunk.unsigned()))
    sizes = [sum(n for _, n in layout[f"{side}_spans"]) for side in ("positive", "negative")]
    read = _read_floats if kind == 3 else _read_integers
    found = read(chunk, n_rows, sizes, layout)
    assert len(data) == -(-chunk.at // 8)
    followers = 3 if hint == 3 else 2
    return [h.but(hint=hint if row == 0 else followers) for row, h in enumerate(found)]


def _read_floats(
    chunk: _Varbits, n_rows: int, sizes: list[int], layout: dict[str, Any]
) -> list[WireHistogram]:
    time, floats = _Change(), [_Xor() for _ in range(3 + sum(sizes))]
    found = []
    for row in range(n_rows):
        at = time.next(chunk.signed(), is_first=row == 0)
        bits = [one.next(chunk, is_first=row == 0) for one in floats]
        count, zero_count = _double(bits[0]), _double(bits[1])
        buckets = [_double(one) for one in bits[3:]]
        found.append(
            WireHistogram(
                timestamp_ms=at,
                count=count,
                zero_count=zero_count,
                sum=bits[2],
                positive=tuple(buckets[: sizes[0]]),
                negative=tuple(buckets[sizes[0] :]),
                is_float=True,
                **layout,
            )
        )
    return found


def _read_integers(
    chunk: _Varbits, n_rows: int, sizes: list[int], layout: dict[str, Any]
) -> list[WireHistogram]:
    time, count, zero, total = _Change(), _Change(), _Change(), _Xor()
    deltas = [_Change() for _ in range(sum(sizes))]
    found = []
    for row in range(n_rows):
        is_first = row == 0
        at = time.next(chunk.signed(), is_first=is_first)
        counts = [
            one.next(chunk.unsigned() if is_first else chunk.signed(), is_first=is_first)
            for one in (count, zero)
        ]
        bits = total.next(chunk, is_first=is_first)
        steps = [one.next(chunk.signed(), is_first=is_first) for one in deltas]
        found.append(
            WireHistogram(
                timestamp_ms=at,
                count=counts[0],
                zero_count=counts[1],
                sum=bits,
                positive=_running(steps[: sizes[0]]),
                negative=_running(steps[sizes[0] :]),
                **layout,
            )
        )
    return found


def _running(steps: list[int]) -> tuple[int, ...]:
    sums, total = [], 0
    for step in steps:
        total += step
        sums.append(total)
    return tuple(sums)


def _double(bits: int) -> float:
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value
