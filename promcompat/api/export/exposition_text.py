"""The text exposition format: what a scraper accepts, and the lines of samples.

Names that are not `[a-zA-Z_:][a-zA-Z0-9_:]*` are escaped as the scraper asks for, or quoted.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final, NamedTuple

from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.texts.strconv import format_g, to_unicode

_PLAIN_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_TO_ESCAPE: Final = re.compile('["\\\\\n\ud800-\udfff]')
_PLAIN_RUNE: Final = re.compile(r"[a-zA-Z0-9:]", re.ASCII)
_PROTOBUF_MEDIA: Final = "application/vnd.google.protobuf"
_PROTOBUF_PARAMETERS: Final = {
    "proto": "io.prometheus.client.MetricFamily",
    "encoding": "delimited",
}
_PROTOBUF: Final = "; ".join(
    (_PROTOBUF_MEDIA, *(f"{name}={value}" for name, value in _PROTOBUF_PARAMETERS.items()))
)
_MAX_ACCEPTED: Final = 100
"""Ranges of an Accept header that are looked at."""


class ClassicHistogram(NamedTuple):
    """A histogram with custom buckets, as the series of a classic one: counts are cumulative."""

    bounds: Sequence[float]
    bucket_counts: Sequence[float]
    total: float
    n_observations: float
    is_gauge: bool = False


Sample = tuple[Labels, int, float | ClassicHistogram]
"""Labels, Unix milliseconds and value."""


class Escaping(StrEnum):
    """How names are written, by the values of the parameter `escaping`."""

    ALLOW_UTF_8 = "allow-utf-8"
    UNDERSCORES = "underscores"
    DOTS = "dots"
    VALUES = "values"


class ExpositionFormat(NamedTuple):
    """Protobuf or text, and the form of names in it."""

    is_protobuf: bool
    escaping: Escaping

    @property
    def content_type(self) -> str:
        """The Content-Type of an answer."""
        media = _PROTOBUF if self.is_protobuf else "text/plain; version=0.0.4; charset=utf-8"
        return f"{media}; escaping={self.escaping}"


def accepted_format(header: str) -> ExpositionFormat:
    """The format for an Accept header, as Prometheus chooses it.

    Ranges are looked at by descending quality, up to one that can be answered; the last known
    `escaping` until then counts, whatever format it belongs to.
    """
    ranges = [_parse_range(text) for text in header.split(",")[:_MAX_ACCEPTED]]
    escaping = Escaping.UNDERSCORES
    for media, parameters, _ in sorted(ranges, key=lambda found: -found[2]):
        if parameters.get("escaping") in list(Escaping):
            escaping = Escaping(parameters["escaping"])
        if media == _PROTOBUF_MEDIA and _PROTOBUF_PARAMETERS.items() <= parameters.items():
            return ExpositionFormat(True, escaping)
        if media == "text/plain" and parameters.get("version", "") in ("", "0.0.4"):
            break
    return ExpositionFormat(False, escaping)


def _parse_range(text: str) -> tuple[str, dict[str, str], float]:
    media, *pairs = text.split(";")
    parameters = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        parameters[name.strip().lower()] = value.strip()
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        quality = 1.0
    return media.strip().lower(), parameters, quality


def escape_name(name: str, escaping: Escaping) -> str:
    """A name of a metric or label in this form; a plain one stays as it is in every form."""
    if _PLAIN_NAME.fullmatch(name) or escaping is Escaping.ALLOW_UTF_8:
        return name
    match escaping:
        case Escaping.UNDERSCORES:
            return "".join(
                rune if rune == "_" or _is_plain(rune, place) else "_"
                for place, rune in enumerate(name)
            )
        case Escaping.DOTS:
            return "".join(
                "_dot_" if rune == "." else rune if _is_plain(rune, place) else "__"
                for place, rune in enumerate(name)
            )
        case Escaping.VALUES:
            return "U__" + "".join(
                "__" if rune == "_" else rune if _is_plain(rune, place) else f"_{ord(rune):x}_"
                for place, rune in enumerate(name)
            )


def _is_plain(rune: str, place: int) -> bool:
    return _PLAIN_RUNE.fullmatch(rune) is not None and not (place == 0 and rune.isdigit())


def families(samples: Iterable[Sample], escaping: Escaping) -> Iterator[str]:
    """The text of each metric; the samples of a metric come together.

    Floats are untyped; where a metric goes on with histograms, another family begins. An empty
    `instance` keeps a scraper that honours labels from adding its own.
    """
    for (name, is_float), family in groupby(samples, _family_of):
        shown = escape_name(name, escaping)
        lines = [f"# TYPE {_written(shown)} {'untyped' if is_float else 'histogram'}\n"]
        for labels, time_ms, value in family:
            added = () if labels.get("instance") else ('instance=""',)
            if isinstance(value, ClassicHistogram):
                lines += _histogram_lines(labels, time_ms, value, escaping, added)
            else:
                lines.append(exposition_line(labels, time_ms, value, escaping, added))
        yield "".join(lines)


def _family_of(sample: Sample) -> tuple[str, bool]:
    return sample[0].get(METRIC_NAME), not isinstance(sample[2], ClassicHistogram)


def _histogram_lines(
    labels: Labels,
    time_ms: int,
    histogram: ClassicHistogram,
    escaping: Escaping,
    added: Sequence[str],
) -> Iterator[str]:
    """The lines of buckets up to `+Inf`, of the sum and of the count."""
    name = labels.get(METRIC_NAME)
    buckets = [
        *zip(histogram.bounds, histogram.bucket_counts, strict=True),
        (math.inf, histogram.n_observations),
    ]
    of_bucket = labels.with_label(METRIC_NAME, f"{name}_bucket")
    for bound, count in buckets:
        le = f'le="{_number(bound)}"'
        yield exposition_line(of_bucket, time_ms, count, escaping, (*added, le))
    for suffix, value in (("sum", histogram.total), ("count", histogram.n_observations)):
        of_part = labels.with_label(METRIC_NAME, f"{name}_{suffix}")
        yield exposition_line(of_part, time_ms, value, escaping, added)


def exposition_line(
    labels: Labels, time_ms: int, value: float, escaping: Escaping, added: Sequence[str] = ()
) -> str:
    """The line of a sample; `added` are more labels, as they are written."""
    name = escape_name(labels.get(METRIC_NAME), escaping)
    pairs = [
        f"{_label_name(label, escaping)}={_quoted(text)}"
        for label, text in labels
        if label != METRIC_NAME
    ]
    written = _written(name)
    texts = [*([] if written == name else [written]), *pairs, *added]
    head = (name if written == name else "") + (f"{{{','.join(texts)}}}" if texts else "")
    return f"{head} {_number(value)} {time_ms}\n"


def _label_name(name: str, escaping: Escaping) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    return _written(escape_name(name, escaping))


def _written(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    if not _TO_ESCAPE.search(text):
        return f'"{text}"'
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{to_unicode(escaped)}"'


def _number(value: float) -> str:
    if not value:
        return "0"
    if math.isfinite(value) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return format_g(value)
