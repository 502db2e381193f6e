"""The kernels that encode native histograms: as messages, and as chunks of Prometheus.

A chunk of histograms is the number of its samples (2 bytes, big endian), a byte that says of which
kind of counter they are, their common layout, and the samples. Numbers have variable length: of
integers the difference of each difference to the one before it, of floats the XOR as in chunks of
floats.
"""

import math

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.remote_read.chunk_kernels import NO_WINDOW, put_bits, put_value, zigzag

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Spans = NDArray[np.int32]
Bools = NDArray[np.bool_]

MAX_BYTES_OF_NUMBER = 10
"""Of a number or a float in a chunk or a message, with what comes before it."""
MAX_BYTES_OF_SPAN = 20
MAX_BYTES_OF_HISTOGRAM = 120
"""Of everything else: the numbers that every histogram has, and the heads of lists."""
COUNT, ZERO_COUNT, SUM, ZERO_THRESHOLD, SCHEMA, HINT, IS_FLOAT, TIME = range(8)
"""The rows of `fields`: numbers, and the bits of counts and floats."""
N_FIELDS = 8
_POSITIVE_SPANS, _NEGATIVE_SPANS, _POSITIVE, _NEGATIVE, _BOUNDS = range(5)
"""The rows of `offsets`."""
_CUSTOM_BUCKETS = -53
_ONE = np.uint64(1)
_FLAGS = (0b00, 0b10, 0b01, 0b11)
"""Of a chunk, by the hint of its first histogram."""
_MAX_SHORT_BOUND = 33_554_430
_SIGNATURE = (
    "(i8[:, ::1], i8[:, ::1], i4[:, ::1], i4[:, ::1], i8[::1], i8[::1], i8[::1],"
    " {more} u1[::1], i8[::1])"
)


@kernel(allocates=False)
def _put_byte_varint(out: Bytes, at: int, word: np.uint64) -> int:
    while word > np.uint64(0x7F):
        out[at] = np.uint8((word & np.uint64(0x7F)) | np.uint64(0x80))
        word >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(word)
    return at + 1


@kernel(allocates=False)
def _put_number(out: Bytes, at: int, tag: int, word: np.uint64) -> int:
    out[at] = tag
    return _put_byte_varint(out, at + 1, word)


@kernel(allocates=False)
def _put_word(out: Bytes, at: int, bits: int) -> int:
    word = np.uint64(bits)
    for place in range(8):
        out[at + place] = np.uint8((word >> np.uint64(8 * place)) & np.uint64(0xFF))
    return at + 8


@kernel(allocates=False)
def _put_double(out: Bytes, at: int, tag: int, bits: int) -> int:
    out[at] = tag
    return _put_word(out, at + 1, bits)


@kernel(allocates=False)
def _varint_size(word: np.uint64) -> int:
    size = 1
    while word > np.uint64(0x7F):
        word >>= np.uint64(7)
        size += 1
    return size


@kernel(allocates=False)
def _put_spans(out: Bytes, at: int, tag: int, spans: Spans, first: int, end: int) -> int:
    for place in range(first, end):
        offset, length = zigzag(int(spans[place, 0])), np.uint64(spans[place, 1])
        out[at] = tag
        out[at + 1] = 2 + _varint_size(offset) + _varint_size(length)
        at = _put_number(out, at + 2, 0x08, offset)
        at = _put_number(out, at, 0x10, length)
    return at


@kernel(allocates=False)
def _put_deltas(out: Bytes, at: int, tag: int, counts: Ints, first: int, end: int) -> int:
    if first == end:
        return at
    size, last = 0, 0
    for place in range(first, end):
        size += _varint_size(zigzag(counts[place] - last))
        last = counts[place]
    at = _put_number(out, at, tag, np.uint64(size))
    last = 0
    for place in range(first, end):
        at = _put_byte_varint(out, at, zigzag(counts[place] - last))
        last = counts[place]
    return at


