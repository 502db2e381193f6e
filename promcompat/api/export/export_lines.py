"""Exports as text: JSON lines, exposition lines and CSV, series by series.

In JSON a stale marker is null, as in VictoriaMetrics, and a native histogram an object
(`promcompat.imports.histogram_objects`). The other formats have no form for either, so that they
are left out.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from promcompat.api.export.exposition_text import Escaping, exposition_line
from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.model import METRIC_NAME, FloatArray, IntArray, Labels, SampleBlock, is_stale
from promcompat.core.texts.strconv import format_g
from promcompat.core.texts.times import format_time_ms
from promcompat.imports.histogram_objects import histogram_objects

_LINE_ROWS: Final = 10_000
"""The most samples of a JSON line, unless the client asks for fewer."""
_LINE_HISTOGRAMS: Final = 250
"""The same of a series with native histograms, each of which may take kilobytes: an import reads
lines of ten megabytes."""

_INFINITIES: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}

FormatBlock = Callable[[SampleBlock], Iterator[bytes]]


def json_lines(block: SampleBlock, max_rows: int = 0) -> Iterator[bytes]:
    """A line for each series, or several of at most `max_rows` samples (0: 10,000).

    Those of a series with native histograms have 250 at most.
    """
    offsets = block.offsets.tolist()
    for labels, start, end in zip(block.labels, offsets, offsets[1:], strict=False):
        times = np.ascontiguousarray(block.timestamps[start:end])
        values = np.ascontiguousarray(block.values[start:end])
        has_histograms = block.histograms is not None and bool(is_histogram(values).any())
        most = _LINE_HISTOGRAMS if has_histograms else _LINE_ROWS
        size = min(max_rows, most) or most
        for first in range(0, len(times), size):
            line = {
                "values": _json_values(values[first : first + size], block.histograms),
                "timestamps": times[first : first + size],
            }
            rest = orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY)
            yield b'{"metric":' + labels.json() + b"," + rest[1:] + b"\n"


def _json_values(values: FloatArray, histograms: Histograms | None) -> Any:
    """A stale marker becomes null, and what JSON has no number for a text or, if it is one, a
    histogram.
    """
    if np.isfinite(values).all():
        return values
    texts: list[Any] = [
        "NaN" if math.isnan(value) else _INFINITIES.get(value, value) for value in values.tolist()
    ]
    for row in np.flatnonzero(is_stale(values)).tolist():
        texts[row] = None
    if histograms is not None and len(rows := np.flatnonzero(is_histogram(values))):
        found = histogram_objects(histograms.take(histogram_numbers(values[rows])))
        for row, shown in zip(rows.tolist(), found, strict=True):
            texts[row] = shown
    return texts


def exposition_lines(block: SampleBlock) -> Iterator[bytes]:
    """A line for each sample, with its time in milliseconds."""
    for labels, times, values in _series(block):
        lines = [
            exposition_line(labels, time_ms, value, Escaping.ALLOW_UTF_8)
            for time_ms, value in zip(times.tolist(), values.tolist(), strict=True)
        ]
        yield "".join(lines).encode(errors="replace")


def _series(block: SampleBlock) -> Iterator[tuple[Labels, IntArray, FloatArray]]:
    """The series with samples, without stale markers and histograms."""
    offsets = block.offsets.tolist()
    for labels, first, end in zip(block.labels, offsets, offsets[1:], strict=False):
        values = np.ascontiguousarray(block.values[first:end])
        fresh = ~is_stale(values)
        if block.histograms is not None:
            fresh &= ~is_histogram(values)
        if fresh.any():
            yield labels, np.ascontiguousarray(block.timestamps[first:end][fresh]), values[fresh]


# -- CSV --------------------------------------------------------------------------------------

Column = Callable[[Labels, int, float], str]


@dataclass(frozen=True, slots=True)
class CsvExport:
    """What each column has, and the text of the format, which is the first row."""

    columns: tuple[Column, ...]
    header: str

    def rows(self, block: SampleBlock) -> Iterator[bytes]:
        """A row for each sample."""
        for labels, times, values in _series(block):
            rows = [
                ",".join(_cell(column(labels, time_ms, value)) for column in self.columns)
                for time_ms, value in zip(times.tolist(), values.tolist(), strict=True)
            ]
            yield ("\n".join(rows) + "\n").encode(errors="replace")


def parse_csv_export(text: str) -> CsvExport:
    """The columns of `format`: label names, `__name__`, `__value__`, `__timestamp__:<form>`.

    Raises BadDataError for an empty list and for an unknown form of the time.
    """
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise BadDataError(
            "expected format=<column>,…, where a column is a label name, __name__, __value__ or "
            "__timestamp__[:unix_s|unix_ms|unix_ns|rfc3339]"
        )
    return CsvExport(tuple(map(_column_of, names)), ",".join(map(_cell, names)))


def _column_of(name: str) -> Column:
    if name == "__value__":
        return lambda _labels, _time, value: format_g(value)
    if name == "__timestamp__" or name.startswith("__timestamp__:"):
        show = _time_writer(name.partition(":")[2] or "unix_ms")
        return lambda _labels, time_ms, _value: show(time_ms)
    label = METRIC_NAME if name == "__name__" else name
    return lambda labels, _time, _value: labels.get(label)


def _time_writer(form: str) -> Callable[[int], str]:
    match form:
        case "unix_s":
            return lambda time_ms: str(time_ms // 1000)
        case "unix_ms":
            return str
        case "unix_ns":
            return lambda time_ms: str(time_ms * 1_000_000)
        case "rfc3339":
            return format_time_ms
    raise BadDataError(
        f"unknown form of a time: {form!r}; allowed: unix_s, unix_ms, unix_ns, rfc3339"
    )


def _cell(text: str) -> str:
    if any(mark in text for mark in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
