"""Series as Datadog's agent and client libraries send them: version 1 and 2, JSON and protobuf.

Counts and rates come per interval and are stored as they are. A tag without a value gets the value
`no_label_value`, as in VictoriaMetrics.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Final, TypeVar

import orjson
from google.protobuf.message import DecodeError, Message

from promcompat.core.errors import BadDataError, PayloadTooLargeError
from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.json_sizes import JSON_TOKENS_TEXT, has_many_tokens
from promcompat.imports.columns import ColumnsBuilder
from promcompat.imports.datadog_distributions import histogram_of_sketch, histogram_of_values
from promcompat.imports.datadog_pb2 import MetricPayload, MetricSeries, Sketch, SketchPayload
from promcompat.remote_write.wire_fields import split_fields

ItemT = TypeVar("ItemT")
MessageT = TypeVar("MessageT", bound=Message)

_UNUSUAL: Final = re.compile(r"[^0-9A-Za-z_.]+")
_UNDERSCORES: Final = re.compile(r"_+")
_BESIDE_DOT: Final = re.compile(r"_*\._*")
_NO_VALUE: Final = "no_label_value"
_FAR_SECONDS: Final = 1e15
_PIECE_BYTES: Final = 1 << 18
_MAX_SERIES_BYTES: Final = 1 << 19
_MAX_SERIES: Final = 250_000


@dataclass(frozen=True, slots=True)
class _Series:
    """`labels` are pairs of a name and a value, `points` of Unix seconds and a value; unchecked.

    The value of a distribution is a list of numbers, or a sketch.
    """

    metric: Any
    labels: Sequence[tuple[Any, Any]]
    tags: Any
    points: Any
    is_distribution: bool = False


@dataclass(frozen=True, slots=True)
class _Sketch:
    """The value of a point whose values nobody sent."""

    histogram: Mapping[str, Any]


def read_series_json(body: bytes, version: int, builder: ColumnsBuilder, now_ms: int) -> None:
    """Add the samples of a JSON document of version 1 or 2; a bad series is a fault.

    Raises BadDataError when there is no list of series, and PayloadTooLargeError.
    """
    _read_json(body, _series_v1 if version == 1 else _series_v2, builder, now_ms)


def read_distributions_json(body: bytes, builder: ColumnsBuilder, now_ms: int) -> None:
    """As `read_series_json`, of the values of distributions."""
    _read_json(body, _distribution_v1, builder, now_ms)


def _read_json(
    body: bytes, read: Callable[[Any], _Series], builder: ColumnsBuilder, now_ms: int
) -> None:
    if has_many_tokens(body):
        raise PayloadTooLargeError(f"the body has {JSON_TOKENS_TEXT}; send smaller requests")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise BadDataError(f"the body is not valid JSON: {exc}") from exc
    match document:
        case {"series": list(items)}:
            _add_all(items, read, builder, now_ms)
        case _:
            raise BadDataError('expected an object with a list "series"')


def read_series_protobuf(body: bytes, builder: ColumnsBuilder, now_ms: int) -> None:
    """Add the samples of a message of version 2.

    Raises BadDataError if it is malformed, and PayloadTooLargeError.
    """

    def read(series: MetricSeries) -> _Series:
        return _Series(
            series.metric.decode(),
            [(entry.type.decode(), entry.name.decode()) for entry in series.resources],
            [tag.decode() for tag in series.tags],
            [(point.timestamp, point.value) for point in series.points],
        )

    payloads = _payloads(MetricPayload, body)
    _add_all((series for payload in payloads for series in payload.series), read, builder, now_ms)


def read_sketches(body: bytes, builder: ColumnsBuilder, now_ms: int) -> None:
    """Add the histograms of an agent's sketches.

    Raises BadDataError if these are malformed, and PayloadTooLargeError.
    """

    def read(sketch: Sketch) -> _Series:
        points = [
            (found.ts, _Sketch(histogram_of_sketch(found.k, found.n, found.sum)))
            for found in sketch.dogsketches
        ]
        labels = [("host", sketch.host.decode())] if sketch.host else []
        tags = [tag.decode() for tag in sketch.tags]
        return _Series(sketch.metric.decode(), labels, tags, points, is_distribution=True)

    payloads = _payloads(SketchPayload, body)
    _add_all((sketch for payload in payloads for sketch in payload.sketches), read, builder, now_ms)


def _payloads(kind: type[MessageT], body: bytes) -> Iterator[MessageT]:
    """The message in pieces: decoding one holds the interpreter, and two bytes may stand for a
    series.
    """
    name = kind.DESCRIPTOR.name
    for piece in split_fields(body, _PIECE_BYTES, _MAX_SERIES, "series"):
        if len(piece) > _PIECE_BYTES + _MAX_SERIES_BYTES:
            raise PayloadTooLargeError(f"a series has more than {_MAX_SERIES_BYTES} bytes")
        try:
            yield kind.FromString(piece)
        except DecodeError as exc:
            raise BadDataError(f"the body is not a {name} in protobuf") from exc


def _distribution_v1(item: Any) -> _Series:
    return replace(_series_v1(item), is_distribution=True)


def _series_v1(item: Any) -> _Series:
    if not isinstance(item, dict):
        raise ValueError("expected an object")
    labels = [(name, item[name]) for name in ("host", "device") if item.get(name)]
    points = item.get("points")
    if isinstance(points, list) and not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        raise ValueError("each of `points` must be [seconds, value]")
    return _Series(item.get("metric"), labels, item.get("tags"), points)


def _series_v2(item: Any) -> _Series:
    if not isinstance(item, dict):
        raise ValueError("expected an object")
    resources, points = item.get("resources") or [], item.get("points")
    if not isinstance(resources, list) or not all(isinstance(entry, dict) for entry in resources):
        raise ValueError("`resources` must be a list of objects")
    if isinstance(points, list):
        if not all(isinstance(point, dict) for point in points):
            raise ValueError("each of `points` must be an object")
        points = [(point.get("timestamp", 0), point.get("value")) for point in points]
    labels = [(entry.get("type"), entry.get("name")) for entry in resources]
    return _Series(item.get("metric"), labels, item.get("tags"), points)


def _add_all(
    items: Iterable[ItemT],
    read: Callable[[ItemT], _Series],
    builder: ColumnsBuilder,
    now_ms: int,
) -> None:
    for number, item in enumerate(items, start=1):
        try:
            _add(read(item), builder, now_ms)
        except ValueError as exc:
            builder.faults.add(f"series {number}", "", str(exc))


def _add(series: _Series, builder: ColumnsBuilder, now_ms: int) -> None:
    if not isinstance(series.metric, str) or not series.metric:
        raise ValueError("`metric` must be a text that is not empty")
    if not isinstance(series.points, list):
        raise ValueError(f"the metric {series.metric!r} has no list `points`")
    if not all(_are_texts(pair) for pair in series.labels):
        raise ValueError(f"a host, device or resource of {series.metric!r} is not a text")
    tags = series.tags or []
    if not isinstance(tags, list) or not _are_texts(tags):
        raise ValueError(f"`tags` of {series.metric!r} must be a list of texts")
    read = _distribution if series.is_distribution else _sample
    samples = [read(point, series.metric, now_ms) for point in series.points]
    text = orjson.dumps((series.metric, series.labels, tags)).decode()
    number = builder.number_of_text(text, _labels_of)
    values = builder.with_histograms([value for _, value in samples])
    for (time_ms, _), value in zip(samples, values, strict=True):
        builder.add(number, time_ms, value)


def _labels_of(text: str) -> dict[str, str]:
    """The labels of metric, labels and tags, which are in JSON."""
    metric, labels, tags = orjson.loads(text)
    return {METRIC_NAME: metric_name(metric), **dict(labels), **dict(_split_tags(tags))}


def metric_name(text: str) -> str:
    """A metric's name as Datadog normalises it: letters, digits, `_` and `.`."""
    name = _UNDERSCORES.sub("_", _UNUSUAL.sub("_", text))
    return _BESIDE_DOT.sub(".", name)


