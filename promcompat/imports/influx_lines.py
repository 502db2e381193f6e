"""The line protocol of InfluxDB: `cpu,host=a usage=1.5,idle=98 1700000000000000000`.

A field becomes the metric `measurement_field`, tags become labels, and so does the database, unless
a tag has that name. Fields with texts are skipped, since no sample can have one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.model import METRIC_NAME
from promcompat.imports.columns import ColumnsBuilder, check_length

_QUOTED: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*"'
_HEAD: Final = re.compile(r"(?:[^\\ ]++|\\.|\\$)+")
_FIELDS: Final = re.compile(rf'(?:[^\\" ]++|\\.|{_QUOTED})+')
_PART: Final = re.compile(r"(?:[^\\,]++|\\.|\\$)+")
_FIELD: Final = re.compile(rf'((?:[^\\=",]++|\\.)+)=({_QUOTED}|[^,"]++)(?:,|$)')
_TAG: Final = re.compile(r"((?:[^\\=]++|\\.)+)=(.*)", re.DOTALL)
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,30}")
_ESCAPE: Final = re.compile(r"\\([,= ])")
_TRUE: Final = frozenset(("t", "T", "true", "True", "TRUE"))
_FALSE: Final = frozenset(("f", "F", "false", "False", "FALSE"))
_NANOSECONDS: Final[Mapping[str, int]] = {
    "n": 1,
    "ns": 1,
    "u": 1_000,
    "us": 1_000,
    "µ": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
PRECISIONS: Final = tuple(_NANOSECONDS)
_MILLISECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class InfluxOptions:
    """`precision` is one of PRECISIONS, or "" to tell the unit by the magnitude of each time."""

    now_ms: int
    precision: str
    database: str


def read_influx_lines(
    lines: Sequence[str], first_line: int, builder: ColumnsBuilder, options: InfluxOptions
) -> None:
    """Add the fields of lines to the builder; a bad line is a fault and the others are read."""
    for number, line in enumerate(lines, start=first_line):
        text = line.strip()
        if text and text[0] != "#":
            try:
                check_length(text)
                _read_line(text, builder, options)
            except ValueError as exc:
                builder.faults.add(f"line {number}", text, str(exc))


def _read_line(line: str, builder: ColumnsBuilder, options: InfluxOptions) -> None:
    head, fields, time = _split(line)
    time_ms = _time_ms(time, options) if time else options.now_ms
    read = [(name, _number(value)) for name, value in fields]
    for name, value in read:
        if value is None:
            builder.n_skipped += 1
            continue
        # A line has no line breaks, so that these parts can be told from each other.
        text = f"{head}\n{name}\n{options.database}"
        series = builder.by_text.get(text)
        if series is None:
            series = builder.by_text[text] = builder.number_of_text(text, _labels_of)
        builder.add(series, time_ms, value)


def _split(line: str) -> tuple[str, list[tuple[str, str]], str]:
    """Measurement with tags, the names and values of fields, and the time or ""."""
    if "\\" in line or '"' in line:
        return _split_quoted(line)
    head, _, rest = line.partition(" ")
    fields, _, time = rest.strip().partition(" ")
    pairs = []
    for field in fields.split(","):
        name, mark, value = field.partition("=")
        if not (name and mark and value):
            raise ValueError(f"expected name=value in place of {field!r}")
        pairs.append((name, value))
    return head, pairs, time.strip()


def _split_quoted(line: str) -> tuple[str, list[tuple[str, str]], str]:
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("the measurement is missing")
    start = head.end() + len(line[head.end() :]) - len(line[head.end() :].lstrip(" "))
    fields = _FIELDS.match(line, start)
    if fields is None:
        raise ValueError("the fields are missing")
    if line[fields.end() : fields.end() + 1] not in ("", " "):
        raise ValueError("a quoted value has no closing quote")
    pairs, at, text = [], 0, fields.group()
    while at < len(text):
        field = _FIELD.match(text, at)
        if field is None:
            raise ValueError(f"expected name=value at {text[at : at + 40]!r}")
        pairs.append((field[1], field[2]))
        at = field.end()
    return head.group(), pairs, line[fields.end() :].strip()


def _labels_of(text: str) -> dict[str, str]:
    """The labels of measurement with tags, field and database, in this order, in lines."""
    head, field, database = text.split("\n", 2)
    parts = _PART.findall(head) if "\\" in head else head.split(",")
    measurement = "" if head.startswith(",") else _unescaped(parts[0])
    tags = parts if head.startswith(",") and "\\" in head else parts[1:]
    labels = {"db": database} if database else {}
    for part in tags:
        tag = _TAG.fullmatch(part)
        if tag is None:
            raise ValueError(f"expected tag=value in place of {part!r}")
        labels[_unescaped(tag[1])] = _unescaped(tag[2])
    name = _unescaped(field)
    labels[METRIC_NAME] = f"{measurement}_{name}" if measurement else name
    return labels


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def _number(text: str) -> float | None:
    """The value of a field, None for a text. Raises ValueError."""
    last = text[-1]
    if last == '"':
        return None
    if text in _TRUE:
        return 1.0
    if text in _FALSE:
        return 0.0
    try:
        # Python's own functions would read `1_000`.
        if "_" not in text:
            return float(int(text[:-1])) if last in "iu" else float(text)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"the value {text!r} is not a number, a boolean or a text")


def _time_ms(text: str, options: InfluxOptions) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"bad timestamp: {text!r} is not a whole number")
    time = int(text)
    if options.precision:
        return time * _NANOSECONDS[options.precision] // _MILLISECOND
    size = abs(time)
    if size >= 10**17:
        return time // 1_000_000
    if size >= 10**14:
        return time // 1_000
    if size >= 10**11:
        return time
    return time * 1_000 if time else options.now_ms
