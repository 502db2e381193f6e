"""A snapshot or a data folder of Prometheus as a source of `promcompat import`."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.matchers import LabelMatcher
from promcompat.imports.tsdb.blocks import Block, BlockTimes, SeriesRows, find_blocks, join
from promcompat.processes.history.sources import (
    HistoryImportError,
    Source,
    Window,
    tally_of_samples,
)
from promcompat.remote_read.chunk_kernels import MAX_BYTES_OF_MESSAGE, encode_messages
from promcompat.remote_read.histogram_chunks import TimedHistograms
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest


def times_of_blocks(folder: Path) -> tuple[int, int]:
    """The first and the last time of the blocks in a folder. Raises HistoryImportError."""
    blocks = find_blocks(folder)
    if not blocks:
        raise HistoryImportError(
            f"{folder} has no blocks, which are folders with a meta.json; make a snapshot of the "
            "running Prometheus (POST /api/v1/admin/tsdb/snapshot)"
        )
    return blocks[0].start_ms, max(block.end_ms for block in blocks) - 1


@dataclass(slots=True)
class BlocksSource(Source):
    """The blocks of a folder; those that a window touches are open."""

    blocks: Sequence[BlockTimes]
    matchers: tuple[LabelMatcher, ...]
    _open: dict[Path, tuple[Block, np.ndarray]] = field(default_factory=dict)

    async def read(self, start_ms: int, end_ms: int) -> Window:
        """See the port."""
        return await asyncio.to_thread(self._read, start_ms, end_ms)

    def close(self, before_ms: int | None = None) -> None:
        """Close the blocks that end before a time, or all."""
        for folder, (block, _) in list(self._open.items()):
            if before_ms is None or block.times.end_ms <= before_ms:
                block.close()
                del self._open[folder]

    def _read(self, start_ms: int, end_ms: int) -> Window:
        self.close(before_ms=start_ms)
        parts = []
        for times in self.blocks:
            if times.start_ms <= end_ms and times.end_ms > start_ms:
                block, is_chosen = self._opened(times)
                parts.append(block.read(start_ms, end_ms, is_chosen))
        return window_of(join(parts))

    def _opened(self, times: BlockTimes) -> tuple[Block, np.ndarray]:
        if times.folder not in self._open:
            block = Block(times)
            is_chosen = np.array([self._is_chosen(labels) for labels in block.labels], np.bool_)
            self._open[times.folder] = block, is_chosen
        return self._open[times.folder]

    def _is_chosen(self, labels: tuple[tuple[str, str], ...]) -> bool:
        texts = dict(labels)
        return all(matcher.matches(texts.get(matcher.name, "")) for matcher in self.matchers)


@contextmanager
def opened_blocks(folder: Path, matchers: tuple[LabelMatcher, ...]) -> Iterator[BlocksSource]:
    """The blocks of a folder; says if there is a log beside them, which is not read."""
    if any((folder / "wal").glob("[0-9]*")):
        sys.stderr.write(
            f"{folder} has a write-ahead log: its samples, of the last hours, are not read; make a "
            "snapshot to have them in a block\n"
        )
    source = BlocksSource(find_blocks(folder), matchers)
    try:
        yield source
    finally:
        source.close()


def window_of(rows: SeriesRows) -> Window:
    """A window that is sent by remote write."""
    tally = tally_of_samples(rows.timestamps, rows.bits.view(np.float64))
    return Window(write_request_of(rows), tally)


def write_request_of(rows: SeriesRows) -> bytes:
    """Samples as a message of remote write."""
    refers = np.zeros(len(rows.bits), np.bool_)
    if rows.histograms is not None:
        refers = is_histogram(rows.bits.view(np.float64))
    n_before = np.concatenate([[0], np.cumsum(~refers)])
    firsts, ends_of = n_before[rows.firsts], n_before[rows.ends]
    times, bits = rows.timestamps[~refers], rows.bits[~refers]
    out = np.empty(MAX_BYTES_OF_MESSAGE * len(times), np.uint8)
    ends = np.empty(len(rows.keys), np.int64)
    encode_messages(times, bits, firsts, ends_of, out, ends)
    data = out[: ends[-1] if len(ends) else 0].tobytes()
    bounds = [0, *ends.tolist()]
    histograms = _histogram_messages(rows, refers)
    series = [
        key + data[start:end] + histograms.get(number, b"")
        for number, (key, start, end) in enumerate(zip(rows.keys, bounds, bounds[1:], strict=False))
    ]
    return WriteRequest(timeseries=series).SerializeToString()


def _histogram_messages(rows: SeriesRows, refers: np.ndarray) -> dict[int, bytes]:
    """The fields of histograms of each series that has some, by its number."""
    if rows.histograms is None:
        return {}
    places = np.flatnonzero(refers)
    found = rows.histograms.take(histogram_numbers(rows.bits[places].view(np.float64)))
    messages = TimedHistograms(found, rows.timestamps[places]).messages()
    series = np.searchsorted(rows.ends, places, "right").tolist()
    joined: dict[int, bytes] = {}
    for number, group in groupby(zip(series, messages, strict=True), itemgetter(0)):
        of_series = TimeSeries(histograms=[message for _, message in group])
        joined[number] = of_series.SerializeToString()
    return joined
