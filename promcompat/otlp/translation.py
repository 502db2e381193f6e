"""Data points of an export request as samples of series, by the rules of Prometheus 3.14."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from opentelemetry.proto.metrics.v1.metrics_pb2 import DataPointFlags

from promcompat.core.model import MetricMetadata
from promcompat.otlp.attributes import decode_attributes
from promcompat.otlp.deltas import RequestTotals
from promcompat.otlp.exemplars import parse_exemplar, point_exemplars
from promcompat.otlp.export_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Request,
    ResourceMetrics,
    SummaryDataPoint,
)
from promcompat.otlp.metrics import DELTA, WITH_TEMPORALITY, describe_metric
from promcompat.otlp.native_points import ExponentialCounts, NativeHistograms
from promcompat.otlp.point_keys import (
    KeysOfOrigin,
    KnownKeys,
    PointKeys,
    bound_text,
    histogram_keys,
)
from promcompat.otlp.resources import (
    TARGET_INFO,
    OtlpOptions,
    SeriesLabels,
    series_labels,
    target_info_key,
)
from promcompat.otlp.samples import Samples, TranslatedMetric

_NS_PER_MS: Final = 1_000_000
_LARGEST_NS: Final = (1 << 63) - 1
_MAX_TARGET_INFO: Final = 1_000
"""Samples of `target_info` that one resource of a request may make."""
_MAX_TARGET_INFO_TOGETHER: Final = 10_000
"""Those of all resources of a piece, without the last one of each: a resource takes few bytes."""
_NO_VALUE: Final = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint
_TARGET_INFO_METADATA: Final = MetricMetadata(TARGET_INFO, "gauge", "Target metadata", "")


def translate(
    request: Request,
    options: OtlpOptions,
    totals: RequestTotals,
    known: KnownKeys | None = None,
) -> Samples:
    """The samples of a request; what cannot be translated is counted, the rest is not affected.

    Raises BadDataError when an attribute or an exemplar is malformed; then no delta is added to
    the totals.
    """
    samples = Samples()
    spans = add_points(samples, request, options, totals, known or KnownKeys())
    for resource, span in zip(request.resource_metrics, spans, strict=True):
        add_target_info(samples, target_info_key(resource.resource, options), span, options)
    return samples


class TimeSpan(NamedTuple):
    """The least and the largest time of the points of a resource, Unix ms."""

    earliest_ms: int = _LARGEST_NS
    latest_ms: int = -1

    def joined(self, other: "TimeSpan") -> "TimeSpan":
        """The span of the points of both."""
        earliest_ms = min(self.earliest_ms, other.earliest_ms)
        return TimeSpan(earliest_ms, max(self.latest_ms, other.latest_ms))


_NO_SPAN: Final = TimeSpan()


def add_points(
    samples: Samples,
    request: Request,
    options: OtlpOptions,
    totals: RequestTotals,
    known: KnownKeys,
) -> list[TimeSpan]:
    """Add everything but `target_info`; the span of each resource. Raises as `translate`."""
    if options.sums_deltas:
        _check_encoded_parts(request, options)
    return [
        _Resource(resource, options, totals, samples, known).translate()
        for resource in request.resource_metrics
    ]


def add_target_info(
    samples: Samples, key: bytes | None, span: TimeSpan, options: OtlpOptions
) -> None:
    """Add the samples of a resource's `target_info`, if it has one and points."""
    if key is None or span.latest_ms < 0:
        return
    interval_ms = options.target_info_interval_ms
    most = min(_MAX_TARGET_INFO, _MAX_TARGET_INFO_TOGETHER - samples.n_early_target_info)
    first_ms = max(span.earliest_ms, span.latest_ms - most * interval_ms)
    for time_ms in range(first_ms, span.latest_ms, interval_ms):
        samples.add_to_no_point(key, time_ms, 1.0)
        samples.n_early_target_info += 1
    samples.add_to_no_point(key, span.latest_ms, 1.0)
    samples.metadata[TARGET_INFO] = _TARGET_INFO_METADATA


class _Origin(NamedTuple):
    """What a resource and a scope add to the series of points, and the keys that are known."""

    labels: SeriesLabels
    known: KeysOfOrigin


