"""The text formats as a scrape reads them: one bad line refuses the whole body.

The rules are those of Prometheus' parsers; `promcompat.imports.exposition` reads what people post,
line by line, and shares the reading of series and metadata.
"""

import math
import re
from typing import Final, Generic, Protocol, TypeVar

from promcompat.core.model import MetricMetadata
from promcompat.core.texts.strconv import MAX_INT64, format_g, parse_float
from promcompat.imports.exposition import describe, parse_series

_TEXT_REST: Final = re.compile(r"[ \t]*([^ \t]+)(?:[ \t]+([0-9]+))?[ \t]*", re.ASCII)
_OPEN_REST: Final = re.compile(r" ([^ ]+)(?: ([^ ]+))?", re.ASCII)
_EXEMPLAR: Final = " # {"
_TEXT_TYPES: Final = frozenset(["counter", "gauge", "histogram", "summary", "untyped"])
_OPEN_TYPES: Final = (_TEXT_TYPES - {"untyped"}) | {
    "gaugehistogram",
    "info",
    "stateset",
    "unknown",
}
_BOUND_LABELS: Final = {"histogram": "le", "gaugehistogram": "le", "summary": "quantile"}
"""The labels with numbers, whose texts are made equal, by the type of their metric."""
_SHOWN_CHARACTERS: Final = 120
SeriesT = TypeVar("SeriesT")


class ExpositionError(ValueError):
    """The body cannot be read; the text has the line and the reason."""


class ScrapedLines(Protocol[SeriesT]):
    """Takes what the lines of a body say; series are remembered by the text before their value."""

    by_text: dict[str, SeriesT]
    metadata: dict[str, MetricMetadata]

    def new_series(self, text: str, labels: dict[str, str]) -> SeriesT:
        """The series of a text that is not in `by_text`, which it is put into."""

    def add(self, series: SeriesT, time_ms: int | None, value: float) -> None:
        """Add a sample; None: it has no time of its own."""

    def add_exemplar(
        self, series: SeriesT, labels: dict[str, str], value: float, time_ms: int | None
    ) -> None:
        """Add the exemplar of the sample that was added last."""

    def note_family(self, described: MetricMetadata) -> None:
        """Note that the body describes a family."""


def read_text(body: str, lines: ScrapedLines[SeriesT]) -> None:
    """Read Prometheus' text format. Raises ExpositionError."""
    _Reader(lines).read(body.removesuffix("\n").split("\n"), is_open=False)


def read_open_metrics(body: str, lines: ScrapedLines[SeriesT]) -> None:
    """Read OpenMetrics. Raises ExpositionError."""
    before, eof, after = body.rpartition("# EOF")
    if not eof or after not in ("", "\n") or (before and not before.endswith("\n")):
        raise ExpositionError("data does not end with # EOF")
    _Reader(lines).read(before.split("\n")[:-1], is_open=True)


