"""Kernels that write columns of integers and of values, each in the smallest of its encodings.

`column_kernels` has the format. The output is as large as the worst case: nothing is checked here.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import FloatArray, IntArray
from sql.samples.codec.column_kernels import (
    ALL_BUT_SIGN,
    ALL_ZERO,
    BITS,
    DELTA,
    DICTIONARY,
    DOUBLE_DELTA,
    EXCEPTIONS,
    FRAME,
    LINEAR,
    MAX_EXPONENT,
    PLAIN,
    POWERS_OF_TEN,
    Bytes,
    Words,
)

WritingWork = tuple[IntArray, IntArray, Words, IntArray, IntArray]
"""Integers, exceptions, residuals, a few numbers to count and to sort with, and a dictionary."""

MAX_PATTERNS: Final = 256
"""Bit patterns of a dictionary: their number less one is a byte."""
_SLOT_BITS: Final = 10
DICTIONARY_SIZE: Final = MAX_PATTERNS + 2**_SLOT_BITS + 1
"""The work of a dictionary: its patterns, a hash table of their places, how many were written."""
_HASH: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
"""2^64 divided by the golden ratio, which spreads neighbouring numbers (Knuth)."""

_WIDEST_RANGE: Final = np.uint64(2**61)
"""Of numbers whose differences are stored: SQL, which decodes them too, must not overflow."""
_LARGEST_STEP: Final = 2**61
_EXACT: Final = 2.0**53
_LARGEST_INTEGER: Final = 2.0**60
_FEW_FRAMES: Final = 8
_TRIED: Final = 32
"""Values that a decimal exponent is chosen by."""


def _bit_length(_context: Any, _number: Any) -> Any:
    """What numba compiles `bit_length` to: one instruction, which it does not offer itself."""

    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(ir.IntType(64), 64), zeros)

    return types.int64(types.uint64), build


bit_length = cast(Callable[[np.uint64], int], intrinsic(_bit_length))
"""How many bits a number takes."""


@kernel()
def folded(number: int) -> np.uint64:
    """The zigzag code of a signed number."""
    return np.uint64((number << signed(1)) ^ (number >> signed(63)))


@kernel()
def put_number(out: Bytes, position: int, number: int, n_bytes: int) -> int:
    for k in range(n_bytes):
        out[position + k] = np.uint8((number >> signed(8 * k)) & 255)
    return position + n_bytes


@kernel()
def signed_bytes(number: int) -> int:
    """How many bytes a number takes in two's complement; none for 0."""
    if number == 0:
        return 0
    return (bit_length(np.uint64(number ^ (number >> signed(63)))) >> 3) + 1


@kernel()
def frame_width(residuals: Words, begin: int, end: int, lengths: IntArray) -> tuple[int, int, int]:
    """`(bits of most residuals, bytes of the longest, bytes of the frame)`, the least in all."""
    union = np.uint64(0)
    for i in range(begin, end):
        union |= residuals[i]
    longest = bit_length(union)
    width = 64 if longest > 56 else longest
    longest_bytes = (longest + 7) >> 3
    size = end - begin
    best = (size * width + 7) >> 3
    if longest <= 1:
        return width, longest_bytes, best
    for length in range(longest + 1):
        lengths[length] = 0
    for i in range(begin, end):
        lengths[bit_length(residuals[i])] += 1
    n_outliers = signed(0)
    for shorter in range(longest - 1, -1, -1):
        n_outliers += lengths[shorter + 1]
        outlier_bytes = 2 + n_outliers * (1 + longest_bytes)
        if outlier_bytes >= best:
            break
        n_bytes = ((size * shorter + 7) >> 3) + outlier_bytes
        if n_bytes < best and shorter <= 56:
            width, best = shorter, n_bytes
    return width, longest_bytes, best


@kernel()
def put_packed(
    residuals: Words, begin: int, end: int, width: int, out: Bytes, position: int
) -> int:
    """Write residuals of `width` bits; longer ones as 0."""
    if width == 64:
        for i in range(begin, end):
            position = put_number(out, position, signed(residuals[i]), 8)
        return position
    pending, n_pending = np.uint64(0), np.uint64(0)
    bits = np.uint64(width)
    for i in range(begin, end):
        if residuals[i] >> bits == 0:
            pending |= residuals[i] << n_pending
        n_pending += bits
        while n_pending >= np.uint64(8):
            out[position] = np.uint8(pending & np.uint64(255))
            pending >>= np.uint64(8)
            n_pending -= np.uint64(8)
            position += 1
    if n_pending > np.uint64(0):
        out[position] = np.uint8(pending)
        position += 1
    return position