@dataclass(slots=True)
class _Resource:
    """Translates the metrics of a resource."""

    wire: ResourceMetrics
    options: OtlpOptions
    totals: RequestTotals
    samples: Samples
    known: KnownKeys
    span: TimeSpan = _NO_SPAN

    def translate(self) -> TimeSpan:
        """Add the points to the samples."""
        origin = tuple(self.wire.resource.attributes)
        n_bytes = sum(map(len, origin))
        known = self.known.of(origin, n_bytes)
        of_resource = series_labels(self.wire.resource, self.options)
        for group in self.wire.scope_metrics:
            labels = of_resource
            if self.options.promotes_scope:
                scope = group.scope.SerializeToString(deterministic=True), group.schema_url
                known = self.known.of((origin, scope), n_bytes + sum(map(len, scope)))
                labels = of_resource.within(group.scope, group.schema_url)
            for metric in group.metrics:
                self._translate_metric(metric, _Origin(labels, known))
        return self.span

    def _translate_metric(self, metric: Metric, origin: _Origin) -> None:
        described = None
        if (kind := metric.WhichOneof("data")) is None:
            self.samples.rejected[f'metric "{metric.name}" has no data'] += 1
        elif isinstance(found := describe_metric(metric, kind, self.options), str):
            self.samples.rejected[found] += len(getattr(metric, kind).data_points)
        else:
            described = found
            self.samples.metadata[found.family] = found
            self._translate_points(metric, found.family, kind, origin)
        n_rows, n_exemplars = len(self.samples.keys), len(self.samples.exemplars)
        self.samples.metrics.append(TranslatedMetric(described, n_rows, n_exemplars))

    def _translate_points(self, metric: Metric, name: str, kind: str, origin: _Origin) -> None:
        data = getattr(metric, kind)
        is_delta = kind in WITH_TEMPORALITY and data.aggregation_temporality == DELTA
        earliest_ms, latest_ms = self.span
        for point in data.data_points:
            time_ms = min(point.time_unix_nano, _LARGEST_NS) // _NS_PER_MS
            earliest_ms, latest_ms = min(earliest_ms, time_ms), max(latest_ms, time_ms)
            is_added = True
            if kind == "exponential_histogram":
                is_added = self._add_exponential(point, name, origin, time_ms, is_delta=is_delta)
            elif kind == "histogram":
                is_added = self._add_histogram(point, name, origin, time_ms, is_delta=is_delta)
            elif kind == "summary":
                self._add_summary(point, name, origin.labels.of_point(point.attributes), time_ms)
            else:
                is_added = self._add_number(point, kind, name, origin, time_ms, is_delta=is_delta)
            if is_added:
                self.samples.n_points += 1
                # A delta begins where the one before it ended, and says nothing of its series.
                has_start = kind != "gauge" and not is_delta
                self.samples.starts_ms.append(_start_ms(point) if has_start else 0)
        self.span = TimeSpan(earliest_ms, latest_ms)

    def _add_number(
        self,
        point: NumberDataPoint,
        kind: str,
        name: str,
        origin: _Origin,
        time_ms: int,
        *,
        is_delta: bool,
    ) -> bool:
        """Whether the point is translated."""
        value = float(point.as_int) if point.HasField("as_int") else point.as_double
        is_stale = bool(point.flags & _NO_VALUE)
        key = _key_of(name, origin, point.attributes)
        if is_delta and not is_stale:
            totals = self._totals(key, point.time_unix_nano, (value,), ())
            if totals is None:
                return False
            (value,) = totals
        self.samples.add(key, time_ms, value, is_stale=is_stale)
        if kind == "sum" and point.exemplars:
            self._add_exemplars(point.exemplars, (), (key,))
        return True

    def _totals(
        self, key: bytes, time_ns: int, deltas: Sequence[float], bounds: Sequence[float]
    ) -> tuple[float, ...] | None:
        found = self.totals.add(key, time_ns, deltas, bounds)
        if isinstance(found, str):
            self.samples.rejected[found] += 1
            return None
        return found

    def _add_histogram(
        self,
        point: HistogramDataPoint,
        name: str,
        origin: _Origin,
        time_ms: int,
        *,
        is_delta: bool,
    ) -> bool:
        """Whether the point is translated."""
        # Counts without a bound of their own only count for +Inf, which `count` says.
        n_bounds = min(len(point.explicit_bounds), len(point.bucket_counts))
        bounds = list(point.explicit_bounds[:n_bounds])
        # A native histogram has a bucket above the last bound.
        n_counts = n_bounds + self.options.converts_to_custom_buckets
        numbers = [point.sum, point.count, *point.bucket_counts[:n_counts]]
        is_stale = bool(point.flags & _NO_VALUE)
        of_all, of_sum, of_count, *bucket_keys = self._histogram_keys(name, origin, point, bounds)
        if is_delta and not is_stale:
            if self.options.converts_to_custom_buckets and not self._is_valid(point, numbers):
                return False
            totals = self._totals(of_all, point.time_unix_nano, numbers, bounds)
            if totals is None:
                return False
            numbers = list(totals)
        if self.options.converts_to_custom_buckets:
            self._add_custom_buckets(point, of_all, time_ms, numbers)
            return True
        total, count, *counts = numbers
        if point.HasField("sum"):
            self.samples.add(of_sum, time_ms, total, is_stale=is_stale)
        self.samples.add(of_count, time_ms, count, is_stale=is_stale)
        cumulative = 0.0
        for key, in_bucket in zip(bucket_keys[:-1], counts, strict=True):
            cumulative += in_bucket
            self.samples.add(key, time_ms, cumulative, is_stale=is_stale)
        self.samples.add(bucket_keys[-1], time_ms, count, is_stale=is_stale)
        self._add_exemplars(point.exemplars, bounds, bucket_keys)
        return True

    def _histogram_keys(
        self,
        name: str,
        origin: _Origin,
        point: HistogramDataPoint,
        bounds: Sequence[float],
    ) -> tuple[bytes, ...]:
        """The keys of a histogram: of all of it, its sum, its count, each bound, and `+Inf`."""
        what = name, tuple(point.attributes), tuple(bounds)
        found = origin.known.find(what)
        if found is None:
            labels = origin.labels.of_point(point.attributes)
            found = histogram_keys(name, labels, bounds, self.samples.check_room)
            origin.known.remember(what, sum(map(len, point.attributes)), found)
        return found

    def _is_valid(self, point: HistogramDataPoint, numbers: Sequence[float]) -> bool:
        """Whether deltas are a valid native histogram: no sum with others would be one either."""
        _, count, *counts = numbers
        alone = NativeHistograms()
        alone.add_explicit(point.explicit_bounds, [*map(int, counts)], int(count), point.sum)
        try:
            alone.check()
        except ValueError as exc:
            self.samples.rejected[str(exc)] += 1
            return False
        return True

    def _add_custom_buckets(
        self, point: HistogramDataPoint, key: bytes, time_ms: int, numbers: Sequence[float]
    ) -> None:
        """Add an explicit histogram as a native one."""
        if point.flags & _NO_VALUE:
            self.samples.add(key, time_ms, 0.0, is_stale=True)
        else:
            total, count, *counts = numbers
            self.samples.add_histogram(key, time_ms)
            self.samples.histograms.add_explicit(
                point.explicit_bounds, [*map(int, counts)], int(count), total
            )
        self._add_exemplars(point.exemplars, (), (key,))

    def _add_exponential(
        self,
        point: ExponentialHistogramDataPoint,
        name: str,
        origin: _Origin,
        time_ms: int,
        *,
        is_delta: bool,
    ) -> bool:
        """Whether the point is translated."""
        key = _key_of(name, origin, point.attributes)
        if point.flags & _NO_VALUE:
            self.samples.add(key, time_ms, 0.0, is_stale=True)
            return True
        try:
            self._add_counts(point, key, is_delta=is_delta)
        except ValueError as exc:
            self.samples.rejected[str(exc)] += 1
            return False
        self.samples.add_histogram(key, time_ms)
        self._add_exemplars(point.exemplars, (), (key,))
        return True

    def _add_counts(
        self, point: ExponentialHistogramDataPoint, key: bytes, *, is_delta: bool
    ) -> None:
        """Add a histogram, of deltas their sum. Raises ValueError if that cannot be."""
        histograms = self.samples.histograms
        if not is_delta:
            histograms.add_point(point)
            return
        counts = ExponentialCounts.of(point)
        counts.check()
        found = self.totals.add_exponential(key, point.time_unix_nano, counts)
        if isinstance(found, str):
            raise ValueError(found)
        histograms.add_exponential(found)

    def _add_summary(
        self, point: SummaryDataPoint, name: str, labels: dict[str, bytes], time_ms: int
    ) -> None:
        is_stale = bool(point.flags & _NO_VALUE)
        keys = PointKeys(labels, "quantile")
        self.samples.add(keys.key(f"{name}_sum"), time_ms, point.sum, is_stale=is_stale)
        count = float(point.count)
        self.samples.add(keys.key(f"{name}_count"), time_ms, count, is_stale=is_stale)
        for part in point.quantile_values:
            key = keys.key(name, bound_text(part.quantile))
            self.samples.add(key, time_ms, part.value, is_stale=is_stale)

    def _add_exemplars(
        self, exemplars: Sequence[bytes], bounds: Sequence[float], keys: Sequence[bytes]
    ) -> None:
        if exemplars:
            self.samples.exemplars += point_exemplars(map(parse_exemplar, exemplars), bounds, keys)


