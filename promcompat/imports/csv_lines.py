"""CSV by VictoriaMetrics' `format`: `2:metric:ask,3:metric:bid,1:label:ticker,4:time:unix_s`.

Each entry is the position of a column from 1 on, its type, and its name or the form of its time.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from promcompat.core.errors import BadDataError
from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import parse_float
from promcompat.imports.columns import ColumnsBuilder, check_length

_MAX_COLUMN: Final = 1 << 16
_TYPES: Final = ("time", "metric", "label")
_GO_LAYOUT: Final = {
    "2006": "%Y", "06": "%y", "January": "%B", "Jan": "%b", "01": "%m", "1": "%m",
    "002": "%j", "02": "%d", "_2": "%d", "2": "%d", "Monday": "%A", "Mon": "%a",
    "15": "%H", "03": "%I", "3": "%I", "PM": "%p", "pm": "%p", "04": "%M", "4": "%M",
    "05": "%S", "5": "%S", "Z07:00": "%z", "Z0700": "%z", "-07:00": "%z", "-0700": "%z",
    "%": "%%",
}  # fmt: skip
"""Go writes a layout as a certain time would be shown."""
_GO_PART: Final = re.compile(
    r"[.,](?:0+|9+)(?![0-9])|" + "|".join(sorted(map(re.escape, _GO_LAYOUT), key=len, reverse=True))
)

_CELL: Final = re.compile(r""",('(?:[^']|'')*'(?=,|$)|"(?:[^"]|"")*"(?=,|$)|[^'",][^,]*|(?=,|$))""")

