"""Histograms of the store `rows`: one row of bytes for each, in the column `sample.histogram`.

A row is a list of unsigned numbers in base 128, the lowest 7 bits first; bit 7 of a byte says that
another one follows (LEB128). Floats are numbers with the bytes of their bits reversed, so that few
bytes remain of those with few digits: 3 of 1000.0. Differences and other signed numbers are
zigzag-coded. The numbers of a row:

* the format, 1; the kind, 4 for float counts plus the counter reset hint; the schema, signed;
* zero threshold, count of the zero bucket, count, sum;
* how many spans, buckets and custom bounds follow: positive spans, negative spans, positive
  buckets, negative buckets, bounds;
* offset (signed) and length of each positive span, then of each negative one;
* the positive buckets, then the negative ones: the signed difference to the one before of the same
  side, modulo 2^64, or the float; then the custom bounds, floats.

Counts are numbers in histograms of integers and floats in those of floats. `histogram_of_row` of
`sql/routines/0026_native_histograms.sql` reads the same in SQL.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.histograms.columns import Histograms, Ragged
from promcompat.core.model import IntArray

Numbers = NDArray[np.uint64]
_FORMAT: Final = 1
_FLOAT_COUNTS: Final = 4
_N_FIXED: Final = 12
_N_SIZES: Final = 5
_MOST_BYTES: Final = 10
_MORE: Final = 0x80


def encode_histogram_rows(histograms: Histograms) -> tuple[bytes, IntArray]:
    """The rows of all histograms, one after the other, and the length of each in bytes."""
    parts = [
        _fixed_numbers(histograms),
        _span_numbers(histograms.positive_spans),
        _span_numbers(histograms.negative_spans),
        _bucket_numbers(histograms.positive, histograms.is_float),
        _bucket_numbers(histograms.negative, histograms.is_float),
        Ragged(histograms.bounds.offsets, _reversed(histograms.bounds.cells.view(np.uint64))),
    ]
    numbers = _side_by_side(parts)
    n_bytes = np.ones(len(numbers.cells), np.int64)
    for n_bits in range(7, 64, 7):
        n_bytes += numbers.cells >= np.uint64(1 << n_bits)
    ends = np.zeros(len(numbers.cells) + 1, np.int64)
    np.cumsum(n_bytes, out=ends[1:])
    return _varints(numbers.cells, n_bytes, ends), np.diff(ends[numbers.offsets])


def decode_histogram_rows(rows: bytes, lengths: IntArray) -> Histograms:
    """The histograms of rows of these lengths, which follow on one another.

    Raises StorageUnavailableError for bytes that are no such rows.
    """
    numbers = _numbers_of(np.frombuffer(rows, np.uint8), lengths)
    if len(numbers) and numbers.lengths.min() < _N_FIXED:
        raise _damaged()
    fixed = numbers.cells[numbers.offsets[:-1, None] + np.arange(_N_FIXED)]
    sizes = fixed[:, -_N_SIZES:].astype(np.int64)
    counts = np.column_stack([2 * sizes[:, :2], sizes[:, 2:]])
    is_sound = (fixed[:, 0] == _FORMAT) & (fixed[:, 1] < 2 * _FLOAT_COUNTS)
    is_sound &= ((sizes >= 0) & (sizes <= len(rows))).all(axis=1)
    is_sound &= counts.sum(axis=1) + _N_FIXED == numbers.lengths
    if not is_sound.all():
        raise _damaged()
    starts = numbers.offsets[:-1, None] + _N_FIXED + np.cumsum(counts, axis=1) - counts
    positive_spans, negative_spans, positive, negative, bounds = (
        _taken(numbers.cells, starts[:, part], counts[:, part]) for part in range(_N_SIZES)
    )
    are_placed = _are_placed(positive_spans, positive, len(rows))
    if not are_placed or not _are_placed(negative_spans, negative, len(rows)):
        raise _damaged()
    is_float = fixed[:, 1] >= _FLOAT_COUNTS
    return Histograms(
        _signed(fixed[:, 2]).astype(np.int8),
        (fixed[:, 1] % _FLOAT_COUNTS).astype(np.uint8),
        is_float,
        _reversed(fixed[:, 3]).view(np.float64),
        _count_bits(fixed[:, 4], is_float),
        _count_bits(fixed[:, 5], is_float),
        _reversed(fixed[:, 6]).view(np.float64),
        _spans_of(positive_spans),
        _spans_of(negative_spans),
        _buckets_of(positive, is_float),
        _buckets_of(negative, is_float),
        Ragged(bounds.offsets, _reversed(bounds.cells).view(np.float64)),
    )


def _are_placed(spans: Ragged[np.uint64], buckets: Ragged[np.uint64], most: int) -> bool:
    """Whether spans place as many buckets as there are of each histogram, at most so many.

    Whoever reads the buckets takes the spans at their word.
    """
    lengths = spans.cells[1::2]
    if (lengths > np.uint64(most)).any():
        return False
    placed = np.append(0, np.cumsum(lengths.astype(np.int64)))[spans.offsets // 2]
    return np.array_equal(np.diff(placed), buckets.lengths)


def _damaged() -> StorageUnavailableError:
    return StorageUnavailableError("a stored histogram is damaged: its bytes have no known format")


def _fixed_numbers(histograms: Histograms) -> Ragged[np.uint64]:
    """The numbers that every row begins with."""
    fixed = np.empty((len(histograms), _N_FIXED), np.uint64)
    fixed[:, 0] = _FORMAT
    fixed[:, 1] = _FLOAT_COUNTS * histograms.is_float + histograms.hints
    fixed[:, 2] = _zigzag(histograms.schemas.astype(np.int64))
    fixed[:, 3] = _reversed(histograms.zero_thresholds.view(np.uint64))
    fixed[:, 4] = _count_numbers(histograms.zero_counts, histograms.is_float)
    fixed[:, 5] = _count_numbers(histograms.counts, histograms.is_float)
    fixed[:, 6] = _reversed(histograms.sums.view(np.uint64))
    fixed[:, 7] = histograms.positive_spans.lengths
    fixed[:, 8] = histograms.negative_spans.lengths
    fixed[:, 9] = histograms.positive.lengths
    fixed[:, 10] = histograms.negative.lengths
    fixed[:, 11] = histograms.bounds.lengths
    return Ragged.of_lengths(np.full(len(histograms), _N_FIXED), fixed.ravel())


def _span_numbers(spans: Ragged[np.int32]) -> Ragged[np.uint64]:
    pairs = spans.cells.reshape(-1, 2).astype(np.int64)
    numbers = np.empty(pairs.shape, np.uint64)
    numbers[:, 0], numbers[:, 1] = _zigzag(pairs[:, 0]), pairs[:, 1]
    return Ragged(2 * spans.offsets, numbers.ravel())


def _spans_of(numbers: Ragged[np.uint64]) -> Ragged[np.int32]:
    pairs = numbers.cells.reshape(-1, 2)
    spans = np.empty(pairs.shape, np.int32)
    spans[:, 0], spans[:, 1] = _signed(pairs[:, 0]), pairs[:, 1]
    return Ragged(numbers.offsets // 2, spans)


def _bucket_numbers(buckets: Ragged[np.int64], is_float: NDArray[np.bool_]) -> Ragged[np.uint64]:
    is_float_cell = np.repeat(is_float, buckets.lengths)
    steps = np.diff(buckets.cells, prepend=0)
    starts = buckets.offsets[:-1][buckets.lengths > 0]
    steps[starts] = buckets.cells[starts]
    floats = _reversed(buckets.cells.view(np.uint64))
    return Ragged(buckets.offsets, np.where(is_float_cell, floats, _zigzag(steps)))


def _buckets_of(numbers: Ragged[np.uint64], is_float: NDArray[np.bool_]) -> Ragged[np.int64]:
    is_float_cell = np.repeat(is_float, numbers.lengths)
    sums = np.zeros(len(numbers.cells) + 1, np.int64)
    np.cumsum(np.where(is_float_cell, 0, _signed(numbers.cells)), out=sums[1:])
    counts = sums[1:] - np.repeat(sums[numbers.offsets[:-1]], numbers.lengths)
    floats = _reversed(numbers.cells).view(np.int64)
    return Ragged(numbers.offsets, np.where(is_float_cell, floats, counts))


def _count_numbers(bits: NDArray[np.int64], is_float: NDArray[np.bool_]) -> Numbers:
    numbers = bits.view(np.uint64)
    return np.where(is_float, _reversed(numbers), numbers)


def _count_bits(numbers: Numbers, is_float: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(is_float, _reversed(numbers), numbers).view(np.int64)


def _reversed(bits: Numbers) -> Numbers:
    """Numbers with their bytes in the other order; a copy, without gaps."""
    return np.ascontiguousarray(bits).byteswap()


def _zigzag(numbers: IntArray) -> Numbers:
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _signed(numbers: Numbers) -> IntArray:
    one = np.uint64(1)
    return np.ascontiguousarray(numbers >> one).view(np.int64) ^ -(numbers & one).astype(np.int64)


def _side_by_side(parts: list[Ragged[np.uint64]]) -> Ragged[np.uint64]:
    """Rows that have the cells of each part's row, in the order of the parts."""
    lengths = np.column_stack([part.lengths for part in parts])
    joined = Ragged.of_lengths(lengths.sum(axis=1), np.empty(lengths.sum(), np.uint64))
    starts = joined.offsets[:-1, None] + np.cumsum(lengths, axis=1) - lengths
    for place, part in enumerate(parts):
        shifts = np.repeat(starts[:, place] - part.offsets[:-1], part.lengths)
        joined.cells[np.arange(len(part.cells)) + shifts] = part.cells
    return joined


