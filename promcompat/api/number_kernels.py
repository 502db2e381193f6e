"""Kernels that write times and sample values as Prometheus prints them.

The shortest digits that read back to the same float are found by Schubfach: Raffaello Giulietti,
"The Schubfach way to render doubles", https://github.com/c4f7fcce9cb06515/Schubfach. One-letter
names in `_shortest` are those of the paper.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import IntArray

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

MAX_VALUE_BYTES: Final = 25
"""`-0.0000012345678901234567`: a sign, `0.`, five zeros and 17 digits."""
MAX_TIME_BYTES: Final = 21
"""`-9223372036854775.808`."""


_LEAST_EXPONENT: Final = -292
_GREATEST_EXPONENT: Final = 324
_FRACTION_BITS: Final = 52
_EXPONENT_BIAS: Final = 1075
"""A float is its significand, an integer, times two to the power of its exponent less this."""
_SPECIAL: Final = 2047
"""The exponent of infinities and NaN."""
_MAX_PLAIN_DIGITS: Final = 21
_MAX_PLAIN_ZEROS: Final = 5
"""With more digits before the point, or zeros behind it, a value has an exponent."""


def _power_of_ten(exponent: int) -> tuple[int, int]:
    """The upper and lower 64 of the first 128 bits of a power of ten, rounded up."""
    if exponent < 0:
        divisor = 10**-exponent
        bits = -(-(1 << (127 + divisor.bit_length())) // divisor)
    else:
        power = 10**exponent
        bits = -(-(power << 128) >> power.bit_length())
    return bits >> 64, bits & ((1 << 64) - 1)


_POWERS: Final = np.array(
    [_power_of_ten(exponent) for exponent in range(_LEAST_EXPONENT, _GREATEST_EXPONENT + 1)],
    np.uint64,
)
_TEN: Final = np.uint64(10)
_HUNDRED: Final = np.uint64(10**2)
_TEN_TO_4: Final = np.uint64(10**4)
_TEN_TO_8: Final = np.uint64(10**8)
_PAIRS: Final = np.frombuffer(b"".join(b"%02d" % pair for pair in range(100)), np.uint8)


def _high_product(_context: Any, _first: Any, _second: Any) -> Any:
    """What numba compiles `high_product` to, since it has no integers of 128 bits."""

    def build(_: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        first, second = (builder.zext(argument, wide) for argument in arguments)
        upper = builder.lshr(builder.mul(first, second), ir.Constant(wide, 64))
        return builder.trunc(upper, ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


high_product = cast(Callable[[np.uint64, np.uint64], np.uint64], intrinsic(_high_product))
"""The upper 64 bits of the product of two numbers."""


@kernel(allocates=False)
def _scaled(power: int, number: np.uint64) -> np.uint64:
    """A number times a power of ten, rounded to odd: the last bit is set if bits are lost."""
    upper, lower = _POWERS[power, 0], _POWERS[power, 1]
    carried = high_product(lower, number)
    middle = upper * number + carried
    product = high_product(upper, number)
    if middle < carried:
        product += np.uint64(1)
    return product | np.uint64(middle > np.uint64(1))


@kernel(allocates=False)
def _shortest(fraction: np.uint64, biased: int) -> tuple[np.uint64, int]:
    """The shortest number, and the exponent of ten, of a finite float that is not zero.

    The number may end in zeros.
    """
    one, two, four = np.uint64(1), np.uint64(2), np.uint64(4)
    c, q = fraction, 1 - _EXPONENT_BIAS
    if biased > 0:
        c, q = fraction | (one << np.uint64(_FRACTION_BITS)), biased - _EXPONENT_BIAS
        if -_FRACTION_BITS <= q <= 0:
            shift = np.uint64(-q)
            if (c >> shift) << shift == c:
                return c >> shift, 0
    is_narrow = fraction == 0 and biased > 1
    k = (q * 1262611 - (524031 if is_narrow else 0)) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    power = -k - _LEAST_EXPONENT
    excluded = c & one
    lower = _scaled(power, (four * c - two + np.uint64(is_narrow)) << h) + excluded
    middle = _scaled(power, four * c << h)
    upper = _scaled(power, (four * c + two) << h) - excluded
    s = middle // four
    if s >= _TEN:
        tens = s // _TEN
        is_below = lower <= np.uint64(40) * tens
        is_above = np.uint64(40) * (tens + one) <= upper
        if is_below != is_above:
            return tens + np.uint64(is_above), k + 1
    is_below, is_above = lower <= four * s, four * (s + one) <= upper
    if is_below != is_above:
        return s + np.uint64(is_above), k
    half = four * s + two
    rounds_up = middle > half or (middle == half and s & one == one)
    return s + np.uint64(rounds_up), k


@kernel(allocates=False)
def _without_zeros(number: np.uint64, exponent: int) -> tuple[np.uint64, int]:
    """The same value, and no zero at the end of a number that is not zero."""
    while True:
        quotient = number // _TEN_TO_4
        if quotient * _TEN_TO_4 != number:
            break
        number, exponent = quotient, exponent + 4
    while True:
        quotient = number // _TEN
        if quotient * _TEN != number:
            return number, exponent
        number, exponent = quotient, exponent + 1


@kernel(allocates=False)
def _n_digits(number: np.uint64) -> int:
    digits = 1
    if number >= _TEN_TO_8:
        number, digits = number // _TEN_TO_8, digits + 8
    if number >= _TEN_TO_8:
        number, digits = number // _TEN_TO_8, digits + 8
    if number >= _TEN_TO_4:
        number, digits = number // _TEN_TO_4, digits + 4
    if number >= _HUNDRED:
        number, digits = number // _HUNDRED, digits + 2
    return digits + 1 if number >= _TEN else digits


@kernel(allocates=False)
def _put_pair(out: Bytes, position: int, pair: np.uint64) -> None:
    at = signed(pair) * 2
    out[position], out[position + 1] = _PAIRS[at], _PAIRS[at + 1]


@kernel(allocates=False)
def _put_digits(out: Bytes, position: int, number: np.uint64, digits: int) -> int:
    """Write so many digits, with zeros before a shorter number; the position behind them.

    Eight at a time, whose divisions do not wait for each other.
    """
    at = position + digits
    while at - position >= 8:
        rest = number // _TEN_TO_8
        eight = number - rest * _TEN_TO_8
        upper = eight // _TEN_TO_4
        lower = eight - upper * _TEN_TO_4
        number, at = rest, at - 8
        _put_pair(out, at, upper // _HUNDRED)
        _put_pair(out, at + 2, upper % _HUNDRED)
        _put_pair(out, at + 4, lower // _HUNDRED)
        _put_pair(out, at + 6, lower % _HUNDRED)
    while at - position >= 2:
        at -= 2
        _put_pair(out, at, number % _HUNDRED)
        number //= _HUNDRED
    if at > position:
        out[position] = ord("0") + np.uint8(number)
    return position + digits


@kernel(allocates=False)
def _put_with_point(
    out: Bytes, position: int, number: np.uint64, digits: int, before_point: int
) -> int:
    """Write all digits of a number with a point between them; the position behind them."""
    end = _put_digits(out, position + 1, number, digits)
    for k in range(position, position + before_point):
        out[k] = out[k + 1]
    out[position + before_point] = ord(".")
    return end


@kernel(allocates=False)
def _put_zeros(out: Bytes, position: int, zeros: int) -> int:
    for _ in range(zeros):
        out[position] = ord("0")
        position += 1
    return position


@kernel(allocates=False)
def _put_special(out: Bytes, position: int, is_nan: bool, is_negative: bool) -> int:
    if is_nan:
        out[position], out[position + 1], out[position + 2] = ord("N"), ord("a"), ord("N")
        return position + 3
    out[position] = ord("-") if is_negative else ord("+")
    out[position + 1], out[position + 2], out[position + 3] = ord("I"), ord("n"), ord("f")
    return position + 4


@kernel(allocates=False)
def _put_plain(out: Bytes, position: int, number: np.uint64, digits: int, exponent: int) -> int:
    """A number times a power of ten, without an exponent."""
    if exponent >= 0:
        position = _put_digits(out, position, number, digits)
        return _put_zeros(out, position, exponent)
    if -exponent >= digits:
        out[position], out[position + 1] = ord("0"), ord(".")
        position = _put_zeros(out, position + 2, -exponent - digits)
        return _put_digits(out, position, number, digits)
    return _put_with_point(out, position, number, digits, digits + exponent)


@kernel(allocates=False)
def _put_scientific(
    out: Bytes, position: int, number: np.uint64, digits: int, exponent: int
) -> int:
    """A number times a power of ten, with one digit before the point."""
    exponent += digits - 1
    if digits > 1:
        position = _put_with_point(out, position, number, digits, 1)
    else:
        position = _put_digits(out, position, number, digits)
    out[position] = ord("e")
    out[position + 1] = ord("-") if exponent < 0 else ord("+")
    size = np.uint64(abs(exponent))
    return _put_digits(out, position + 2, size, 3 if size >= _HUNDRED else 2)


@kernel(allocates=False)
def put_value(out: Bytes, position: int, bits: np.uint64) -> int:
    """Write a value of a vector or matrix; the position behind it."""
    fraction = bits & ((np.uint64(1) << np.uint64(_FRACTION_BITS)) - np.uint64(1))
    biased = signed((bits >> np.uint64(_FRACTION_BITS)) & np.uint64(_SPECIAL))
    is_negative = bits >> np.uint64(63) == np.uint64(1)
    if biased == _SPECIAL:
        return _put_special(out, position, fraction != np.uint64(0), is_negative)
    if is_negative:
        out[position] = ord("-")
        position += 1
    if biased == 0 and fraction == np.uint64(0):
        return _put_zeros(out, position, 1)
    number, exponent = _shortest(fraction, biased)
    if exponent != 0:
        number, exponent = _without_zeros(number, exponent)
    digits = _n_digits(number)
    before_point = digits + exponent
    if -_MAX_PLAIN_ZEROS <= before_point <= _MAX_PLAIN_DIGITS:
        return _put_plain(out, position, number, digits, exponent)
    return _put_scientific(out, position, number, digits, exponent)


@kernel(allocates=False)
def put_time(out: Bytes, position: int, time_ms: int) -> int:
    """Write seconds, with three decimals unless they are zero; the position behind them."""
    size = np.uint64(time_ms)
    if time_ms < 0:
        out[position] = ord("-")
        position += 1
        size = np.uint64(0) - size
    thousand = np.uint64(1000)
    seconds = size // thousand
    rest = size - seconds * thousand
    position = _put_digits(out, position, seconds, _n_digits(seconds))
    if rest == np.uint64(0):
        return position
    out[position] = ord(".")
    return _put_digits(out, position + 1, rest, 3)


@kernel("i8(u8[::1], u1[::1])", allocates=False)
def write_values(bits: Words, out: Bytes) -> int:
    """Write values, each with a comma behind it; how many bytes that are.

    `bits` are those of the floats; `out` has `MAX_VALUE_BYTES` + 1 for each.
    """
    position = 0
    for i in range(len(bits)):
        position = put_value(out, position, bits[i])
        out[position] = ord(",")
        position += 1
    return position


@kernel("i8(i8[::1], u1[::1])", allocates=False)
def write_times(times: IntArray, out: Bytes) -> int:
    """As `write_values`: Unix milliseconds as seconds, in `MAX_TIME_BYTES` + 1 each."""
    position = 0
    for i in range(len(times)):
        position = put_time(out, position, times[i])
        out[position] = ord(",")
        position += 1
    return position
