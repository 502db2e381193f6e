"""How Prometheus prints sample values: Go's shortest round-trip formatting, in bulk.

Vectors and matrices use format `f`, or `e` below 1e-6 and from 1e21 on; scalars always use `f`.
`repr` of a Python float has the same shortest digits in another layout.
"""

import math

import numpy as np
from numpy.typing import NDArray

from promcompat.api.number_kernels import (
    MAX_TIME_BYTES,
    MAX_VALUE_BYTES,
    write_times,
    write_values,
)
from promcompat.core.model import FloatArray, IntArray
from promcompat.core.texts.strconv import format_decimal, format_exponent

_FEW_VALUES = 6
"""They are formatted one by one, in less time than a kernel's arrays take."""


def format_sample_value(value: float) -> str:
    """A value of a vector or matrix: `1`, `0.000001`, `1e-07`, `1e+21`, `-0`, `NaN`, `+Inf`."""
    magnitude = abs(value)
    if magnitude != 0 and math.isfinite(value) and (magnitude < 1e-6 or magnitude >= 1e21):
        return format_exponent(value)
    return format_decimal(value)


def format_sample_values(values: FloatArray) -> list[bytes]:
    """`format_sample_value` of a whole column, shape [n]."""
    if len(values) <= _FEW_VALUES:
        return [format_sample_value(value).encode() for value in values.tolist()]
    column = np.ascontiguousarray(values, np.float64)
    out = np.empty(len(column) * (MAX_VALUE_BYTES + 1), np.uint8)
    return _texts(out, write_values(column.view(np.uint64), out))


def format_timestamp(time_ms: int) -> str:
    """A timestamp of a vector or matrix: seconds, with three decimals unless they are zero."""
    sign = "-" if time_ms < 0 else ""
    seconds, milliseconds = divmod(abs(time_ms), 1000)
    return f"{sign}{seconds}.{milliseconds:03d}" if milliseconds else f"{sign}{seconds}"


def format_timestamps(times_ms: IntArray) -> list[bytes]:
    """`format_timestamp` of a whole column, shape [n]."""
    column = np.ascontiguousarray(times_ms, np.int64)
    out = np.empty(len(column) * (MAX_TIME_BYTES + 1), np.uint8)
    return _texts(out, write_times(column, out))


def _texts(out: NDArray[np.uint8], n_bytes: int) -> list[bytes]:
    """The texts that a kernel wrote, each with a comma behind it."""
    return out[:n_bytes].tobytes().split(b",")[:-1]


def format_json_seconds(time_ms: int) -> str:
    """The timestamp of a scalar or string: the shortest decimal, `1.5`."""
    text = format_timestamp(time_ms)
    return text.rstrip("0") if "." in text else text
