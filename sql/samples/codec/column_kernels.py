"""Kernels that read the columns of a page: integers, and values.

`sql.samples.codec.page_kernels` has the format of a page. A column of integers is:

* a byte: the transform (bits 0 and 1), whether all residuals are 0 (bit 2), the bytes of the base
  (high 4 bits); a byte: the bytes of the step and (high 4 bits) of the scale; the three numbers;
* frames of up to `FRAME` residuals: a byte with their bit width and, in bit 7, whether some are
  longer; the packed residuals; how many are longer, the bytes of each, their places, and they.

With residual r and its signed number z (zigzag code), number i is base + scale r (PLAIN), base +
i step + scale z (LINEAR), the number before + step + scale z (DELTA), or the number before + d,
where d is the difference before + scale z, and step at first (DOUBLE_DELTA).

A column of values is a byte (exponent of ten, BITS, EXCEPTIONS), the exceptions (how many, places,
bit patterns), and a column of integers. Or it is the byte DICTIONARY, how many bit patterns less
one (a byte), the patterns, and a column of integers: the place of each value's pattern.

Input may be anything: every position is checked before it is read, and at least `READ_AHEAD` bytes
follow the last page. Positions and counts are int64,
bit patterns uint64; the two never meet in one operation.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import FloatArray, IntArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Work = tuple[
    IntArray, IntArray, IntArray, IntArray, IntArray, IntArray, Words, FloatArray, IntArray
]
"""Ids, counts, series and bytes of sections; times, integers, residuals, values and their bits."""
READ_AHEAD: Final = 8
"""What a number is read by may begin in the last byte of a page."""
FRAME: Final = 128
"""Residuals that share a bit width."""

PLAIN: Final = 0
LINEAR: Final = 1
DELTA: Final = 2
DOUBLE_DELTA: Final = 3
ALL_ZERO: Final = 4
"""Flag of a column's first byte: there are no frames, every residual is 0."""

BITS: Final = 32
"""Flag of a value column's first byte: the integers are bit patterns, not decimals."""
EXCEPTIONS: Final = 64
"""Flag of a value column's first byte: a list of positions and bit patterns follows."""
DICTIONARY: Final = 128
"""First byte of a value column with a few distinct bit patterns; in pages of version 2."""
MAX_EXPONENT: Final = 18

TRUNCATED: Final = -1
INCONSISTENT: Final = -4

POWERS_OF_TEN: Final = np.array([float(10**e) for e in range(MAX_EXPONENT + 1)])
ALL_BUT_SIGN: Final = 2**63 - 1


@kernel()
def get_unsigned(page: Bytes, position: int, n_bytes: int) -> np.uint64:
    """An unsigned number of up to 8 bytes; the caller has checked the bounds."""
    number = np.uint64(0)
    for k in range(n_bytes):
        number |= np.uint64(page[position + k]) << np.uint64(8 * k)
    return number


@kernel()
def get_signed(page: Bytes, position: int, n_bytes: int) -> int:
    """A number in two's complement of up to 8 bytes; 0 for none."""
    number = signed(get_unsigned(page, position, n_bytes))
    if 0 < n_bytes < 8 and page[position + n_bytes - 1] & 128:
        number -= signed(1) << signed(8 * n_bytes)
    return number


@kernel()
def get_frames(page: Bytes, position: int, end: int, n: int, residuals: Words) -> int:
    """Read `n` residuals; the position behind them, or an error."""
    for begin in range(0, n, FRAME):
        size = min(FRAME, n - begin)
        if position >= end:
            return TRUNCATED
        head = signed(page[position])
        position += 1
        width = head & 127
        if width > 56 and width != 64:
            return INCONSISTENT
        n_bytes = (size * width + 7) >> 3
        if n_bytes > end - position:
            return TRUNCATED
        get_packed(page, position, begin, size, width, residuals)
        position += n_bytes
        if head & 128:
            position = get_outliers(page, position, end, begin, size, residuals)
            if position < 0:
                return position
    return position


@kernel()
def get_word(page: Bytes, position: np.uint64) -> np.uint64:
    """The 8 bytes from a position on. Of unsigned positions the compiler makes one load of them."""
    word = np.uint64(page[position])
    word |= np.uint64(page[position + np.uint64(1)]) << np.uint64(8)
    word |= np.uint64(page[position + np.uint64(2)]) << np.uint64(16)
    word |= np.uint64(page[position + np.uint64(3)]) << np.uint64(24)
    word |= np.uint64(page[position + np.uint64(4)]) << np.uint64(32)
    word |= np.uint64(page[position + np.uint64(5)]) << np.uint64(40)
    word |= np.uint64(page[position + np.uint64(6)]) << np.uint64(48)
    word |= np.uint64(page[position + np.uint64(7)]) << np.uint64(56)
    return word


@kernel()
def get_packed(
    page: Bytes, position: int, begin: int, size: int, width: int, residuals: Words
) -> None:
    """Read `size` residuals of `width` bits; the caller has checked the bounds.

    Each is read from the 8 bytes that it begins in, some of which may be behind the packed ones.
    """
    out = residuals[begin : begin + size]
    if width == 0:
        out[:] = 0
        return
    bits, start = np.uint64(width), np.uint64(position)
    mask = np.uint64(0xFFFF_FFFF_FFFF_FFFF) >> (np.uint64(64) - bits)
    bit = np.uint64(0)
    for i in range(len(out)):
        word = get_word(page, start + (bit >> np.uint64(3)))
        out[i] = (word >> (bit & np.uint64(7))) & mask
        bit += bits


