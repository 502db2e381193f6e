"""The kernels that encode samples: as XOR chunks of Prometheus, and as messages of remote read.

An XOR chunk is the number of its samples (2 bytes, big endian) and a stream of bits, the highest
bit of a byte first: the first time as a zigzag varint and the first value as it is, the distance of
the second time as a varint, then the difference of each distance to the one before it. A value is
the XOR with the one before it, of which only the bits that are not zero are written.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

MAX_SAMPLES_OF_CHUNK = 120
MAX_BYTES_OF_SAMPLE = 20
"""In a chunk: 4 + 64 bits for the time, and 2 + 5 + 6 + 64 bits for the value."""
MAX_BYTES_OF_CHUNK = 16
"""In addition: the number of samples, and what the first two take more."""
MAX_BYTES_OF_MESSAGE = 22
"""Tag, length, tag and value, tag and time of at most ten bytes."""

_SIGNATURE = "void(int64[::1], uint64[::1], int64[::1], int64[::1], uint8[::1], int64[::1])"
_ONE = np.uint64(1)
_LOW_BITS = np.uint64(0x7F)
_SEVEN = np.uint64(7)
_EIGHT = np.uint64(8)
NO_WINDOW = 255
_MAX_LEADING = 31
_SAMPLE_FIELD, _VALUE_FIELD, _TIME_FIELD = 0x12, 0x09, 0x10


@kernel(allocates=False)
def put_bits(out: Bytes, at: int, word: np.uint64, n_bits: int) -> int:
    """Write the lowest bits of a word at the bit `at` of what is zero; returns the next bit."""
    while n_bits > 0:
        n_free = 8 - (at & 7)
        n_taken = min(n_free, n_bits)
        taken = (word >> np.uint64(n_bits - n_taken)) & ((_ONE << np.uint64(n_taken)) - _ONE)
        out[at >> 3] |= np.uint8(taken << np.uint64(n_free - n_taken))
        at += n_taken
        n_bits -= n_taken
    return at


@kernel(allocates=False)
def put_varint(out: Bytes, at: int, word: np.uint64) -> int:
    """Write a varint at the bit `at`; returns the next bit."""
    while word > _LOW_BITS:
        at = put_bits(out, at, (word & _LOW_BITS) | np.uint64(0x80), 8)
        word >>= _SEVEN
    return put_bits(out, at, word, 8)


@kernel(allocates=False)
def _put_change(out: Bytes, at: int, change: int) -> int:
    """Write the change of a distance between times; returns the next bit."""
    word = np.uint64(change)
    if change == 0:
        return at + 1
    if -8191 <= change <= 8192:
        return put_bits(out, put_bits(out, at, np.uint64(0b10), 2), word, 14)
    if -65535 <= change <= 65536:
        return put_bits(out, put_bits(out, at, np.uint64(0b110), 3), word, 17)
    if -524287 <= change <= 524288:
        return put_bits(out, put_bits(out, at, np.uint64(0b1110), 4), word, 20)
    return put_bits(out, put_bits(out, at, np.uint64(0b1111), 4), word, 64)


@kernel(allocates=False)
def _n_leading(word: np.uint64) -> int:
    """How many of the highest bits of a word that is not zero are zero."""
    n_bits = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(64 - step) == 0:
            n_bits += step
            word <<= np.uint64(step)
    return n_bits


@kernel(allocates=False)
def _n_trailing(word: np.uint64) -> int:
    """How many of the lowest bits of a word that is not zero are zero."""
    return 63 - _n_leading(word & (~word + _ONE))


@kernel(allocates=False)
def put_value(
    out: Bytes, at: int, change: np.uint64, leading: int, trailing: int
) -> tuple[int, int, int]:
    """Write the XOR with the value before it; returns the next bit and the window to go on with."""
    if change == 0:
        return at + 1, leading, trailing
    new_leading, new_trailing = min(_n_leading(change), _MAX_LEADING), _n_trailing(change)
    if leading != NO_WINDOW and new_leading >= leading and new_trailing >= trailing:
        at = put_bits(out, at, np.uint64(0b10), 2)
        at = put_bits(out, at, change >> np.uint64(trailing), 64 - leading - trailing)
        return at, leading, trailing
    n_bits = 64 - new_leading - new_trailing
    at = put_bits(out, at, np.uint64(0b11), 2)
    at = put_bits(out, at, np.uint64(new_leading), 5)
    # 64 does not fit, and is written as 0, which does not occur.
    at = put_bits(out, at, np.uint64(n_bits & 63), 6)
    at = put_bits(out, at, change >> np.uint64(new_trailing), n_bits)
    return at, new_leading, new_trailing


@kernel(allocates=False)
def zigzag(number: int) -> np.uint64:
    return np.uint64((number << 1) ^ (number >> 63))


@kernel(allocates=False)
def _put_chunk(times: Ints, bits: Words, first: int, end: int, out: Bytes, start: int) -> int:
    """Write one chunk at the byte `start`; returns its end."""
    at = put_bits(out, start << 3, np.uint64(end - first), 16)
    at = put_varint(out, at, zigzag(times[first]))
    at = put_bits(out, at, bits[first], 64)
    leading, trailing, distance = NO_WINDOW, 0, 0
    for row in range(first + 1, end):
        new_distance = times[row] - times[row - 1]
        if row == first + 1:
            at = put_varint(out, at, np.uint64(new_distance))
        else:
            at = _put_change(out, at, new_distance - distance)
        distance = new_distance
        at, leading, trailing = put_value(out, at, bits[row] ^ bits[row - 1], leading, trailing)
    return (at + 7) >> 3


@kernel(_SIGNATURE, allocates=False)
def encode_xor_chunks(
    times: Ints, bits: Words, firsts: Ints, row_ends: Ints, out: Bytes, ends: Ints
) -> None:
    """Write the rows from `firsts[i]` to `row_ends[i]` as chunk i; its end becomes `ends[i]`.

    Each chunk has 1 to 65,535 rows. `out` is zero, and has MAX_BYTES_OF_SAMPLE for each row and
    MAX_BYTES_OF_CHUNK for each chunk.
    """
    at = 0
    for chunk in range(len(firsts)):
        at = _put_chunk(times, bits, firsts[chunk], row_ends[chunk], out, at)
        ends[chunk] = at


@kernel(allocates=False)
def _put_message(out: Bytes, at: int, time_ms: int, bits: np.uint64) -> int:
    """Write a sample as field 2 of a series; returns the next byte."""
    start = at + 2
    out[at], out[start] = _SAMPLE_FIELD, _VALUE_FIELD
    for place in range(8):
        out[start + 1 + place] = np.uint8((bits >> (np.uint64(place) * _EIGHT)) & np.uint64(0xFF))
    end, word = start + 9, np.uint64(time_ms)
    out[end] = _TIME_FIELD
    end += 1
    while word > _LOW_BITS:
        out[end] = np.uint8((word & _LOW_BITS) | np.uint64(0x80))
        word >>= _SEVEN
        end += 1
    out[end] = np.uint8(word)
    out[at + 1] = end + 1 - start
    return end + 1


@kernel(_SIGNATURE, allocates=False)
def encode_messages(
    times: Ints, bits: Words, firsts: Ints, row_ends: Ints, out: Bytes, ends: Ints
) -> None:
    """Write the rows from `firsts[i]` to `row_ends[i]` as fields of series i, up to `ends[i]`.

    `out` has MAX_BYTES_OF_MESSAGE for each row.
    """
    at = 0
    for series in range(len(firsts)):
        for row in range(firsts[series], row_ends[series]):
            at = _put_message(out, at, times[row], bits[row])
        ends[series] = at
