"""Remote read answers: the samples of a block as messages, or as frames of chunks."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import BoolArray, IntArray, SampleBlock
from promcompat.remote_read.chunk_kernels import (
    MAX_BYTES_OF_CHUNK,
    MAX_BYTES_OF_MESSAGE,
    MAX_BYTES_OF_SAMPLE,
    MAX_SAMPLES_OF_CHUNK,
    encode_messages,
    encode_xor_chunks,
)
from promcompat.remote_read.histogram_chunks import TimedHistograms, runs_of
from promcompat.remote_read.remote_read_pb2 import (
    Chunk,
    ChunkedReadResponse,
    QueryResult,
    ReadResponse,
    SeriesChunks,
)
from promcompat.remote_write.series_key import encode_series_key
from promcompat.remote_write.wire_fields import encoded_varint

SAMPLES_TYPE: Final = "application/x-protobuf"
CHUNKS_TYPE: Final = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
_XOR: Final = 1
_INTEGER_HISTOGRAMS, _FLOAT_HISTOGRAMS = 2, 3
_MIXED_CHUNKS_AT_ONCE: Final = 8
"""Of series with histograms, which may have hundreds of buckets."""
_HISTOGRAMS_FIELD: Final = b"\x22"
_CHUNKS_AT_ONCE: Final = 256
"""Their data take at most 0.6 MB, so that a frame stays below the megabyte of Prometheus."""


def samples_answer(blocks: Sequence[SampleBlock]) -> bytes:
    """A `prometheus.ReadResponse` with one result for each block, before it is compressed."""
    return ReadResponse(results=list(map(_result_of, blocks))).SerializeToString()


def _result_of(block: SampleBlock) -> bytes:
    order = _by_labels(block)
    histograms = histograms_of(block)
    if histograms is None:
        fields = list(_float_fields(block, block.offsets[order], block.offsets[order + 1]))
    else:
        places, timed = histograms
        floats, offsets = _without(block, places)
        fields = [
            before + after
            for before, after in zip(
                _float_fields(floats, floats.offsets[order], floats.offsets[order + 1]),
                _histogram_fields(timed, offsets, order),
                strict=True,
            )
        ]
    series = [
        encode_series_key(block.labels[index]) + data
        for index, data in zip(order.tolist(), fields, strict=True)
        if data
    ]
    return QueryResult(timeseries=series).SerializeToString()


def _float_fields(block: SampleBlock, firsts: IntArray, row_ends: IntArray) -> Iterator[bytes]:
    """The sample fields of series, given by their rows."""
    out = np.empty(MAX_BYTES_OF_MESSAGE * len(block.timestamps), np.uint8)
    ends = np.empty(len(firsts), np.int64)
    encode_messages(block.timestamps, _bits(block), firsts, row_ends, out, ends)
    data, start = out[: ends[-1] if len(ends) else 0].tobytes(), 0
    for end in ends.tolist():
        yield data[start:end]
        start = end


def _histogram_fields(
    timed: TimedHistograms, offsets: IntArray, order: IntArray
) -> Iterator[bytes]:
    """The histogram fields of series, of which `offsets` has the histograms."""
    messages = list(timed.messages())
    for index in order.tolist():
        found = messages[offsets[index] : offsets[index + 1]]
        yield b"".join(_HISTOGRAMS_FIELD + encoded_varint(len(one)) + one for one in found)


def histograms_of(block: SampleBlock) -> tuple[IntArray, TimedHistograms] | None:
    """The rows of a block with histograms, and these; None if all are floats."""
    if block.histograms is None:
        return None
    places = np.flatnonzero(is_histogram(block.values))
    found = block.histograms.take(histogram_numbers(block.values[places]))
    return places, TimedHistograms(found, block.timestamps[places])


def _without(block: SampleBlock, places: IntArray) -> tuple[SampleBlock, IntArray]:
    """The block without some rows, and how many of these come before each series."""
    before = np.searchsorted(places, block.offsets)
    kept = np.ones(len(block.values), bool)
    kept[places] = False
    return SampleBlock(
        block.labels, block.timestamps[kept], block.values[kept], block.offsets - before
    ), before


def chunk_frames(block: SampleBlock, query_index: int) -> Iterator[bytes]:
    """The frames of one query: series in the order of their labels, each frame of one series."""
    timed = histograms_of(block)
    pieces = _Pieces.of(block) if timed is None else _mixed_pieces(block, *timed)
    key: tuple[int, bytes] = (-1, b"")
    at_once = _CHUNKS_AT_ONCE if timed is None else _MIXED_CHUNKS_AT_ONCE
    for first in range(0, len(pieces.series), at_once):
        part = pieces.part(first, first + at_once)
        chunks_of_part = _encode(block, part)
        if timed is not None:
            chunks_of_part = _encode_mixed(block, part, *timed)
        encoded = zip(part.series.tolist(), chunks_of_part, strict=True)
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
        return self.take(slice(first, end))

    def take(self, index: BoolArray | slice) -> "_Pieces":
        return _Pieces(self.series[index], self.firsts[index], self.row_ends[index])


def _mixed_pieces(block: SampleBlock, places: IntArray, timed: TimedHistograms) -> _Pieces:
    """Pieces of one kind each, whose histograms can be in one chunk."""
    series = np.repeat(np.arange(len(block.labels)), np.diff(block.offsets))
    is_there = np.zeros(len(block.values), bool)
    is_there[places] = True
    is_continued = np.zeros(len(block.values), bool)
    is_continued[1:] = (series[1:] == series[:-1]) & (is_there[1:] == is_there[:-1])
    is_continued[places] &= timed.can_follow()
    firsts, row_ends = runs_of(is_continued)
    rank = np.empty(len(block.labels), np.int64)
    rank[_by_labels(block)] = np.arange(len(rank))
    order = np.argsort(rank[series[firsts]], kind="stable")
    return _Pieces(series[firsts][order], firsts[order], row_ends[order])


def _encode_mixed(
    block: SampleBlock, pieces: _Pieces, places: IntArray, timed: TimedHistograms
) -> Iterator[Chunk]:
    """The chunks of pieces of either kind, in their order."""
    is_there = np.isin(pieces.firsts, places)
    floats = _encode(block, pieces.take(~is_there))
    found = pieces.take(is_there)
    lengths = found.row_ends - found.firsts
    ends = np.cumsum(lengths)
    firsts = ends - lengths
    # Those of the pieces, one piece after the other.
    numbers = np.repeat(np.searchsorted(places, found.firsts) - firsts, lengths)
    part = timed.take(numbers + np.arange(len(numbers)))
    encoded = zip(part.chunks(firsts, ends), firsts.tolist(), ends.tolist(), strict=True)
    times, is_float = part.timestamps, part.histograms.is_float
    for is_histogram_chunk in is_there.tolist():
        if not is_histogram_chunk:
            yield next(floats)
            continue
        data, first, end = next(encoded)
        yield Chunk(
            min_time_ms=times[first],
            max_time_ms=times[end - 1],
            type=_FLOAT_HISTOGRAMS if is_float[first] else _INTEGER_HISTOGRAMS,
            data=data,
        )


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
    return encoded_varint(len(data)) + struct.pack(">I", google_crc32c.value(data)) + data
