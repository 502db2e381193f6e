"""The kernel that decodes XOR chunks of Prometheus.

`promcompat.remote_read.chunk_kernels` describes them. The kernel takes any bytes: every position is
compared with the end of the chunk.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

DAMAGED = -1
_WORD_BITS = 64
_ONE = np.uint64(1)


@kernel(allocates=False)
def _bits_at(data: Bytes, at: int, n_bits: int) -> np.uint64:
    """Up to 64 bits from a bit on, the highest bit of a byte first; the caller checks the end."""
    word = np.uint64(0)
    while n_bits > 0:
        left = 8 - (at & 7)
        n_taken = min(left, n_bits)
        byte = np.uint64(data[at >> 3]) >> np.uint64(left - n_taken)
        word = word << np.uint64(n_taken) | (byte & ((_ONE << np.uint64(n_taken)) - _ONE))
        at += n_taken
        n_bits -= n_taken
    return word


@kernel(allocates=False)
def _varint_at(data: Bytes, at: int, end: int) -> tuple[np.uint64, int]:
    """An unsigned varint from a bit on, and the bit after it, or DAMAGED."""
    word = np.uint64(0)
    for place in range(10):
        if at + 8 > end:
            return word, DAMAGED
        byte = _bits_at(data, at, 8)
        at += 8
        word |= (byte & np.uint64(0x7F)) << np.uint64(7 * place)
        if byte < np.uint64(0x80):
            return word, at
    return word, DAMAGED


@kernel(allocates=False)
def _change_at(data: Bytes, at: int, end: int) -> tuple[np.uint64, int]:
    """How a distance of times differs from the one before, modulo 2**64, and the bit after it."""
    n_ones = 0
    while n_ones < 4 and at < end and _bits_at(data, at, 1) == _ONE:
        n_ones += 1
        at += 1
    at += n_ones < 4
    n_bits = 0
    if n_ones > 0:
        n_bits = 11 + 3 * n_ones if n_ones < 4 else _WORD_BITS
    if at + n_bits > end:
        return np.uint64(0), DAMAGED
    word = _bits_at(data, at, n_bits)
    if 0 < n_bits < _WORD_BITS and word > _ONE << np.uint64(n_bits - 1):
        word -= _ONE << np.uint64(n_bits)
    return word, at + n_bits


@kernel(allocates=False)
def _number_at(data: Bytes, at: int, n_bits: int) -> int:
    return int(np.int64(_bits_at(data, at, n_bits)))


@kernel(allocates=False)
def _value_at(
    data: Bytes, at: int, end: int, value: np.uint64, leading: int, trailing: int
) -> tuple[np.uint64, int, int, int]:
    """The value after another one, the bit after it (or DAMAGED), and the zeros around its bits.

    These are those before, unless new ones are given.
    """
    if at >= end:
        return value, DAMAGED, leading, trailing
    if _number_at(data, at, 1) == 0:
        return value, at + 1, leading, trailing
    if at + 2 > end:
        return value, DAMAGED, leading, trailing
    is_new, at = _number_at(data, at + 1, 1) == 1, at + 2
    if is_new:
        if at + 11 > end:
            return value, DAMAGED, leading, trailing
        leading, n_bits = _number_at(data, at, 5), _number_at(data, at + 5, 6)
        at += 11
        trailing = _WORD_BITS - leading - (n_bits if n_bits else _WORD_BITS)
    n_bits = _WORD_BITS - leading - trailing
    if trailing < 0 or at + n_bits > end:
        return value, DAMAGED, leading, trailing
    value ^= _bits_at(data, at, n_bits) << np.uint64(trailing)
    return value, at + n_bits, leading, trailing


@kernel(allocates=False)
def _read_chunk(
    data: Bytes, first: int, after: int, times: Words, bits: Words, row: int, n_rows: int
) -> int:
    """Fill `n_rows` rows from `row` on by the chunk `data[first:after]`; 0, or DAMAGED."""
    end = 8 * after
    leading = trailing = 0
    distance, value = np.uint64(0), np.uint64(0)
    time, at = _varint_at(data, 8 * first, end)
    time = (time >> _ONE) ^ (np.uint64(0) - (time & _ONE))
    for number in range(n_rows):
        if number == 0:
            if at < 0 or at + _WORD_BITS > end:
                return DAMAGED
            value, at = _bits_at(data, at, _WORD_BITS), at + _WORD_BITS
        else:
            if number == 1:
                distance, at = _varint_at(data, at, end)
            else:
                change, at = _change_at(data, at, end)
                distance += change
            if at < 0:
                return DAMAGED
            time += distance
            value, at, leading, trailing = _value_at(data, at, end, value, leading, trailing)
            if at < 0:
                return DAMAGED
        times[row + number], bits[row + number] = time, value
    return 0


@kernel(
    "i8(Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], i8[::1], u8[::1], u8[::1])",
    allocates=False,
)
def decode_xor_chunks(
    data: Bytes, firsts: Ints, ends: Ints, n_rows: Ints, times: Words, bits: Words
) -> int:
    """Decode the chunks `data[firsts[i]:ends[i]]` one after another, without their first two bytes.

    These say the number of their samples, `n_rows[i]`; `times` and `bits` have room for all.
    Returns the number of chunks that were read: fewer than there are if the next one is damaged.
    """
    row = 0
    for chunk in range(len(firsts)):
        if _read_chunk(data, firsts[chunk], ends[chunk], times, bits, row, n_rows[chunk]) < 0:
            return chunk
        row += n_rows[chunk]
    return len(firsts)
