"""Trigonometric functions and their inverses with the bits of Go's `math`, elementwise.

They are those of the Cephes library; C's round better. Run everything under
`np.errstate(all="ignore")`.

Source of methods and constants: Go's `src/math/sin.go`, `tan.go`, `asin.go`, `atan.go`, `atan2.go`.
"""

import math
from typing import Any

import numpy as np

from promcompat.core.model import FloatArray
from promql.numbers.angle_reduction import reduce_angle
from promql.numbers.polynomials import evaluate_polynomial

_SIN = (
    1.58962301576546568060e-10,
    -2.50507477628578072866e-8,
    2.75573136213857245213e-6,
    -1.98412698295895385996e-4,
    8.33333333332211858878e-3,
    -1.66666666666666307295e-1,
)
_COS = (
    -1.13585365213876817300e-11,
    2.08757008419747316778e-9,
    -2.75573141792967388112e-7,
    2.48015872888517045348e-5,
    -1.38888888888730564116e-3,
    4.16666666666665929218e-2,
)
_TAN_P = (-1.30936939181383777646e4, 1.15351664838587416140e6, -1.79565251976484877988e7)
_TAN_Q = (
    1.0,
    1.36812963470692954678e4,
    -1.32089234440210967447e6,
    2.50083801823357915839e7,
    -5.38695755929454629881e7,
)
_ATAN_P = (
    -8.750608600031904122785e-01,
    -1.615753718733365076637e01,
    -7.500855792314704667340e01,
    -1.228866684490136173410e02,
    -6.485021904942025371773e01,
)
_ATAN_Q = (
    1.0,
    2.485846490142306297962e01,
    1.650270098316988542046e02,
    4.328810604912902668951e02,
    4.853903996359136964868e02,
    1.945506571482613964425e02,
)
_PI_HALF_REST = 6.123233995736765886130e-17
_TAN_3_PI_BY_8 = 2.41421356237309504880


def go_sin(x: FloatArray) -> FloatArray:
    """Sine."""
    octant, angle = reduce_angle(np.abs(x))
    flipped = (octant > 3) ^ (x < 0)
    octant = np.where(octant > 3, octant - 4, octant)
    value = np.where(octant == 2, _cos_near_zero(angle), _sin_near_zero(angle))
    return _of_finite(x, np.where(x == 0, x, np.where(flipped, -value, value)))


def go_cos(x: FloatArray) -> FloatArray:
    """Cosine."""
    octant, angle = reduce_angle(np.abs(x))
    flipped = octant > 3
    octant = np.where(flipped, octant - 4, octant)
    flipped = flipped ^ (octant > 1)
    value = np.where(octant == 2, _sin_near_zero(angle), _cos_near_zero(angle))
    return _of_finite(x, np.where(flipped, -value, value))


def go_tan(x: FloatArray) -> FloatArray:
    """Tangent."""
    octant, angle = reduce_angle(np.abs(x))
    square = angle * angle
    ratio = square * evaluate_polynomial(square, _TAN_P) / evaluate_polynomial(square, _TAN_Q)
    value = np.where(square > 1e-14, angle + angle * ratio, angle)
    value = np.where(octant & 2 == 2, -1 / value, value)
    return _of_finite(x, np.where(x == 0, x, np.where(x < 0, -value, value)))


def _sin_near_zero(angle: FloatArray) -> FloatArray:
    square = angle * angle
    return angle + angle * square * evaluate_polynomial(square, _SIN)


def _cos_near_zero(angle: FloatArray) -> FloatArray:
    square = angle * angle
    return 1.0 - 0.5 * square + square * square * evaluate_polynomial(square, _COS)


def _of_finite(x: FloatArray, value: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), value, np.where(np.isnan(x), x, np.nan))


def go_atan(x: FloatArray) -> FloatArray:
    """Inverse tangent."""
    return np.where(x == 0, x, np.copysign(_atan_of_positive(np.abs(x)), x))


def _atan_of_positive(x: FloatArray) -> FloatArray:
    is_small, is_large = x <= 0.66, x > _TAN_3_PI_BY_8
    inner = np.where(is_small, x, np.where(is_large, 1 / x, (x - 1) / (x + 1)))
    square = inner * inner
    ratio = square * evaluate_polynomial(square, _ATAN_P) / evaluate_polynomial(square, _ATAN_Q)
    near_zero = inner * ratio + inner
    of_middle = math.pi / 4 + near_zero + 0.5 * _PI_HALF_REST
    of_large = math.pi / 2 - near_zero + _PI_HALF_REST
    return np.where(is_small, near_zero, np.where(is_large, of_large, of_middle))


def go_asin(x: FloatArray) -> FloatArray:
    """Inverse sine."""
    size = np.abs(x)
    root = np.sqrt(1 - size * size)
    is_large = size > 0.7
    angle = _atan_of_positive(np.where(is_large, root / size, size / root))
    value = np.where(is_large, math.pi / 2 - angle, angle)
    value = np.where(size > 1, np.nan, np.copysign(value, x))
    return np.where(x == 0, x, value)


def go_acos(x: FloatArray) -> FloatArray:
    """Inverse cosine."""
    return math.pi / 2 - go_asin(x)


def go_atan2(y: Any, x: Any) -> FloatArray:
    """The angle of the point `(x, y)`, broadcast."""
    y, x = np.broadcast_arrays(np.asarray(y, np.float64), np.asarray(x, np.float64))
    angle = go_atan(y / x)
    turned = np.where(angle <= 0, angle + math.pi, angle - math.pi)
    # C has the same special cases (zeros, infinities, NaN).
    is_regular = (x != 0) & (y != 0) & np.isfinite(x) & np.isfinite(y)
    return np.where(is_regular, np.where(x < 0, turned, angle), np.arctan2(y, x))
