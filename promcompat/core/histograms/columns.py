"""Native histograms as columns, and the cells of float columns that refer to them.

A histogram sample is a cell whose bits are `HISTOGRAM_BITS` and the number of a histogram in the
`Histograms` beside the column. So whatever moves samples by time moves histograms, too, and a
column without histograms costs nothing. The bits are those of a NaN that is stored for no float:
`without_histogram_bits` makes incoming ones the usual NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

CellT = TypeVar("CellT", bound=np.generic)
Index = NDArray[np.int64] | NDArray[np.bool_] | slice

CUSTOM_BUCKETS: Final = -53
"""The schema of histograms whose bucket bounds are listed; others have exponential buckets."""
HISTOGRAM_BITS: Final = 0x7FFD48 << 40
"""The bits of a cell that refers to histogram 0; the lower 40 bits are the histogram's number."""
_NUMBER_BITS: Final = 40
_NUMBER_MASK: Final = (1 << _NUMBER_BITS) - 1
_USUAL_NAN_BITS: Final = 0x7FF8000000000001


def is_histogram(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which cells refer to histograms; the shape is kept."""
    return np.asarray(values.view(np.int64) >> _NUMBER_BITS == HISTOGRAM_BITS >> _NUMBER_BITS)


def without_histogram_bits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The floats, with the usual NaN for those that would refer to histograms; copied if any do."""
    if not (is_reserved := is_histogram(values)).any():
        return values
    bits = values.view(np.int64).copy()
    bits[is_reserved] = _USUAL_NAN_BITS
    return bits.view(np.float64)


def usual_nans(n: int) -> NDArray[np.float64]:
    """`n` NaN values with the bits that Prometheus stores for NaN."""
    return np.full(n, _USUAL_NAN_BITS, np.int64).view(np.float64)


def histogram_cells(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cells that refer to the histograms of these numbers; the shape is kept."""
    return (numbers | HISTOGRAM_BITS).view(np.float64)


def histogram_numbers(cells: NDArray[np.float64]) -> NDArray[np.int64]:
    """The numbers of the histograms that cells refer to; all of them must."""
    return np.asarray(cells.view(np.int64) & _NUMBER_MASK)


@dataclass(frozen=True, slots=True)
class Ragged(Generic[CellT]):
    """A list of cells for each row: row i has `cells[offsets[i]:offsets[i + 1]]`.

    `offsets` is int64, one longer than there are rows, and begins with 0.
    """

    offsets: NDArray[np.int64]
    cells: NDArray[CellT]

    @classmethod
    def of_lengths(cls, lengths: NDArray[np.int64], cells: NDArray[CellT]) -> "Ragged[CellT]":
        """The rows of these lengths."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(offsets, cells)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of cells of each row."""
        return self.offsets[1:] - self.offsets[:-1]  # `diff` takes several times as long.

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return int(self.offsets.nbytes + self.cells.nbytes)

    def rows_of_cells(self) -> NDArray[np.int64]:
        """The row of each cell."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, index: Index) -> "Ragged[CellT]":
        """The rows at an index, in its order; a slice of neighbours shares the memory."""
        if isinstance(index, slice) and index.step in (None, 1):
            first, behind, _ = index.indices(len(self))
            offsets = self.offsets[first : max(first, behind) + 1]
            return Ragged(offsets - offsets[0], self.cells[offsets[0] : offsets[-1]])
        starts, lengths = self.offsets[:-1][index], self.lengths[index]
        taken = Ragged.of_lengths(lengths, self.cells)
        cells = np.arange(taken.offsets[-1]) + np.repeat(starts - taken.offsets[:-1], lengths)
        return Ragged(taken.offsets, self.cells[cells])

    @staticmethod
    def joined(parts: "Sequence[Ragged[CellT]]") -> "Ragged[CellT]":
        """The rows of all parts, of which there is at least one, one after the other."""
        lengths = np.concatenate([part.lengths for part in parts])
        return Ragged.of_lengths(lengths, np.concatenate([part.cells for part in parts]))


@dataclass(frozen=True, slots=True)
class Histograms:
    """n native histograms as they were sent, to the bit.

    All columns have a row for each histogram. `schemas` int8; `hints` uint8, the counter reset hint
    (0 unknown, 1 reset, 2 no reset, 3 gauge); `is_float` bool: the counts are float64 instead of
    unsigned integers. `counts` and `zero_counts` int64 have the bits of these counts; `positive`
    and `negative` have those of the buckets, each by itself, not as a difference to the one before.
    `positive_spans` and `negative_spans` have rows of int32 [k, 2], offset and length of each span
    as in Prometheus' protobuf; empty spans are kept. `bounds` float64 are the upper bounds of
    custom buckets. `sums` and `zero_thresholds` are float64. No histogram is a stale marker: for
    these a series has the float one.
    """

    schemas: NDArray[np.int8]
    hints: NDArray[np.uint8]
    is_float: NDArray[np.bool_]
    zero_thresholds: NDArray[np.float64]
    zero_counts: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    positive_spans: Ragged[np.int32]
    negative_spans: Ragged[np.int32]
    positive: Ragged[np.int64]
    negative: Ragged[np.int64]
    bounds: Ragged[np.float64]

    def __len__(self) -> int:
        return len(self.schemas)

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        flat = (self.schemas, self.hints, self.is_float, self.zero_thresholds)
        flat_bytes = sum(column.nbytes for column in (*flat, self.zero_counts, self.counts))
        return int(flat_bytes + self.sums.nbytes) + sum(
            column.n_bytes
            for column in (
                self.positive_spans,
                self.negative_spans,
                self.positive,
                self.negative,
                self.bounds,
            )
        )

    def take(self, index: Index) -> "Histograms":
        """The histograms at an index, in its order."""
        return Histograms(
            self.schemas[index],
            self.hints[index],
            self.is_float[index],
            self.zero_thresholds[index],
            self.zero_counts[index],
            self.counts[index],
            self.sums[index],
            self.positive_spans.take(index),
            self.negative_spans.take(index),
            self.positive.take(index),
            self.negative.take(index),
            self.bounds.take(index),
        )

    @staticmethod
    def joined(parts: "Sequence[Histograms]") -> "Histograms":
        """The histograms of all parts, of which there is at least one, one after the other."""
        return Histograms(
            np.concatenate([part.schemas for part in parts]),
            np.concatenate([part.hints for part in parts]),
            np.concatenate([part.is_float for part in parts]),
            np.concatenate([part.zero_thresholds for part in parts]),
            np.concatenate([part.zero_counts for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.sums for part in parts]),
            Ragged.joined([part.positive_spans for part in parts]),
            Ragged.joined([part.negative_spans for part in parts]),
            Ragged.joined([part.positive for part in parts]),
            Ragged.joined([part.negative for part in parts]),
            Ragged.joined([part.bounds for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class HistogramCells:
    """A column of samples and the histograms that its cells refer to; None: it has only floats."""

    values: NDArray[np.float64]
    histograms: Histograms | None

    def compacted(self) -> "HistogramCells":
        """The same samples with only the histograms they have, in the order of the cells."""
        if self.histograms is None:
            return self
        places = np.flatnonzero(is_histogram(self.values))
        if not len(places):
            return HistogramCells(self.values, None)
        numbers = histogram_numbers(self.values[places])
        values = self.values.copy()
        values[places] = histogram_cells(np.arange(len(places)))
        return HistogramCells(values, self.histograms.take(numbers))

    @staticmethod
    def joined(parts: "Sequence[HistogramCells]") -> "HistogramCells":
        """The samples of all parts, of which there is at least one, one after the other."""
        values = np.concatenate([part.values for part in parts])
        pools = [part.histograms for part in parts if part.histograms is not None]
        if not pools:
            return HistogramCells(values, None)
        first_value = first_histogram = 0
        for part in parts:
            cells = values[first_value : first_value + len(part.values)]
            if part.histograms is not None:
                # Numbers are the low bits, which no sum carries out of.
                cells.view(np.int64)[is_histogram(cells)] += first_histogram
                first_histogram += len(part.histograms)
            first_value += len(part.values)
        return HistogramCells(values, Histograms.joined(pools) if len(pools) > 1 else pools[0])