@kernel()
def put_frames(residuals: Words, n: int, out: Bytes, position: int, lengths: IntArray) -> int:
    for begin in range(0, n, FRAME):
        end = min(n, begin + FRAME)
        width, longest_bytes, _ = frame_width(residuals, begin, end, lengths)
        head = position
        out[head] = width
        position = put_packed(residuals, begin, end, width, out, position + 1)
        if width == 64 or longest_bytes == 0:
            continue
        n_outliers = 0
        for i in range(begin, end):
            if residuals[i] >> np.uint64(width):
                out[position + 2 + n_outliers] = i - begin
                n_outliers += 1
        if n_outliers:
            out[head] |= 128
            out[position], out[position + 1] = n_outliers, longest_bytes
            values_at = position + 2 + n_outliers
            for k in range(n_outliers):
                outlier = signed(residuals[begin + out[position + 2 + k]])
                put_number(out, values_at + k * longest_bytes, outlier, longest_bytes)
            position = values_at + n_outliers * longest_bytes
    return position


@kernel()
def put_column_head(
    out: Bytes, position: int, transform: int, base: int, step: int, scale: int
) -> int:
    base_bytes, step_bytes = signed_bytes(base), signed_bytes(step)
    scale_bytes = 0 if scale == 1 else signed_bytes(scale)
    out[position] = transform | base_bytes << 4
    out[position + 1] = step_bytes | scale_bytes << 4
    position = put_number(out, position + 2, base, base_bytes)
    position = put_number(out, position, step, step_bytes)
    return put_number(out, position, scale, scale_bytes)


@kernel()
def common_divisor(numbers: IntArray, n: int) -> int:
    """The greatest common divisor of the distances to the first number, not all of which are 0."""
    divisor = signed(0)
    for i in range(1, n):
        distance = abs(numbers[i] - numbers[0])
        while distance:
            divisor, distance = distance, divisor % distance
        if divisor == 1:
            break
    return divisor


@kernel()
def median_difference(numbers: IntArray, n: int, tried: IntArray) -> int:
    """The median of up to 17 differences of neighbours."""
    count = min(n - 1, 17)
    for k in range(count):
        i = 1 + k * (n - 1) // count
        difference = numbers[i] - numbers[i - 1]
        place = k
        while place > 0 and tried[place - 1] > difference:
            tried[place] = tried[place - 1]
            place -= 1
        tried[place] = difference
    return signed(tried[count >> 1])


@kernel()
def fill_residuals(
    transform: int,
    start: int,
    step: int,
    begin: int,
    end: int,
    numbers: IntArray,
    residuals: Words,
) -> None:
    """Fill a part. `start` is the lowest number for PLAIN; else it is 0, the first one."""
    if transform == PLAIN:
        for i in range(begin, end):
            residuals[i] = np.uint64(numbers[i] - start)
    elif transform == LINEAR:
        for i in range(begin, end):
            residuals[i] = folded(numbers[i] - i * step)
    elif transform == DELTA:
        if begin == 0:
            residuals[0] = np.uint64(0)
        for i in range(max(begin, 1), end):
            residuals[i] = folded(numbers[i] - numbers[i - 1] - step)
    else:
        for i in range(begin, min(end, 2)):
            residuals[i] = np.uint64(0)
        for i in range(max(begin, 2), end):
            residuals[i] = folded(numbers[i] - 2 * numbers[i - 1] + numbers[i - 2])


@kernel()
def size_of_transform(
    transform: int, start: int, step: int, numbers: IntArray, n: int, work: WritingWork
) -> int:
    """The bytes of the frames, or in proportion: of many frames, every fourth is looked at."""
    residuals, lengths, size = work[2], work[3], signed(0)
    stride = FRAME if n < _FEW_FRAMES * FRAME else 4 * FRAME
    for begin in range(0, n, stride):
        end = min(n, begin + FRAME)
        fill_residuals(transform, start, step, begin, end, numbers, residuals)
        size += 1 + frame_width(residuals, begin, end, lengths)[2]
    return size


@kernel()
def survey(numbers: IntArray, n: int) -> tuple[int, int, bool]:
    """`(lowest, highest, whether all differences are the same)`."""
    low = high = numbers[0]
    step = numbers[1] - numbers[0] if n > 1 else signed(0)
    is_regular = True
    for i in range(1, n):
        low, high = min(low, numbers[i]), max(high, numbers[i])
        is_regular &= numbers[i] - numbers[i - 1] == step
    return low, high, is_regular