@kernel(allocates=False)
def _put_words(out: Bytes, at: int, words: Ints, first: int, end: int) -> int:
    """Write packed floats and their length after the tag."""
    at = _put_byte_varint(out, at, np.uint64(8 * (end - first)))
    for place in range(first, end):
        at = _put_word(out, at, words[place])
    return at


@kernel(allocates=False)
def _put_buckets(
    out: Bytes, at: int, tag: int, counts: Ints, first: int, end: int, is_float: bool
) -> int:
    """Write a side: deltas below `tag`, counts below the tag after it."""
    if not is_float:
        return _put_deltas(out, at, tag, counts, first, end)
    if first < end:
        out[at] = tag + 8
        at = _put_words(out, at + 1, counts, first, end)
    return at


@kernel("void" + _SIGNATURE.format(more=""), allocates=False)
def encode_histogram_messages(
    fields: Ints,
    offsets: Ints,
    positive_spans: Spans,
    negative_spans: Spans,
    positive: Ints,
    negative: Ints,
    bounds: Ints,
    out: Bytes,
    ends: Ints,
) -> None:
    """Write each histogram as a Histogram message; its end becomes `ends[i]`.

    `offsets` [5, n + 1] are those of the lists of `Histograms`. `out` has room for
    MAX_BYTES_OF_HISTOGRAM of each, MAX_BYTES_OF_SPAN and MAX_BYTES_OF_NUMBER.
    """
    at = 0
    for row in range(len(ends)):
        first, end = offsets[:, row], offsets[:, row + 1]
        is_float = fields[IS_FLOAT, row] != 0
        if is_float:
            at = _put_double(out, at, 0x11, fields[COUNT, row])
        else:
            at = _put_number(out, at, 0x08, np.uint64(fields[COUNT, row]))
        at = _put_double(out, at, 0x19, fields[SUM, row])
        at = _put_number(out, at, 0x20, zigzag(fields[SCHEMA, row]))
        at = _put_double(out, at, 0x29, fields[ZERO_THRESHOLD, row])
        if is_float:
            at = _put_double(out, at, 0x39, fields[ZERO_COUNT, row])
        else:
            at = _put_number(out, at, 0x30, np.uint64(fields[ZERO_COUNT, row]))
        at = _put_spans(out, at, 0x42, negative_spans, first[1], end[1])
        at = _put_buckets(out, at, 0x4A, negative, first[3], end[3], is_float)
        at = _put_spans(out, at, 0x5A, positive_spans, first[0], end[0])
        at = _put_buckets(out, at, 0x62, positive, first[2], end[2], is_float)
        if fields[HINT, row]:
            at = _put_number(out, at, 0x70, np.uint64(fields[HINT, row]))
        at = _put_number(out, at, 0x78, np.uint64(fields[TIME, row]))
        if first[4] < end[4]:
            out[at], out[at + 1] = 0x82, 0x01
            at = _put_words(out, at + 2, bounds, first[4], end[4])
        ends[row] = at


@kernel(allocates=False)
def _put_prefixed(out: Bytes, at: int, n_ones: int, n_bits: int, word: np.uint64) -> int:
    """Ones, a zero unless there are eight, and the lowest bits of a word."""
    if n_ones == 8:
        return put_bits(out, put_bits(out, at, np.uint64(0xFF), 8), word, n_bits)
    prefix = ((_ONE << np.uint64(n_ones)) - _ONE) << _ONE
    return put_bits(out, put_bits(out, at, prefix, n_ones + 1), word, n_bits)


@kernel(allocates=False)
def _put_int(out: Bytes, at: int, number: int) -> int:
    """Write a signed number of variable length; returns the next bit."""
    if number == 0:
        return at + 1
    for n_ones, n_bits in enumerate((3, 6, 9, 12, 18, 25, 56), 1):
        limit = 1 << n_bits - 1
        if 1 - limit <= number <= limit:
            return _put_prefixed(out, at, n_ones, n_bits, np.uint64(number))
    return _put_prefixed(out, at, 8, 64, np.uint64(number))