class _Reader(Generic[SeriesT]):
    def __init__(self, lines: ScrapedLines[SeriesT]) -> None:
        self._lines = lines
        self._bound_label: str | None = None

    def read(self, texts: list[str], *, is_open: bool) -> None:
        read_sample = self._read_open_sample if is_open else self._read_text_sample
        read_comment = self._read_open_comment if is_open else self._read_text_comment
        for number, line in enumerate(texts, 1):
            text = line if is_open else line.lstrip(" \t")
            try:
                if text[:1] == "#":
                    read_comment(text)
                elif is_open or text:
                    read_sample(text)
            except ValueError as exc:
                raise ExpositionError(f"line {number} ({line[:_SHOWN_CHARACTERS]}): {exc}") from exc

    def _read_text_sample(self, line: str) -> None:
        series, end = self._series(line, line.rfind("}") + 1)
        found = _TEXT_REST.fullmatch(line, end)
        if found is None:
            raise ValueError("expected a value and, if any, a timestamp in milliseconds")
        value, time = found.groups()
        self._lines.add(series, None if time is None else _milliseconds(time), strict_float(value))

    def _read_open_sample(self, line: str) -> None:
        has_exemplar = _EXEMPLAR in line
        series, end = self._series(line, 0 if has_exemplar else line.rfind("}") + 1)
        stop = line.find(_EXEMPLAR, end) if has_exemplar else -1
        found = _OPEN_REST.fullmatch(line, end, len(line) if stop < 0 else stop)
        if found is None:
            raise ValueError("expected one space, a value and, if any, one space and a timestamp")
        value, time = found.groups()
        self._lines.add(series, None if time is None else _seconds(time), strict_float(value))
        if stop >= 0:
            self._read_exemplar(series, line[stop + len(_EXEMPLAR) - 1 :])

    def _read_exemplar(self, series: SeriesT, text: str) -> None:
        labels, end = parse_series(text)
        found = _OPEN_REST.fullmatch(text, end)
        if found is None:
            raise ValueError("expected a value and, if any, a timestamp after an exemplar")
        value, time = found.groups()
        time_ms = None if time is None else _seconds(time)
        self._lines.add_exemplar(series, labels, strict_float(value), time_ms)

    def _series(self, line: str, end: int) -> tuple[SeriesT, int]:
        """The series of a line and where it ends; `end` is where it probably does, 0: unknown."""
        if not end:
            end = len(line.split(" ", 1)[0]) if "{" not in line else 0
        known = self._lines.by_text.get(line[:end]) if end else None
        if known is not None:
            return known, end
        labels, end = parse_series(line)
        text = line[:end].rstrip(" \t")
        known = self._lines.by_text.get(text)
        if known is None:
            self._normalize(labels)
            known = self._lines.new_series(text, labels)
        return known, len(text)

    def _normalize(self, labels: dict[str, str]) -> None:
        name = self._bound_label
        if name is not None and name in labels:
            try:
                labels[name] = open_metrics_float(parse_float(labels[name]))
            except ValueError:
                return

    def _read_text_comment(self, line: str) -> None:
        if line[1:2] not in (" ", "\t"):
            return  # Prometheus takes `#TYPE a counter` as a comment.
        match line[1:].split(None, 2):
            case [("HELP" | "TYPE") as keyword, family, *text]:
                self._describe(keyword, family, text[0] if text else "", _TEXT_TYPES)

    def _read_open_comment(self, line: str) -> None:
        match line.split(" ", 3):
            case ["#", ("HELP" | "TYPE" | "UNIT") as keyword, family, *text]:
                self._describe(keyword, family, text[0] if text else "", _OPEN_TYPES)
            case ["#", "EOF"]:
                raise ValueError("unexpected data after # EOF")
            case _:
                raise ValueError("a comment is # HELP, # TYPE, # UNIT or # EOF")

    def _describe(self, keyword: str, family: str, text: str, types: frozenset[str]) -> None:
        if keyword == "TYPE":
            text = text.strip(" \t")
            if text not in types:
                raise ValueError(f'invalid metric type "{text}"')
            self._bound_label = _BOUND_LABELS.get(text)
        described = describe(keyword, family, text, self._lines.metadata)
        if keyword == "UNIT" and text and not described.family.endswith(f"_{text}"):
            raise ValueError(f'unit "{text}" not a suffix of metric "{described.family}"')
        self._lines.note_family(described)


def strict_float(text: str) -> float:
    """A float as Go writes it, without `_` and hexadecimal digits. Raises ValueError."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if "_" in text or not text.isascii() or (not text[-1].isalnum() and text[-1] != "."):
        raise ValueError(f"{text!r} is not a number")
    if not math.isfinite(value):
        # NaN has no sign in Go, and what is too large is no number.
        return parse_float(text)
    return value


def _milliseconds(text: str) -> int:
    """An integer of 64 bits. Raises ValueError."""
    value = int(text)
    if not -MAX_INT64 - 1 <= value <= MAX_INT64:
        raise ValueError(f"invalid timestamp {text}")
    return value


def _seconds(text: str) -> int:
    """Milliseconds of a time in seconds, cut off as Prometheus does. Raises ValueError."""
    value = strict_float(text)
    if not math.isfinite(value) or abs(value) >= 1 << 53:
        raise ValueError(f"invalid timestamp {text}")
    return int(value * 1000)


def open_metrics_float(value: float) -> str:
    """The shortest text of a number, which has a point or an exponent."""
    text = format_g(value)
    return text if not math.isfinite(value) or "e" in text or "." in text else f"{text}.0"