@kernel()
def choose_transform(
    numbers: IntArray, n: int, start: int, scale: int, work: WritingWork
) -> tuple[int, int]:
    """The transform with the shortest residuals, and its step, for at least two numbers."""
    best, best_step, best_size = PLAIN, signed(0), signed(0)
    median = median_difference(numbers, n, work[3])
    for transform in range(PLAIN, DOUBLE_DELTA + 1):
        step = signed(0)
        if transform == LINEAR or transform == DELTA:  # noqa: SIM109
            step = median
        elif transform == DOUBLE_DELTA:
            step = numbers[1]
        if abs(step) < _LARGEST_STEP // n // scale:
            size = size_of_transform(transform, start, step, numbers, n, work)
            if transform == PLAIN or size < best_size:
                best, best_step, best_size = transform, step, size
    return best, best_step


@kernel()
def put_integers(numbers: IntArray, n: int, out: Bytes, position: int, work: WritingWork) -> int:
    """Write an integer column; changes `numbers`."""
    low, high, is_regular = survey(numbers, n)
    first = numbers[0]
    transform, base, step, scale, start = PLAIN, signed(0), signed(0), signed(1), signed(0)
    if np.uint64(high) - np.uint64(low) < _WIDEST_RANGE:
        base = first
        if is_regular:
            transform = LINEAR | ALL_ZERO
            if n > 1:
                step = numbers[1] - first
        else:
            scale = common_divisor(numbers, n)
            subtract(numbers, n, first, scale)
            start = (low - first) // scale
            transform, step = choose_transform(numbers, n, start, scale, work)
            if transform == PLAIN:
                base = low
    position = put_column_head(out, position, transform, base, step * scale, scale)
    if transform & ALL_ZERO:
        return position
    fill_residuals(transform, start, step, 0, n, numbers, work[2])
    return put_frames(work[2], n, out, position, work[3])


@kernel()
def subtract(numbers: IntArray, n: int, first: int, scale: int) -> None:
    if scale == 1:
        for i in range(n):
            numbers[i] -= first
    else:
        for i in range(n):
            numbers[i] = (numbers[i] - first) // scale


@kernel()
def least_exponent(value: float, bits: int) -> int:
    """The least e of which value * 10^e is an integer that gives the value's bits back, or -1."""
    if value == 0.0:
        return 0 if bits == 0 else -1
    if not abs(value) < _LARGEST_INTEGER:
        return -1
    if np.rint(value) == value:
        return 0
    for exponent in range(1, MAX_EXPONENT + 1):
        number = np.rint(value * POWERS_OF_TEN[exponent])
        if abs(number) > _EXACT:
            return -1
        if number / POWERS_OF_TEN[exponent] == value:
            return exponent
    return -1


