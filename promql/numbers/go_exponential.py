"""`exp` and the hyperbolic functions with the bits of Go's `math` on amd64, elementwise.

Go's `Exp` there is assembly that fuses multiplications with additions (every processor since 2013
has the instruction) and, other than C's, gives +Inf from 709.44 on. NumPy has no fused operation,
so it is put together here from exact sums and products.
Run everything under `np.errstate(all="ignore")`.

Source of methods and constants: Go's `src/math/exp_amd64.s`, `sinh.go`, `tanh.go`.
"""

from typing import Any

import numpy as np

from promcompat.core.model import FloatArray, IntArray
from promql.numbers.polynomials import evaluate_polynomial

_CHUNK = 8_192
"""Elements whose many intermediate arrays stay in the cache of a core."""
_LOG2_E = 1.4426950408889634
_LN2_UPPER = 0.69314718055966295651160180568695068359375
_LN2_LOWER = 0.28235290563031577122588448175013436025525412068e-12
_OVERFLOW = 7.09782712893384e02
_TAYLOR = (
    2.4801587301587301587e-5,
    1.9841269841269841270e-4,
    1.3888888888888888889e-3,
    8.3333333333333333333e-3,
    4.1666666666666666667e-2,
    1.6666666666666666667e-1,
    0.5,
    1.0,
)
_SPLITTER = float((1 << 27) + 1)
_EXPONENT_END = 1024

Halves = tuple[Any, Any]
"""Two arrays, or two numbers, whose sum is meant."""


def go_exp(x: Any) -> FloatArray:
    """`e` to the power of `x`."""
    x = np.asarray(x, np.float64)
    flat = x.ravel()
    result = np.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        result[chunk] = _exp(flat[chunk])
    reshaped: FloatArray = result.reshape(x.shape)
    return reshaped


def _exp(x: FloatArray) -> FloatArray:
    # What is outside is answered at the end; it only must not disturb.
    inside = np.where(np.abs(x) <= 1_000, x, 0.0)
    exponent = np.rint(inside * _LOG2_E)
    remainder = _multiply_add(-exponent, _halves(_LN2_UPPER), inside)
    remainder = _multiply_add(-exponent, _halves(_LN2_LOWER), remainder) * 0.0625
    halves = _halves(remainder)
    sum_ = np.full_like(x, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        sum_ = _multiply_add(sum_, halves, coefficient)
    # (1 + r)**16 - 1 by squaring four times: r becomes r * (r + 2).
    power = remainder * sum_
    for _ in range(3):
        power = power * (power + 2.0)
    value = _multiply_add(power + 2.0, _halves(power), 1.0)
    exponent = exponent.astype(np.int32)
    value = np.where(exponent < _EXPONENT_END, np.ldexp(value, exponent), np.inf)
    value = np.where(x > _OVERFLOW, np.inf, np.where(x < -1_000, 0.0, value))
    return np.where(np.isnan(x), x, value)


def _halves(x: Any) -> Halves:
    """Two numbers of half the digits whose sum is `x` (Dekker)."""
    scaled = x * _SPLITTER
    upper = scaled - (scaled - x)
    return upper, x - upper


def _multiply_add(a: FloatArray, b: Halves, c: Any) -> FloatArray:
    """`a * b + c` rounded once.

    Boldo and Melquiond, "Emulation of FMA and correctly rounded sums": the error terms are added
    with rounding to odd, so that the last addition cannot round twice.
    """
    a_upper, a_lower = _halves(a)
    b_upper, b_lower = b
    product = a * (b_upper + b_lower)
    error = a_lower * b_lower - (
        ((product - a_upper * b_upper) - a_lower * b_upper) - a_upper * b_lower
    )
    low_sum, low_error = _two_sum(c, error)
    high_sum, high_error = _two_sum(product, low_sum)
    result: FloatArray = high_sum + _add_to_odd(low_error, high_error)
    return result


def _two_sum(a: Any, b: Any) -> Halves:
    """The rounded sum and its rounding error (Knuth)."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def _add_to_odd(a: FloatArray, b: FloatArray) -> FloatArray:
    """`a + b`; where it is not exact, that neighbour of the true sum whose last bit is 1."""
    total, error = _two_sum(a, b)
    bits = total.view(np.int64)
    towards = np.where((error > 0) == (total > 0), 1, -1)
    odd: IntArray = np.where((error != 0) & (bits & 1 == 0), bits + towards, bits)
    return odd.view(np.float64)


def go_sinh(x: FloatArray) -> FloatArray:
    """Hyperbolic sine."""
    size = np.abs(x)
    power = go_exp(size)
    square = size * size
    series = evaluate_polynomial(square, _SINH_P) * size
    series = series / evaluate_polynomial(square, _SINH_Q)
    value = np.where(size > 21, power * 0.5, (power - 1 / power) * 0.5)
    # Go negates what is less than zero only: -0 gives the 0 of the series with its own sign.
    value = np.where(size > 0.5, value, series)
    return np.where(x < 0, -value, np.where(x == 0, x, value))


_SINH_P = (
    -0.2630563213397497062819489e2,
    -0.2894211355989563807284660366e4,
    -0.8991272022039509355398013511e5,
    -0.6307673640497716991184787251e6,
)
_SINH_Q = (
    1.0,
    -0.173678953558233699533450911e3,
    0.1521517378790019070696485176e5,
    -0.6307673640497716991212077277e6,
)


def go_cosh(x: FloatArray) -> FloatArray:
    """Hyperbolic cosine."""
    size = np.abs(x)
    power = go_exp(size)
    return np.where(size > 21, power * 0.5, (power + 1 / power) * 0.5)


def go_tanh(x: FloatArray) -> FloatArray:
    """Hyperbolic tangent."""
    size = np.abs(x)
    by_power = np.copysign(1 - 2 / (go_exp(2 * size) + 1), x)
    square = x * x
    series = x + x * square * evaluate_polynomial(square, _TANH_P) / evaluate_polynomial(
        square, _TANH_Q
    )
    value = np.where(size >= 0.625, by_power, np.where(x == 0, x, series))
    return np.where(size > 0.5 * _TANH_LIMIT, np.sign(x), value)


_TANH_LIMIT = 8.8029691931113054295988e01
_TANH_P = (-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3)
_TANH_Q = (1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3)
