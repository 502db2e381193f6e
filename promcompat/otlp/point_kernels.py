"""Kernels that read data points: times and values to rows, and where the identity of a point is.

The identity of a point is what makes its series: the bytes of its attributes and, of a histogram,
of its bounds. Exemplars may stand between these. A point that is malformed or unusual has none: it
is left to the protobuf library.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.series_table_kernels import load_word
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    Bytes,
    Ints,
    Words,
    content_bounds,
    field_end,
    read_varint,
)

Floats = NDArray[np.float64]
RowArrays = tuple[Ints, Ints, Ints, Ints, Floats, Words, Ints, Words, Ints, Ints]
"""The columns of rows, see `export_kernels.read_export`, and what `_read_fields` fills."""
N_WORDS = 16
"""One for each number of a field that takes a tag of one byte."""
N_PLACES = 2 * N_WORDS + 2
EXEMPLAR_ROW, EXEMPLAR_FIRST, EXEMPLAR_END, EXEMPLAR_BOUNDS, EXEMPLAR_BOUNDS_END = range(5)
"""Columns of `exemplars`."""

_FIXED64, _DELIMITED = 1, 2
_START, _TIME = 2, 3
_DOUBLE, _INTEGER = 4, 6
_COUNT, _SUM, _BUCKET_COUNTS, _BOUNDS, _MIN, _MAX = 4, 5, 6, 7, 11, 12
_WORDS_OF_NUMBERS = 1 << _START | 1 << _TIME | 1 << _DOUBLE | 1 << _INTEGER
_WORDS_OF_HISTOGRAMS = 1 << _START | 1 << _TIME | 1 << _COUNT | 1 << _SUM | 1 << _MIN | 1 << _MAX
_NUMBER_ATTRIBUTES, _HISTOGRAM_ATTRIBUTES = 7, 9
_NUMBER_EXEMPLARS, _HISTOGRAM_EXEMPLARS = 5, 8
_NUMBER_FLAGS, _HISTOGRAM_FLAGS = 0x40, 0x50
_BOUNDS_TAG = 0x3A
_IDENTITY, _IDENTITY_END, _LAST_WORD, _SEEN = 0, 1, 2, 3
"""Places that no field has: first and end of the identity, the last value, and the fields of words
that there are."""
SECOND, SECOND_END = 2 * N_WORDS, 2 * N_WORDS + 1
"""Those of the second part of the identity, behind exemplars."""
N_EXEMPLARS = 7
"""Where `state` has the number of lines of `exemplars`."""
_NO_VALUE = 1
_NS_PER_MS = np.uint64(1_000_000)
_LARGEST_NS = np.uint64((1 << 63) - 1)
N_BESIDE_BUCKETS = 3
"""The series of a histogram besides those of its bounds: sum, count, and the bucket `+Inf`."""


@kernel(allocates=False)
def _milliseconds(nanoseconds: np.uint64) -> int:
    return signed(min(nanoseconds, _LARGEST_NS) // _NS_PER_MS)


@kernel(allocates=False)
def count_histogram_rows(message: Bytes, position: int, end: int) -> int:
    """How many rows a point of a histogram has at most; UNUSUAL if it is malformed."""
    n_rows = N_BESIDE_BUCKETS
    while position < end:
        tag = message[position]
        after = field_end(message, position, end)
        if after < 0:
            return UNUSUAL
        if tag == _BOUNDS_TAG:
            first, _ = content_bounds(message, position + 1, end)
            n_rows += (after - first) // 8
        position = after
    return n_rows


@kernel(allocates=False)
def _read_fields(
    message: Bytes,
    position: int,
    end: int,
    fixed: int,
    identity: int,
    attributes: int,
    exemplars_number: int,
    flags_tag: int,
    rows: RowArrays,
    state: Ints,
) -> bool:
    """Fill `words` and `places` with the fields of a point, by number; False if it is unusual.

    `fixed` has a bit for each field of eight bytes, and `identity` for those of the identity, which
    must stand together, or in two parts. Of other fields than `attributes` and exemplars there may
    be one each. Exemplars get lines without a row.
    """
    _, _, _, _, _, _, _, words, places, _ = rows
    for number in range(N_WORDS):
        words[number] = np.uint64(0)
    places[:] = 0
    while position < end:
        tag = signed(message[position])
        number, kind = tag >> 3, tag & 7
        if tag < 0x80 and kind == _FIXED64 and fixed >> number & 1:
            if position + 9 > end:
                return False
            words[number] = load_word(message, position + 1)
            places[_SEEN] |= 1 << number
            if number > _TIME:
                places[_LAST_WORD] = number
            position += 9
        elif tag == flags_tag:
            flags, position = read_varint(message, position + 1, end)
            if position < 0 or flags & _NO_VALUE:
                return False
        elif kind == _DELIMITED:
            position = _note_part(
                message, position, end, identity, attributes, exemplars_number, rows, state
            )
            if position < 0:
                return False
        else:
            return False
    return True


@kernel(allocates=False)
def _note_part(
    message: Bytes,
    position: int,
    end: int,
    identity: int,
    attributes: int,
    exemplars_number: int,
    rows: RowArrays,
    state: Ints,
) -> int:
    """Note a field that is delimited; the position behind it, UNUSUAL if it is unusual."""
    places, exemplars = rows[8], rows[9]
    number = signed(message[position]) >> 3
    first, after = content_bounds(message, position + 1, end)
    if after < 0:
        return UNUSUAL
    if number == exemplars_number:
        line = state[N_EXEMPLARS]
        if line >= len(exemplars):
            return UNUSUAL
        exemplars[line, EXEMPLAR_FIRST], exemplars[line, EXEMPLAR_END] = first, after
        state[N_EXEMPLARS] += 1
        return after
    is_identity = identity >> number & 1
    if not is_identity and number != _BUCKET_COUNTS:
        return UNUSUAL
    if number != attributes:
        if places[2 * number + 1]:
            return UNUSUAL
        places[2 * number], places[2 * number + 1] = first, after
    if is_identity and not _extend_identity(places, position, after):
        return UNUSUAL
    return after


@kernel(allocates=False)
def _extend_identity(places: Ints, position: int, after: int) -> bool:
    """Add a field to the identity; False if it would begin a third part of it."""
    part = SECOND if places[SECOND_END] else _IDENTITY
    if not places[_IDENTITY_END]:
        places[_IDENTITY] = position
    elif places[part + 1] != position:
        if part == SECOND:
            return False
        part = SECOND
        places[SECOND] = position
    places[part + 1] = after
    return True


@kernel(allocates=False)
def _note_exemplars(
    rows: RowArrays, state: Ints, n_before: int, row: int, first: int, end: int
) -> None:
    """Note the row of the exemplars that a point has, and where its bounds are."""
    exemplars = rows[9]
    for line in range(n_before, state[N_EXEMPLARS]):
        exemplars[line, EXEMPLAR_ROW] = row
        exemplars[line, EXEMPLAR_BOUNDS], exemplars[line, EXEMPLAR_BOUNDS_END] = first, end


@kernel(allocates=False)
def read_number(
    message: Bytes, position: int, end: int, rows: RowArrays, row: int, state: Ints
) -> tuple[int, int]:
    """Fill a row with the value and the times of a point of a gauge or a sum.

    First and end of its identity, (UNUSUAL, UNUSUAL) if it has none; `places` has its second part.
    The start timestamp is there for gauges, too.
    """
    _, _, times, starts, values, bits, _, words, places, _ = rows
    fixed, identity = _WORDS_OF_NUMBERS, 1 << _NUMBER_ATTRIBUTES
    n_exemplars = signed(state[N_EXEMPLARS])
    if not _read_fields(
        message,
        position,
        end,
        fixed,
        identity,
        _NUMBER_ATTRIBUTES,
        _NUMBER_EXEMPLARS,
        _NUMBER_FLAGS,
        rows,
        state,
    ):
        return UNUSUAL, UNUSUAL
    _note_exemplars(rows, state, n_exemplars, row, 0, 0)
    if places[_LAST_WORD] == _INTEGER:
        values[row] = np.float64(np.int64(words[_INTEGER]))
    else:
        bits[row] = words[_DOUBLE]
    times[row], starts[row] = _milliseconds(words[_TIME]), _milliseconds(words[_START])
    return signed(places[_IDENTITY]), signed(places[_IDENTITY_END])


@kernel(allocates=False)
def read_histogram(
    message: Bytes, position: int, end: int, rows: RowArrays, row: int, state: Ints
) -> tuple[int, int, int]:
    """Fill the rows of a point of a histogram: first and end of its identity, and the next row.

    The first two are UNUSUAL if it has none; `places` has its second part. The rows are those of
    the sum, if it has one, the count, each bound, and `+Inf`.
    """
    _, offsets, times, starts, values, bits, _, words, places, _ = rows
    n_exemplars = signed(state[N_EXEMPLARS])
    fixed, identity = _WORDS_OF_HISTOGRAMS, 1 << _BOUNDS | 1 << _HISTOGRAM_ATTRIBUTES
    if not _read_fields(
        message,
        position,
        end,
        fixed,
        identity,
        _HISTOGRAM_ATTRIBUTES,
        _HISTOGRAM_EXEMPLARS,
        _HISTOGRAM_FLAGS,
        rows,
        state,
    ):
        return UNUSUAL, UNUSUAL, row
    counts = signed(places[2 * _BUCKET_COUNTS])
    n_bytes = signed(places[2 * _BUCKET_COUNTS + 1]) - counts
    n_bound_bytes = signed(places[2 * _BOUNDS + 1] - places[2 * _BOUNDS])
    n_bounds, has_sum = n_bound_bytes // 8, signed(places[_SEEN] >> _SUM & 1)
    end_row = row + has_sum + n_bounds + 2
    if n_bytes % 8 or n_bound_bytes % 8 or n_bytes < n_bound_bytes or end_row > len(times):
        return UNUSUAL, UNUSUAL, row
    bounds = signed(places[2 * _BOUNDS])
    _note_exemplars(rows, state, n_exemplars, row + has_sum + 1, bounds, bounds + n_bound_bytes)
    for index in range(row, end_row):
        times[index], starts[index] = _milliseconds(words[_TIME]), _milliseconds(words[_START])
        offsets[index] = index - row + 1 - has_sum
    if has_sum:
        bits[row] = words[_SUM]
    values[row + has_sum] = values[end_row - 1] = np.float64(words[_COUNT])
    in_buckets = 0.0
    for bound in range(n_bounds):
        in_buckets += np.float64(load_word(message, counts + 8 * bound))
        values[row + has_sum + 1 + bound] = in_buckets
    return signed(places[_IDENTITY]), signed(places[_IDENTITY_END]), end_row
