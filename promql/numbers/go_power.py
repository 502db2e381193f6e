"""`x ^ y` with the bits Go's `math.Pow` gives, elementwise.

Go multiplies the mantissa by repeated squaring, which rounds more often than C's `pow`: 100 ^ 100
is 1.0000000000000005e+200. The difference is in the last digits until `%`, `==` or `count_values`
make it one in the first. The method: `x = m * 2**e`, and the bits of the whole part of `|y|` say
which squares of m belong to the product; the fraction of y goes through Go's `exp` and `log`.
"""

from typing import Any

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.numbers.go_exponential import go_exp
from promql.numbers.go_logarithms import go_log

_EXPONENT_LIMIT = 1 << 12
"""A power of two beyond this overflows or vanishes whatever is still to be multiplied."""

_WHOLE_LIMIT = 2.0**63


def go_power(x: Any, y: Any) -> FloatArray:
    """`x` to the power of `y`, broadcast; run it under `np.errstate(all="ignore")`."""
    x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    # C has the same special cases (zeros, infinities, NaN, a negative base).
    result = np.asarray(np.power(x, y))
    by_root = np.isfinite(x) & (np.abs(y) == 0.5) & (x != 0)
    if by_root.any():
        roots = np.sqrt(x[by_root])
        result[by_root] = np.where(y[by_root] < 0, 1 / roots, roots)
    regular = _is_regular(x, y) & ~by_root
    if regular.any():
        result[regular] = _by_squaring(x[regular], y[regular])
    return result


def _is_regular(x: FloatArray, y: FloatArray) -> BoolArray:
    defined = (x > 0) | ((x < 0) & (y == np.trunc(y)))
    finite = np.isfinite(x) & (np.abs(y) < _WHOLE_LIMIT)
    return np.asarray(defined & finite & (y != 0) & (y != 1) & (x != 1))


def _by_squaring(x: FloatArray, y: FloatArray) -> FloatArray:
    fraction, whole = np.modf(np.abs(y))
    rounds_up = fraction > 0.5
    fraction, whole = np.where(rounds_up, fraction - 1, fraction), whole + rounds_up
    product = np.where(fraction == 0, 1.0, go_exp(fraction * go_log(x)))
    mantissa, exponent = np.frexp(x)
    product, total = _multiply_squares(
        product, mantissa, exponent.astype(np.int64), whole.astype(np.int64)
    )
    negative = y < 0
    product = np.where(negative, 1 / product, product)
    # Beyond these bounds every result is 0 or infinite, and ldexp takes no wider exponent.
    total = np.clip(np.where(negative, -total, total), -(1 << 20), 1 << 20)
    return np.ldexp(product, total.astype(np.int32))


def _multiply_squares(
    product: FloatArray, mantissa: FloatArray, exponent: IntArray, bits: IntArray
) -> tuple[FloatArray, IntArray]:
    """The product of the squares the bits ask for, and the exponent that belongs to it."""
    total = np.zeros(len(bits), np.int64)
    open_ended = bits != 0
    while open_ended.any():
        escaped = open_ended & (np.abs(exponent) > _EXPONENT_LIMIT)
        total += np.where(escaped, exponent, 0)
        open_ended &= ~escaped
        used = open_ended & (bits & 1 == 1)
        product = np.where(used, product * mantissa, product)
        total += np.where(used, exponent, 0)
        mantissa = mantissa * mantissa
        exponent = np.where(open_ended, exponent << 1, exponent)
        small = mantissa < 0.5
        mantissa = np.where(small, mantissa + mantissa, mantissa)
        exponent -= small & open_ended
        bits = bits >> 1
        open_ended &= bits != 0
    return product, total
