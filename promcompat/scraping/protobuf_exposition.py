"""Reads Prometheus' protobuf exposition, the only format with native histograms.

The series of a metric are those that the text formats would have, and a native histogram is a
series with the name of its family. The rules are those of Prometheus' parser.
"""

import math
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Final, Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed

from promcompat.core.model import METRIC_NAME, MetricMetadata
from promcompat.imports.strict_exposition import (
    ExpositionError,
    ScrapedLines,
    open_metrics_float,
)
from promcompat.remote_write.remote_pb2 import Histogram as SentHistogram
from promcompat.scraping.metric_family_pb2 import (
    Bucket,
    Exemplar,
    Histogram,
    LabelPair,
    Metric,
    MetricFamily,
    Summary,
)

_COUNTER, _GAUGE, _SUMMARY, _UNTYPED, _HISTOGRAM, _GAUGE_HISTOGRAM = range(6)
_KINDS: Final = {
    _COUNTER: "counter",
    _GAUGE: "gauge",
    _SUMMARY: "summary",
    _UNTYPED: "unknown",
    _HISTOGRAM: "histogram",
    _GAUGE_HISTOGRAM: "gaugehistogram",
}
_GAUGE_HINT: Final = 3
SeriesT = TypeVar("SeriesT")
ReadExemplar = tuple[dict[str, str], float, int | None]
"""Labels, value and, if there is one, time."""


class ScrapedFamilies(ScrapedLines[SeriesT], Protocol[SeriesT]):
    """Takes what the families of a body say."""

    def add_histogram(self, series: SeriesT, time_ms: int | None, message: bytes) -> None:
        """Add a native histogram as remote write sends it; None: it has no time of its own."""

    def add_timed_exemplars(self, series: SeriesT, exemplars: Sequence[ReadExemplar]) -> None:
        """Add the exemplars of the native histogram that was added last."""


def read_protobuf(
    body: bytes, scrape: ScrapedFamilies[SeriesT], *, has_native: bool, has_classic: bool
) -> None:
    """Read a body. Raises ExpositionError, and what `scrape` raises.

    `has_native`: native histograms are read, and `has_classic`: the classic buckets that they may
    have beside their own, too.
    """
    stream, number = BytesIO(body), 0
    reader = _FamilyReader(scrape, has_native, has_classic)
    try:
        while (family := parse_length_prefixed(MetricFamily, stream)) is not None:
            if family.metric:
                reader.read(family)
            number += 1
    except (DecodeError, EOFError, ValueError) as exc:
        raise ExpositionError(f"metric family {number + 1}: {exc}") from exc


