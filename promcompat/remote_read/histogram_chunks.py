"""Native histograms of remote read answers: as messages, and cut into chunks."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged
from promcompat.core.model import BoolArray, IntArray
from promcompat.remote_read.chunk_kernels import MAX_SAMPLES_OF_CHUNK
from promcompat.remote_read.histogram_kernels import (
    MAX_BYTES_OF_HISTOGRAM,
    MAX_BYTES_OF_NUMBER,
    MAX_BYTES_OF_SPAN,
    N_FIELDS,
    encode_histogram_chunks,
    encode_histogram_messages,
)

_GAUGE = 3
_RESET = 1
_AnyRagged = Ragged[np.int64] | Ragged[np.int32] | Ragged[np.float64]
_Arrays = tuple[
    IntArray, IntArray, NDArray[np.int32], NDArray[np.int32], IntArray, IntArray, IntArray
]


@dataclass(frozen=True, slots=True)
class TimedHistograms:
    """Histograms and their times, one each."""

    histograms: Histograms
    timestamps: IntArray

    def messages(self) -> Iterator[bytes]:
        """Each as a `prometheus.Histogram` message."""
        out = np.empty(self._most_bytes(), np.uint8)
        ends = np.empty(len(self.timestamps), np.int64)
        encode_histogram_messages(*self._arrays(), out, ends)
        return _cut(out, ends)

    def chunks(self, firsts: IntArray, row_ends: IntArray) -> Iterator[bytes]:
        """The histograms from `firsts[i]` to `row_ends[i]` as chunk i.

        All but the first one of a chunk can follow the one before. Those of floats are chunks of
        type 3, the others of type 2.
        """
        out, ends = np.zeros(self._most_bytes(), np.uint8), np.empty(len(firsts), np.int64)
        n_buckets = self.histograms.positive.lengths + self.histograms.negative.lengths
        windows = np.empty((3 + int(n_buckets.max(initial=0)), 2), np.int64)
        encode_histogram_chunks(*self._arrays(), firsts, row_ends, windows, out, ends)
        return _cut(out, ends)

    def take(self, index: IntArray) -> "TimedHistograms":
        """The histograms at an index."""
        return TimedHistograms(self.histograms.take(index), self.timestamps[index])

    def can_follow(self) -> BoolArray:
        """Whether each can be in the chunk of the one before it.

        It has the same layout, and is no lower: to readers, only a chunk's first histogram can be
        after a reset of its counter.
        """
        found = self.histograms
        is_same = np.zeros(len(self.timestamps), bool)
        is_gauge = found.hints == _GAUGE
        is_same[1:] = (found.hints[1:] != _RESET) & (is_gauge[1:] == is_gauge[:-1])
        for column in (found.schemas, found.is_float, found.zero_thresholds.view(np.int64)):
            is_same[1:] &= column[1:] == column[:-1]
        for spans in (found.positive_spans, found.negative_spans):
            is_same &= _as_before(spans, spans.cells[:, 0]) & _as_before(spans, spans.cells[:, 1])
        is_same &= _as_before(found.bounds, found.bounds.cells.view(np.int64))
        is_same[1:] &= is_gauge[1:] | ~self._is_lower()[1:]
        return is_same

    def _is_lower(self) -> BoolArray:
        """Whether a count of a histogram, or of a bucket, is lower than before."""
        found = self.histograms
        is_lower = np.zeros(len(self.timestamps), bool)
        for counts in (found.counts, found.zero_counts):
            is_lower[1:] |= _less(counts[1:], counts[:-1], found.is_float[1:])
        for buckets in (found.positive, found.negative):
            rows, here, before = _pairs(buckets)
            lower = _less(buckets.cells[here], buckets.cells[before], found.is_float[rows])
            is_lower |= np.bincount(rows[lower], minlength=len(is_lower)) > 0
        return is_lower

    def _most_bytes(self) -> int:
        found = self.histograms
        numbers = len(found.positive.cells) + len(found.negative.cells) + len(found.bounds.cells)
        spans = len(found.positive_spans.cells) + len(found.negative_spans.cells)
        others = MAX_BYTES_OF_HISTOGRAM * len(found) + MAX_BYTES_OF_SPAN * spans
        return others + MAX_BYTES_OF_NUMBER * numbers

    def _arrays(self) -> _Arrays:
        found = self.histograms
        fields = np.empty((N_FIELDS, len(found)), np.int64)
        fields[:] = (
            found.counts,
            found.zero_counts,
            found.sums.view(np.int64),
            found.zero_thresholds.view(np.int64),
            found.schemas,
            found.hints,
            found.is_float,
            self.timestamps,
        )
        parts = (found.positive_spans, found.negative_spans, found.positive, found.negative)
        return (
            fields,
            np.stack([*(part.offsets for part in parts), found.bounds.offsets]),
            found.positive_spans.cells,
            found.negative_spans.cells,
            found.positive.cells,
            found.negative.cells,
            found.bounds.cells.view(np.int64),
        )


def runs_of(is_continued: BoolArray) -> tuple[IntArray, IntArray]:
    """First and end of the runs of rows that continue the one before, in pieces of a chunk."""
    starts = np.flatnonzero(~is_continued)
    lengths = np.diff(np.append(starts, len(is_continued)))
    n_pieces = -(-lengths // MAX_SAMPLES_OF_CHUNK)
    before = np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    number = np.arange(int(n_pieces.sum()), dtype=np.int64) - before
    firsts = np.repeat(starts, n_pieces) + number * MAX_SAMPLES_OF_CHUNK
    return firsts, np.minimum(firsts + MAX_SAMPLES_OF_CHUNK, np.repeat(starts + lengths, n_pieces))


def _pairs(ragged: _AnyRagged) -> tuple[IntArray, IntArray, IntArray]:
    """The cells of rows with as many as the row before: row, cell, and that of the row before."""
    lengths = ragged.lengths
    is_equal = np.zeros(len(lengths), bool)
    is_equal[1:] = lengths[1:] == lengths[:-1]
    rows = ragged.rows_of_cells()
    here = np.flatnonzero(is_equal[rows])
    rows = rows[here]
    return rows, here, here - lengths[rows]


def _as_before(ragged: _AnyRagged, cells: NDArray[np.int32] | IntArray) -> BoolArray:
    """Whether each row has the same cells as the row before; `cells` are those compared."""
    lengths = ragged.lengths
    is_equal = np.zeros(len(lengths), bool)
    is_equal[1:] = lengths[1:] == lengths[:-1]
    rows, here, before = _pairs(ragged)
    is_equal[rows[cells[here] != cells[before]]] = False
    return is_equal


def _less(counts: IntArray, others: IntArray, is_float: BoolArray) -> BoolArray:
    """Which counts are lower than others; they are bits."""
    as_floats = np.less(counts.view(np.float64), others.view(np.float64))
    as_integers = counts.view(np.uint64) < others.view(np.uint64)
    return np.asarray(np.where(is_float, as_floats, as_integers))


def _cut(out: NDArray[np.uint8], ends: IntArray) -> Iterator[bytes]:
    start = 0
    for end in ends.tolist():
        yield out[start:end].tobytes()
        start = end
