"""Compares samples as duplicates are: floats by their bits, histograms by what they say."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged, histogram_numbers, is_histogram
from promcompat.core.model import BoolArray, FloatArray


def differ(values: FloatArray, others: FloatArray, histograms: Histograms | None) -> BoolArray:
    """Which values differ from the others of the same place; both refer to `histograms`.

    Equal histograms are those that Prometheus takes for duplicates: the hint does not count, nor
    do spans that have the same buckets.
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
    is_equal &= _same_rows(one.positive, other.positive)
    is_equal &= _same_rows(one.negative, other.negative)
    is_equal &= _same_rows(one.bounds, other.bounds)
    is_equal &= _same_rows(_indexes(one.positive_spans), _indexes(other.positive_spans))
    is_equal &= _same_rows(_indexes(one.negative_spans), _indexes(other.negative_spans))
    return is_equal


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


def _indexes(spans: Ragged[np.int32]) -> Ragged[np.int64]:
    """The index of each bucket; a row of spans has the first index and then numbers of gaps."""
    offsets, lengths = spans.cells[:, 0].astype(np.int64), spans.cells[:, 1].astype(np.int64)
    moved = np.append(0, np.cumsum(offsets + lengths))
    firsts = moved[1:] - lengths - np.repeat(moved[spans.offsets[:-1]], spans.lengths)
    n_before = np.append(0, np.cumsum(lengths))
    indexes = np.arange(n_before[-1]) + np.repeat(firsts - n_before[:-1], lengths)
    return Ragged(n_before[spans.offsets], indexes)
