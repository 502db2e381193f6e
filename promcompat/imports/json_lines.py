"""The JSON lines of VictoriaMetrics: a series per line, with arrays of values and times.

`{"metric":{"__name__":"up","job":"a"},"values":[1,2],"timestamps":[1700000000000,1700000015000]}`

A value may be a native histogram, an object of `promcompat.imports.histogram_objects`.
"""

from collections.abc import Sequence
from math import inf, nan
from typing import Any, Final

import numpy as np
import orjson

from promcompat.core.model import STALE_NAN_BITS
from promcompat.imports.columns import ColumnsBuilder
from promcompat.imports.histogram_objects import checked_object

_METRIC: Final = '{"metric":{'
_BEHIND_METRIC: Final = '},"values":['
_EXPECTED: Final = (
    "expected an object with `metric` (an object), `values` and `timestamps` (arrays)"
)
_MOST_COMMAS: Final = 1_500_000
"""A line of ten megabytes with times in milliseconds has 1.2 million."""
_MOST_PARTS: Final = 300_000
"""Arrays, objects and members take ten times as long as numbers: three million take seconds, during
which nothing else runs."""
_STALE: Final[float] = np.array([STALE_NAN_BITS], np.uint64).view(np.float64).tolist()[0]
_TEXTS: Final[dict[str | None, float]] = {
    # VictoriaMetrics stores no other NaN than the stale marker, and exports it as null.
    None: _STALE,
    "null": _STALE,
    "nan": nan,
    "NaN": nan,
    "Inf": inf,
    "inf": inf,
    "Infinity": inf,
    "infinity": inf,
    "-Inf": -inf,
    "-inf": -inf,
    "-Infinity": -inf,
    "-infinity": -inf,
}


def read_json_lines(lines: Sequence[str], first_line: int, builder: ColumnsBuilder) -> None:
    """Add the samples of lines to the builder; a bad line is a fault and the others are read."""
    for number, line in enumerate(lines, start=first_line):
        if line and not line.isspace():
            try:
                _read_line(line, builder)
            except ValueError as exc:
                builder.faults.add(f"line {number}", line, str(exc))


def _read_line(line: str, builder: ColumnsBuilder) -> None:
    _check_tokens(line)
    end = line.find(_BEHIND_METRIC) if line.startswith(_METRIC) else -1
    if end >= 0:
        # A quote in a text is escaped, so that this is the end of the labels, or no JSON at all.
        try:
            rest = _object_of("{" + line[end + 2 :])
            text = line[len(_METRIC) - 1 : end + 1]
            series = None if "metric" in rest else builder.number_of_text(text, _labels_of)
        except ValueError:
            # Read as a whole, the line tells what is wrong, and where.
            series = None
        if series is not None:
            _add(series, rest, builder)
            return
    document = _object_of(line)
    _add(builder.number_of(_checked_labels(document.get("metric"))), document, builder)


def _check_tokens(line: str) -> None:
    """Raises ValueError for a line that stands for more objects than may be made in one call."""
    if len(line) <= _MOST_PARTS:
        return
    if sum(map(line.count, "[{:")) > _MOST_PARTS or line.count(",") > _MOST_COMMAS:
        raise ValueError(
            f"has more than {_MOST_COMMAS:,} commas, or {_MOST_PARTS:,} colons and opening "
            "brackets; send several lines"
        )


def _object_of(text: str) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise ValueError(f"is not valid JSON at column {exc.colno}") from None
    return document if isinstance(document, dict) else {}


def _labels_of(text: str) -> dict[str, str]:
    return _checked_labels(_object_of(text))


def _checked_labels(metric: Any) -> dict[str, str]:
    if not isinstance(metric, dict):
        raise ValueError(_EXPECTED)
    if not all(isinstance(value, str) for value in metric.values()):
        raise ValueError("the values of `metric` must be strings")
    return metric


def _add(series: int, document: dict[str, Any], builder: ColumnsBuilder) -> None:
    match document:
        case {"values": list(values), "timestamps": list(times)}:
            pass
        case _:
            raise ValueError(_EXPECTED)
    if len(values) != len(times) or not values:
        raise ValueError(
            f"`values` has {len(values)} entries and `timestamps` {len(times)}; they must have the "
            "same number, at least one"
        )
    columns = _values(values), _times(times)
    builder.series += [series] * len(values)
    builder.values += builder.with_histograms(columns[0])
    builder.times += columns[1]


def _values(raw: list[Any]) -> list[Any]:
    """The values as floats, and histograms as their objects."""
    if set(map(type, raw)) <= {int, float}:
        return raw
    values: list[Any] = []
    for value in raw:
        if isinstance(value, dict):
            values.append(checked_object(value))
            continue
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError(f"`values` has {value!r}, which is not a number")
        if isinstance(value, str | None):
            if value not in _TEXTS:
                raise ValueError(f"`values` has {value!r}; the texts NaN and Infinity are accepted")
            value = _TEXTS[value]
        values.append(value)
    return values


def _times(raw: list[Any]) -> list[int]:
    if set(map(type, raw)) == {int}:
        return raw
    if set(map(type, raw)) <= {int, float}:
        milliseconds = np.array(raw, np.float64)
        if np.isfinite(milliseconds).all() and (milliseconds == np.floor(milliseconds)).all():
            return [int(time) for time in raw]
    raise ValueError("`timestamps` must be whole numbers of milliseconds")
