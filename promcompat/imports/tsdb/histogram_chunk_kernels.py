"""The kernel that decodes the samples of histogram chunks of Prometheus.

All samples of a chunk have the same buckets. A sample has its time, its counts (of observations, of
the zero bucket), the sum of observations, and the counts of its buckets, positive ones first.
Numbers of bits are of the variable lengths that `_number_at` reads. Integers are stored as
differences of differences, floats by what changed in their bits. The kernel takes any bytes: every
position is compared with the end of the chunk.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import STALE_NAN_BITS
from promcompat.imports.tsdb.xor_chunk_kernels import DAMAGED, _bits_at, _value_at

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_STALE = np.uint64(STALE_NAN_BITS)
_WORD_BITS = 64
_ONE = np.uint64(1)
N_FIXED = 3
"""Before the buckets of a sample: the count, that of the zero bucket, and the bits of the sum."""
_COUNT, _ZERO_COUNT, _SUM = 0, 1, 2


@kernel(allocates=False)
def _size_at(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """How many bits a number has, and the bit where they begin, or DAMAGED."""
    n_ones = 0
    while n_ones < 8 and at < end and _bits_at(data, at, 1) == _ONE:
        n_ones += 1
        at += 1
    at += n_ones < 8
    n_bits = 0
    if 0 < n_ones < 5:
        n_bits = 3 * n_ones
    elif n_ones == 5:
        n_bits = 18
    elif n_ones == 6:
        n_bits = 25
    elif n_ones == 7:
        n_bits = 56
    elif n_ones == 8:
        n_bits = _WORD_BITS
    return n_bits, at if at + n_bits <= end else DAMAGED


@kernel(allocates=False)
def _unsigned_at(data: Bytes, at: int, end: int) -> tuple[np.uint64, int]:
    """An unsigned number from a bit on, and the bit after it, or DAMAGED."""
    n_bits, at = _size_at(data, at, end)
    if at < 0:
        return np.uint64(0), DAMAGED
    return _bits_at(data, at, n_bits), at + n_bits


@kernel(allocates=False)
def _signed_at(data: Bytes, at: int, end: int) -> tuple[np.uint64, int]:
    """A signed number modulo 2**64 from a bit on, and the bit after it, or DAMAGED."""
    n_bits, at = _size_at(data, at, end)
    if at < 0:
        return np.uint64(0), DAMAGED
    word = _bits_at(data, at, n_bits)
    if 0 < n_bits < _WORD_BITS and word > _ONE << np.uint64(n_bits - 1):
        word -= _ONE << np.uint64(n_bits)
    return word, at + n_bits


@kernel(allocates=False)
def _read_first(
    data: Bytes, at: int, end: int, is_float: bool, numbers: Words
) -> tuple[np.uint64, int]:
    """Fill the numbers of the first sample; its time, and the bit after it, or DAMAGED."""
    time, at = _signed_at(data, at, end)
    for place in range(len(numbers)):
        if at < 0:
            break
        if is_float or place == _SUM:
            if at + _WORD_BITS > end:
                return time, DAMAGED
            numbers[place], at = _bits_at(data, at, _WORD_BITS), at + _WORD_BITS
        elif place < N_FIXED:
            numbers[place], at = _unsigned_at(data, at, end)
        else:
            numbers[place], at = _signed_at(data, at, end)
    return time, at


@kernel(allocates=False)
def _read_next(
    data: Bytes, at: int, end: int, is_float: bool, numbers: Words, changes: Words, windows: Ints
) -> int:
    """Turn the numbers of a sample into those of the next one; the bit after it, or DAMAGED."""
    for place in range(len(numbers)):
        if place == N_FIXED and numbers[_SUM] == _STALE:
            break
        if is_float or place == _SUM:
            numbers[place], at, windows[place, 0], windows[place, 1] = _value_at(
                data, at, end, numbers[place], windows[place, 0], windows[place, 1]
            )
        else:
            change, at = _signed_at(data, at, end)
            changes[place] += change
            numbers[place] += changes[place]
        if at < 0:
            return DAMAGED
    return at


@kernel(
    "i8(Array(u1, 1, 'C', readonly=True), i8, b1, u8[::1], u8[:, ::1], u8[::1], i8[:, ::1])",
    allocates=False,
)
def decode_histogram_samples(
    data: Bytes,
    first_bit: int,
    is_float: bool,
    times: Words,
    numbers: Words,
    changes: Words,
    windows: Ints,
) -> int:
    """Fill the times [n] and the numbers [n, 3 + buckets] of the samples of a chunk.

    The samples begin at a bit, behind their layout. Buckets of integers are differences to the
    bucket before. `changes` [3 + buckets] and `windows` [3 + buckets, 2] are zeros to work with.
    Returns the number of samples that were read: fewer than n if the next one is damaged.
    """
    end, distance = 8 * len(data), np.uint64(0)
    time, at = _read_first(data, first_bit, end, is_float, numbers[0])
    if at < 0:
        return 0
    times[0] = time
    for number in range(1, len(times)):
        change, at = _signed_at(data, at, end)
        if at < 0:
            return number
        distance += change
        time += distance
        for place in range(numbers.shape[1]):
            numbers[number, place] = numbers[number - 1, place]
        at = _read_next(data, at, end, is_float, numbers[number], changes, windows)
        if at < 0:
            return number
        times[number] = time
    return len(times)
