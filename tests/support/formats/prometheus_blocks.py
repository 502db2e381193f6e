"""Writes blocks of Prometheus' TSDB, in which every series has only a name, and their chunks."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import orjson

from promcompat.core.histograms.columns import CUSTOM_BUCKETS, Histograms
from promcompat.core.model import STALE_NAN_BITS
from promcompat.remote_read.chunk_kernels import (
    MAX_BYTES_OF_CHUNK,
    MAX_BYTES_OF_SAMPLE,
    encode_xor_chunks,
)

ULID = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
FILE_HEAD_BYTES = 8
Place = tuple[int, int, int]
"""First time, last time and reference of a chunk."""


@dataclass(frozen=True)
class WrittenChunk:
    """A chunk of a series: encoding 1 is of floats, 2 and 3 are of histograms."""

    start_ms: int
    end_ms: int
    content: bytes
    encoding: int = 1


def float_chunk(*points: tuple[int, float]) -> WrittenChunk:
    """A chunk with samples."""
    times = np.array([time for time, _ in points], np.int64)
    bits = np.array([value for _, value in points], np.float64).view(np.uint64)
    out = np.zeros(MAX_BYTES_OF_SAMPLE * len(points) + MAX_BYTES_OF_CHUNK, np.uint8)
    ends = np.empty(1, np.int64)
    encode_xor_chunks(times, bits, np.array([0]), np.array([len(points)]), out, ends)
    return WrittenChunk(points[0][0], points[-1][0], out[: ends[0]].tobytes())


def write_block(
    folder: Path,
    series: Mapping[str, Sequence[WrittenChunk]],
    deleted: Mapping[str, Sequence[tuple[int, int]]] | None = None,
    *,
    end_ms: int = 1_000,
) -> list[int]:
    """A block of the times `[0, end_ms)`; the numbers of its series, which are sorted by name."""
    (folder / "chunks").mkdir(parents=True)
    write_meta(folder, end_ms)
    names, records = sorted(series), []
    chunks = bytearray(struct.pack(">IB3x", 0x85BD40DD, 1))
    for name in names:
        places = []
        for chunk in series[name]:
            places.append((chunk.start_ms, chunk.end_ms, len(chunks)))
            content = bytes((chunk.encoding,)) + chunk.content
            chunks += uvarint(len(chunk.content)) + content + _checksum(content)
        records.append(series_record(names.index(name), places))
    (folder / "chunks" / "000001").write_bytes(chunks)
    numbers = write_index(folder, names, records)
    number_of = dict(zip(names, numbers, strict=True))
    ranges = [(number_of[name], *one) for name, many in (deleted or {}).items() for one in many]
    write_tombstones(folder, b"".join(uvarint(n) + varint(a) + varint(b) for n, a, b in ranges))
    return numbers


def write_meta(folder: Path, end_ms: int, parents: Sequence[str] = ()) -> None:
    """The description of a block of the times `[0, end_ms)`."""
    folder.mkdir(parents=True, exist_ok=True)
    compaction = {"level": 2, "parents": [{"ulid": name} for name in parents]}
    meta = {"version": 1, "minTime": 0, "maxTime": end_ms, "compaction": compaction}
    (folder / "meta.json").write_bytes(orjson.dumps(meta))


def write_tombstones(folder: Path, content: bytes) -> None:
    """The file of tombstones around its entries."""
    head = struct.pack(">IB", 0x0130BA30, 1)
    (folder / "tombstones").write_bytes(head + content + _checksum(content))


def series_record(number_of_name: int, places: Sequence[Place]) -> bytes:
    """An entry of the index; the name's number is that in the argument of `write_index`."""
    out = uvarint(1) + uvarint(0) + uvarint(1 + number_of_name) + uvarint(len(places))
    last_end = last_reference = 0
    for place, (start_ms, end_ms, reference) in enumerate(places):
        if place == 0:
            out += varint(start_ms) + uvarint(end_ms - start_ms) + uvarint(reference)
        else:
            out += uvarint(start_ms - last_end) + uvarint(end_ms - start_ms)
            out += varint(reference - last_reference)
        last_end, last_reference = end_ms, reference
    return out


