"""The notation of native histograms in scripts and unit tests, as `{{schema:1 count:3}}`.

Facts: the documentation of Prometheus' promqltest, and https://prometheus.io/docs/prometheus/
latest/configuration/unit_testing_rules/.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.histograms import CUSTOM_BUCKETS
from promcompat.core.strconv import quote
from promql.histograms.arithmetic import GAUGE, NO_RESET, RESET, UNKNOWN
from promql.values.histogram_columns import Buckets, HistogramColumns

_HINTS: Final = {"unknown": UNKNOWN, "reset": RESET, "not_reset": NO_RESET, "gauge": GAUGE}
_LISTS: Final = ("buckets", "n_buckets", "custom_values")
_INTEGERS: Final = ("schema", "offset", "n_offset")
_FLOATS: Final = ("sum", "count", "z_bucket", "z_bucket_w")
_FIELD: Final = re.compile(r"\s*([a-z_]+)\s*:\s*(\[[^\]]*\]|[^\s\[\]]+)(?=\s|$)")


def parse_histogram(text: str) -> HistogramColumns:
    """The histogram between `{{` and `}}`; fields that are left out are 0. Raises BadDataError."""
    fields = _fields(text)
    schema = int(_number(fields, "schema"))
    bounds = tuple(_numbers(fields, "custom_values"))
    is_custom = schema == CUSTOM_BUCKETS
    return HistogramColumns(
        np.array([schema], np.int64),
        np.array([_hint(fields)], np.int64),
        np.array([_number(fields, "z_bucket_w")]),
        np.array([_number(fields, "z_bucket")]),
        np.array([_number(fields, "count")]),
        np.array([_number(fields, "sum")]),
        _buckets(_numbers(fields, "buckets"), int(_number(fields, "offset"))),
        _buckets(_numbers(fields, "n_buckets"), int(_number(fields, "n_offset"))),
        np.array([0 if is_custom else -1], np.int64),
        (bounds,) if is_custom else (),
    )


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None or match[1] not in (*_LISTS, *_INTEGERS, *_FLOATS, "counter_reset_hint"):
            raise BadDataError(
                f"{quote(text[at:].strip())} is not a field of a native histogram: expected "
                "schema, sum, count, z_bucket, z_bucket_w, buckets, offset, n_buckets, n_offset, "
                "custom_values or counter_reset_hint, a colon and a value"
            )
        fields[match[1]] = match[2]
        at = match.end()
    return fields


def _number(fields: dict[str, str], name: str) -> float:
    text = fields.get(name, "0")
    try:
        return int(text) if name in _INTEGERS else float(text)
    except ValueError:
        raise BadDataError(
            f"{quote(text)} is not a number for {name} of a native histogram"
        ) from None


def _numbers(fields: dict[str, str], name: str) -> list[float]:
    text = fields.get(name, "[]")
    try:
        return [float(number) for number in text.strip("[]").split()]
    except ValueError:
        raise BadDataError(
            f"{quote(text)} is not a list of numbers for {name} of a native histogram"
        ) from None


def _hint(fields: dict[str, str]) -> int:
    name = fields.get("counter_reset_hint", "unknown")
    if name not in _HINTS:
        known = ", ".join(_HINTS)
        raise BadDataError(f"{quote(name)} is not a counter_reset_hint: expected one of {known}")
    return _HINTS[name]


def _buckets(counts: Sequence[float], offset: int) -> Buckets:
    indices = np.arange(offset, offset + len(counts), dtype=np.int64)
    return Buckets(np.array([0, len(counts)], np.int64), indices, np.array(counts, np.float64))
