"""The names and the metadata of metrics."""

from functools import lru_cache
from typing import Final

from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from promcompat.core.model import MetricMetadata
from promcompat.otlp.export_pb2 import Metric
from promcompat.otlp.names import MetricKind, metric_name, unit_words
from promcompat.otlp.resources import OtlpOptions

DELTA: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
WITH_TEMPORALITY: Final = ("sum", "histogram", "exponential_histogram")
_REMEMBERED: Final = 1 << 14
_MAX_REMEMBERED_CHARACTERS: Final = 500
"""Longer texts are not remembered, which bounds the memory of the caches."""
_remembered_name = lru_cache(_REMEMBERED)(metric_name)


def _metadata(name: str, kind: str, description: str, unit: str) -> MetricMetadata:
    return MetricMetadata(name, kind, description, unit_words(unit).text)


_remembered_metadata = lru_cache(_REMEMBERED)(_metadata)


def describe_metric(metric: Metric, kind: str, options: OtlpOptions) -> MetricMetadata | str:
    """The metadata of a metric with data of a kind, or why its points are rejected."""
    name = _name_of(metric, kind, options)
    if not name:
        return f'normalization for metric "{metric.name}" resulted in empty name'
    if not _has_valid_temporality(metric, kind, options):
        return f'invalid temporality and type combination for metric "{metric.name}"'
    if kind == "sum":
        kind = "counter" if metric.sum.is_monotonic else "gauge"
    elif kind == "exponential_histogram":
        kind = "histogram"
    description, unit = metric.description, metric.unit
    is_short = len(name) + len(description) + len(unit) < _MAX_REMEMBERED_CHARACTERS
    made = _remembered_metadata if is_short else _metadata
    return made(name, kind, description, unit)


def _name_of(metric: Metric, kind: str, options: OtlpOptions) -> str:
    shown = MetricKind.OTHER
    if kind == "gauge":
        shown = MetricKind.GAUGE
    elif kind == "sum" and metric.sum.is_monotonic:
        shown = MetricKind.MONOTONIC_COUNTER
    name, unit = metric.name, metric.unit
    is_short = len(name) + len(unit) < _MAX_REMEMBERED_CHARACTERS
    translated = _remembered_name if is_short else metric_name
    return translated(name, unit, shown, options.strategy)


def _has_valid_temporality(metric: Metric, kind: str, options: OtlpOptions) -> bool:
    if kind not in WITH_TEMPORALITY:
        return True
    temporality = getattr(metric, kind).aggregation_temporality
    return temporality == _CUMULATIVE or (temporality == DELTA and options.sums_deltas)
