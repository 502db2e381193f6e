"""How Prometheus prints sample values: Go's shortest round-trip formatting, in bulk.

Vectors and matrices use format `f`, or `e` below 1e-6 and from 1e21 on; scalars always use `f`.
`repr` of a Python float has the same shortest digits in another layout.
"""

import math

import numpy as np
import orjson

from promcompat.core.model import FloatArray, IntArray
from promcompat.core.strconv import format_decimal, format_exponent

_FEW_VALUES = 6
"""They are formatted one by one before numpy has looked at them."""
_PLAIN_FROM = 1e-5
_PLAIN_BELOW = 1e16
"""Between these, orjson prints plain decimals like Go; outside, the formats differ."""


def format_sample_value(value: float) -> str:
    """A value of a vector or matrix: `1`, `0.000001`, `1e-07`, `1e+21`, `-0`, `NaN`, `+Inf`."""
    magnitude = abs(value)
    if magnitude != 0 and math.isfinite(value) and (magnitude < 1e-6 or magnitude >= 1e21):
        return format_exponent(value)
    return format_decimal(value)


def format_sample_values(values: FloatArray) -> list[bytes]:
    """`format_sample_value` of a whole column, shape [n]; 60 ns a value."""
    if len(values) <= _FEW_VALUES:
        return [format_sample_value(value).encode() for value in values.tolist()]
    column = np.ascontiguousarray(values, np.float64)
    if _is_plain_whole(column):
        return _integer_texts(column.astype(np.int64))
    printed = orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)
    # Shortest digits never end in zero after the point, so `.0,` only ends whole numbers.
    texts = (printed[1:-1] + b",").replace(b".0,", b",").split(b",")
    texts.pop()
    magnitude = np.abs(column)
    plain = (column == 0) | ((magnitude >= _PLAIN_FROM) & (magnitude < _PLAIN_BELOW))
    for index in np.flatnonzero(~plain).tolist():
        texts[index] = format_sample_value(float(column[index])).encode()
    return texts


def _is_plain_whole(column: FloatArray) -> bool:
    """Whether all values print as integers do; -0 does not."""
    if not (np.abs(column) < _PLAIN_BELOW).all() or (np.rint(column) != column).any():
        return False
    return not np.signbit(column[column == 0]).any()


def format_timestamp(time_ms: int) -> str:
    """A timestamp of a vector or matrix: seconds, with three decimals unless they are zero."""
    sign = "-" if time_ms < 0 else ""
    seconds, milliseconds = divmod(abs(time_ms), 1000)
    return f"{sign}{seconds}.{milliseconds:03d}" if milliseconds else f"{sign}{seconds}"


def format_timestamps(times_ms: IntArray) -> list[bytes]:
    """`format_timestamp` of a whole column, shape [n]; 30 ns each when all are whole seconds."""
    if not len(times_ms):
        return []
    if times_ms.min() < 1000:
        return [format_timestamp(time_ms).encode() for time_ms in times_ms.tolist()]
    seconds, milliseconds = np.divmod(times_ms, 1000)
    if not milliseconds.any():
        return _integer_texts(seconds)
    texts = zip(_integer_texts(times_ms), milliseconds.tolist(), strict=True)
    return [text[:-3] + b"." + text[-3:] if rest else text[:-3] for text, rest in texts]


def _integer_texts(column: IntArray) -> list[bytes]:
    printed = orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)
    return printed[1:-1].split(b",")


def format_json_seconds(time_ms: int) -> str:
    """The timestamp of a scalar or string: the shortest decimal, `1.5`."""
    text = format_timestamp(time_ms)
    return text.rstrip("0") if "." in text else text