ReadTime = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Which columns (from 0 on) are metrics and labels, and which is the time.

    Beside the column of a metric is the JSON of a list: its name, and the names of the labels.
    """

    metrics: tuple[tuple[int, str], ...]
    labels: tuple[int, ...]
    time: tuple[int, ReadTime] | None
    n_columns: int


def parse_csv_format(text: str) -> CsvFormat:
    """Raises BadDataError for a format that cannot be used."""
    if not text:
        raise BadDataError(
            "the parameter `format` is missing; it names the columns, such as "
            "1:time:unix_s,2:label:shop,3:metric:orders"
        )
    metrics: list[tuple[int, str]] = []
    labels: list[tuple[int, str]] = []
    time: tuple[int, ReadTime] | None = None
    seen: set[int] = set()
    for entry in text.split(","):
        column, kind, context = _parse_entry(entry)
        if column in seen:
            raise BadDataError(f"duplicate <column_pos> {column + 1} in format {entry!r}")
        seen.add(column)
        if kind == "time":
            if time is not None:
                raise BadDataError("the format has more than one 'time' column")
            time = column, _time_reader(context)
        else:
            (metrics if kind == "metric" else labels).append((column, context))
    if not metrics:
        raise BadDataError(f"missing 'metric' column in {text!r}")
    names = [label for _, label in labels]
    return CsvFormat(
        tuple((column, json.dumps([metric, *names])) for column, metric in metrics),
        tuple(column for column, _ in labels),
        time,
        max(seen) + 1,
    )


def _parse_entry(entry: str) -> tuple[int, str, str]:
    position, _, rest = entry.strip().partition(":")
    kind, _, context = rest.partition(":")
    is_number = position.isdecimal() and len(position) <= len(str(_MAX_COLUMN))
    if not is_number or not 1 <= int(position) <= _MAX_COLUMN:
        raise BadDataError(
            f"cannot parse <column_pos> in {entry!r}: expected a number from 1 to {_MAX_COLUMN}"
        )
    if kind not in _TYPES:
        raise BadDataError(f"unknown <column_type>: {kind!r}; allowed values: {', '.join(_TYPES)}")
    if not context:
        raise BadDataError(f"<context> in {entry!r} is empty; expected <position>:<type>:<context>")
    return int(position) - 1, kind, context


def _time_reader(form: str) -> ReadTime:
    read = _reader_of(form)

    def read_time(text: str) -> int:
        try:
            return read(text)
        except ValueError:
            raise ValueError(f"the time {text!r} is not of the form {form}") from None

    return read_time


def _reader_of(form: str) -> ReadTime:
    match form:
        case "unix_s":
            return lambda text: int(text) * 1_000
        case "unix_ms":
            return int
        case "unix_ns":
            return lambda text: int(text) // 1_000_000
        case "rfc3339":
            return lambda text: _milliseconds(datetime.fromisoformat(text))
    if form.startswith("custom:"):
        layout = _GO_PART.sub(_of_python, form.removeprefix("custom:"))
        _check_layout(layout, form)
        return lambda text: _milliseconds(datetime.strptime(text, layout))  # noqa: DTZ007
    raise BadDataError(
        f"unknown form of a time: {form!r}; allowed: unix_s, unix_ms, unix_ns, rfc3339, "
        "custom:<layout>"
    )


def _check_layout(layout: str, form: str) -> None:
    """Raises BadDataError for a layout that names a part twice, which Python cannot read."""
    try:
        datetime.strptime("", layout)  # noqa: DTZ007
    except re.error:
        raise BadDataError(f"the form of a time {form!r} has a part twice") from None
    except ValueError:
        return  # The empty text is no such time.


def _of_python(part: re.Match[str]) -> str:
    """The directive of a part of a layout. A part that is not in the table is a fraction."""
    return _GO_LAYOUT.get(part[0], f"{part[0][0]}%f")


def _milliseconds(time: datetime) -> int:
    """Without a zone it is UTC."""
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def read_csv_lines(
    lines: Sequence[str], first_line: int, builder: ColumnsBuilder, form: CsvFormat, now_ms: int
) -> None:
    """Add the samples of rows to the builder; a bad row is a fault, a first one a header."""
    for number, line in enumerate(lines, start=first_line):
        if line and not line.isspace():
            try:
                check_length(line)
                _read_row(_cells(line), builder, form, now_ms)
            except (ValueError, csv.Error, StopIteration) as exc:
                if number > 1:
                    builder.faults.add(f"line {number}", line, str(exc))


def _cells(line: str) -> list[str]:
    """The cells of a row. Raises ValueError, csv.Error and StopIteration.

    They may be quoted with either quote, doubled within; the csv module knows one at a time.
    """
    if "'" not in line:
        is_plain = '"' not in line and "\r" not in line
        return line.split(",") if is_plain else next(csv.reader([line], strict=True))
    cells = [found[1] for found in _CELL.finditer(f",{line.strip()}")]
    if "".join(f",{cell}" for cell in cells)[1:] != line.strip():
        raise ValueError("a quoted cell has no closing quote, or goes on behind it")
    return [
        cell[1:-1].replace(cell[0] * 2, cell[0]) if cell[:1] in ("'", '"') else cell
        for cell in cells
    ]


def _read_row(cells: list[str], builder: ColumnsBuilder, form: CsvFormat, now_ms: int) -> None:
    if len(cells) < form.n_columns:
        raise ValueError(f"the row has {len(cells)} columns; the format needs {form.n_columns}")
    time_ms = now_ms
    if form.time is not None:
        column, read_time = form.time
        if text := cells[column].strip():
            time_ms = read_time(text)
    values = [
        (names, parse_float(text))
        for column, names in form.metrics
        if (text := cells[column].strip())
    ]
    # A row has no line breaks, so that its cells can be told from each other.
    shown = "\n".join(map(cells.__getitem__, form.labels))
    for names, value in values:
        text = f"{names}\n{shown}"
        series = builder.by_text.get(text)
        if series is None:
            series = builder.by_text[text] = builder.number_of_text(text, _labels_of)
        builder.add(series, time_ms, value)


def _labels_of(text: str) -> dict[str, str]:
    """The labels of a text: the names, see `CsvFormat`, and a line for the cell of each label."""
    names, shown = text.split("\n", 1)
    metric, *labels = json.loads(names)
    return {**dict(zip(labels, shown.split("\n"), strict=False)), METRIC_NAME: metric}
