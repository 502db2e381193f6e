"""Functions of one sample at a time: mathematics, trigonometry, rounding and clamping.

They have the bits of Go's `math`, the faults of its assembly for amd64 included.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from promcompat.core.model import FloatArray
from promql.functions.function_calls import InstantCall
from promql.numbers.go_exponential import go_cosh, go_exp, go_sinh, go_tanh
from promql.numbers.go_logarithms import go_acosh, go_asinh, go_atanh, go_log, go_log2, go_log10
from promql.numbers.go_trigonometry import go_acos, go_asin, go_atan, go_cos, go_sin, go_tan
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
    "acos": go_acos,
    "acosh": go_acosh,
    "asin": go_asin,
    "asinh": go_asinh,
    "atan": go_atan,
    "atanh": go_atanh,
    "ceil": np.ceil,
    "cos": go_cos,
    "cosh": go_cosh,
    "deg": _degrees,
    "exp": go_exp,
    "floor": np.floor,
    "ln": go_log,
    "log10": go_log10,
    "log2": go_log2,
    "rad": _radians,
    "sgn": _sign,
    "sin": go_sin,
    "sinh": go_sinh,
    "sqrt": np.sqrt,
    "tan": go_tan,
    "tanh": go_tanh,
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
