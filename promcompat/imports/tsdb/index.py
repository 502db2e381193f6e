"""The index file of a block of Prometheus' TSDB, format version 2: its series and their chunks.

Numbers are big endian; varints are those of protobuf. The format is described in
`tsdb/docs/format/index.md` of Prometheus.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import google_crc32c

from promcompat.core.errors import PromcompatError

_MAGIC: Final = 0xBAAAD700
_VERSION: Final = 2
_HEADER: Final = struct.Struct(">IB")
_CONTENTS: Final = struct.Struct(">6QI")
"""Where symbols, series, two kinds of label indexes, postings and their offsets are; a CRC-32C."""
_U32: Final = struct.Struct(">I")
_SERIES_ALIGNMENT: Final = 16
_MAX_INT64: Final = (1 << 63) - 1
_MAX_UINT64: Final = (1 << 64) - 1


class DamagedBlockError(PromcompatError):
    """A file of a block is not as its format says; the message names it."""


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk of a series: its first and last time, and where it is.

    `reference` has the number of its file in the upper 32 bits, and its place there in the lower.
    """

    min_time_ms: int
    max_time_ms: int
    reference: int


@dataclass(frozen=True, slots=True)
class IndexedSeries:
    """A series of a block; `number` is that in its tombstones."""

    number: int
    labels: tuple[tuple[str, str], ...]
    chunks: tuple[IndexedChunk, ...]


class Cursor:
    """Reads numbers and texts from a place in bytes on. Raises IndexError and ValueError."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def u32(self) -> int:
        """A number of four bytes."""
        if self.at + 4 > len(self.data):
            raise ValueError("it ends too early")
        (number,) = _U32.unpack_from(self.data, self.at)
        self.at += 4
        return int(number)

    def uvarint(self) -> int:
        """A number of up to ten bytes and 64 bits."""
        number = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")
        if number > _MAX_UINT64:
            raise ValueError("a number has more than 64 bits")
        return number

    def varint(self) -> int:
        """A number of 64 bits with a sign, which is in the lowest bit of the varint."""
        number = self.uvarint()
        return number >> 1 ^ -(number & 1)

    def take(self, n_bytes: int) -> bytes:
        """The bytes that come next."""
        taken = self.data[self.at : self.at + n_bytes]
        if len(taken) < n_bytes:
            raise ValueError("it ends too early")
        self.at += n_bytes
        return taken


class BlockIndex:
    """The index of a block. Raises DamagedBlockError."""

    def __init__(self, data: bytes, name: str) -> None:
        """`name` is for errors."""
        self._data, self._name = data, name
        try:
            self._read_contents()
            self._symbols = self._read_symbols()
        except (IndexError, ValueError, struct.error) as exc:
            raise self._damaged(str(exc)) from exc

    def series(self) -> Iterator[IndexedSeries]:
        """Every series, in order of its labels."""
        try:
            for number in self._every_series():
                yield self._series_at(number)
        except (IndexError, ValueError, struct.error) as exc:
            raise self._damaged(str(exc)) from exc

    def _damaged(self, reason: str) -> DamagedBlockError:
        return DamagedBlockError(f"{self._name} is damaged: {reason}")

    def _read_contents(self) -> None:
        magic, version = _HEADER.unpack_from(self._data, 0)
        if magic != _MAGIC:
            raise ValueError("it is not an index")
        if version != _VERSION:
            raise ValueError(f"it has version {version}, but only version {_VERSION} can be read")
        start = len(self._data) - _CONTENTS.size
        *places, checksum = _CONTENTS.unpack_from(self._data, start)
        if google_crc32c.value(self._data[start:-4]) != checksum:
            raise ValueError("the checksum of its table of contents is wrong")
        self._symbols_at, _, _, _, _, self._postings_table_at = places

    def _section(self, at: int) -> Cursor:
        """A section that begins with its length, and ends with its checksum."""
        length = Cursor(self._data, at).u32()
        content = Cursor(self._data, at + 4).take(length)
        if google_crc32c.value(content) != Cursor(self._data, at + 4 + length).u32():
            raise ValueError(f"the checksum of the section at {at} is wrong")
        return Cursor(content)

    def _read_symbols(self) -> list[str]:
        section = self._section(self._symbols_at)
        return [section.take(section.uvarint()).decode() for _ in range(section.u32())]

    def _every_series(self) -> list[int]:
        """The numbers of all series: the postings of the label without name and value."""
        table = self._section(self._postings_table_at)
        for _ in range(table.u32()):
            table.uvarint()
            name, value = table.take(table.uvarint()), table.take(table.uvarint())
            at = table.uvarint()
            if not name and not value:
                return self._postings(at)
        return []

    def _postings(self, at: int) -> list[int]:
        section = self._section(at)
        numbers = [section.u32() for _ in range(section.u32())]
        if any(number >= following for number, following in pairwise(numbers)):
            raise ValueError(f"the series of the section at {at} are not in order")
        return numbers

    def _series_at(self, number: int) -> IndexedSeries:
        place = Cursor(self._data, number * _SERIES_ALIGNMENT)
        content = place.take(place.uvarint())
        if google_crc32c.value(content) != place.u32():
            raise ValueError(f"the checksum of series {number} is wrong")
        cursor, symbols = Cursor(content), self._symbols
        labels = tuple(
            (symbols[cursor.uvarint()], symbols[cursor.uvarint()]) for _ in range(cursor.uvarint())
        )
        chunks = tuple(_chunks(cursor))
        if not all(map(_is_possible, chunks)):
            raise ValueError(f"series {number} has a chunk with impossible times or place")
        return IndexedSeries(number, labels, chunks)


def _is_possible(chunk: IndexedChunk) -> bool:
    """Whether the times are of 64 bits with a sign, and the reference of 64 bits without."""
    return (
        -_MAX_INT64 - 1 <= chunk.min_time_ms <= chunk.max_time_ms <= _MAX_INT64
        and 0 <= chunk.reference <= _MAX_UINT64
    )


def _chunks(cursor: Cursor) -> Iterator[IndexedChunk]:
    n_chunks, max_time, reference = cursor.uvarint(), 0, 0
    for number in range(n_chunks):
        min_time = cursor.varint() if number == 0 else max_time + cursor.uvarint()
        max_time = min_time + cursor.uvarint()
        reference += cursor.uvarint() if number == 0 else cursor.varint()
        yield IndexedChunk(min_time, max_time, reference)