class _FamilyReader(Generic[SeriesT]):
    def __init__(
        self, scrape: ScrapedFamilies[SeriesT], has_native: bool, has_classic: bool
    ) -> None:
        self._scrape = scrape
        self._has_native = has_native
        self._has_classic = has_classic

    def read(self, family: MetricFamily) -> None:
        """Read one family. Raises ValueError."""
        if not family.name:
            raise ValueError("invalid metric name: it is empty")
        if family.type not in _KINDS:
            raise ValueError(f'unknown metric type for metric "{family.name}": {family.type}')
        _check_unit(family)
        described = MetricMetadata(
            family.name, _KINDS[family.type], help=family.help, unit=family.unit
        )
        self._scrape.metadata[family.name] = described
        self._scrape.note_family(described)
        for metric in family.metric:
            self._read_metric(family.name, family.type, metric)

    def _read_metric(self, name: str, kind: int, metric: Metric) -> None:
        match kind:
            case 0:
                counter = metric.counter
                series = self._add(name, metric, counter.value)
                if counter.HasField("exemplar"):
                    self._add_exemplars(series, [counter.exemplar])
            case 1:
                self._add(name, metric, metric.gauge.value)
            case 2:
                self._read_summary(name, metric, metric.summary)
            case 3:
                self._add(name, metric, metric.untyped.value)
            case _:
                self._read_histogram(name, metric, is_gauge=kind == _GAUGE_HISTOGRAM)

    def _read_summary(self, name: str, metric: Metric, summary: Summary) -> None:
        self._add(f"{name}_count", metric, float(summary.sample_count))
        self._add(f"{name}_sum", metric, summary.sample_sum)
        for quantile in summary.quantile:
            text = open_metrics_float(quantile.quantile)
            self._add(name, metric, quantile.value, ("quantile", text))

    def _read_histogram(self, name: str, metric: Metric, *, is_gauge: bool) -> None:
        histogram = metric.histogram
        if not (self._has_native and _is_native(histogram)):
            self._read_buckets(name, metric, histogram)
            return
        series = self._series(name, metric, None)
        message = _sent_histogram(histogram, is_gauge).SerializeToString()
        self._scrape.add_histogram(series, _time_of(metric), message)
        buckets = (bucket.exemplar for bucket in histogram.bucket if bucket.HasField("exemplar"))
        self._scrape.add_timed_exemplars(series, _parsed(histogram.exemplars or buckets))
        if self._has_classic and histogram.bucket:
            self._read_buckets(name, metric, histogram)

    def _read_buckets(self, name: str, metric: Metric, histogram: Histogram) -> None:
        count = histogram.sample_count_float or float(histogram.sample_count)
        self._add(f"{name}_count", metric, count)
        self._add(f"{name}_sum", metric, histogram.sample_sum)
        buckets: Sequence[Bucket] = histogram.bucket
        for bucket in buckets:
            value = bucket.cumulative_count_float or float(bucket.cumulative_count)
            text = open_metrics_float(bucket.upper_bound)
            series = self._add(f"{name}_bucket", metric, value, ("le", text))
            if bucket.HasField("exemplar"):
                self._add_exemplars(series, [bucket.exemplar])
        if not buckets or buckets[-1].upper_bound != math.inf:
            self._add(f"{name}_bucket", metric, count, ("le", "+Inf"))

    def _add(
        self, name: str, metric: Metric, value: float, extra: tuple[str, str] | None = None
    ) -> SeriesT:
        series = self._series(name, metric, extra)
        # The bits of a NaN could look like a histogram.
        self._scrape.add(series, _time_of(metric), math.nan if math.isnan(value) else value)
        return series

    def _series(self, name: str, metric: Metric, extra: tuple[str, str] | None) -> SeriesT:
        """The series, known by a text that no line of the text formats begins with."""
        labels_text = b"".join(metric.label).decode("latin-1")
        text = f"\0{name}\0{extra[1] if extra else ''}\0{labels_text}"
        known = self._scrape.by_text.get(text)
        if known is not None:
            return known
        pairs = [LabelPair.FromString(label) for label in metric.label]
        labels = {METRIC_NAME: name} | {pair.name: pair.value for pair in pairs}
        if extra:
            labels[extra[0]] = extra[1]
        if len(labels) < 1 + len(pairs) + bool(extra):
            raise ValueError(f'a label of a series of "{name}" is not unique')
        return self._scrape.new_series(text, labels)

    def _add_exemplars(self, series: SeriesT, exemplars: Iterable[Exemplar]) -> None:
        for labels, value, time_ms in _parsed(exemplars):
            self._scrape.add_exemplar(series, labels, value, time_ms)


def _check_unit(family: MetricFamily) -> None:
    unit, name = family.unit, family.name
    stem = name.removesuffix("_total") if family.type == _COUNTER else name
    if unit and not stem.endswith(f"_{unit}"):
        raise ValueError(f'unit "{unit}" not a suffix of metric "{name}"')


def _is_native(histogram: Histogram) -> bool:
    """Without spans it is a classic one, unless it has a zero bucket."""
    return bool(
        histogram.positive_span
        or histogram.negative_span
        or histogram.zero_threshold > 0
        or histogram.zero_count > 0
    )


def _sent_histogram(found: Histogram, is_gauge: bool) -> SentHistogram:
    """The histogram as remote write sends it."""
    sent = SentHistogram(
        sum=found.sample_sum,
        schema=found.schema,
        zero_threshold=found.zero_threshold,
        positive_spans=found.positive_span,
        negative_spans=found.negative_span,
        reset_hint=_GAUGE_HINT if is_gauge else 0,
    )
    if found.sample_count_float > 0 or found.zero_count_float > 0:
        sent.count_float, sent.zero_count_float = found.sample_count_float, found.zero_count_float
        sent.positive_counts.extend(found.positive_count)
        sent.negative_counts.extend(found.negative_count)
    else:
        sent.count_int, sent.zero_count_int = found.sample_count, found.zero_count
        sent.positive_deltas.extend(found.positive_delta)
        sent.negative_deltas.extend(found.negative_delta)
    return sent


def _time_of(metric: Metric) -> int | None:
    """The time of its own; as in Prometheus, 0 stands for none."""
    return metric.timestamp_ms or None


def _parsed(exemplars: Iterable[Exemplar]) -> list[ReadExemplar]:
    return [_parsed_exemplar(exemplar) for exemplar in exemplars]


def _parsed_exemplar(exemplar: Exemplar) -> ReadExemplar:
    pairs = [LabelPair.FromString(label) for label in exemplar.label]
    labels = {pair.name: pair.value for pair in pairs}
    if not exemplar.HasField("timestamp"):
        return labels, exemplar.value, None
    at = exemplar.timestamp
    return labels, exemplar.value, at.seconds * 1000 + at.nanos // 1_000_000
