"""Metric definitions by application teams: unit, type, retention, thresholds."""

from dataclasses import dataclass
from enum import StrEnum

from promcompat.core.alerting.thresholds import AlertThreshold


class MetricType(StrEnum):
    """The type of a metric, named as in the exposition formats."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


class Aggregation(StrEnum):
    """How the samples of a bucket become one value."""

    AVG = "avg"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    COUNT = "count"
    LAST = "last"
    RATE = "rate"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    PERCENTILE = "percentile"
    """Several percentiles at once."""


class DuplicatePolicy(StrEnum):
    """Which of two samples of a series with the same time is kept."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """One definition; `version` grows with each change and is the ETag.

    `aggregation` None means the default of the type: avg for gauges and summaries, rate for
    counters, percentile for histograms. `retention_days` None means the service's retention.
    """

    name: str
    display_name: str = ""
    description: str = ""
    unit: str = ""
    type: MetricType = MetricType.GAUGE
    aggregation: Aggregation | None = None
    retention_days: int | None = None
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.FIRST
    alert_threshold: AlertThreshold | None = None
    version: int = 0
    created_ms: int = 0
    updated_ms: int = 0
