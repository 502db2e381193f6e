"""Blocks of Prometheus' TSDB, as in a snapshot or a data folder: their samples as columns."""

import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
import orjson
from numpy.typing import NDArray

from promcompat.core.histograms.columns import HistogramCells, Histograms
from promcompat.core.model import IntArray
from promcompat.core.texts.file_faults import reading_fault
from promcompat.imports.tsdb.histogram_chunks import DamagedChunkError, decode_histogram_chunk
from promcompat.imports.tsdb.index import BlockIndex, Cursor, DamagedBlockError
from promcompat.imports.tsdb.tombstones import DeletedTimes, read_tombstones
from promcompat.imports.tsdb.xor_chunk_kernels import decode_xor_chunks
from promcompat.remote_write.series_key import encode_series_key

_CHUNKS_MAGIC: Final = 0x85BD40DD
_XOR: Final = 1
_HISTOGRAMS: Final = {2: False, 3: True}
"""The types of chunks of histograms, and whether their counts are floats."""
_MAX_VARINT_BYTES: Final = 5
_MAX_INT64: Final = (1 << 63) - 1
_NAME_OF_BLOCK: Final = re.compile("[0-9A-HJKMNP-TV-Z]{26}")
"""A ULID; Prometheus gives other names to folders that it is writing or deleting."""


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """A folder with a block, and the times of its samples: `[start_ms, end_ms)`."""

    folder: Path
    start_ms: int
    end_ms: int


def find_blocks(folder: Path) -> list[BlockTimes]:
    """The blocks in a folder, by time. Raises DamagedBlockError.

    A block that was compacted into another one there is left out, as Prometheus does: it may still
    have samples that were deleted. It remains if Prometheus ended before it removed the block.
    """
    blocks, compacted = [], set[str]()
    for file in sorted(folder.glob("*/meta.json")):
        if not _NAME_OF_BLOCK.fullmatch(file.parent.name):
            continue
        times, parents = _read_meta(file)
        blocks.append(times)
        compacted |= parents
    found = [block for block in blocks if block.folder.name not in compacted]
    return sorted(found, key=lambda block: (block.start_ms, block.folder.name))


def _read_meta(file: Path) -> tuple[BlockTimes, set[str]]:
    """The times of a block, and the names of those that were compacted into it."""
    try:
        meta = orjson.loads(file.read_bytes())
        times = BlockTimes(file.parent, int(meta["minTime"]), int(meta["maxTime"]))
        parents = (meta.get("compaction") or {}).get("parents") or ()
        names = {str(parent["ulid"]) for parent in parents}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise DamagedBlockError(f"{file} cannot be read: {reading_fault(exc)}") from exc
    if max(-times.start_ms - 1, times.start_ms, -times.end_ms - 1, times.end_ms) > _MAX_INT64:
        raise DamagedBlockError(f"{file} has a minTime or maxTime of more than 64 bits")
    return times, names


@dataclass(frozen=True, slots=True)
class BlockSamples:
    """Samples of some series: those of series `keys[i]` have `series[row] == i`.

    Some of the bits may refer to histograms.
    """

    keys: Sequence[bytes]
    series: IntArray
    timestamps: IntArray
    bits: NDArray[np.uint64]
    histograms: Histograms | None = None