@kernel()
def choose_exponent(
    values: FloatArray, bits: IntArray, begin: int, n: int, tried: int, exponents: IntArray
) -> int:
    """The exponent that `tried` values, evenly spaced, are shortest with, or -1 for none."""
    for exponent in range(MAX_EXPONENT + 1):
        exponents[exponent] = 0
    for k in range(tried):
        row = begin + k * n // tried
        least = least_exponent(values[row], bits[row])
        if least >= 0:
            exponents[least] += 1
    n_exceptions = tried
    best, best_bits = -1, 64 * tried
    for exponent in range(MAX_EXPONENT + 1):
        n_exceptions -= exponents[exponent]
        n_bits = n_exceptions * 80 + tried * (exponent * 10 // 3)
        if n_bits < best_bits and n_exceptions * 4 <= tried:
            best, best_bits = exponent, n_bits
    return best


@kernel()
def fill_decimals(
    values: FloatArray,
    bits: IntArray,
    begin: int,
    n: int,
    exponent: int,
    numbers: IntArray,
    exceptions: IntArray,
) -> int:
    """Fill `numbers`, exceptions with the number before; how many exceptions there are."""
    power = POWERS_OF_TEN[exponent]
    limit = _LARGEST_INTEGER if exponent == 0 else _EXACT
    n_exceptions = 0
    number = signed(0)
    for i in range(n):
        value = values[begin + i]
        scaled = np.rint(value * power)
        is_minus_zero = value == 0 and bits[begin + i] != 0
        if abs(scaled) <= limit and scaled / power == value and not is_minus_zero:
            number = signed(scaled)
            if n_exceptions == i:
                for k in range(i):
                    numbers[k] = number
        else:
            exceptions[n_exceptions] = i
            n_exceptions += 1
        numbers[i] = number
    return n_exceptions


@kernel()
def fill_bits(bits: IntArray, begin: int, n: int, numbers: IntArray) -> None:
    """Bit patterns in the order of the numbers they stand for."""
    for i in range(n):
        pattern = bits[begin + i]
        numbers[i] = pattern ^ ((pattern >> signed(63)) & ALL_BUT_SIGN)


@kernel()
def choose_integers(
    values: FloatArray, bits: IntArray, begin: int, n: int, work: WritingWork
) -> tuple[int, int]:
    """Fill the integers that stand for values; `(first byte of the column, exceptions)`."""
    numbers, exceptions = work[0], work[1]
    tried = min(n, _TRIED)
    while True:
        exponent = choose_exponent(values, bits, begin, n, tried, work[3])
        if exponent < 0:
            break
        n_exceptions = fill_decimals(values, bits, begin, n, exponent, numbers, exceptions)
        if n_exceptions * 16 <= n or (tried == n and n_exceptions * 3 <= n):
            return (exponent | EXCEPTIONS if n_exceptions else exponent), n_exceptions
        if tried == n:
            break
        tried = n
    fill_bits(bits, begin, n, numbers)
    return BITS, 0


@kernel()
def put_values_head(
    bits: IntArray, begin: int, head: int, count: int, out: Bytes, position: int, work: WritingWork
) -> int:
    """Write the first byte and the exceptions of a column of values."""
    exceptions = work[1]
    position = put_number(out, position, head, 1)
    if count:
        position = put_number(out, position, count, 2)
        for k in range(count):
            put_number(out, position + 2 * k, exceptions[k], 2)
            put_number(out, position + 2 * count + 8 * k, bits[begin + exceptions[k]], 8)
    return position + 10 * count


@kernel()
def fill_dictionary(
    bits: IntArray, begin: int, n: int, numbers: IntArray, dictionary: IntArray
) -> int:
    """Fill `numbers` with the places of patterns; how many patterns there are, 0 if too many.

    More than one pattern for every four values is not worth a dictionary.
    """
    most = min(MAX_PATTERNS, n >> 2)
    slots = dictionary[MAX_PATTERNS : MAX_PATTERNS + 2**_SLOT_BITS]
    slots[:] = -1
    n_patterns = signed(0)
    for i in range(n):
        pattern = bits[begin + i]
        slot = signed((np.uint64(pattern) * _HASH) >> np.uint64(64 - _SLOT_BITS))
        while slots[slot] >= 0 and dictionary[slots[slot]] != pattern:
            slot = (slot + 1) & (2**_SLOT_BITS - 1)
        if slots[slot] < 0:
            if n_patterns == most:
                return 0
            dictionary[n_patterns], slots[slot] = pattern, n_patterns
            n_patterns += 1
        numbers[i] = slots[slot]
    return n_patterns


@kernel()
def put_dictionary(
    bits: IntArray, begin: int, n: int, out: Bytes, position: int, work: WritingWork
) -> int:
    """Write values as places in a list of patterns; the position behind, the same if too many."""
    n_patterns = fill_dictionary(bits, begin, n, work[0], work[4])
    if n_patterns == 0:
        return position
    out[position], out[position + 1] = DICTIONARY, n_patterns - 1
    position += 2
    for k in range(n_patterns):
        position = put_number(out, position, work[4][k], 8)
    return put_integers(work[0], n, out, position, work)


@kernel()
def put_values(
    values: FloatArray,
    bits: IntArray,
    begin: int,
    n: int,
    out: Bytes,
    position: int,
    work: WritingWork,
) -> int:
    """Write a column of values: where decimals do not do, with a dictionary if it is smaller."""
    head, count = choose_integers(values, bits, begin, n, work)
    behind = put_values_head(bits, begin, head, count, out, position, work)
    behind = put_integers(work[0], n, out, behind, work)
    if not head & (BITS | EXCEPTIONS):
        return behind
    size = put_dictionary(bits, begin, n, out, behind, work) - behind
    if size == 0 or size >= behind - position:
        return behind
    for k in range(size):
        out[position + k] = out[behind + k]
    work[4][DICTIONARY_SIZE - 1] += 1
    return position + size
