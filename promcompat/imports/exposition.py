"""The text formats of Prometheus: exposition 0.0.4 and 1.0.0, and OpenMetrics.

Most lines repeat a series that was read before: then only value and time are parsed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from promcompat.core.model import METRIC_NAME, MetricMetadata
from promcompat.core.texts.strconv import parse_float
from promcompat.imports.columns import ColumnsBuilder, check_length

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_ANY_NAME: Final = re.compile(r'[^\s{}",=#]+')
"""VictoriaMetrics writes and reads names of any characters without quotes."""
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE: Final = re.compile(r'\\([\\"n])')
_ESCAPED: Final = {"\\": "\\", '"': '"', "n": "\n"}
_EXEMPLAR: Final = " # {"
_SECONDS_BELOW: Final = 1 << 31
"""A bare number below this is a time in seconds: as milliseconds it would be of January 1970."""
_TYPES: Final = frozenset(
    ["counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"]
)


class TimeUnit(Enum):
    """What the numbers after the values count."""

    MILLISECONDS = "ms"
    SECONDS = "s"
    BY_MAGNITUDE = "magnitude"


@dataclass(frozen=True, slots=True)
class ExpositionOptions:
    """`default_time_ms` is the time of samples that have none."""

    default_time_ms: int
    unit: TimeUnit = TimeUnit.BY_MAGNITUDE


def unit_of(content_type: str) -> TimeUnit:
    """OpenMetrics counts in seconds, the older text in milliseconds; else the number decides."""
    media = content_type.replace(" ", "").lower()
    if media.startswith("application/openmetrics-text"):
        return TimeUnit.SECONDS
    if media.startswith("text/plain;version=") and not media.startswith("text/plain;version=2"):
        return TimeUnit.MILLISECONDS
    return TimeUnit.BY_MAGNITUDE


def read_exposition(
    lines: Sequence[str], first_line: int, builder: ColumnsBuilder, options: ExpositionOptions
) -> None:
    """Add the samples of lines to the builder; a bad line is a fault and the others are read."""
    for number, line in enumerate(lines, start=first_line):
        try:
            check_length(line)
            if line[:1] == "#":
                _read_comment(line, builder)
            elif line and not line.isspace():
                _read_sample(line, builder, options)
        except ValueError as exc:
            builder.faults.add(f"line {number}", line, str(exc))


def _read_sample(line: str, builder: ColumnsBuilder, options: ExpositionOptions) -> None:
    end = line.rfind("}") + 1
    if end:
        if _EXEMPLAR in line:
            _, end = parse_series(line, _ANY_NAME)
        text = line[:end]
        series = builder.by_text.get(text)
        if series is None:
            series = builder.by_text[text] = builder.number_of_text(text, _labels_of)
        fields = line[end:].split(_EXEMPLAR, 1)[0].split()
    else:
        name, *fields = line.split()
        series = builder.by_text.get(name)
        if series is None:
            if not _ANY_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a metric name; write other names in quotes")
            series = builder.by_text[name] = builder.number_of({METRIC_NAME: name})
    match fields:
        case [value]:
            builder.add(series, options.default_time_ms, _value(value))
        case [value, time]:
            builder.add(series, _time_ms(time, options.unit), _value(value))
        case _:
            raise ValueError("expected a value and, if any, a timestamp after the series")


def _value(text: str) -> float:
    try:
        return float(text) if "_" not in text else parse_float(text)
    except ValueError:
        return parse_float(text)


def _time_ms(text: str, unit: TimeUnit) -> int:
    if text.removeprefix("-").isdecimal():
        number = int(text)
        is_seconds = unit is TimeUnit.SECONDS or (
            unit is TimeUnit.BY_MAGNITUDE and abs(number) < _SECONDS_BELOW
        )
        return number * 1000 if is_seconds else number
    if unit is TimeUnit.MILLISECONDS:
        raise ValueError(f"the timestamp {text!r} is not a number of milliseconds")
    try:
        seconds = parse_float(text)
        # The nearest millisecond: 1.001 is a little less than that as a float.
        return round(seconds * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"the timestamp {text!r} is not a number") from None


def parse_series(text: str, plain: re.Pattern[str] = _NAME) -> tuple[dict[str, str], int]:
    """The labels of the series a line starts with, and where it ends. Raises ValueError.

    `plain` are the names that need no quotes.
    """
    at = _after_blanks(text, 0)
    labels: dict[str, str] = {}
    name = plain.match(text, at)
    if name:
        labels[METRIC_NAME] = name.group()
        at = _after_blanks(text, name.end())
    if text[at : at + 1] != "{":
        if not name:
            raise ValueError("the line does not start with a metric name or labels in braces")
        return labels, at
    at = _after_blanks(text, at + 1)
    while text[at : at + 1] != "}":
        at = _read_label(text, at, labels, plain)
        if text[at : at + 1] == ",":
            at = _after_blanks(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("expected a comma or a closing brace after a label")
    return labels, at + 1


def _labels_of(text: str) -> dict[str, str]:
    """The labels of a series that is all of a text. Raises ValueError."""
    labels, end = parse_series(text, _ANY_NAME)
    if end != len(text):
        raise ValueError(f"expected a value in place of {text[end:]!r}")
    return labels


def _read_label(text: str, at: int, labels: dict[str, str], plain: re.Pattern[str]) -> int:
    """Read `name="value"`, `"name"="value"` or the metric's name in quotes; returns the end."""
    quoted = _QUOTED.match(text, at)
    found = quoted or plain.match(text, at)
    if found is None:
        raise ValueError("expected a label name")
    name = _unescaped(quoted.group(1)) if quoted else found.group()
    at = _after_blanks(text, found.end())
    value = name
    if text[at : at + 1] == "=":
        found = _QUOTED.match(text, _after_blanks(text, at + 1))
        if found is None:
            raise ValueError(f"the value of label {name!r} is not in quotes")
        value, at = _unescaped(found.group(1)), _after_blanks(text, found.end())
    elif quoted:
        name = METRIC_NAME
    else:
        raise ValueError(f"expected = after the label name {name!r}")
    if name in labels:
        raise ValueError(f"the label {name!r} comes twice")
    labels[name] = value
    return at


def _after_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    return at


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], text) if "\\" in text else text


def _read_comment(line: str, builder: ColumnsBuilder) -> None:
    """HELP, TYPE and UNIT lines become metadata; other comments are ignored."""
    match line[1:].split(None, 2):
        case [("HELP" | "TYPE" | "UNIT") as keyword, family, *text]:
            describe(keyword, family, text[0].strip() if text else "", builder.metadata)


def describe(
    keyword: str, family: str, text: str, metadata: dict[str, MetricMetadata]
) -> MetricMetadata:
    """Add what a HELP, TYPE or UNIT line says to the metadata of its family, and return it.

    Raises ValueError for an unknown type.
    """
    if family.startswith('"') and family.endswith('"'):
        family = _unescaped(family[1:-1])
    described = metadata.get(family) or MetricMetadata(family, "unknown", "", "")
    match keyword:
        case "TYPE":
            kind = "unknown" if text == "untyped" else text
            if kind not in _TYPES:
                raise ValueError(f"unknown metric type {text!r}")
            described = replace(described, type=kind)
        case "HELP":
            described = replace(described, help=_unescaped(text))
        case _:
            described = replace(described, unit=text)
    metadata[family] = described
    return described
