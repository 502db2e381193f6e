"""Compares samples as duplicates are: floats by their bits, histograms by what they say."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged, histogram_numbers, is_histogram
from promcompat.core.histograms.layout import bucket_indices
from promcompat.core.model import BoolArray, FloatArray


def differ(values: FloatArray, others: FloatArray, histograms: Histograms | None) -> BoolArray:
    """Which values differ from the others of the same place; both refer to `histograms`.

    Histograms are equal if they say the same: hints do not count, nor do empty buckets and how
    spans are split. A Prometheus adds empty buckets where it stores a histogram, so what is copied
    from its storage has other ones than what it sent before.
    """
    differs = np.asarray(values.view(np.int64) != others.view(np.int64))
    if histograms is None:
        return differs
    places = np.flatnonzero(differs & is_histogram(values) & is_histogram(others))
    if len(places):
        one, other = histogram_numbers(values[places]), histogram_numbers(others[places])
        differs[places] = ~_are_equal(histograms.take(one), histograms.take(other))
    return differs


def _are_equal(one: Histograms, other: Histograms) -> BoolArray:
    is_equal = np.ones(len(one), np.bool_)
    for name in ("schemas", "is_float", "zero_counts", "counts"):
        is_equal &= getattr(one, name) == getattr(other, name)
    for name in ("zero_thresholds", "sums"):
        is_equal &= getattr(one, name).view(np.int64) == getattr(other, name).view(np.int64)
    is_equal &= _same_rows(one.bounds, other.bounds)
    for side in ("positive", "negative"):
        own, others = _populated(one, side), _populated(other, side)
        is_equal &= _same_rows(own[0], others[0]) & _same_rows(own[1], others[1])
    return is_equal


def _populated(histograms: Histograms, side: str) -> tuple[Ragged[np.int64], Ragged[np.int64]]:
    """The indexes and the counts of the buckets of a side that are not empty."""
    counts: Ragged[np.int64] = getattr(histograms, side)
    indexes = bucket_indices(getattr(histograms, f"{side}_spans"))
    is_populated = counts.cells != 0
    offsets = np.append(0, np.cumsum(is_populated))[counts.offsets]
    return Ragged(offsets, indexes[is_populated]), Ragged(offsets, counts.cells[is_populated])


def _same_rows(one: Ragged[Any], other: Ragged[Any]) -> BoolArray:
    """Which rows have the same cells, to the bit."""
    is_same = np.asarray(one.lengths == other.lengths)
    index = np.flatnonzero(is_same & (one.lengths > 0))
    if len(index):
        own, others = one.take(index), other.take(index)
        is_other = _bits(own.cells) != _bits(others.cells)
        is_same[index] = ~np.logical_or.reduceat(is_other, own.offsets[:-1])
    return is_same


def _bits(cells: NDArray[Any]) -> NDArray[Any]:
    return cells.view(np.int64) if cells.dtype == np.float64 else cells