def _split_tags(tags: Sequence[str]) -> Iterator[tuple[str, str]]:
    for tag in tags:
        name, mark, value = tag.partition(":")
        if name:
            shown = "exported_host" if name == "host" else name
            yield shown, value if mark else _NO_VALUE


def _sample(point: Any, metric: str, now_ms: int) -> tuple[int, float]:
    time, value = point
    if _is_number(time) and _is_number(value):
        return _time_ms(time, now_ms), float(value)
    raise ValueError(f"a point of {metric!r} is not a time in seconds and a number")


def _distribution(point: Any, metric: str, now_ms: int) -> tuple[int, Mapping[str, Any]]:
    time, values = point
    if _is_number(time) and isinstance(values, list) and all(map(_is_finite, values)):
        return _time_ms(time, now_ms), histogram_of_values(map(float, values))
    if isinstance(values, _Sketch):
        return _time_ms(time, now_ms), values.histogram
    raise ValueError(f"a point of {metric!r} is not a time in seconds and a list of numbers")


def _time_ms(seconds: float, now_ms: int) -> int:
    # Times beyond all that can be stored stay beyond it, but do not become infinite.
    return round(min(seconds, _FAR_SECONDS) * 1000) if seconds > 0 else now_ms


def _are_texts(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= {str}


def _is_finite(value: Any) -> bool:
    return _is_number(value) and isfinite(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
