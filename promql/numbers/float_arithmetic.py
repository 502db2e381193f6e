"""The binary operators on floats, element by element.

NumPy follows C, whose special cases (zeros, infinities, NaN) are those of Go's `math`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from promcompat.core.model import BoolArray, FloatArray


def _power(base: Any, exponent: Any) -> Any:
    """`base ^ exponent`.

    For a single exponent of 0.5 NumPy takes the root, which is NaN of -Inf and -0 of -0.
    `np.float_power` does not, and takes 3 to 30 times as long.
    """
    result = np.power(base, exponent)
    is_root = np.equal(exponent, 0.5)
    if not is_root.any():
        return result
    result = np.where(is_root & np.equal(base, 0), 0.0, result)
    return np.where(is_root & np.equal(base, -np.inf), np.inf, result)


ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": _power,
    "atan2": np.arctan2,
}

COMPARISON: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def is_comparison(op: str) -> bool:
    """Whether `op` compares, as opposed to arithmetic."""
    return op in COMPARISON


def makes_other_metric(op: str) -> bool:
    """Whether results of `op` are another metric, which has not the name of the operands'."""
    return op in ARITHMETIC


def apply_arithmetic(op: str, lhs: FloatArray, rhs: FloatArray) -> FloatArray:
    """`lhs op rhs`, broadcast. Overflow, NaN and division by zero are results, not warnings."""
    with np.errstate(all="ignore"):
        result: FloatArray = ARITHMETIC[op](lhs, rhs)
    return result


def apply_comparison(op: str, lhs: FloatArray, rhs: FloatArray) -> BoolArray:
    """Where `lhs op rhs` holds, broadcast; NaN equals nothing."""
    with np.errstate(all="ignore"):
        result: BoolArray = COMPARISON[op](lhs, rhs)
    return result


def maximum(a: FloatArray, b: FloatArray) -> FloatArray:
    """Go's `math.Max`: +Inf beats NaN, NaN beats the rest, and 0 is more than -0."""
    greatest = np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))
    return np.where((a == np.inf) | (b == np.inf), np.inf, greatest)


def minimum(a: FloatArray, b: FloatArray) -> FloatArray:
    """Go's `math.Min`: -Inf beats NaN, NaN beats the rest, and -0 is less than 0."""
    return -maximum(-a, -b)


CHOICES: Mapping[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "min_of": minimum,
    "max_of": maximum,
}
