"""The queries of the native API for stored samples, and their results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.histograms.columns import Histograms
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels


@dataclass(frozen=True, slots=True)
class SamplePosition:
    """A place in the order of samples by (time, series): Unix microseconds and a series id."""

    timestamp_us: int
    series_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePageQuery:
    """A page of samples, without stale markers, in `[start_ms, end_ms)`.

    `after` is the position of the last sample of the previous page, None for the first page.
    """

    matchers: tuple[LabelMatcher, ...]
    start_ms: int
    end_ms: int
    descending: bool
    limit: int
    after: SamplePosition | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ListedHistogram:
    """A native histogram in the list of its answer; copying one out of the list takes 0.1 ms."""

    all: Histograms
    number: int


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample of a list; the next page starts after its position.

    The `value` of a sample that is a native histogram is NaN.
    """

    labels: Labels
    position: SamplePosition
    value: float
    histogram: ListedHistogram | None = None


def histograms_of_rows(rows: Sequence[SampleRow]) -> Histograms | None:
    """The native histograms of those rows of one list that have one; None: there are none."""
    found = [row.histogram for row in rows if row.histogram is not None]
    if not found:
        return None
    return found[0].all.take(np.array([one.number for one in found], np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of the samples of a group; without samples, all but `count` are None.

    Computed as by numpy: one NaN makes all but the count NaN.
    """

    labels: Labels
    count: int | float
    avg: float | None = None
    min: float | None = None
    max: float | None = None
    sum: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestDistribution:
    """The newest state of a histogram or a summary: its counters since it began.

    `buckets` has the cumulative counts by upper bound, `quantiles` the values by quantile, both in
    ascending order, by their label values. Values that are not stored are None or absent. The
    quantiles of a native histogram are estimated, those of a classic one absent.
    """

    labels: Labels
    timestamp_ms: int
    count: float | None
    sum: float | None
    buckets: Mapping[str, float]
    quantiles: Mapping[str, float]


DEFAULT_PERCENTILES = (50.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketQuery:
    """A value for each bucket of a metric in `[start_ms, end_ms)`.

    Buckets are `[b, b + bucket_ms)` as in SQL's `time_bucket`, clipped to the range.
    `percentiles` (0 to 100) are those of `Aggregation.PERCENTILE`. `group_by` None keeps each
    series apart; an empty one makes one group of all. With `looks_back` the answer also has the
    last value before the range.
    """

    name: str
    matchers: tuple[LabelMatcher, ...]
    start_ms: int
    end_ms: int
    bucket_ms: int
    aggregation: Aggregation | None
    percentiles: tuple[float, ...] = DEFAULT_PERCENTILES
    group_by: tuple[str, ...] | None
    looks_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketValues:
    """Values of buckets, and which are present; both have shape [n_layers, n_series, n_buckets]."""

    labels: Sequence[Labels]
    values: FloatArray
    present: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketedSeries:
    """The answer to a BucketQuery, its series sorted by labels.

    `layers` names the values of a bucket: `value`, or `p50` and so on. `before` is the last value
    before the range, of the same series and with one bucket; None unless requested.
    """

    type: MetricType
    aggregation: Aggregation
    layers: tuple[str, ...]
    starts_ms: IntArray
    buckets: BucketValues
    before: BucketValues | None
    warnings: tuple[str, ...] = ()
