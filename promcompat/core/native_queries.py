"""What the native API asks of stored samples, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels


@dataclass(frozen=True, slots=True)
class SamplePosition:
    """A place in the order of samples by (time, series): Unix microseconds and a series id."""

    timestamp_us: int
    series_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePageQuery:
    """A page of samples, stale markers left out, in `[start_ms, end_ms)`.

    `after` is the position of the last sample of the page before, None for the first page.
    """

    matchers: tuple[LabelMatcher, ...]
    start_ms: int
    end_ms: int
    descending: bool
    limit: int
    after: SamplePosition | None = None


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One sample of a list; the position is what a next page starts after."""

    labels: Labels
    position: SamplePosition
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Statistics of the samples of a group; all but `count` are None for no sample.

    Those of numpy, NaN included: one NaN makes all but the count NaN.
    """

    labels: Labels
    count: int
    avg: float | None = None
    min: float | None = None
    max: float | None = None
    sum: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketQuery:
    """One value for each bucket of a metric.

    Bucket i is `(first_end_ms + (i - 1) * bucket_ms, first_end_ms + i * bucket_ms]`, left-open as
    PromQL's ranges, so that its rate is PromQL's `rate(m[bucket])` at its end. `group_by` None
    keeps each series apart; an empty one makes one group of all.
    """

    name: str
    matchers: tuple[LabelMatcher, ...]
    first_end_ms: int
    bucket_ms: int
    n_buckets: int
    aggregation: Aggregation | None
    group_by: tuple[str, ...] | None

    @property
    def last_end_ms(self) -> int:
        """The end of the last bucket."""
        return self.first_end_ms + (self.n_buckets - 1) * self.bucket_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketedSeries:
    """The answer to a BucketQuery: values and presence, shape [n_series, n_buckets]."""

    type: MetricType
    aggregation: Aggregation
    labels: Sequence[Labels]
    ends_ms: IntArray
    values: FloatArray
    present: BoolArray
    warnings: tuple[str, ...] = ()