@kernel(allocates=False)
def _put_uint(out: Bytes, at: int, word: np.uint64) -> int:
    """Write an unsigned number of variable length; returns the next bit."""
    if word == 0:
        return at + 1
    for n_ones, n_bits in enumerate((3, 6, 9, 12, 18, 25, 56), 1):
        if word >> np.uint64(n_bits) == 0:
            return _put_prefixed(out, at, n_ones, n_bits, word)
    return _put_prefixed(out, at, 8, 64, word)


@kernel(allocates=False)
def _put_threshold(out: Bytes, at: int, threshold: float, bits: int) -> int:
    if threshold == 0:
        return put_bits(out, at, np.uint64(0), 8)
    fraction, exponent = math.frexp(threshold)
    if fraction == 0.5 and -242 <= exponent <= 11:
        return put_bits(out, at, np.uint64(exponent + 243), 8)
    return put_bits(out, put_bits(out, at, np.uint64(255), 8), np.uint64(bits), 64)


@kernel(allocates=False)
def _put_layout_spans(out: Bytes, at: int, spans: Spans, first: int, end: int) -> int:
    at = _put_uint(out, at, np.uint64(end - first))
    for place in range(first, end):
        at = _put_uint(out, at, np.uint64(spans[place, 1]))
        at = _put_int(out, at, int(spans[place, 0]))
    return at


@kernel(allocates=False)
def _put_layout_bounds(out: Bytes, at: int, bounds: Ints, first: int, end: int) -> int:
    floats = bounds.view(np.float64)
    at = _put_uint(out, at, np.uint64(end - first))
    for place in range(first, end):
        bound = floats[place]
        thousands = bound * 1000
        if 0 <= thousands <= _MAX_SHORT_BOUND and round(thousands) / 1000 == bound:
            at = _put_uint(out, at, np.uint64(round(thousands) + 1))
        else:
            at = put_bits(out, at + 1, np.uint64(bounds[place]), 64)
    return at


@kernel(allocates=False)
def _step(counts: Ints, first: int, place: int) -> int:
    """The difference of a bucket to the one before it in its histogram."""
    return int(counts[place]) - (int(counts[place - 1]) if place > first else 0)


@kernel(allocates=False)
def _put_steps(
    out: Bytes, at: int, counts: Ints, here: int, before: int, second: int, n: int, age: int
) -> int:
    """Write the buckets of a side; `age` is the number of histograms before, up to 2."""
    for place in range(n):
        number = _step(counts, here, here + place)
        if age > 0:
            last = _step(counts, before, before + place)
            number -= last
            if age > 1:
                number -= last - _step(counts, second, second + place)
        at = _put_int(out, at, number)
    return at


@kernel(allocates=False)
def _put_change(out: Bytes, at: int, numbers: Ints, row: int, age: int) -> int:
    """Write the number of a row that is not the first of its chunk."""
    change = numbers[row] - numbers[row - 1]
    if age > 1:
        change -= numbers[row - 1] - numbers[row - 2]
    return _put_int(out, at, change)


@kernel(allocates=False)
def _put_float(
    out: Bytes, at: int, numbers: Ints, here: int, before: int, age: int, window: Ints
) -> int:
    if age == 0:
        window[0], window[1] = NO_WINDOW, 0
        return put_bits(out, at, np.uint64(numbers[here]), 64)
    change = np.uint64(numbers[here] ^ numbers[before])
    at, window[0], window[1] = put_value(out, at, change, window[0], window[1])
    return at


@kernel(allocates=False)
def _put_floats(
    out: Bytes, at: int, counts: Ints, here: int, before: int, n: int, age: int, windows: Ints
) -> int:
    for place in range(n):
        at = _put_float(out, at, counts, here + place, before + place, age, windows[place])
    return at


