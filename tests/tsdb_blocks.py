"""Writes blocks of Prometheus' TSDB, in which every series has only a name."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import orjson

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