class Block:
    """An open block: where every chunk of it is. Raises DamagedBlockError."""

    def __init__(self, times: BlockTimes) -> None:
        self.times = times
        self._files = [_open(file) for file in sorted((times.folder / "chunks").glob("[0-9]*"))]
        self.labels: list[tuple[tuple[str, str], ...]] = []
        self.keys: list[bytes] = []
        # By number of the series in `keys`, ascending.
        self._deleted: dict[int, DeletedTimes] = {}
        deleted = read_tombstones(times.folder / "tombstones")
        series, starts, ends, references = [], [], [], []
        index = times.folder / "index"
        for found in BlockIndex(_read(index), str(index)).series():
            for chunk in found.chunks:
                series.append(len(self.keys))
                starts.append(chunk.min_time_ms)
                ends.append(chunk.max_time_ms)
                references.append(chunk.reference)
            if found.number in deleted:
                self._deleted[len(self.keys)] = deleted[found.number]
            self.labels.append(found.labels)
            self.keys.append(encode_series_key(found.labels))
        self._series, self._references = np.array(series, np.int64), references
        self._starts, self._ends = np.array(starts, np.int64), np.array(ends, np.int64)

    def read(self, start_ms: int, end_ms: int, is_chosen: NDArray[np.bool_]) -> BlockSamples:
        """The samples in `[start_ms, end_ms]` of the series that are chosen."""
        is_near = (self._starts <= end_ms) & (self._ends >= start_ms) & is_chosen[self._series]
        rows, data, parts = [], [], []
        for row in np.flatnonzero(is_near).tolist():
            encoding, content = self._chunk(self._references[row])
            if encoding == _XOR:
                rows.append(row)
                data.append(content)
            elif encoding in _HISTOGRAMS:
                parts.append(self._histograms(row, content, is_float=_HISTOGRAMS[encoding]))
            else:
                raise DamagedBlockError(
                    f"{self.times.folder} has a chunk of type {encoding}, which is not read; "
                    "Prometheus writes others than 1 to 3 with the features xor2-encoding, "
                    "histograms-st-encoding and st-storage. Copy from the running Prometheus "
                    "instead: promcompat import prometheus URL"
                )
        series, timestamps, cells = _joined([self._decode(rows, data), *parts])
        is_kept = (timestamps >= start_ms) & (timestamps <= end_ms)
        is_kept &= ~self._is_deleted(series, timestamps)
        bits = cells.values[is_kept].view(np.uint64)
        return BlockSamples(self.keys, series[is_kept], timestamps[is_kept], bits, cells.histograms)

    def _histograms(self, row: int, content: bytes, *, is_float: bool) -> "_Rows":
        try:
            times, cells = decode_histogram_chunk(content, is_float=is_float)
        except DamagedChunkError as exc:
            raise DamagedBlockError(
                f"{self.times.folder} has a chunk of histograms that is damaged: {exc}"
            ) from exc
        return np.full(len(times), self._series[row]), times, cells

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _chunk(self, reference: int) -> tuple[int, bytes]:
        """Encoding and content of a chunk."""
        number, at = reference >> 32, reference & 0xFFFF_FFFF
        where = f"the chunk at {at} of file {number + 1} of {self.times.folder}"
        if not 0 <= number < len(self._files):
            raise DamagedBlockError(f"{where} does not exist")
        file = self._files[number]
        try:
            head = Cursor(file[at : at + _MAX_VARINT_BYTES])
            length = head.uvarint()
            first = at + head.at
            content = file[first : first + 1 + length]
            checksum = Cursor(file[first + 1 + length : first + 5 + length]).u32()
        except (IndexError, ValueError) as exc:
            raise DamagedBlockError(f"{where} is damaged: {exc}") from exc
        if google_crc32c.value(content) != checksum or length < 2:
            raise DamagedBlockError(f"{where} is damaged: its checksum is wrong")
        return content[0], content[1:]

    def _decode(self, rows: list[int], data: list[bytes]) -> "_Rows":
        lengths = np.fromiter(map(len, data), np.int64, len(data))
        ends = np.cumsum(lengths)
        joined = np.frombuffer(b"".join(data), np.uint8)
        firsts = ends - lengths
        n_rows = joined[firsts].astype(np.int64) << 8 | joined[firsts + 1]
        # A sample takes at least a bit: so no number of samples makes the columns too large.
        if (n_rows > 8 * lengths).any():
            raise DamagedBlockError(f"{self.times.folder} has a chunk with too many samples")
        times, bits = np.empty(int(n_rows.sum()), np.uint64), np.empty(int(n_rows.sum()), np.uint64)
        n_read = decode_xor_chunks(joined, firsts + 2, ends, n_rows, times, bits)
        if n_read < len(data):
            raise DamagedBlockError(f"{self.times.folder} has a chunk that cannot be decoded")
        cells = HistogramCells(bits.view(np.float64), None)
        return np.repeat(self._series[rows], n_rows), times.view(np.int64), cells

    def _is_deleted(self, series: IntArray, timestamps: IntArray) -> NDArray[np.bool_]:
        """Which rows are deleted; `series` ascends."""
        is_deleted = np.zeros(len(series), np.bool_)
        numbers = np.fromiter(self._deleted, np.int64, len(self._deleted))
        firsts, ends = (np.searchsorted(series, numbers, side) for side in ("left", "right"))
        for place in np.flatnonzero(firsts < ends).tolist():
            rows = slice(firsts[place], ends[place])
            deleted = self._deleted[int(numbers[place])]
            is_deleted[rows] = deleted.contain(timestamps[rows])
        return is_deleted


_Rows = tuple[IntArray, IntArray, HistogramCells]
"""The number of the series, the time and the value of samples."""


def _joined(parts: Sequence[_Rows]) -> _Rows:
    """The rows of all parts by series and time."""
    if len(parts) == 1:
        return parts[0]
    series = np.concatenate([part[0] for part in parts])
    cells = HistogramCells.joined([part[2] for part in parts])
    times = np.concatenate([part[1] for part in parts])
    order = np.lexsort((times, series))
    return series[order], times[order], HistogramCells(cells.values[order], cells.histograms)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise DamagedBlockError(f"{file} cannot be read: {reading_fault(exc)}") from exc


def _open(file: Path) -> mmap.mmap:
    try:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as exc:
        raise DamagedBlockError(f"{file} cannot be read: {reading_fault(exc)}") from exc
    if mapped[:4] != struct.pack(">I", _CHUNKS_MAGIC):
        raise DamagedBlockError(f"{file} is not a file of chunks")
    return mapped


@dataclass(frozen=True, slots=True)
class SeriesRows:
    """Samples by series and time: those of `keys[i]` are the rows `firsts[i]` to `ends[i]`.

    Some of the bits may refer to histograms.
    """

    keys: Sequence[bytes]
    firsts: IntArray
    ends: IntArray
    timestamps: IntArray
    bits: NDArray[np.uint64]
    histograms: Histograms | None = None


def join(parts: Sequence[BlockSamples]) -> SeriesRows:
    """The samples of some blocks; of several with the same series and time, the first counts."""
    numbers: dict[bytes, int] = {}
    series, times = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    cells = [HistogramCells(np.empty(0), None)]
    for part in parts:
        found = [numbers.setdefault(key, len(numbers)) for key in part.keys]
        series.append(np.array(found, np.int64)[part.series])
        times.append(part.timestamps)
        cells.append(HistogramCells(part.bits.view(np.float64), part.histograms))
    every, stamps = np.concatenate(series), np.concatenate(times)
    order = np.lexsort((stamps, every))
    every, stamps = every[order], stamps[order]
    is_first = np.ones(len(every), np.bool_)
    is_first[1:] = (every[1:] != every[:-1]) | (stamps[1:] != stamps[:-1])
    chosen = order[is_first]
    every = every[is_first]
    present, firsts = np.unique(every, return_index=True)
    joined = HistogramCells.joined(cells)
    keys = list(numbers)
    return SeriesRows(
        [keys[number] for number in present.tolist()],
        firsts,
        np.append(firsts[1:], len(every)) if len(firsts) else firsts,
        stamps[is_first],
        joined.values[chosen].view(np.uint64),
        joined.histograms,
    )
