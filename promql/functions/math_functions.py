"""Functions of one sample at a time: mathematics, trigonometry, rounding, clamping, scalars.

Their last digits are NumPy's and may differ from those of Go's `math`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from promcompat.core.model import EMPTY_LABELS, FloatArray
from promql.functions.function_calls import InstantCall
from promql.numbers.float_arithmetic import maximum, minimum
from promql.values.matrix import Matrix, ScalarGrid, Value
from promql.values.row_pieces import map_cells


def sign(values: FloatArray) -> FloatArray:
    """-1, 0 or 1; unlike np.sign it keeps the sign of zero and the bits of NaN."""
    return np.where(values < 0, -1.0, np.where(values > 0, 1.0, values))


def radians(values: FloatArray) -> FloatArray:
    """Degrees in radians."""
    return values * np.pi / 180


def degrees(values: FloatArray) -> FloatArray:
    """Radians in degrees."""
    return values * 180 / np.pi


def each_sample(function: Callable[[FloatArray], FloatArray]) -> Callable[[InstantCall], Value]:
    """A function that applies another one to every sample."""
    return lambda call: _map_samples(call, function)


def _map_samples(
    call: InstantCall, function: Callable[..., FloatArray], *operands: FloatArray
) -> Matrix:
    matrix = call.matrix(0)
    with np.errstate(all="ignore"):
        values = map_cells(function, matrix.values.shape, matrix.values, *operands)
    return replace(matrix, values=values)


def round_to(call: InstantCall) -> Value:
    """`round(v, to_nearest=1)`; ties go up.

    Prometheus multiplies by the inverse, so this does too: dividing would give other digits.
    """
    to_nearest = call.scalar(1) if len(call.args) > 1 else np.ones(call.n_steps)
    with np.errstate(all="ignore"):
        inverse = 1.0 / to_nearest
    return _map_samples(call, _round_to, inverse)


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
    matrix = call.matrix(0)
    with np.errstate(all="ignore"):
        present = matrix.present & ~(most < least)
        values = map_cells(_between, matrix.values.shape, least, most, matrix.values)
    return replace(matrix, values=values, present=present)


def _between(least: FloatArray, most: FloatArray, values: FloatArray) -> FloatArray:
    return maximum(least, minimum(most, values))


def max_of(call: InstantCall) -> Value:
    """`max_of(a, b)` of scalars."""
    return ScalarGrid(maximum(call.scalar(0), call.scalar(1)))


def min_of(call: InstantCall) -> Value:
    """`min_of(a, b)` of scalars."""
    return ScalarGrid(minimum(call.scalar(0), call.scalar(1)))


def pi(call: InstantCall) -> Value:
    """`pi()`."""
    return ScalarGrid(np.full(call.n_steps, np.pi))


def vector(call: InstantCall) -> Value:
    """`vector(s)`: one series without labels."""
    values = call.scalar(0)[None, :]
    return Matrix.of((EMPTY_LABELS,), values, np.ones(values.shape, bool))


def scalar(call: InstantCall) -> Value:
    """`scalar(v)`: the sample of each step that has exactly one, else NaN."""
    matrix = call.matrix(0)
    values = np.full(call.n_steps, np.nan)
    alone = matrix.present.sum(axis=0) == 1
    rows = matrix.present[:, alone].argmax(axis=0) if alone.any() else np.empty(0, np.intp)
    values[alone] = matrix.values[rows, np.flatnonzero(alone)]
    return ScalarGrid(values)
