"""Parameters and answers of the reading routes."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from native_api.parameters import (
    DurationParameter,
    GroupBy,
    LabelFilters,
    StoredText,
    TimeParameter,
)
from native_api.problem import FieldError
from native_api.route import QueryModel, ReplyModel
from native_api.times import MAX_TIME_MS
from promcompat.core.definitions import Aggregation, MetricType

HOUR_MS = 3_600_000
MAX_BUCKETS = 11_000
_START = Field(None, description="From this time on; an hour before `end` when absent.")
_END = Field(None, description="Before this time; now when absent.")
Number = float | Literal["NaN", "Infinity", "-Infinity"]


class Order(StrEnum):
    """In which order samples are listed."""

    ASC = "asc"
    DESC = "desc"


class Fill(StrEnum):
    """What stands for a bucket without samples."""

    NONE = "none"
    NULL = "null"
    PREVIOUS = "previous"


class _RangeQuery(QueryModel):
    start: TimeParameter | None = _START
    end: TimeParameter | None = _END

    @model_validator(mode="after")
    def _start_is_before_end(self) -> Self:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise FieldError("`start` is not before `end`", "a `start` before `end`")
        return self

    def bounds_ms(self, now_ms: int) -> tuple[int, int]:
        """Start and end, with what is absent filled in; `end` is the millisecond after now."""
        if self.end is not None:
            end_ms = self.end
        elif self.start is not None and self.start > now_ms:
            end_ms = MAX_TIME_MS
        else:
            end_ms = now_ms + 1
        return (end_ms - HOUR_MS if self.start is None else self.start), end_ms


class SampleListQuery(_RangeQuery):
    """Parameters of the list of samples."""

    name: Annotated[StoredText, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="The metric's name; every metric when absent."
    )
    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only samples with this `source`."
    )
    order: Order = Field(Order.DESC, description="By time: newest or oldest first.")
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = Field(
        None,
        description="`next_cursor` of the page before, with the other parameters unchanged. Pages "
        "neither repeat nor skip samples, whatever is written meanwhile.",
    )


class NameListQuery(QueryModel):
    """Parameters of the list of names."""

    prefix: StoredText = Field("", description="Only names that start with it.")
    limit: int = Field(1000, ge=1, le=10_000)
    cursor: str | None = Field(None, description="`next_cursor` of the page before.")


class LatestQuery(QueryModel):
    """Parameters of the newest samples."""

    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only series with this `source`."
    )
    limit: int = Field(1000, ge=1, le=10_000, description="At most so many series.")


class AggregateQuery(_RangeQuery):
    """Parameters of statistics."""

    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only samples with this `source`."
    )
    group_by: GroupBy = Field(default_factory=list)


class SeriesQuery(_RangeQuery):
    """Parameters of buckets."""

    bucket: DurationParameter = Field(300_000, description="Width of a bucket.")
    aggregation: Aggregation | None = Field(
        None,
        description="How a bucket becomes one value: else by the definition, else by the type "
        "(gauge avg, counter rate, histogram p95, summary avg).",
    )
    fill: Fill = Field(
        Fill.NONE,
        description="What stands for a bucket without samples: nothing, null, or the value before.",
    )
    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only series with this `source`."
    )
    group_by: GroupBy = Field(default_factory=list)
    all_series: bool = Field(False, description="One group of all series, without `group_by`.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many series.")


class Sample(ReplyModel):
    """One stored sample."""

    name: str
    labels: dict[str, str]
    timestamp: str
    value: Number


class SampleListReply(ReplyModel):
    """A page of samples."""

    samples: list[Sample]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class NameListReply(ReplyModel):
    """A page of metric names."""

    names: list[str]
    next_cursor: str | None = Field(description="For the next page; null on the last one.")


class LatestSample(ReplyModel):
    """The newest sample of a series."""

    labels: dict[str, str]
    timestamp: str
    value: Number


class LatestReply(ReplyModel):
    """The newest sample of each series."""

    name: str
    series: list[LatestSample]
    truncated: bool = Field(description="Whether there are more series than `limit`.")


class StatisticsReply(ReplyModel):
    """Statistics of one group; all but the count are null for no sample."""

    labels: dict[str, str]
    count: int
    avg: Number | None
    min: Number | None
    max: Number | None
    sum: Number | None
    p50: Number | None
    p95: Number | None
    p99: Number | None


class AggregateReply(ReplyModel):
    """Statistics over the samples of a range."""

    name: str
    start: str
    end: str
    groups: list[StatisticsReply]


class Point(ReplyModel):
    """The value of the bucket `(timestamp - bucket, timestamp]`."""

    timestamp: str
    value: Number | None


class BucketSeries(ReplyModel):
    """The buckets of one series or group."""

    labels: dict[str, str]
    points: list[Point]


class SeriesReply(ReplyModel):
    """A value for each bucket."""

    name: str
    type: MetricType
    aggregation: Aggregation
    bucket: str
    series: list[BucketSeries]
    truncated: bool = Field(description="Whether there are more series than `limit`.")
    warnings: list[str]