def write_index(folder: Path, names: Sequence[str], records: Sequence[bytes]) -> list[int]:
    """The index with the entries of the series; their numbers."""
    out = bytearray(struct.pack(">IB", 0xBAAAD700, 2))
    symbols = b"".join(uvarint(len(text)) + text.encode() for text in ("__name__", *names))
    symbols_at = _add_section(out, struct.pack(">I", 1 + len(names)) + symbols)
    numbers = []
    for record in records:
        out += bytes(-len(out) % 16)
        numbers.append(len(out) // 16)
        out += uvarint(len(record)) + record + _checksum(record)
    postings_at = _add_section(out, struct.pack(f">{1 + len(numbers)}I", len(numbers), *numbers))
    table = struct.pack(">I", 1) + uvarint(2) + uvarint(0) + uvarint(0) + uvarint(postings_at)
    table_at = _add_section(out, table)
    contents = struct.pack(">6Q", symbols_at, 16, 0, 0, postings_at, table_at)
    (folder / "index").write_bytes(out + contents + _checksum(contents))
    return numbers


def uvarint(number: int) -> bytes:
    """A varint of protobuf."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def varint(number: int) -> bytes:
    """A varint with a sign, which is in its lowest bit."""
    return uvarint(2 * number if number >= 0 else -2 * number - 1)


def _add_section(out: bytearray, content: bytes) -> int:
    """Where the section begins."""
    at = len(out)
    out += struct.pack(">I", len(content)) + content + _checksum(content)
    return at


def _checksum(content: bytes) -> bytes:
    return struct.pack(">I", google_crc32c.value(content))


_SIGNED_SIZES = (0, 3, 6, 9, 12, 18, 25, 56)
_WORD = 1 << 64


class _Bits:
    def __init__(self) -> None:
        self.text = ""

    def put(self, number: int, n_bits: int) -> None:
        if n_bits:
            self.text += format(number % (1 << n_bits), f"0{n_bits}b")

    def signed(self, number: int) -> None:
        number = (number + _WORD // 2) % _WORD - _WORD // 2
        for n_ones, size in enumerate(_SIGNED_SIZES):
            if number == 0 or (size and -(1 << size - 1) < number <= 1 << size - 1):
                return self._sized(number, n_ones, size)
        return self._sized(number, 8, 64)

    def unsigned(self, number: int) -> None:
        for n_ones, size in enumerate(_SIGNED_SIZES):
            if number < 1 << size:
                return self._sized(number, n_ones, size)
        return self._sized(number, 8, 64)

    def _sized(self, number: int, n_ones: int, size: int) -> None:
        self.text += "1" * n_ones + ("" if n_ones == 8 else "0")
        self.put(number, size)

    def changed(self, bits: int, before: int, window: list[int]) -> None:
        """The bits of a float that differ from the float before; `window` is leading, trailing."""
        changed = bits ^ before
        if not changed:
            return self.put(0, 1)
        leading = min(64 - changed.bit_length(), 31)
        trailing = (changed & -changed).bit_length() - 1
        if window and window[0] <= leading and window[1] <= trailing:
            self.put(0b10, 2)
        else:
            window[:] = leading, trailing
            self.put(0b11, 2)
            self.put(leading, 5)
            self.put(64 - leading - trailing, 6)
        return self.put(changed >> window[1], 64 - window[0] - window[1])


def histogram_chunk(
    times: Sequence[int], histograms: Histograms, *, stale: Sequence[int] = (), flags: int = 0
) -> bytes:
    """A chunk, without its type, of histograms that have the layout of the first one.

    The samples at the places `stale` are stale markers, the first one excepted.
    """
    bits = _Bits()
    bits.put(len(times), 16)
    bits.put(flags << 6, 8)
    _put_layout(bits, histograms)
    is_float = bool(histograms.is_float[0])
    rows = [_numbers(histograms, row) for row in range(len(times))]
    windows: list[list[int]] = [[] for _ in rows[0]]
    before, changes, time_change = list(rows[0]), [0] * len(rows[0]), 0
    bits.signed(times[0])
    for place, number in enumerate(before):
        if is_float or place == 2:
            bits.put(number, 64)
        elif place < 2:
            bits.unsigned(number)
        else:
            bits.signed(number)
    for row in range(1, len(times)):
        change = times[row] - times[row - 1]
        bits.signed(change - time_change)
        time_change = change
        numbers = list(rows[row])
        if row in stale:
            # Its counts are those that repeat the last changes.
            numbers = [one + by for one, by in zip(before, changes, strict=True)]
            numbers[:2] = before[:2] if is_float else numbers[:2]
            numbers[2:] = [STALE_NAN_BITS, *before[3:]]
        for place, number in enumerate(numbers[: 3 if row in stale else None]):
            if is_float or place == 2:
                bits.changed(number, before[place], windows[place])
            else:
                step = number - before[place]
                bits.signed(step - changes[place])
                changes[place] = step
        before = numbers
    text = bits.text + "0" * (-len(bits.text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


def _numbers(histograms: Histograms, row: int) -> list[int]:
    """Count, zero count, sum and buckets, floats as their bits, as a chunk has them."""
    own = histograms.take(np.array([row]))
    sides = []
    for buckets in (own.positive.cells, own.negative.cells):
        is_float = own.is_float[0]
        sides += buckets.tolist() if is_float else np.diff(buckets, prepend=0).tolist()
    sum_bits = int(own.sums.view(np.int64)[0])
    fixed = [int(own.counts[0]), int(own.zero_counts[0]), sum_bits]
    return [number % _WORD for number in (*fixed, *sides)]


def _put_layout(bits: _Bits, histograms: Histograms) -> None:
    own = histograms.take(np.array([0]))
    threshold = float(own.zero_thresholds[0])
    fraction, exponent = np.frexp(threshold)
    if threshold == 0:
        bits.put(0, 8)
    elif fraction == 0.5 and -242 <= exponent <= 11:
        bits.put(int(exponent) + 243, 8)
    else:
        bits.put(255, 8)
        bits.put(int(own.zero_thresholds.view(np.int64)[0]), 64)
    bits.signed(int(own.schemas[0]))
    for spans in (own.positive_spans, own.negative_spans):
        bits.unsigned(len(spans.cells))
        for offset, length in spans.cells.tolist():
            bits.unsigned(length)
            bits.signed(offset)
    if own.schemas[0] == CUSTOM_BUCKETS:
        bits.unsigned(len(own.bounds.cells))
        for bound in own.bounds.cells.tolist():
            if 0 <= bound * 1000 <= 33_554_430 and round(bound * 1000) / 1000 == bound:
                bits.unsigned(round(bound * 1000) + 1)
            else:
                bits.put(0, 1)
                bits.put(int(np.float64(bound).view(np.int64)), 64)
