"""Binary operators on samples of which at least one is a histogram.

The float operators compute whole matrices; this module computes the cells that they cannot. Few
combinations have a result; for the others an annotation says what met.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from promcompat.core.distinct_numbers import distinct
from promcompat.core.histograms.columns import histogram_cells, histogram_numbers, is_histogram
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.ast import TRIM_OPERATORS, PositionRange
from promql.histograms.arithmetic import add, are_equal, divide, scale, subtract, trimmed
from promql.histograms.combination import Combined
from promql.values.annotation_texts import (
    incompatible_layout,
    incompatible_types,
    reconciled_bounds,
    reset_collision,
)
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations

FLOATS, HISTOGRAM_FLOAT, FLOAT_HISTOGRAM, HISTOGRAMS = 0, 1, 2, 3
"""What is on the left and on the right."""
_NO_NOTE, _TYPES, _LAYOUT, _COLLISION, _RECONCILED = 0, 1, 5, 6, 7
"""Notes on a cell; `_TYPES` is added to the kinds."""
_TYPE_NAMES = {
    FLOATS: ("float", "float"),
    HISTOGRAM_FLOAT: ("histogram", "float"),
    FLOAT_HISTOGRAM: ("float", "histogram"),
    HISTOGRAMS: ("histogram", "histogram"),
}
_BYTES_PER_HISTOGRAM, _BYTES_PER_BUCKET, _BYTES_PER_CELL = 80, 16, 60
_COPIES = 3
"""The operands are taken from their columns and joined, and the result is made."""
_OPERATIONS = {"+": "addition", "-": "subtraction"}


@dataclass(frozen=True, slots=True)
class MixedCells:
    """Cells of a matrix, row by row, whose operands are not both floats.

    `left` and `right` float64 [n] are the operands, which may refer to the histograms beside them.
    """

    rows: IntArray
    steps: IntArray
    kinds: IntArray
    left: FloatArray
    right: FloatArray
    left_histograms: HistogramColumns | None
    right_histograms: HistogramColumns | None

    def n_bytes(self) -> int:
        """What the operands and the results take while they are computed."""
        sides = (self.left, self.left_histograms), (self.right, self.right_histograms)
        held = sum(_n_bytes(cells, columns) for cells, columns in sides if columns is not None)
        return _COPIES * held + len(self.kinds) * _BYTES_PER_CELL

    def left_columns(self, cells: IntArray) -> HistogramColumns:
        """The histograms on the left of some cells."""
        return _columns(self.left[cells], self.left_histograms)

    def right_columns(self, cells: IntArray) -> HistogramColumns:
        """The histograms on the right of some cells."""
        return _columns(self.right[cells], self.right_histograms)


def _n_bytes(cells: FloatArray, columns: HistogramColumns) -> int:
    """The size of the histograms among some cells, each counted as often as it is there."""
    numbers = histogram_numbers(cells[is_histogram(cells)])
    lengths = np.diff(columns.positive.offsets) + np.diff(columns.negative.offsets)
    return int((_BYTES_PER_HISTOGRAM + _BYTES_PER_BUCKET * lengths[numbers]).sum())


def _columns(cells: FloatArray, histograms: HistogramColumns | None) -> HistogramColumns:
    assert histograms is not None
    return histograms.take(histogram_numbers(cells))


def mixed_cells(
    op: str,
    left: FloatArray,
    right: FloatArray,
    present: BoolArray,
    left_histograms: HistogramColumns | None,
    right_histograms: HistogramColumns | None,
) -> MixedCells | None:
    """The present cells that float operators cannot compute, None if there are none.

    The operands are [n_rows, n_steps], as `present`, which says where both are.
    """
    if left_histograms is right_histograms is None and op not in TRIM_OPERATORS:
        return None
    kinds = np.zeros(present.shape, np.int64)
    if left_histograms is not None:
        kinds += is_histogram(left)
    if right_histograms is not None:
        kinds += 2 * is_histogram(right)
    found = present & (kinds > 0) if op not in TRIM_OPERATORS else present
    if not found.any():
        return None
    rows, steps = np.nonzero(found)
    return MixedCells(
        rows,
        steps,
        kinds[rows, steps],
        np.broadcast_to(left, present.shape)[rows, steps],
        np.broadcast_to(right, present.shape)[rows, steps],
        left_histograms,
        right_histograms,
    )


@dataclass(frozen=True, slots=True)
class MixedResults:
    """The results of mixed cells.

    `values` float64 [n] may refer to `histograms`. `matched` bool [n] is where there is a result,
    and `kept` where a comparison keeps it, too. `notes` uint8 [n] are what there is to tell.
    """

    values: FloatArray
    matched: BoolArray
    kept: BoolArray
    notes: NDArray[np.uint8]
    histograms: HistogramColumns | None


def compute_mixed(op: str, cells: MixedCells, *, return_bool: bool) -> MixedResults:
    """`left op right` of every cell; a comparison keeps the left operand, or gives 1 or 0."""
    notes = (_TYPES + cells.kinds).astype(np.uint8)
    if op in ("==", "!="):
        return _compared(op == "==", cells, return_bool, notes)
    values, matched = np.zeros(len(cells.kinds)), np.zeros(len(cells.kinds), bool)
    parts: list[HistogramColumns] = []
    first = 0
    for kind, compute in _COMPUTED.get(op, {}).items():
        places = np.flatnonzero(cells.kinds == kind)
        if len(places):
            made, told = compute(cells, places)
            values[places] = histogram_cells(np.arange(first, first + len(places)))
            matched[places] = (told == _NO_NOTE) | (told == _RECONCILED)
            notes[places] = told
            parts.append(made)
            first += len(places)
    histograms = HistogramColumns.joined(parts) if parts else None
    return MixedResults(values, matched, matched, notes, histograms)


def _compared(
    wants_equal: bool, cells: MixedCells, return_bool: bool, notes: NDArray[np.uint8]
) -> MixedResults:
    places = np.flatnonzero(cells.kinds == HISTOGRAMS)
    matched = cells.kinds == HISTOGRAMS
    holds = np.zeros(len(matched), bool)
    if len(places):
        pairs = HistogramColumns.joined([cells.left_columns(places), cells.right_columns(places)])
        n = len(places)
        equal = are_equal(pairs, np.arange(n), np.arange(n, 2 * n))
        holds[places] = equal == wants_equal
    notes[places] = _NO_NOTE
    if return_bool:
        return MixedResults(holds.astype(np.float64), matched, matched, notes, None)
    return MixedResults(cells.left, matched, holds, notes, cells.left_histograms)


_Made = tuple[HistogramColumns, NDArray[np.uint8]]


def _without_notes(histograms: HistogramColumns) -> _Made:
    return histograms, np.full(len(histograms), _NO_NOTE, np.uint8)


def _scaled_left(cells: MixedCells, places: IntArray) -> _Made:
    return _without_notes(scale(cells.left_columns(places), cells.right[places]))


def _scaled_right(cells: MixedCells, places: IntArray) -> _Made:
    return _without_notes(scale(cells.right_columns(places), cells.left[places]))


def _divided(cells: MixedCells, places: IntArray) -> _Made:
    return _without_notes(divide(cells.left_columns(places), cells.right[places]))


def _cut_above(cells: MixedCells, places: IntArray) -> _Made:
    columns = cells.left_columns(places)
    return _without_notes(trimmed(columns, cells.right[places], keeps_below=True))


def _cut_below(cells: MixedCells, places: IntArray) -> _Made:
    columns = cells.left_columns(places)
    return _without_notes(trimmed(columns, cells.right[places], keeps_below=False))


def _added(cells: MixedCells, places: IntArray) -> _Made:
    return _combined(add(cells.left_columns(places), cells.right_columns(places)))


def _subtracted(cells: MixedCells, places: IntArray) -> _Made:
    return _combined(subtract(cells.left_columns(places), cells.right_columns(places)))


def _combined(result: Combined) -> _Made:
    # Prometheus drops a pair whose counter resets collide, but not one with reconciled bounds.
    notes = np.where(result.was_reconciled, _RECONCILED, _NO_NOTE)
    notes = np.where(result.has_collision, _COLLISION, notes)
    notes = np.where(result.is_mixed, _LAYOUT, notes)
    return result.histograms, notes.astype(np.uint8)


_COMPUTED: Mapping[str, Mapping[int, Callable[[MixedCells, IntArray], _Made]]] = {
    "+": {HISTOGRAMS: _added},
    "-": {HISTOGRAMS: _subtracted},
    "*": {HISTOGRAM_FLOAT: _scaled_left, FLOAT_HISTOGRAM: _scaled_right},
    "/": {HISTOGRAM_FLOAT: _divided},
    "</": {HISTOGRAM_FLOAT: _cut_above},
    ">/": {HISTOGRAM_FLOAT: _cut_below},
}


def annotate_mixed(
    op: str,
    cells: MixedCells,
    results: MixedResults,
    annotations: Annotations,
    pos: PositionRange,
) -> None:
    """Tell what met; as in Prometheus, of the notes of one step only the last one."""
    noted = np.flatnonzero(results.notes != _NO_NOTE)
    if not len(noted):
        return
    last = np.zeros(int(cells.steps.max()) + 1, np.uint8)
    last[cells.steps[noted]] = results.notes[noted]
    for note in distinct(last[last != _NO_NOTE].astype(np.int64)).tolist():
        if note == _RECONCILED:
            annotations.info(reconciled_bounds(_OPERATIONS[op]), pos)
        elif note == _COLLISION:
            annotations.warn(reset_collision(_OPERATIONS[op]), pos)
        elif note == _LAYOUT:
            annotations.warn(incompatible_layout(op), pos)
        else:
            annotations.info(incompatible_types(op, *_TYPE_NAMES[note - _TYPES]), pos)
