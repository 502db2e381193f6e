"""Logarithms, and the inverse hyperbolic functions made of them, with the bits of Go's `math`.

Go's `Log` on amd64 is assembly that takes a subnormal number for a normal one, so that its
logarithm is wrong: it is here too. Run everything under `np.errstate(all="ignore")`.

Source of methods and constants: Go's `src/math/log_amd64.s`, `log10.go`, `log1p.go`, `asinh.go`,
`acosh.go`, `atanh.go`.
"""

import math

import numpy as np

from promcompat.core.model import FloatArray, IntArray
from promql.numbers.polynomials import evaluate_polynomial

_LN2_UPPER = 6.93147180369123816490e-01
_LN2_LOWER = 1.90821492927058770002e-10
_SERIES = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
_LOG10_E = 0.43429448190325182765
_MANTISSA = (1 << 52) - 1
_HALF_BITS = 0x3FE << 52
_ONE_BITS = 0x3FF << 52
_SQRT_HALF = 7.07106781186547524401e-01
_SQRT2_MANTISSA = 0x0006A09E667F3BCD
_SQRT2_MINUS_1 = 4.142135623730950488017e-01
_SQRT_HALF_MINUS_1 = -2.928932188134524755992e-01
_LARGE = float(1 << 28)
_NEAR_ZERO = 1.0 / (1 << 28)


def go_log(x: FloatArray) -> FloatArray:
    """Natural logarithm."""
    bits = np.ascontiguousarray(x).view(np.int64)
    fraction = ((bits & _MANTISSA) | _HALF_BITS).view(np.float64)
    exponent = (bits >> 52 & 0x7FF) - 0x3FE
    small = fraction <= _SQRT_HALF
    power = exponent.astype(np.float64) - small
    f = fraction * np.where(small, 2.0, 1.0) - 1.0
    s, half_square, series = _log_terms(f)
    value = power * _LN2_UPPER - (
        (half_square - (s * (half_square + series) + power * _LN2_LOWER)) - f
    )
    value = np.where(x == 0, -np.inf, np.where(x < 0, np.nan, value))
    return np.where(np.isnan(x) | (x == np.inf), x, value)


def _log_terms(f: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`s = f / (2 + f)`, `f * f / 2`, and the series in s: even and odd terms apart."""
    s = f / (2.0 + f)
    square = s * s
    fourth = square * square
    odd = square * evaluate_polynomial(fourth, _SERIES[::2])
    even = fourth * evaluate_polynomial(fourth, _SERIES[1::2])
    return s, 0.5 * f * f, odd + even


def go_log2(x: FloatArray) -> FloatArray:
    """Binary logarithm, exact for powers of two."""
    fraction, exponent = np.frexp(x)
    value = go_log(fraction) * (1 / math.log(2)) + exponent
    return np.where(fraction == 0.5, exponent - 1.0, value)


def go_log10(x: FloatArray) -> FloatArray:
    """Decimal logarithm."""
    return go_log(x) * _LOG10_E


def _log1p(x: FloatArray) -> FloatArray:
    """`log(1 + x)` for `x > -1`."""
    size = np.abs(x)
    is_plain = (size < _SQRT2_MINUS_1) & (x > _SQRT_HALF_MINUS_1)
    f, mantissa, power, correction = _split_one_plus(x)
    f = np.where(is_plain, x, f)
    mantissa = np.where(is_plain, 1, mantissa)
    power = np.where(is_plain, 0.0, power)
    correction = np.where(is_plain, 0.0, correction)
    value = _log_of_split(f, mantissa, power, correction)
    value = np.where(size < 2.0**-29, x - x * x * 0.5, value)
    value = np.where(size < 2.0**-54, x, value)
    value = np.where(x == np.inf, np.inf, np.where(x == -1, -np.inf, value))
    return np.where(np.isnan(x) | (x < -1), np.nan, value)


def _split_one_plus(x: FloatArray) -> tuple[FloatArray, IntArray, FloatArray, FloatArray]:
    """`1 + x = 2**power * (1 + f)`: f, its leading digits, power, and what rounding left out."""
    whole = np.where(np.abs(x) < 2.0**53, 1.0 + x, x)
    bits = whole.view(np.int64)
    exponent = (bits >> 52) - 1023
    correction = np.where(exponent > 0, 1.0 - (whole - x), x - (whole - 1.0)) / whole
    correction = np.where(np.abs(x) < 2.0**53, correction, 0.0)
    mantissa = bits & _MANTISSA
    is_low = mantissa < _SQRT2_MANTISSA
    normal = (mantissa | np.where(is_low, _ONE_BITS, _HALF_BITS)).view(np.float64)
    power = (exponent + ~is_low).astype(np.float64)
    digits = np.where(is_low, mantissa, ((1 << 52) - mantissa) >> 2)
    return normal - 1.0, digits, power, correction


def _log_of_split(
    f: FloatArray, mantissa: IntArray, power: FloatArray, correction: FloatArray
) -> FloatArray:
    half_square = 0.5 * f * f
    upper, lower = power * _LN2_UPPER, power * _LN2_LOWER + correction
    s = f / (2.0 + f)
    square = s * s
    series = square * evaluate_polynomial(square, _SERIES)
    value = np.where(
        power == 0,
        f - (half_square - s * (half_square + series)),
        upper - ((half_square - (s * (half_square + series) + lower)) - f),
    )
    short = half_square * (1.0 - 0.66666666666666666 * f)
    of_short = np.where(power == 0, f - short, upper - ((short - lower) - f))
    of_power = np.where(power == 0, 0.0, upper + (correction + power * _LN2_LOWER))
    return np.where(mantissa == 0, np.where(f == 0, of_power, of_short), value)


def go_asinh(x: FloatArray) -> FloatArray:
    """Inverse hyperbolic sine."""
    size = np.abs(x)
    root = np.sqrt(size * size + 1)
    value = _log1p(size + size * size / (1 + np.sqrt(1 + size * size)))
    value = np.where(size > 2, go_log(2 * size + 1 / (root + size)), value)
    value = np.where(size > _LARGE, go_log(size) + math.log(2), value)
    value = np.where(size < _NEAR_ZERO, size, value)
    return np.where(np.isfinite(x), np.copysign(value, x), x)


def go_acosh(x: FloatArray) -> FloatArray:
    """Inverse hyperbolic cosine."""
    t = x - 1
    value = _log1p(t + np.sqrt(2 * t + t * t))
    value = np.where(x > 2, go_log(2 * x - 1 / (x + np.sqrt(x * x - 1))), value)
    value = np.where(x >= _LARGE, go_log(x) + math.log(2), value)
    return np.where(x == 1, 0.0, np.where(x < 1, np.nan, value))


def go_atanh(x: FloatArray) -> FloatArray:
    """Inverse hyperbolic tangent."""
    size = np.abs(x)
    double = size + size
    inner = np.where(size < 0.5, double + double * size / (1 - size), double / (1 - size))
    value = np.where(size < _NEAR_ZERO, size, 0.5 * _log1p(inner))
    value = np.where(size == 1, np.inf, np.where(size > 1, np.nan, value))
    return np.copysign(value, x)
