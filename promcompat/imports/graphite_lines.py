"""Graphite's plaintext: `servers.web-1.load;dc=a 1.5 1700000000`."""

import math
from collections.abc import Sequence
from typing import Final

from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import parse_float
from promcompat.imports.columns import ColumnsBuilder, check_length

_NOW: Final = (0, -1)
"""These times mean now."""


def read_graphite_lines(
    lines: Sequence[str], first_line: int, builder: ColumnsBuilder, now_ms: int
) -> None:
    """Add the samples of lines to the builder; a bad line is a fault and the others are read."""
    for number, line in enumerate(lines, start=first_line):
        if line and not line.isspace():
            try:
                check_length(line)
                _read_line(line, builder, now_ms)
            except ValueError as exc:
                builder.faults.add(f"line {number}", line, str(exc))


def _read_line(line: str, builder: ColumnsBuilder, now_ms: int) -> None:
    match line.split():
        case [path, value]:
            time_ms = now_ms
        case [path, value, time]:
            seconds = parse_float(time)
            if not math.isfinite(seconds):
                raise ValueError(f"the time {time!r} is not a number of seconds")
            time_ms = now_ms if seconds in _NOW else int(seconds) * 1000
        case _:
            raise ValueError("expected a path, a value and, if any, a time in seconds")
    number = parse_float(value)
    series = builder.by_text.get(path)
    if series is None:
        series = builder.by_text[path] = builder.number_of_text(path, _labels_of)
    builder.add(series, time_ms, number)


def _labels_of(path: str) -> dict[str, str]:
    name, *tags = path.split(";")
    labels = {METRIC_NAME: name}
    for tag in tags:
        label, mark, value = tag.partition("=")
        if not (label and mark and value):
            raise ValueError(f"expected tag=value in place of {tag!r}")
        labels[label] = value
    return labels