def _start_ms(point: _Point) -> int:
    return int(min(point.start_time_unix_nano, _LARGEST_NS) // _NS_PER_MS)


def _key_of(name: str, origin: _Origin, attributes: Sequence[bytes]) -> bytes:
    """The key of the series that a data point is a sample of. Raises BadDataError."""
    what = name, tuple(attributes)
    found = origin.known.find(what)
    if found is None:
        found = (PointKeys(origin.labels.of_point(attributes)).key(name),)
        origin.known.remember(what, sum(map(len, attributes)), found)
    return found[0]


def _check_encoded_parts(request: Request, options: OtlpOptions) -> None:
    """Decode the attributes and exemplars of a request. Raises BadDataError for a malformed one."""
    for resource in request.resource_metrics:
        decode_attributes(resource.resource.attributes, options.strategy)
        for group in resource.scope_metrics:
            decode_attributes(group.scope.attributes, options.strategy)
            for point in _points_of(group.metrics):
                decode_attributes(point.attributes, options.strategy)
                if not isinstance(point, SummaryDataPoint):
                    deque(map(parse_exemplar, point.exemplars), maxlen=0)


def _points_of(metrics: Iterable[Metric]) -> Iterator[_Point]:
    """The data points of metrics."""
    for metric in metrics:
        kind = metric.WhichOneof("data")
        if kind is not None:
            yield from getattr(metric, kind).data_points
