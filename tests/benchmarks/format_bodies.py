"""Requests of every format, with the same samples: of what a format costs, in one comparison.

A request is encoded once. Values and times have a fixed width in it, so that those of each scrape
are written over the ones before, and it is compressed again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import orjson
import snappy
from isal import igzip
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from promcompat.core.model import FloatArray, IntArray
from tests.benchmarks.payload import INTERVAL_MS, METRICS_PER_INSTANCE, fleet_labels
from tests.benchmarks.snappy_template import encode_times
from tests.support.factories import encode_field, encode_labels
from tests.support.formats.otlp_payloads import attributes
from tests.support.formats.remote_write import RequestV2, encode_sample

N_SERIES: Final = 24_000
"""Twelve requests, so that each of four connections has its own series."""
SERIES_PER_REQUEST: Final = 2_000
_SENTINEL: Final = 0x4A5B_6C7D_0000_0000
"""The bits of the value of series 0, by which its place in a request is found."""
_SENTINEL_MS: Final = 1 << 41
_GZIP_LEVEL: Final = 1
_RESOURCE_LABELS: Final = ("cluster", "environment", "namespace", "node", "region", "container")


@dataclass(frozen=True, slots=True)
class Format:
    """How the series `first` to `end` are encoded, and where and how the message is sent."""

    encode: Callable[[int, int], bytes]
    time_offset: int
    """From the bytes of a value to those of its time, which is before it if negative."""
    times: Callable[[IntArray], np.ndarray]
    compress: Callable[[bytes], bytes]
    values: Callable[[FloatArray], np.ndarray] = lambda values: values.view(np.uint8).reshape(-1, 8)
    sentinel: Callable[[int], bytes] = lambda number: (_SENTINEL + number).to_bytes(8, "little")
    """What stands in place of a value, by its number in the request."""


def _labels(number: int) -> list[tuple[str, str]]:
    return list(fleet_labels(number, "fleet"))


def _remote_write_1(first: int, end: int) -> bytes:
    return b"".join(
        encode_field(
            1,
            encode_labels(_labels(number))
            + encode_sample(_SENTINEL_MS, _SENTINEL + number - first),
        )
        for number in range(first, end)
    )


def _remote_write_2(first: int, end: int) -> bytes:
    request = RequestV2()
    for number in range(first, end):
        request.add(_labels(number), (_SENTINEL_MS, _SENTINEL + number - first))
    return request.message()


def _otlp(first: int, end: int) -> bytes:
    """A resource for each instance, as a collector that gathers many sends it."""
    request, scope = ExportMetricsServiceRequest(), None
    for number in range(first, end):
        labels = dict(_labels(number))
        if (number - first) % METRICS_PER_INSTANCE == 0 or scope is None:
            resource = request.resource_metrics.add()
            own = {name: labels[name] for name in _RESOURCE_LABELS}
            own |= {"service.name": labels["job"], "service.instance.id": labels["instance"]}
            resource.resource.attributes.extend(attributes(own))
            scope = resource.scope_metrics.add()
        metric = scope.metrics.add(name=labels["__name__"])
        metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
        shown = {
            name: text
            for name, text in labels.items()
            if name not in ("__name__", "job", "instance")
        }
        value = np.array([_SENTINEL + number - first], np.uint64).view(np.float64)[0]
        metric.sum.data_points.add(
            time_unix_nano=1, as_double=float(value), attributes=attributes(shown)
        )
    return request.SerializeToString()


def _text_sentinel(number: int) -> bytes:
    return b"7%08d" % number


_TEXT_MS: Final = "1000000000000"
_TEXT_SECONDS: Final = "1000000000"


def _lines(first: int, end: int, line: Callable[[dict[str, str], str], str]) -> bytes:
    """A line for each series, of its labels and the text of its value."""
    return "".join(
        line(dict(_labels(number)), _text_sentinel(number - first).decode()) + "\n"
        for number in range(first, end)
    ).encode()


def _json_line(labels: dict[str, str], value: str) -> str:
    metric = orjson.dumps(labels).decode()
    return f'{{"metric":{metric},"values":[{value}],"timestamps":[{_TEXT_MS}]}}'


def _exposition_line(labels: dict[str, str], value: str) -> str:
    shown = ",".join(f'{name}="{text}"' for name, text in labels.items() if name != "__name__")
    return f"{labels['__name__']}{{{shown}}} {value} {_TEXT_MS}"


def _csv_line(labels: dict[str, str], value: str) -> str:
    return ",".join((_TEXT_MS, value, *labels.values()))


def _influx_line(labels: dict[str, str], value: str) -> str:
    tags = ",".join(f"{name}={text}" for name, text in labels.items() if name != "__name__")
    return f"{labels['__name__']},{tags} value={value} {_TEXT_MS}"


def _datadog(first: int, end: int) -> bytes:
    def series(number: int) -> str:
        labels = dict(_labels(number))
        tags = [f"{name}:{text}" for name, text in labels.items() if name != "__name__"]
        found = {"metric": labels["__name__"], "type": 3, "tags": tags}
        value = _text_sentinel(number - first).decode()
        points = f'"points":[{{"timestamp":{_TEXT_SECONDS},"value":{value}}}]'
        return f"{orjson.dumps(found).decode()[:-1]},{points}}}"

    return f'{{"series":[{",".join(map(series, range(first, end)))}]}}'.encode()


def _nanoseconds(times_ms: IntArray) -> np.ndarray:
    return (times_ms * 1_000_000).view(np.uint8).reshape(-1, 8)


def _digits(numbers: np.ndarray, n_digits: int) -> np.ndarray:
    powers = 10 ** np.arange(n_digits - 1, -1, -1, dtype=np.int64)
    return (numbers.astype(np.int64)[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def _text(
    encode: Callable[[int, int], bytes], time_offset: int, *, seconds: bool = False
) -> Format:
    """A text: values have nine digits, times thirteen, or ten if they are seconds."""
    return Format(
        encode,
        time_offset,
        (lambda times: _digits(times // 1000, 10)) if seconds else (lambda t: _digits(t, 13)),
        lambda body: igzip.compress(body, _GZIP_LEVEL),
        lambda values: _digits(100_000_000 + values, 9),
        _text_sentinel,
    )


def _text_lines(line: Callable[[dict[str, str], str], str], time_offset: int) -> Format:
    return _text(partial(_lines, line=line), time_offset)


CSV_COLUMNS: Final = ",".join(
    ["1:time:unix_ms", "2:metric:fleet"]
    + [
        f"{place}:label:{name.replace('__name__', 'metric')}"
        for place, (name, _) in enumerate(_labels(0), start=3)
    ]
)
FORMATS: Final = {
    "remote-write-1": Format(_remote_write_1, 9, encode_times, snappy.compress),
    "remote-write-2": Format(_remote_write_2, 9, encode_times, snappy.compress),
    "otlp": Format(_otlp, -9, _nanoseconds, lambda body: igzip.compress(body, _GZIP_LEVEL)),
    "json-lines": _text_lines(_json_line, len('123456789],"timestamps":[')),
    "exposition": _text_lines(_exposition_line, len("123456789 ")),
    "csv": _text_lines(_csv_line, -len(f"{_TEXT_MS},")),
    "influx": _text_lines(_influx_line, len("123456789 ")),
    "datadog": _text(_datadog, -len(f'{_TEXT_SECONDS},"value":'), seconds=True),
}
"""A time follows its value and a tag; in OTLP it comes before."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A message, and where its values are."""

    message: np.ndarray
    positions: IntArray

    @classmethod
    def of(cls, message: bytes, n_series: int, sentinel: Callable[[int], bytes]) -> "_Template":
        positions, place = np.empty(n_series, np.int64), 0
        for number in range(n_series):
            place = message.index(sentinel(number), place)
            positions[number] = place
        return cls(np.frombuffer(message, np.uint8), positions)


def make_bodies(name: str, n_scrapes: int, start_ms: int) -> Iterator[tuple[bytes, int]]:
    """The bodies of the scrapes of all series, each with its number of samples."""
    chosen = FORMATS[name]
    starts = range(0, N_SERIES, SERIES_PER_REQUEST)
    templates = [
        _Template.of(
            chosen.encode(first, first + SERIES_PER_REQUEST), SERIES_PER_REQUEST, chosen.sentinel
        )
        for first in starts
    ]
    rng = np.random.default_rng(1)
    values = rng.integers(0, 1_000_000, (len(templates), SERIES_PER_REQUEST)).astype(float)
    offsets = rng.integers(0, 1_000, values.shape)
    for scrape in range(n_scrapes):
        values += rng.integers(0, 500, values.shape)
        for number, template in enumerate(templates):
            moments = start_ms + scrape * INTERVAL_MS + offsets[number]
            times = chosen.times(moments)
            message = template.message.copy()
            first = template.positions[:, None]
            shown = chosen.values(values[number])
            message[first + np.arange(shown.shape[1])] = shown
            at = first + chosen.time_offset + np.arange(times.shape[1])
            message[at] = times
            yield chosen.compress(message.tobytes()), SERIES_PER_REQUEST
