"""Data points of an export request as samples of series, by the rules of Prometheus 3.5."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    Exemplar,
)

from promcompat.core.errors import BadDataError
from promcompat.core.exemplars import MAX_EXEMPLAR_CHARACTERS
from promcompat.core.model import MetricMetadata
from promcompat.core.texts.strconv import format_decimal
from promcompat.otlp.attribute_text import sorted_pairs
from promcompat.otlp.attributes import decode_attributes
from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.export_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Request,
    ResourceMetrics,
    SummaryDataPoint,
)
from promcompat.otlp.names import MetricKind, metric_name, unit_words
from promcompat.otlp.native_points import ExponentialCounts, NativeHistograms
from promcompat.otlp.point_keys import KnownKeys, PointKeys
from promcompat.otlp.resources import (
    TARGET_INFO,
    OtlpOptions,
    SeriesLabels,
    series_labels,
    target_info_labels,
)
from promcompat.remote_write.series_key import check_keys_bytes

_NS_PER_MS: Final = 1_000_000
_LARGEST_NS: Final = (1 << 63) - 1
_MAX_TARGET_INFO: Final = 1_000
"""Samples of `target_info` that one resource of a request may make."""
_NO_VALUE: Final = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_WITH_TEMPORALITY: Final = ("sum", "histogram", "exponential_histogram")
_DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_REMEMBERED: Final = 1 << 14
_MAX_REMEMBERED_CHARACTERS: Final = 500
"""What is longer is not remembered, so that what is has a bound."""
_Point = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint
_bound_text = lru_cache(4_096)(format_decimal)
_remembered_name = lru_cache(_REMEMBERED)(metric_name)


def _metadata(name: str, kind: str, description: str, unit: str) -> MetricMetadata:
    return MetricMetadata(name, kind, description, unit_words(unit).text)


_remembered_metadata = lru_cache(_REMEMBERED)(_metadata)


@dataclass(frozen=True, slots=True)
class PointExemplar:
    """An exemplar of the series with a key."""

    key: bytes
    labels: Sequence[tuple[str, str]]
    value: float
    timestamp_ms: int


@dataclass(slots=True)
class Samples:
    """What a request becomes: rows of a batch, and what was not translated.

    Row i is a sample of the series with key `keys[i]`, a stale marker if it is in `stale_rows`, and
    belongs to the data point with the number `points[i]` (-1: to none). Those in `histogram_rows`
    are `histograms`, in this order. `n_points` are translated; `rejected` counts the other data
    points by the reason for which they are not. `starts_ms` has for each that is translated since
    when its series counts (Unix ms), or 0.
    """

    keys: list[bytes] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stale_rows: list[int] = field(default_factory=list)
    histogram_rows: list[int] = field(default_factory=list)
    histograms: NativeHistograms = field(default_factory=NativeHistograms)
    points: list[int] = field(default_factory=list)
    exemplars: list[PointExemplar] = field(default_factory=list)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    n_points: int = 0
    starts_ms: list[int] = field(default_factory=list)
    _n_key_bytes: int = 0

    def add(self, key: bytes, timestamp_ms: int, value: float, *, is_stale: bool = False) -> None:
        """Add a row of the data point at hand. Raises as `check_room`."""
        if not self.keys or key is not self.keys[-1]:
            self.check_room(len(key))
            self._n_key_bytes += len(key)
        if is_stale:
            self.stale_rows.append(len(self.keys))
        self.keys.append(key)
        self.timestamps.append(timestamp_ms)
        self.values.append(value)
        self.points.append(self.n_points)

    def check_room(self, n_bytes: int) -> None:
        """Raises BadDataError when keys with so many more bytes would be too long together.

        Each data point has the labels of its resource, and each bucket those of its point.
        """
        check_keys_bytes(self._n_key_bytes + n_bytes)

    def add_histogram(self, key: bytes, timestamp_ms: int) -> None:
        """Add a row for the histogram that is added to `histograms` next."""
        self.histogram_rows.append(len(self.keys))
        self.add(key, timestamp_ms, 0.0)

    def add_to_no_point(self, key: bytes, timestamp_ms: int, value: float) -> None:
        """Add a row that no data point stands for."""
        self.add(key, timestamp_ms, value)
        self.points[-1] = -1


def translate(
    request: Request,
    options: OtlpOptions,
    totals: DeltaTotals,
    tenant: str,
    known: KnownKeys | None = None,
) -> Samples:
    """The samples of a request; what cannot be translated is counted, the rest is not affected.

    Raises BadDataError when an attribute or an exemplar is malformed; then no delta is added to
    the totals.
    """
    if options.sums_deltas:
        _check_encoded_parts(request, options)
    samples = Samples()
    for resource in request.resource_metrics:
        _Resource(resource, options, totals, tenant, samples, known or KnownKeys()).translate()
    return samples


@dataclass(slots=True)
class _Resource:
    """Translates the metrics of a resource."""

    wire: ResourceMetrics
    options: OtlpOptions
    totals: DeltaTotals
    tenant: str
    samples: Samples
    known: KnownKeys
    earliest_ms: int = _LARGEST_NS
    latest_ms: int = -1

    def translate(self) -> None:
        """Add everything to the samples."""
        origin = tuple(self.wire.resource.attributes)
        n_bytes = sum(map(len, origin))
        known = self.known.of(origin, n_bytes)
        of_resource = series_labels(self.wire.resource, self.options, known)
        for group in self.wire.scope_metrics:
            labels = of_resource
            if self.options.promotes_scope:
                scope = group.scope.SerializeToString(deterministic=True), group.schema_url
                known = self.known.of((origin, scope), n_bytes + sum(map(len, scope)))
                labels = of_resource.within(group.scope, group.schema_url, known)
            for metric in group.metrics:
                self._translate_metric(metric, labels)
        if self.latest_ms >= 0:
            self._add_target_info()

    def _translate_metric(self, metric: Metric, labels: SeriesLabels) -> None:
        kind = metric.WhichOneof("data")
        if kind is None:
            self.samples.rejected[f'metric "{metric.name}" has no data'] += 1
            return
        n_points = len(getattr(metric, kind).data_points)
        name = self._name_of(metric, kind)
        if not name:
            reason = f'normalization for metric "{metric.name}" resulted in empty name'
            self.samples.rejected[reason] += n_points
        elif not self._has_valid_temporality(metric, kind):
            reason = f'invalid temporality and type combination for metric "{metric.name}"'
            self.samples.rejected[reason] += n_points
        else:
            self._note_metadata(metric, name, kind)
            self._translate_points(metric, name, kind, labels)

    def _name_of(self, metric: Metric, kind: str) -> str:
        shown = MetricKind.OTHER
        if kind == "gauge":
            shown = MetricKind.GAUGE
        elif kind == "sum" and metric.sum.is_monotonic:
            shown = MetricKind.MONOTONIC_COUNTER
        name, unit = metric.name, metric.unit
        is_short = len(name) + len(unit) < _MAX_REMEMBERED_CHARACTERS
        translated = _remembered_name if is_short else metric_name
        return translated(name, unit, shown, self.options.strategy)

    def _has_valid_temporality(self, metric: Metric, kind: str) -> bool:
        if kind not in _WITH_TEMPORALITY:
            return True
        temporality = getattr(metric, kind).aggregation_temporality
        return temporality == _CUMULATIVE or (temporality == _DELTA and self.options.sums_deltas)

    def _note_metadata(self, metric: Metric, name: str, kind: str) -> None:
        if kind == "sum":
            kind = "counter" if metric.sum.is_monotonic else "gauge"
        elif kind == "exponential_histogram":
            kind = "histogram"
        description, unit = metric.description, metric.unit
        is_short = len(name) + len(description) + len(unit) < _MAX_REMEMBERED_CHARACTERS
        made = _remembered_metadata if is_short else _metadata
        self.samples.metadata[name] = made(name, kind, description, unit)

    def _translate_points(self, metric: Metric, name: str, kind: str, labels: SeriesLabels) -> None:
        data = getattr(metric, kind)
        is_delta = kind in _WITH_TEMPORALITY and data.aggregation_temporality == _DELTA
        for point in data.data_points:
            time_ms = min(point.time_unix_nano, _LARGEST_NS) // _NS_PER_MS
            self.earliest_ms = min(self.earliest_ms, time_ms)
            self.latest_ms = max(self.latest_ms, time_ms)
            is_added = True
            if kind == "exponential_histogram":
                is_added = self._add_exponential(point, name, labels, time_ms, is_delta=is_delta)
            elif kind == "histogram":
                is_added = self._add_histogram(point, name, labels, time_ms, is_delta=is_delta)
            elif kind == "summary":
                self._add_summary(point, name, labels.of_point(point.attributes), time_ms)
            else:
                is_added = self._add_number(point, kind, name, labels, time_ms, is_delta=is_delta)
            if is_added:
                self.samples.n_points += 1
                # A delta begins where the one before it ended, and says nothing of its series.
                has_start = kind != "gauge" and not is_delta
                self.samples.starts_ms.append(_start_ms(point) if has_start else 0)

    def _add_number(
        self,
        point: NumberDataPoint,
        kind: str,
        name: str,
        labels: SeriesLabels,
        time_ms: int,
        *,
        is_delta: bool,
    ) -> bool:
        """Whether the point is translated."""
        value = float(point.as_int) if point.HasField("as_int") else point.as_double
        is_stale = bool(point.flags & _NO_VALUE)
        key = _key_of(name, labels, point.attributes)
        if is_delta and not is_stale:
            totals = self._totals(key, point.time_unix_nano, (value,))
            if totals is None:
                return False
            (value,) = totals
        self.samples.add(key, time_ms, value, is_stale=is_stale)
        if kind == "sum" and point.exemplars:
            self._add_exemplars(point.exemplars, (), (key,))
        return True

    def _totals(
        self, key: bytes, time_ns: int, deltas: Sequence[float]
    ) -> tuple[float, ...] | None:
        found = self.totals.add(self.tenant, key, time_ns, deltas)
        if isinstance(found, str):
            self.samples.rejected[found] += 1
            return None
        return found

    def _add_histogram(
        self,
        point: HistogramDataPoint,
        name: str,
        labels: SeriesLabels,
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
        of_all, of_sum, of_count, *bucket_keys = self._histogram_keys(name, labels, point, bounds)
        if is_delta and not is_stale:
            totals = self._totals(of_all, point.time_unix_nano, numbers)
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
        labels: SeriesLabels,
        point: HistogramDataPoint,
        bounds: Sequence[float],
    ) -> tuple[bytes, ...]:
        """The keys of a histogram: of all of it, its sum, its count, each bound, and `+Inf`."""
        what = name, tuple(point.attributes), tuple(bounds)
        found = labels.known.find(what)
        if found is None:
            keys = PointKeys(labels.of_point(point.attributes), "le")
            of_all = keys.key(name)
            self.samples.check_room(len(of_all) * len(bounds))
            texts = [*map(_bound_text, bounds), "+Inf"]
            found = (
                of_all,
                keys.key(f"{name}_sum"),
                keys.key(f"{name}_count"),
                *(keys.key(f"{name}_bucket", text) for text in texts),
            )
            labels.known.remember(what, sum(map(len, point.attributes)), found)
        return found

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
        labels: SeriesLabels,
        time_ms: int,
        *,
        is_delta: bool,
    ) -> bool:
        """Whether the point is translated."""
        key = _key_of(name, labels, point.attributes)
        if point.flags & _NO_VALUE:
            self.samples.add(key, time_ms, 0.0, is_stale=True)
            return True
        found = self._exponential_counts(point, key, is_delta=is_delta)
        if isinstance(found, str):
            self.samples.rejected[found] += 1
            return False
        self.samples.add_histogram(key, time_ms)
        self.samples.histograms.add_exponential(found)
        self._add_exemplars(point.exemplars, (), (key,))
        return True

    def _exponential_counts(
        self, point: ExponentialHistogramDataPoint, key: bytes, *, is_delta: bool
    ) -> ExponentialCounts | str:
        """The counts, added up if they are deltas; a text if that cannot be."""
        try:
            found = ExponentialCounts.of(point)
        except ValueError as exc:
            return str(exc)
        if not is_delta:
            return found
        return self.totals.add_exponential(self.tenant, key, point.time_unix_nano, found)

    def _add_summary(
        self, point: SummaryDataPoint, name: str, labels: dict[str, bytes], time_ms: int
    ) -> None:
        is_stale = bool(point.flags & _NO_VALUE)
        keys = PointKeys(labels, "quantile")
        self.samples.add(keys.key(f"{name}_sum"), time_ms, point.sum, is_stale=is_stale)
        count = float(point.count)
        self.samples.add(keys.key(f"{name}_count"), time_ms, count, is_stale=is_stale)
        for part in point.quantile_values:
            key = keys.key(name, _bound_text(part.quantile))
            self.samples.add(key, time_ms, part.value, is_stale=is_stale)

    def _add_exemplars(
        self, exemplars: Sequence[bytes], bounds: Sequence[float], keys: Sequence[bytes]
    ) -> None:
        """Each exemplar belongs to the first bucket that its value fits in."""
        if not exemplars:
            return
        # Bounds may be in any order, and both may be thousands.
        known_bounds = np.array([*bounds, math.inf])
        reached = np.fmax.accumulate(np.where(np.isnan(known_bounds), -math.inf, known_bounds))
        for exemplar in map(_parse_exemplar, exemplars):
            if exemplar.WhichOneof("value") is None:
                continue
            value = float(exemplar.as_int) if exemplar.HasField("as_int") else exemplar.as_double
            bucket = min(int(np.searchsorted(reached, value)), len(bounds))
            time_ms = min(exemplar.time_unix_nano, _LARGEST_NS) // _NS_PER_MS
            found = PointExemplar(keys[bucket], _exemplar_labels(exemplar), value, time_ms)
            self.samples.exemplars.append(found)

    def _add_target_info(self) -> None:
        labels = target_info_labels(self.wire.resource, self.options)
        if labels is None:
            return
        key = PointKeys(labels).key(TARGET_INFO)
        interval_ms = self.options.target_info_interval_ms
        first_ms = max(self.earliest_ms, self.latest_ms - _MAX_TARGET_INFO * interval_ms)
        for time_ms in range(first_ms, self.latest_ms, interval_ms):
            self.samples.add_to_no_point(key, time_ms, 1.0)
        self.samples.add_to_no_point(key, self.latest_ms, 1.0)
        self.samples.metadata[TARGET_INFO] = MetricMetadata(
            TARGET_INFO, "gauge", "Target metadata", ""
        )


def _start_ms(point: _Point) -> int:
    return int(min(point.start_time_unix_nano, _LARGEST_NS) // _NS_PER_MS)


def _key_of(name: str, labels: SeriesLabels, attributes: Sequence[bytes]) -> bytes:
    """The key of the series that a data point is a sample of. Raises BadDataError."""
    what = name, tuple(attributes)
    found = labels.known.find(what)
    if found is None:
        found = (PointKeys(labels.of_point(attributes)).key(name),)
        labels.known.remember(what, sum(map(len, attributes)), found)
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
                    deque(map(_parse_exemplar, point.exemplars), maxlen=0)


def _points_of(metrics: Iterable[Metric]) -> Iterator[_Point]:
    """The data points of metrics."""
    for metric in metrics:
        kind = metric.WhichOneof("data")
        if kind is not None:
            yield from getattr(metric, kind).data_points


def _parse_exemplar(wire: bytes) -> Exemplar:
    try:
        return Exemplar.FromString(wire)
    except DecodeError as exc:
        raise BadDataError("cannot decode the exemplars of the request") from exc


def _exemplar_labels(exemplar: Exemplar) -> list[tuple[str, str]]:
    """Trace and span, and the filtered attributes unless all together would be too long."""
    labels = []
    if any(exemplar.trace_id):
        labels.append(("trace_id", exemplar.trace_id.hex()))
    if any(exemplar.span_id):
        labels.append(("span_id", exemplar.span_id.hex()))
    attributes = sorted_pairs(exemplar.filtered_attributes)
    if sum(map(len, (text for pair in labels + attributes for text in pair))) > (
        MAX_EXEMPLAR_CHARACTERS
    ):
        return labels
    return labels + attributes
