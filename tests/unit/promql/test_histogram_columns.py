"""Stored histograms as floats with bucket indices, and back."""

import numpy as np

from promcompat.core.histograms.columns import Histograms, Ragged
from promql.values.histogram_columns import HistogramColumns


def _stored() -> Histograms:
    """An integer histogram, a float one with custom bounds, and one without buckets."""
    return Histograms(
        np.array([2, -53, 0], np.int8),
        np.array([0, 3, 1], np.uint8),
        np.array([False, True, False]),
        np.array([0.25, 0.0, 1.0]),
        np.array([4, 0, 0]),
        np.array([(1 << 63) - 1, np.float64(3.5).view(np.int64), 0]),
        np.array([1.5, -2.0, 0.0]),
        Ragged.of_lengths(
            np.array([3, 1, 0]), np.array([[-2, 2], [0, 0], [3, 1], [1, 2]], np.int32)
        ),
        Ragged.of_lengths(np.array([1, 0, 0]), np.array([[5, 1]], np.int32)),
        Ragged.of_lengths(
            np.array([3, 2, 0]),
            np.append([1, 2, 7], np.array([0.5, 3.0]).view(np.int64)),
        ),
        Ragged.of_lengths(np.array([1, 0, 0]), np.array([9])),
        Ragged.of_lengths(np.array([0, 3, 0]), np.array([0.1, 1.0, 10.0])),
    )


def test_spans_place_the_buckets() -> None:
    columns = HistogramColumns.of(_stored())
    assert columns.positive.indices.tolist() == [-2, -1, 3, 1, 2]
    assert columns.positive.counts.tolist() == [1, 2, 7, 0.5, 3]
    assert columns.negative.indices.tolist() == [5]
    assert columns.counts.tolist() == [float((1 << 63) - 1), 3.5, 0]
    assert columns.bounds.tolist() == [-1, 0, -1]
    assert columns.bound_sets == ((0.1, 1.0, 10.0),)


def test_columns_are_stored_as_floats_with_one_span_for_each_run() -> None:
    stored = HistogramColumns.of(_stored()).stored()
    assert stored.is_float.all()
    assert stored.positive_spans.cells.tolist() == [[-2, 2], [3, 1], [1, 2]]
    assert stored.positive_spans.lengths.tolist() == [2, 1, 0]
    assert stored.negative_spans.lengths.tolist() == [1, 0, 0]
    assert stored.bounds.cells.tolist() == [0.1, 1.0, 10.0]
    again = HistogramColumns.of(stored)
    assert again.positive.indices.tolist() == [-2, -1, 3, 1, 2]
    assert again.counts.tolist() == [float((1 << 63) - 1), 3.5, 0]


def test_joined_columns_have_each_list_of_bounds_once() -> None:
    columns = HistogramColumns.of(_stored())
    joined = HistogramColumns.joined([columns.take(np.array([2, 1])), columns])
    assert joined.bound_sets == ((0.1, 1.0, 10.0),)
    assert joined.bounds.tolist() == [-1, 0, -1, 0, -1]
    assert joined.positive.indices.tolist() == [1, 2, -2, -1, 3, 1, 2]
    assert joined.positive.offsets.tolist() == [0, 0, 2, 5, 7, 7]