@kernel(allocates=False)
def _put_layout(
    out: Bytes,
    at: int,
    fields: Ints,
    head: int,
    start: Ints,
    stop: Ints,
    positive_spans: Spans,
    negative_spans: Spans,
    bounds: Ints,
) -> int:
    """Write what the histograms of a chunk have in common."""
    at = put_bits(out, at, np.uint64(_FLAGS[fields[HINT, head] & 3]), 2) + 6
    threshold = fields[ZERO_THRESHOLD].view(np.float64)[head]
    at = _put_threshold(out, at, threshold, fields[ZERO_THRESHOLD, head])
    at = _put_int(out, at, fields[SCHEMA, head])
    at = _put_layout_spans(out, at, positive_spans, start[0], stop[0])
    at = _put_layout_spans(out, at, negative_spans, start[1], stop[1])
    if fields[SCHEMA, head] == _CUSTOM_BUCKETS:
        at = _put_layout_bounds(out, at, bounds, start[_BOUNDS], stop[_BOUNDS])
    return at


@kernel("void" + _SIGNATURE.format(more="i8[::1], i8[::1], i8[:, ::1],"), allocates=False)
def encode_histogram_chunks(
    fields: Ints,
    offsets: Ints,
    positive_spans: Spans,
    negative_spans: Spans,
    positive: Ints,
    negative: Ints,
    bounds: Ints,
    firsts: Ints,
    row_ends: Ints,
    windows: Ints,
    out: Bytes,
    ends: Ints,
) -> None:
    """Write the histograms from `firsts[i]` to `row_ends[i]` as chunk i, up to `ends[i]`.

    Those of a chunk have the same kind, schema, threshold, spans and bounds. `out` is zero, and has
    room as for messages. `windows` has 3 rows more than a histogram has buckets, of 2 numbers.
    """
    byte = 0
    p, n = offsets[_POSITIVE], offsets[_NEGATIVE]
    for chunk in range(len(firsts)):
        head = firsts[chunk]
        start, stop = offsets[:, head], offsets[:, head + 1]
        at = put_bits(out, byte << 3, np.uint64(row_ends[chunk] - head), 16)
        at = _put_layout(out, at, fields, head, start, stop, positive_spans, negative_spans, bounds)
        n_positive, n_negative = stop[2] - start[2], stop[3] - start[3]
        for row in range(head, row_ends[chunk]):
            age = min(row - head, 2)
            before, second = max(row - 1, head), max(row - 2, head)
            if age == 0:
                at = _put_int(out, at, fields[TIME, row])
            else:
                at = _put_change(out, at, fields[TIME], row, age)
            if fields[IS_FLOAT, row]:
                at = _put_float(out, at, fields[COUNT], row, before, age, windows[0])
                at = _put_float(out, at, fields[ZERO_COUNT], row, before, age, windows[1])
                at = _put_float(out, at, fields[SUM], row, before, age, windows[2])
                rest = windows[3:]
                at = _put_floats(out, at, positive, p[row], p[before], n_positive, age, rest)
                rest = windows[3 + n_positive :]
                at = _put_floats(out, at, negative, n[row], n[before], n_negative, age, rest)
                continue
            if age == 0:
                at = _put_uint(out, at, np.uint64(fields[COUNT, row]))
                at = _put_uint(out, at, np.uint64(fields[ZERO_COUNT, row]))
            else:
                at = _put_change(out, at, fields[COUNT], row, age)
                at = _put_change(out, at, fields[ZERO_COUNT], row, age)
            at = _put_float(out, at, fields[SUM], row, before, age, windows[2])
            at = _put_steps(out, at, positive, p[row], p[before], p[second], n_positive, age)
            at = _put_steps(out, at, negative, n[row], n[before], n[second], n_negative, age)
        byte = (at + 7) >> 3
        ends[chunk] = byte
