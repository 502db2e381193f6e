"""The kernels that read the Histogram messages of remote write into columns.

They take any bytes. Versions 1.0 and 2.0 have the same message but for a start timestamp.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.core.series_table_kernels import load_word
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    Bytes,
    Ints,
    content_bounds,
    read_varint,
)

Spans = NDArray[np.int32]

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_COUNT_INT, _COUNT_FLOAT, _SUM, _SCHEMA, _ZERO_THRESHOLD = 1, 2, 3, 4, 5
_ZERO_COUNT_INT, _ZERO_COUNT_FLOAT = 6, 7
_NEGATIVE_SPANS, _NEGATIVE_DELTAS, _NEGATIVE_COUNTS = 8, 9, 10
_POSITIVE_SPANS, _POSITIVE_DELTAS, _POSITIVE_COUNTS = 11, 12, 13
_HINT, _TIMESTAMP, _CUSTOM_VALUES, _START_TIMESTAMP = 14, 15, 16, 17
"""The numbers of the fields."""
N_SIZES = 18
"""The columns of `sizes`: how many elements the field of each number has."""
COUNT, SUM, SCHEMA, ZERO_THRESHOLD, ZERO_COUNT, HINT, TIMESTAMP, START_TIMESTAMP = range(8)
"""The columns of `fields`."""
N_FIELDS = 8
POSITIVE_SPANS, NEGATIVE_SPANS, POSITIVE, NEGATIVE, BOUNDS = range(5)
"""The columns of `starts`."""
N_PARTS = 5
_LONG_RUN = 9
"""Of bytes that do not end a number; with fewer it has at most 63 bits."""
_LOW_BITS = (1 << 63) - 1
_MAX_INT32 = (1 << 31) - 1


@kernel(allocates=False)
def _field(message: Bytes, position: int, end: int) -> tuple[int, int, int, int]:
    """Number, wire type, start of the content and end of a field; the end is UNUSUAL if none."""
    tag, first = read_varint(message, position, end)
    if first < 0 or tag < 8 or tag > 0xFFFFFFFF:
        return 0, 0, 0, UNUSUAL
    number, wire_type = tag >> 3, tag & 7
    if wire_type == _DELIMITED:
        first, after = content_bounds(message, first, end)
    elif wire_type == _VARINT:
        _, after = read_varint(message, first, end)
    else:
        size = 8 if wire_type == _FIXED64 else 4
        is_right = wire_type in (_FIXED64, _FIXED32) and size <= end - first
        after = first + size if is_right else UNUSUAL
    return number, wire_type, first, after


@kernel(allocates=False)
def _signed(number: int) -> int:
    """The number that a sint64 field has in zigzag form."""
    return (number >> 1 & _LOW_BITS) ^ -(number & 1)


@kernel(allocates=False)
def _count_varints(message: Bytes, first: int, end: int) -> int:
    """How many numbers a packed field has; UNUSUAL if one does not end or has over 64 bits."""
    n_numbers = run = longest = 0
    for position in range(first, end):
        run = run + 1 if message[position] >= 0x80 else 0
        longest = max(longest, run)
        n_numbers += run == 0
    if not run and longest < _LONG_RUN:
        return n_numbers
    n_numbers = 0
    while first < end:
        _, first = read_varint(message, first, end)
        if first < 0:
            return UNUSUAL
        n_numbers += 1
    return n_numbers


@kernel(allocates=False)
def _n_elements(message: Bytes, number: int, wire_type: int, first: int, end: int) -> int:
    """How many elements a field adds; UNUSUAL if it has another type than its number says."""
    is_packed = wire_type == _DELIMITED
    if number in (_NEGATIVE_SPANS, _POSITIVE_SPANS):
        return 1 if is_packed else UNUSUAL
    if is_packed and number in (_NEGATIVE_DELTAS, _POSITIVE_DELTAS):
        return _count_varints(message, first, end)
    is_list = number in (_NEGATIVE_COUNTS, _POSITIVE_COUNTS, _CUSTOM_VALUES)
    if is_packed and is_list:
        return (end - first) // 8 if (end - first) % 8 == 0 else UNUSUAL
    is_float = is_list or number in (_COUNT_FLOAT, _SUM, _ZERO_THRESHOLD, _ZERO_COUNT_FLOAT)
    return 1 if wire_type == (_FIXED64 if is_float else _VARINT) else UNUSUAL


@kernel(
    "i8(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[:, ::1])",
    allocates=False,
)
def count_histogram_fields(message: Bytes, bounds: Ints, sizes: Ints) -> int:
    """Count the elements of each field of histograms; how many are right before a malformed one.

    `bounds` [n, 2] has first and end of each in `message`, which must be within it, and `sizes`
    [n, N_SIZES] is zero before the call. In place of field 0, `sizes` says whether the counts are
    floats.
    """
    for row in range(len(bounds)):
        position, end = bounds[row, 0], bounds[row, 1]
        while position < end:
            number, wire_type, first, position = _field(message, position, end)
            if position < 0:
                return row
            if number >= N_SIZES:
                continue
            n_elements = _n_elements(message, number, wire_type, first, position)
            if n_elements < 0:
                return row
            sizes[row, number] += n_elements
            if number in (_COUNT_FLOAT, _COUNT_INT):
                sizes[row, 0] = number == _COUNT_FLOAT
    return len(bounds)


@kernel(allocates=False)
def _word(message: Bytes, position: int) -> int:
    return np.int64(load_word(message, position))  # type: ignore[return-value]  # as int to numba


@kernel(allocates=False)
def _read_span(message: Bytes, first: int, end: int, spans: Spans, place: int) -> bool:
    """Whether a BucketSpan message is right, which is read."""
    offset = length = 0
    while first < end:
        number, wire_type, start, first = _field(message, first, end)
        if first < 0:
            return False
        if number > 2:
            continue
        if wire_type != _VARINT:
            return False
        value, _ = read_varint(message, start, first)
        if number == 1:
            offset = _signed(value & 0xFFFFFFFF)
        else:
            # A span that long is refused whatever its length is: no histogram has as many buckets.
            length = min(value & 0xFFFFFFFF, _MAX_INT32)
    spans[place, 0], spans[place, 1] = offset, length
    return True


@kernel(allocates=False)
def _read_deltas(message: Bytes, first: int, end: int, out: Ints, place: int, last: int) -> int:
    """Fill in absolute counts from a place on, after the count `last`; the place after them."""
    while first < end:
        number = int(message[first])
        if number < 0x80:
            first += 1
        else:
            number, first = read_varint(message, first, end)
        last += _signed(number)
        out[place] = last
        place += 1
    return place


@kernel(allocates=False)
def _read_words(message: Bytes, first: int, end: int, out: Ints, place: int) -> int:
    while first < end:
        out[place] = _word(message, first)
        place += 1
        first += 8
    return place


@kernel(allocates=False)
def _column_of_list(number: int) -> int:
    if number in (_POSITIVE_DELTAS, _POSITIVE_COUNTS):
        return POSITIVE
    if number in (_NEGATIVE_DELTAS, _NEGATIVE_COUNTS):
        return NEGATIVE
    return BOUNDS if number == _CUSTOM_VALUES else UNUSUAL


@kernel(allocates=False)
def _column_of_scalar(number: int) -> int:
    if number in (_COUNT_INT, _COUNT_FLOAT):
        return COUNT
    if number in (_ZERO_COUNT_INT, _ZERO_COUNT_FLOAT):
        return ZERO_COUNT
    if number == _SUM:
        return SUM
    if number == _SCHEMA:
        return SCHEMA
    if number == _ZERO_THRESHOLD:
        return ZERO_THRESHOLD
    if number == _HINT:
        return HINT
    if number == _TIMESTAMP:
        return TIMESTAMP
    return START_TIMESTAMP if number == _START_TIMESTAMP else UNUSUAL


@kernel(allocates=False)
def _read_list(
    message: Bytes,
    number: int,
    column: int,
    first: int,
    end: int,
    is_float: bool,
    words: Ints,
    places: Ints,
    start: int,
) -> None:
    """Read buckets or bounds; counts of the other kind than that of the histogram are skipped."""
    place = places[column]
    if column == BOUNDS or (is_float and number in (_POSITIVE_COUNTS, _NEGATIVE_COUNTS)):
        places[column] = _read_words(message, first, end, words, place)
    elif not is_float and number in (_POSITIVE_DELTAS, _NEGATIVE_DELTAS):
        last = words[place - 1] if place > start else 0
        places[column] = _read_deltas(message, first, end, words, place, last)


@kernel(allocates=False)
def _read_scalar(
    message: Bytes, number: int, wire_type: int, first: int, end: int, is_float: bool
) -> int:
    """The number of a field, or the bits of its float."""
    if wire_type == _VARINT:
        value, _ = read_varint(message, first, end)
    else:
        value = _word(message, first)
    if number == _SCHEMA:
        return _signed(value & 0xFFFFFFFF)
    # A zero count of the other kind counts as 0, as Prometheus reads it.
    if number in (_ZERO_COUNT_INT, _ZERO_COUNT_FLOAT) and is_float != (number == _ZERO_COUNT_FLOAT):
        return 0
    return value


@kernel(
    "i8(Array(u1, 1, 'C', readonly=True), i8[:, ::1], b1[::1], i8[:, ::1], i4[:, ::1], i8[::1],"
    " i8[:, ::1], i8[::1])",
    allocates=False,
)
def read_histograms(
    message: Bytes,
    bounds: Ints,
    is_float: NDArray[np.bool_],
    starts: Ints,
    spans: Spans,
    words: Ints,
    fields: Ints,
    places: Ints,
) -> int:
    """Read the histograms that `count_histogram_fields` found to be right.

    `starts` [n, N_PARTS] has the place of each part in `spans` or `words`, which get absolute
    buckets and bounds. `fields` [n, N_FIELDS] gets numbers, and the bits of floats; it is zero
    before the call. `places` [N_PARTS] is room for the histogram at hand. Returns how many
    histograms are right: their spans are read by this kernel only.
    """
    for row in range(len(bounds)):
        position, end = bounds[row, 0], bounds[row, 1]
        for part in range(N_PARTS):
            places[part] = starts[row, part]
        while position < end:
            number, wire_type, first, position = _field(message, position, end)
            if number in (_POSITIVE_SPANS, _NEGATIVE_SPANS):
                column = POSITIVE_SPANS if number == _POSITIVE_SPANS else NEGATIVE_SPANS
                if not _read_span(message, first, position, spans, places[column]):
                    return row
                places[column] += 1
                continue
            column = _column_of_list(number)
            if column >= 0:
                _read_list(
                    message,
                    number,
                    column,
                    first,
                    position,
                    is_float[row],
                    words,
                    places,
                    starts[row, column],
                )
                continue
            column = _column_of_scalar(number)
            if column >= 0:
                fields[row, column] = _read_scalar(
                    message, number, wire_type, first, position, is_float[row]
                )
    return len(bounds)
