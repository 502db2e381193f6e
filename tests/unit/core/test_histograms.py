"""Columns of native histograms, and the cells that refer to them."""

import numpy as np

from promcompat.core.histograms.columns import (
    HistogramCells,
    Histograms,
    Ragged,
    histogram_cells,
    histogram_numbers,
    is_histogram,
    without_histogram_bits,
)


def _histograms(*counts: int) -> Histograms:
    """Histograms of schema 3 that have their count in one bucket."""
    n = len(counts)
    one_each, none_each = np.ones(n, np.int64), np.zeros(n, np.int64)
    bits = np.array(counts, np.int64)
    spans = Ragged.of_lengths(one_each, np.full((n, 2), 1, np.int32))
    return Histograms(
        np.full(n, 3, np.int8),
        np.zeros(n, np.uint8),
        np.zeros(n, bool),
        np.full(n, 0.5),
        none_each,
        bits,
        bits.astype(np.float64),
        spans,
        Ragged.of_lengths(none_each, np.empty((0, 2), np.int32)),
        Ragged.of_lengths(one_each, bits),
        Ragged.of_lengths(none_each, np.empty(0, np.int64)),
        Ragged.of_lengths(none_each, np.empty(0)),
    )


def test_cells_refer_to_histograms_and_no_float_does() -> None:
    cells = histogram_cells(np.array([0, 7, (1 << 40) - 1]))
    assert is_histogram(cells).all()
    assert histogram_numbers(cells).tolist() == [0, 7, (1 << 40) - 1]
    stale = np.array([0x7FF0000000000002], np.int64).view(np.float64)[0]
    floats = np.array([0.0, -1.5, np.inf, -np.inf, np.nan, -np.nan, stale])
    assert not is_histogram(floats).any()


def test_a_sent_nan_with_the_bits_of_a_cell_becomes_the_usual_nan() -> None:
    sent = np.append(histogram_cells(np.array([3])), [1.0, 2.0])
    kept = without_histogram_bits(sent)
    assert not is_histogram(kept).any()
    assert np.isnan(kept[0])
    assert kept[1:].tolist() == [1.0, 2.0]
    floats = np.array([1.0, np.nan])
    assert without_histogram_bits(floats) is floats


def test_rows_of_ragged_columns_are_taken_and_joined() -> None:
    ragged = Ragged.of_lengths(np.array([2, 0, 3]), np.arange(5))
    taken = ragged.take(np.array([2, 0, 0]))
    assert taken.cells.tolist() == [2, 3, 4, 0, 1, 0, 1]
    assert taken.offsets.tolist() == [0, 3, 5, 7]
    joined = Ragged.joined([taken, ragged])
    assert joined.lengths.tolist() == [3, 2, 2, 2, 0, 3]
    assert joined.rows_of_cells().tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 5, 5, 5]
    assert ragged.take(np.array([True, False, True])).cells.tolist() == [0, 1, 2, 3, 4]


def test_joined_columns_keep_what_their_cells_refer_to() -> None:
    first = HistogramCells(np.append(histogram_cells(np.array([1, 0])), 5.0), _histograms(10, 11))
    floats = HistogramCells(np.array([6.0]), None)
    second = HistogramCells(histogram_cells(np.array([2, 0])), _histograms(20, 21, 22))
    joined = HistogramCells.joined([first, floats, second])
    assert joined.histograms is not None
    numbers = histogram_numbers(joined.values[is_histogram(joined.values)])
    assert joined.histograms.counts[numbers].tolist() == [11, 10, 22, 20]
    assert joined.values[~is_histogram(joined.values)].tolist() == [5.0, 6.0]


def test_a_compacted_column_has_only_its_histograms_in_the_order_of_its_cells() -> None:
    cells = HistogramCells(
        np.insert(histogram_cells(np.array([4, 1])), 1, 9.0), _histograms(0, 1, 2, 3, 4)
    ).compacted()
    assert cells.histograms is not None
    assert cells.histograms.counts.tolist() == [4, 1]
    assert histogram_numbers(cells.values[[0, 2]]).tolist() == [0, 1]
    assert HistogramCells(np.array([1.0]), _histograms(1)).compacted().histograms is None
