"""Functions of one sample at a time: mathematics, trigonometry, rounding and clamping.

Their last digits are those of NumPy, which may differ from those of Go's `math`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from promcompat.core.model import FloatArray
from promql.functions.function_calls import InstantCall
from promql.values.matrix import Matrix, Value
from promql.values.name_removal import drop_names
from promql.values.row_pieces import map_cells


def _sign(values: FloatArray) -> FloatArray:
    # Unlike np.sign, zero keeps its own sign and NaN its bits.
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


def _radians(values: FloatArray) -> FloatArray:
    return values * np.pi / 180


def _degrees(values: FloatArray) -> FloatArray:
    return values * 180 / np.pi


SAMPLE_FUNCTIONS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": _degrees,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": _radians,
    "sgn": _sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}


def apply_to_samples(call: InstantCall) -> Value:
    """The function named in the call of every float sample."""
    function = SAMPLE_FUNCTIONS[call.func]
    return _map_floats(call, function)


def _map_floats(
    call: InstantCall, function: Callable[..., FloatArray], *operands: FloatArray
) -> Matrix:
    matrix = call.floats(0)
    with np.errstate(all="ignore"):
        values = map_cells(function, matrix.values.shape, matrix.values, *operands)
    return drop_names(replace(matrix, values=values), call.delayed_name_removal)


def round_to(call: InstantCall) -> Value:
    """`round(v, to_nearest=1)`; ties go up.

    Multiplying by the inverse, as Prometheus does, is what makes its digits.
    """
    to_nearest = call.scalar(1) if len(call.args) > 1 else np.ones(call.n_steps)
    with np.errstate(all="ignore"):
        inverse = 1.0 / to_nearest
    return _map_floats(call, _round_to, inverse)


def _round_to(values: FloatArray, inverse: FloatArray) -> FloatArray:
    return np.floor(values * inverse + 0.5) / inverse


def clamp(call: InstantCall) -> Value:
    """`clamp(v, min, max)`: no result where max is less than min."""
    return _clamped(call, call.scalar(1), call.scalar(2))


def clamp_min(call: InstantCall) -> Value:
    """`clamp_min(v, min)`."""
    return _clamped(call, call.scalar(1), np.full(call.n_steps, np.inf))


def clamp_max(call: InstantCall) -> Value:
    """`clamp_max(v, max)`."""
    return _clamped(call, np.full(call.n_steps, -np.inf), call.scalar(1))


def _clamped(call: InstantCall, least: FloatArray, most: FloatArray) -> Matrix:
    matrix = call.floats(0)
    with np.errstate(all="ignore"):
        present = matrix.present & ~(most < least)
        values = map_cells(_between, matrix.values.shape, least, most, matrix.values)
    return drop_names(replace(matrix, values=values, present=present), call.delayed_name_removal)


def _between(least: FloatArray, most: FloatArray, values: FloatArray) -> FloatArray:
    return go_max(least, go_min(most, values))


def go_max(a: FloatArray, b: FloatArray) -> FloatArray:
    """Go's `math.Max`: +Inf beats NaN, NaN beats the rest, and 0 is more than -0."""
    greatest = np.where((a == 0) & (b == 0), a + b, np.maximum(a, b))
    return np.where((a == np.inf) | (b == np.inf), np.inf, greatest)


def go_min(a: FloatArray, b: FloatArray) -> FloatArray:
    """Go's `math.Min`: -Inf beats NaN, NaN beats the rest, and -0 is less than 0."""
    return -go_max(-a, -b)
