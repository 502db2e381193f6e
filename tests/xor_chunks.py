"""Reads the streamed answers of remote read, bit by bit and without our encoder."""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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
