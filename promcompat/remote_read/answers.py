"""Remote read answers: the samples of a block as messages, or as frames of XOR chunks."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import IntArray, SampleBlock
from promcompat.remote_read.chunk_kernels import (
    MAX_BYTES_OF_CHUNK,
    MAX_BYTES_OF_MESSAGE,
    MAX_BYTES_OF_SAMPLE,
    MAX_SAMPLES_OF_CHUNK,
    encode_messages,
    encode_xor_chunks,
)
from promcompat.remote_read.remote_read_pb2 import (
    Chunk,
    ChunkedReadResponse,
    QueryResult,
    ReadResponse,
    SeriesChunks,
)
from promcompat.remote_write.series_key import encode_series_key

SAMPLES_TYPE: Final = "application/x-protobuf"
CHUNKS_TYPE: Final = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
_XOR: Final = 1
_CHUNKS_AT_ONCE: Final = 256
"""Their data take at most 0.6 MB, so that a frame stays below the megabyte of Prometheus."""


def samples_answer(blocks: Sequence[SampleBlock]) -> bytes:
    """A `prometheus.ReadResponse` with one result for each block, before it is compressed."""
    return ReadResponse(results=list(map(_result_of, blocks))).SerializeToString()


def _result_of(block: SampleBlock) -> bytes:
    order = _by_labels(block)
    firsts, row_ends = block.offsets[order], block.offsets[order + 1]
    out = np.empty(MAX_BYTES_OF_MESSAGE * len(block.timestamps), np.uint8)
    ends = np.empty(len(order), np.int64)
    encode_messages(block.timestamps, _bits(block), firsts, row_ends, out, ends)
    data = out[: ends[-1] if len(ends) else 0].tobytes()
    starts = [0, *ends.tolist()]
    series = [
        encode_series_key(block.labels[index]) + data[start:end]
        for index, start, end in zip(order.tolist(), starts, starts[1:], strict=False)
        if start < end
    ]
    return QueryResult(timeseries=series).SerializeToString()


def chunk_frames(block: SampleBlock, query_index: int) -> Iterator[bytes]:
    """The frames of one query: series in the order of their labels, each frame of one series."""
    pieces = _Pieces.of(block)
    key: tuple[int, bytes] = (-1, b"")
    for first in range(0, len(pieces.series), _CHUNKS_AT_ONCE):
        part = pieces.part(first, first + _CHUNKS_AT_ONCE)
        encoded = zip(part.series.tolist(), _encode(block, part), strict=True)
        for series, chunks in groupby(encoded, lambda item: item[0]):
            if key[0] != series:
                key = series, encode_series_key(block.labels[series])
            fields = SeriesChunks(chunks=[chunk for _, chunk in chunks]).SerializeToString()
            yield _frame(key[1] + fields, query_index)


def _by_labels(block: SampleBlock) -> IntArray:
    return np.array(sorted(range(len(block.labels)), key=block.labels.__getitem__), np.int64)


def _bits(block: SampleBlock) -> NDArray[np.uint64]:
    return np.ascontiguousarray(block.values).view(np.uint64)


@dataclass(frozen=True, slots=True)
class _Pieces:
    """The rows of each chunk, `firsts[i]` to `row_ends[i]`, and the series they are of."""

    series: IntArray
    firsts: IntArray
    row_ends: IntArray

    @classmethod
    def of(cls, block: SampleBlock) -> "_Pieces":
        order = _by_labels(block)
        n_rows = np.diff(block.offsets)[order]
        n_chunks = -(-n_rows // MAX_SAMPLES_OF_CHUNK)
        series = np.repeat(order, n_chunks)
        before = np.repeat(np.cumsum(n_chunks) - n_chunks, n_chunks)
        number = np.arange(len(series), dtype=np.int64) - before
        firsts = block.offsets[series] + number * MAX_SAMPLES_OF_CHUNK
        row_ends = np.minimum(firsts + MAX_SAMPLES_OF_CHUNK, block.offsets[series + 1])
        return cls(series, firsts, row_ends)

    def part(self, first: int, end: int) -> "_Pieces":
        return _Pieces(self.series[first:end], self.firsts[first:end], self.row_ends[first:end])


def _encode(block: SampleBlock, pieces: _Pieces) -> Iterator[Chunk]:
    n_rows = int((pieces.row_ends - pieces.firsts).sum())
    n_bytes = MAX_BYTES_OF_SAMPLE * n_rows + MAX_BYTES_OF_CHUNK * len(pieces.series)
    out, ends = np.zeros(n_bytes, np.uint8), np.empty(len(pieces.series), np.int64)
    times = block.timestamps
    encode_xor_chunks(times, _bits(block), pieces.firsts, pieces.row_ends, out, ends)
    first_times, last_times = times[pieces.firsts].tolist(), times[pieces.row_ends - 1].tolist()
    start = 0
    for first_ms, last_ms, end in zip(first_times, last_times, ends.tolist(), strict=True):
        data = out[start:end].tobytes()
        yield Chunk(min_time_ms=first_ms, max_time_ms=last_ms, type=_XOR, data=data)
        start = end


def _frame(series: bytes, query_index: int) -> bytes:
    """The length as a varint, the CRC-32C, and the message."""
    message = ChunkedReadResponse(chunked_series=[series], query_index=query_index)
    data = message.SerializeToString()
    return _varint(len(data)) + struct.pack(">I", google_crc32c.value(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
