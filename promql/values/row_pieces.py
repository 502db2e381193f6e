"""Work on cells or rows in pieces, so that scratch arrays stay small.

An operator on a whole matrix needs scratch memory of up to 25 times its result. For a piece of the
matrix a few megabytes are enough, whatever the query is.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import (
    BoolArray,
    FloatArray,
    IntArray,
    Labels,
    SampleBlock,
    label_sets_at,
)
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix

CellT = TypeVar("CellT", bound=np.generic)

CELLS_PER_PIECE = 1 << 17
"""Series times steps; 1 MiB for each scratch array."""
SAMPLES_PER_PIECE = 1 << 20


def step_pieces(n_rows: int, n_steps: int) -> Iterator[slice]:
    """The steps of `n_rows` rows, some at a time."""
    steps_each = max(1, CELLS_PER_PIECE // max(1, n_rows))
    for first in range(0, n_steps, steps_each):
        yield slice(first, min(first + steps_each, n_steps))


def cell_pieces(n_rows: int, n_steps: int, weight: int = 1) -> Iterator[tuple[slice, slice]]:
    """Rows and steps of a matrix in pieces of at most `CELLS_PER_PIECE` cells.

    Each cell of the matrix counts as `weight` cells.
    """
    rows_each = max(1, CELLS_PER_PIECE // max(1, n_steps * weight))
    for first in range(0, n_rows, rows_each):
        rows = slice(first, min(first + rows_each, n_rows))
        for steps in step_pieces((rows.stop - first) * weight, n_steps):
            yield rows, steps


def take_cells(cells: NDArray[CellT], rows: IntArray, steps: slice) -> NDArray[CellT]:
    """Some steps of some rows: an array of the shape of `rows` with an axis of steps added."""
    if steps.stop - steps.start == cells.shape[1]:
        # Copying whole rows is faster.
        return cells.take(rows, axis=0)
    return cells[rows, steps]


def map_cells(
    function: Callable[..., Any], shape: tuple[int, int], *operands: FloatArray
) -> FloatArray:
    """`function` of operands that broadcast to `shape`, as a float64 array."""
    if shape[0] * shape[1] <= CELLS_PER_PIECE:
        return np.asarray(function(*operands), np.float64)
    wide = [np.broadcast_to(operand, shape) for operand in operands]
    result = np.empty(shape)
    for piece in cell_pieces(*shape):
        result[piece] = function(*(operand[piece] for operand in wide))
    return result


def series_pieces(offsets: IntArray, n_steps: int) -> list[slice]:
    """The series of a block with these offsets, some at a time; at least one piece.

    A piece has at most `CELLS_PER_PIECE` cells and `SAMPLES_PER_PIECE` samples, unless one series
    has more.
    """
    n_series = len(offsets) - 1
    if n_series * n_steps / CELLS_PER_PIECE + int(offsets[-1]) / SAMPLES_PER_PIECE <= 1:
        return [slice(0, n_series)]
    weights = np.arange(n_series + 1) * (n_steps / CELLS_PER_PIECE) + offsets / SAMPLES_PER_PIECE
    ends = np.searchsorted(weights, np.arange(1, int(weights[-1]) + 1), "right") - 1
    cuts = [0]
    for end in ends.tolist():
        if cuts[-1] < end < n_series:
            cuts.append(end)
    return [slice(*bounds) for bounds in zip(cuts, [*cuts[1:], n_series], strict=True)]


def take_series(block: SampleBlock, series: slice) -> SampleBlock:
    """Neighbouring series of a block; the samples are shared."""
    if series.stop - series.start == len(block.labels):
        return block
    offsets = block.offsets[series.start : series.stop + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return block.take(block.labels[series], slice(first, last), offsets - first)


class RowWriter:
    """Collects the rows of a result piece by piece, and leaves out those without a sample.

    In Prometheus a series without a sample does not exist.
    """

    def __init__(self, n_rows: int, n_steps: int) -> None:
        self._values = np.empty((n_rows, n_steps))
        self._present = np.empty((n_rows, n_steps), bool)
        self._kept: list[IntArray] = []
        self._n_kept = 0

    def next_rows(self, n_rows: int) -> tuple[FloatArray, BoolArray]:
        """Arrays to fill with the next rows: values and presence; then call `close_rows`."""
        rows = slice(self._n_kept, self._n_kept + n_rows)
        return self._values[rows], self._present[rows]

    def close_rows(self, rows: slice) -> None:
        """The arrays from `next_rows` are filled with the rows of these numbers."""
        values, present = self.next_rows(rows.stop - rows.start)
        is_kept = present[:, 0] if present.shape[1] == 1 else np.logical_or.reduce(present, axis=1)
        kept = is_kept.nonzero()[0]
        n_kept = len(kept)
        if n_kept < len(present):
            values[:n_kept], present[:n_kept] = values[kept], present[kept]
        self._kept.append(kept + rows.start)
        self._n_kept += n_kept

    def rows(self) -> IntArray:
        """The numbers of the rows with samples."""
        return np.concatenate(self._kept) if self._kept else np.empty(0, np.int64)

    def matrix(
        self,
        labels: Sequence[Labels],
        drop_name: BoolArray,
        histograms: HistogramColumns | None = None,
    ) -> Matrix:
        """The collected rows; `labels` and `drop_name` are those of all rows.

        `histograms` are what the cells of the rows refer to.
        """
        n_kept = self._n_kept
        if n_kept == len(labels):
            return Matrix(labels, self._values, self._present, drop_name, histograms)
        rows = self.rows()
        chosen = label_sets_at(labels, rows.tolist())
        values, present = self._values[:n_kept], self._present[:n_kept]
        return Matrix(chosen, values, present, drop_name[rows], histograms)
