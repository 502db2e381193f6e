"""Polynomials as the approximations of a mathematics library need them."""

from collections.abc import Sequence

import numpy as np

from promcompat.core.model import FloatArray


def evaluate_polynomial(x: FloatArray, coefficients: Sequence[float]) -> FloatArray:
    """The polynomial at `x` by Horner's rule; the coefficient of the highest power comes first."""
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
