"""Angles brought near zero, with the bits of Go's `math`.

Up to 2**29 by subtracting multiples of pi/4 in three parts (Cody and Waite), beyond by multiplying
with enough digits of 4/pi (Payne and Hanek): `sin(time())` is beyond.

Source of method and constants: Go's `src/math/sin.go` and `trig_reduce.go`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import FloatArray, IntArray

_PI_BY_4_PARTS = (
    7.85398125648498535156e-1,
    3.77489470793079817668e-8,
    2.69515142907905952645e-15,
)
_LARGE = float(1 << 29)

WordArray = NDArray[np.uint64]


def reduce_angle(x: FloatArray) -> tuple[IntArray, FloatArray]:
    """The even octant 0, 2, 4 or 6 nearest to `x >= 0`, and the angle from its start.

    Infinity and NaN give what is not to be used.
    """
    regular = np.where(x < _LARGE, x, 0.0)
    octant = (regular * (4 / math.pi)).astype(np.int64)
    octant += octant & 1
    angle = regular
    for part in _PI_BY_4_PARTS:
        angle = angle - octant * part
    octant &= 7
    large = (x >= _LARGE) & np.isfinite(x)
    if large.any():
        octant[large], angle[large] = _reduce_large(x[large])
    return octant, angle


_FOUR_BY_PI = np.array(
    [
        0x0000000000000001,
        0x45F306DC9C882A53,
        0xF84EAFA3EA69BB81,
        0xB6C52B3278872083,
        0xFCA2C757BD778AC3,
        0x6E48DC74849BA5C0,
        0x0C925DD413A32439,
        0xFC3BD63962534E7D,
        0xD1046BEA5D768909,
        0xD338E04D68BEFC82,
        0x7323AC7306A673E9,
        0x3908BF177BF25076,
        0x3FF12FFFBC0B301F,
        0xDE5E2316B414DA3E,
        0xDA6CFD9E4F96136E,
        0x9E8C7ECD3CBFD45A,
        0xEA4F758FD7CBE2F6,
        0x7A0E73EF14A525D4,
        0xD7F6BF623F1ABA10,
        0xAC06608DF8F6D757,
    ],
    np.uint64,
)
"""The binary digits of 4/pi, 64 a word, the first word before the point."""


def _word(value: int) -> np.uint64:
    return np.uint64(value)


def _reduce_large(x: FloatArray) -> tuple[IntArray, FloatArray]:
    bits = x.view(np.uint64)
    mantissa = (bits & _word((1 << 52) - 1)) | _word(1 << 52)
    first_bit = (bits >> _word(52)).astype(np.int64) - 1023 - 52 + 61
    digits = [_digits_from(first_bit + 64 * word) for word in range(3)]
    low, carry = _add(digits[1] * mantissa, _multiply_high(digits[2], mantissa))
    high = digits[0] * mantissa + _multiply_high(digits[1], mantissa) + carry
    octant = (high >> _word(61)).astype(np.int64)
    fraction = _fraction_of((high << _word(3)) | (low >> _word(61)), low)
    is_odd = octant & 1 == 1
    octant = (octant + is_odd) & 7
    return octant, np.where(is_odd, fraction - 1.0, fraction) * (math.pi / 4)


def _digits_from(bit: IntArray) -> WordArray:
    """The 64 digits of 4/pi that begin at a digit."""
    word, shift = bit >> 6, (bit & 63).astype(np.uint64)
    lower = (_FOUR_BY_PI[word + 1] >> _word(1)) >> (_word(63) - shift)
    digits: WordArray = (_FOUR_BY_PI[word] << shift) | lower
    return digits


def _multiply_high(a: WordArray, b: WordArray) -> WordArray:
    """The upper word of the product of two words."""
    mask, half = _word(0xFFFFFFFF), _word(32)
    a_high, a_low, b_high, b_low = a >> half, a & mask, b >> half, b & mask
    middle = a_high * b_low + (a_low * b_low >> half)
    other = a_low * b_high + (middle & mask)
    upper: WordArray = a_high * b_high + (middle >> half) + (other >> half)
    return upper


def _add(a: WordArray, b: WordArray) -> tuple[WordArray, WordArray]:
    """The sum of two words and its carry."""
    total = a + b
    return total, (total < a).astype(np.uint64)


def _fraction_of(high: WordArray, low: WordArray) -> FloatArray:
    """The number in [0, 1) whose digits after the point are those of `high`, then of `low`.

    Cut off behind 53 digits, not rounded.
    """
    leading = _leading_zeros(high)
    # A shift by 64 is not defined: two shifts instead.
    shift = leading + _word(1)
    digits = ((high << leading) << _word(1)) | (low >> (_word(64) - shift))
    exponent = _word(1023) - shift
    return ((exponent << _word(52)) | (digits >> _word(12))).view(np.float64)


def _leading_zeros(words: WordArray) -> WordArray:
    zeros = np.zeros(len(words), np.uint64)
    for width in (32, 16, 8, 4, 2, 1):
        is_empty = words >> _word(64 - width) == 0
        zeros += np.where(is_empty, _word(width), _word(0))
        words = np.where(is_empty, words << _word(width), words)
    return zeros