def _taken(cells: Numbers, starts: IntArray, lengths: IntArray) -> Ragged[np.uint64]:
    taken = Ragged.of_lengths(lengths, cells)
    index = np.arange(taken.offsets[-1]) + np.repeat(starts - taken.offsets[:-1], lengths)
    return Ragged(taken.offsets, cells[index])


def _varints(numbers: Numbers, n_bytes: IntArray, ends: IntArray) -> bytes:
    """The numbers in base 128, each in as few bytes as it needs."""
    encoded = np.empty(ends[-1], np.uint8)
    for place in range(_MOST_BYTES):
        has_byte = np.flatnonzero(n_bytes > place)
        if not len(has_byte):
            break
        digits = (numbers[has_byte] >> np.uint64(7 * place) & np.uint64(0x7F)).astype(np.uint8)
        digits |= np.where(n_bytes[has_byte] > place + 1, _MORE, 0).astype(np.uint8)
        encoded[ends[has_byte] + place] = digits
    return encoded.tobytes()


def _numbers_of(encoded: NDArray[np.uint8], lengths: IntArray) -> Ragged[np.uint64]:
    """The numbers of each row of bytes.

    Raises StorageUnavailableError if a row ends within a number, or one has too many bytes.
    """
    row_ends = np.cumsum(lengths)
    behind = np.flatnonzero(encoded < _MORE) + 1
    starts = np.append(0, behind[:-1])[: len(behind)]
    n_bytes = behind - starts
    n_bytes_given = row_ends[-1] if len(row_ends) else 0
    is_whole = n_bytes_given == len(encoded) and (lengths > 0).all()
    is_whole = is_whole and (encoded[row_ends - 1] < _MORE).all()
    if not is_whole or n_bytes.max(initial=0) > _MOST_BYTES:
        raise _damaged()
    numbers = np.zeros(len(behind), np.uint64)
    for place in range(_MOST_BYTES):
        has_byte = np.flatnonzero(n_bytes > place)
        if not len(has_byte):
            break
        digits = (encoded[starts[has_byte] + place] & 0x7F).astype(np.uint64)
        numbers[has_byte] |= digits << np.uint64(7 * place)
    offsets = np.append(0, np.searchsorted(behind, row_ends, "right"))
    return Ragged(offsets, numbers)
