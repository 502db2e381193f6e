"""Floats as JSON values."""

import math

import numpy as np

from promcompat.core.model import FloatArray


def json_number(value: float | None) -> float | str | None:
    """A number; NaN and the infinities are strings."""
    if value is None or math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def json_numbers(values: FloatArray) -> list[float | str | None]:
    """The numbers of a column."""
    numbers: list[float | str | None] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        numbers[index] = json_number(float(values[index]))
    return numbers
