"""The notation of native histograms in scripts and unit tests, as `{{schema:1 count:3}}`.

Facts: the documentation of Prometheus' promqltest, and https://prometheus.io/docs/prometheus/
latest/configuration/unit_testing_rules/.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import CUSTOM_BUCKETS
from promcompat.core.texts.strconv import format_g, quote
from promql.histograms.arithmetic import add, compact, subtract
from promql.values.histogram_columns import (
    GAUGE,
    NO_RESET,
    RESET,
    UNKNOWN,
    Buckets,
    HistogramColumns,
)

HISTOGRAM_PATTERN: Final = (
    r"\{\{(?P<histogram>.*?)\}\}(?:(?P<sign>[-+])\{\{(?P<more>.*?)\}\})?(?:x(?P<repeats>\d{1,9}))?"
)
"""The pattern of one histogram of a series, or of several: `{{…}}x3`, `{{…}}+{{…}}x3`."""
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


def expand_histograms(match: re.Match[str]) -> Iterator[HistogramColumns]:
    """The histograms of a match of `HISTOGRAM_PATTERN`, one by one. Raises BadDataError."""
    value = parse_histogram(match["histogram"])
    more = None if match["more"] is None else parse_histogram(match["more"])
    for _ in range(int(match["repeats"] or 0) + 1):
        yield value
        if more is not None:
            result = (add if match["sign"] == "+" else subtract)(value, more).histograms
            # Prometheus gives differences the hints of sums here.
            value = replace(result, hints=add(value, more).histograms.hints)


def histogram_notations(columns: HistogramColumns) -> list[str]:
    """Each histogram in this notation, with one list of buckets for each side."""
    columns = compact(columns)
    parts: list[list[str]] = [[] for _ in range(len(columns))]
    numbers = (
        ("schema", columns.schemas),
        ("count", columns.counts),
        ("sum", columns.sums),
        ("z_bucket", columns.zero_counts),
        ("z_bucket_w", columns.zero_thresholds),
    )
    for name, column in numbers:
        for part, number in zip(parts, column.tolist(), strict=True):
            if number:
                part.append(f"{name}:{format_g(number)}")
    for part, place, hint in zip(
        parts, columns.bounds.tolist(), columns.hints.tolist(), strict=True
    ):
        if place >= 0:
            part.append(f"custom_values:{_list(columns.bound_sets[place])}")
        part += [
            f"counter_reset_hint:{name}" for name, known in _HINTS.items() if known == hint > 0
        ]
    for prefix, side in (("", columns.positive), ("n_", columns.negative)):
        for part, (first, end) in zip(parts, pairwise(side.offsets.tolist()), strict=True):
            if first < end:
                indices = side.indices[first:end] - side.indices[first]
                counts = np.zeros(int(indices[-1]) + 1)
                counts[indices] = side.counts[first:end]
                if offset := int(side.indices[first]):
                    part.append(f"{prefix}offset:{offset}")
                part.append(f"{prefix}buckets:{_list(counts.tolist())}")
    return ["{{" + " ".join(part) + "}}" for part in parts]


def _list(numbers: Sequence[float]) -> str:
    return f"[{' '.join(map(format_g, numbers))}]"


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