@kernel()
def get_outliers(
    page: Bytes, position: int, end: int, begin: int, size: int, residuals: Words
) -> int:
    """Read the residuals that do not fit into their frame; the position behind, or an error."""
    if end - position < 2:
        return TRUNCATED
    count = signed(page[position])
    n_bytes = signed(page[position + 1])
    position += 2
    if n_bytes < 1 or n_bytes > 8:
        return INCONSISTENT
    if count * (1 + n_bytes) > end - position:
        return TRUNCATED
    for k in range(count):
        i = signed(page[position + k])
        if i >= size:
            return INCONSISTENT
        residuals[begin + i] = get_unsigned(page, position + count + k * n_bytes, n_bytes)
    return position + count * (1 + n_bytes)


@kernel()
def unfolded(residual: np.uint64) -> int:
    """The signed number of a zigzag code."""
    return signed(residual >> np.uint64(1)) ^ -signed(residual & np.uint64(1))


@kernel()
def get_integers(
    page: Bytes, position: int, end: int, n: int, numbers: IntArray, residuals: Words
) -> int:
    """Read an integer column of `n` numbers; the position behind it, or an error."""
    if end - position < 2:
        return TRUNCATED
    head = signed(page[position])
    lengths = signed(page[position + 1])
    base_bytes, step_bytes, scale_bytes = head >> 4, lengths & 15, lengths >> 4
    position += 2
    if head & 8 or base_bytes > 8 or step_bytes > 8 or scale_bytes > 8:
        return INCONSISTENT
    if base_bytes + step_bytes + scale_bytes > end - position:
        return TRUNCATED
    base = get_signed(page, position, base_bytes)
    position += base_bytes
    step = get_signed(page, position, step_bytes)
    position += step_bytes
    scale = signed(1)
    if scale_bytes:
        scale = get_signed(page, position, scale_bytes)
        position += scale_bytes
    if head & ALL_ZERO:
        for i in range(n):
            numbers[i] = base + i * step
        return position
    position = get_frames(page, position, end, n, residuals)
    if position >= 0:
        restore(head & 3, base, step, scale, n, numbers, residuals)
    return position


@kernel()
def restore(
    transform: int, base: int, step: int, scale: int, n: int, numbers: IntArray, residuals: Words
) -> None:
    """The numbers of residuals. Arithmetic wraps, as it may for a page that is no real one."""
    if transform == PLAIN:
        for i in range(n):
            numbers[i] = base + scale * signed(residuals[i])
    elif transform == LINEAR:
        for i in range(n):
            numbers[i] = base + i * step + scale * unfolded(residuals[i])
    elif transform == DELTA:
        number = base
        numbers[0] = base
        for i in range(1, n):
            number += step + scale * unfolded(residuals[i])
            numbers[i] = number
    else:
        number, difference = base, step
        numbers[0] = base
        for i in range(1, n):
            difference += scale * unfolded(residuals[i])
            number += difference
            numbers[i] = number


@kernel()
def fill_values(head: int, n: int, numbers: IntArray, values: FloatArray, bits: IntArray) -> None:
    """Turn the integers of a value column into values."""
    exponent = head & 31
    if head & BITS:
        for i in range(n):
            bits[i] = numbers[i] ^ ((numbers[i] >> signed(63)) & ALL_BUT_SIGN)
    elif exponent == 0:
        for i in range(n):
            values[i] = np.float64(numbers[i])
    else:
        power = POWERS_OF_TEN[exponent]
        for i in range(n):
            values[i] = np.float64(numbers[i]) / power


@kernel()
def get_exceptions(page: Bytes, position: int, count: int, n: int, bits: IntArray) -> int:
    """Read bit patterns that are no decimals; 0 or an error. The caller has checked the bounds."""
    for k in range(count):
        i = signed(get_unsigned(page, position + 2 * k, 2))
        if i >= n:
            return INCONSISTENT
        bits[i] = signed(get_unsigned(page, position + 2 * count + 8 * k, 8))
    return 0


@kernel()
def get_dictionary(page: Bytes, position: int, end: int, n: int, work: Work) -> int:
    """Read values that are places in a list of bit patterns; the position behind, or an error."""
    numbers, bits = work[5], work[8]
    count = signed(page[position]) + 1
    listed = position + 1
    if 8 * count > end - listed:
        return TRUNCATED
    position = get_integers(page, listed + 8 * count, end, n, numbers, work[6])
    if position < 0:
        return position
    for i in range(n):
        if numbers[i] < 0 or numbers[i] >= count:
            return INCONSISTENT
        bits[i] = signed(get_word(page, np.uint64(listed + 8 * numbers[i])))
    return position


@kernel()
def get_values(page: Bytes, position: int, end: int, n: int, work: Work) -> int:
    """Read a column of values; the position behind it, or an error."""
    numbers, residuals, values, bits = work[5], work[6], work[7], work[8]
    if end - position < 3:
        return TRUNCATED
    head = signed(page[position])
    if head == DICTIONARY:
        return get_dictionary(page, position + 1, end, n, work)
    if head & DICTIONARY or head & 31 > MAX_EXPONENT:
        return INCONSISTENT
    position += 1
    listed, count = position + 2, signed(0)
    if head & EXCEPTIONS:
        count = signed(get_unsigned(page, position, 2))
        position += 2 + count * 10
        if position > end:
            return TRUNCATED
    position = get_integers(page, position, end, n, numbers, residuals)
    if position < 0:
        return position
    fill_values(head, n, numbers, values, bits)
    error = get_exceptions(page, listed, count, n, bits)
    return error if error else position
