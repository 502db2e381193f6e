"""Parameters and answers of the reading routes."""

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from native_api.contract.pages import PageQuery
from native_api.contract.parameters import (
    DurationParameter,
    GroupBy,
    LabelFilters,
    StoredText,
    TimeParameter,
)
from native_api.contract.problem import FieldError
from native_api.contract.route import QueryModel, ReplyModel
from native_api.contract.times import MAX_TIME_MS, MIN_TIME_MS
from native_api.contract.validation import quoted_value
from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.native_queries import DEFAULT_PERCENTILES

HOUR_MS = 3_600_000
MAX_PERCENTILES = 20
_START = Field(
    None, description="The start of the range, inclusive. Default: one hour before `end`."
)
_END = Field(None, description="The end of the range, exclusive. Default: the current time.")
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


def _percentiles(value: list[str]) -> list[str]:
    for percentile in _split(value):
        if not _PERCENTILE.fullmatch(percentile) or float(percentile) > 100:
            raise FieldError(
                f"has {quoted_value(percentile)}", "numbers from 0 to 100, such as 50,95,99.9"
            )
    return value


def _split(value: list[str]) -> list[str]:
    return [text.strip() for part in value for text in part.split(",")]


_PERCENTILE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?", re.ASCII)


class _RangeQuery(QueryModel):
    start: TimeParameter | None = _START
    end: TimeParameter | None = _END

    @model_validator(mode="after")
    def _start_is_before_end(self) -> Self:
        first = MIN_TIME_MS if self.start is None else self.start
        if first >= (MAX_TIME_MS if self.end is None else self.end):
            if self.start is None:
                raise FieldError("is the first time that there is", "a later time", "end")
            raise FieldError("is not before `end`", "a time before `end`", "start")
        return self

    def bounds_ms(self, now_ms: int) -> tuple[int, int]:
        """Start and end, with what is absent filled in; `end` is the millisecond after now."""
        if self.end is not None:
            end_ms = self.end
        elif self.start is not None and self.start > now_ms:
            end_ms = MAX_TIME_MS
        else:
            end_ms = now_ms + 1
        start_ms = end_ms - HOUR_MS if self.start is None else self.start
        return max(start_ms, MIN_TIME_MS), end_ms


class SampleListQuery(_RangeQuery):
    """Parameters of the list of samples."""

    name: Annotated[StoredText, Field(min_length=1, max_length=2000)] | None = Field(
        None, description="The metric name. Default: every metric."
    )
    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only samples with this `source`."
    )
    order: Order = Field(
        Order.DESC, description="`desc`: newest samples first; `asc`: oldest first."
    )
    limit: int = Field(100, ge=1, le=10_000)
    cursor: str | None = Field(
        None,
        description="The `next_cursor` of the previous page; the other parameters must be "
        "unchanged. Pages neither repeat nor skip samples, whatever is written in the meantime.",
    )


class NameListQuery(PageQuery):
    """Parameters of the list of names."""

    prefix: StoredText = Field("", description="Only names that start with this prefix.")
    limit: int = Field(1000, ge=1, le=10_000)


class LatestQuery(QueryModel):
    """Parameters of the newest samples."""

    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only series with this `source`."
    )
    limit: int = Field(1000, ge=1, le=10_000, description="The maximum number of series.")


class AggregateQuery(_RangeQuery):
    """Parameters of statistics."""

    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only samples with this `source`."
    )
    group_by: GroupBy = Field(default_factory=list)


class SeriesQuery(_RangeQuery):
    """Parameters of buckets."""

    bucket: DurationParameter = Field(
        "5m", description="The width of a bucket.", validate_default=True
    )
    aggregation: Aggregation | None = Field(
        None,
        description="How the samples of a bucket are combined into one value. Default: the "
        "aggregation of the metric's definition, or else that of its type (avg for a gauge or "
        "summary, rate for a counter, percentile for a histogram).",
    )
    percentile: Annotated[
        list[str],
        Field(
            description="The percentiles to compute with `aggregation=percentile`, repeated or "
            "comma-separated. Default: 50, 95 and 99.",
            examples=["50,95,99.9"],
            max_length=20,
        ),
        AfterValidator(_percentiles),
    ] = Field(default_factory=list)
    fill: Fill = Field(
        Fill.NONE,
        description="What to return for a bucket without samples: no point, null, or the value "
        "of the previous bucket. `previous` also looks before `start`, as far back as the range "
        "is long but at least a day, and at most 10,999 buckets. Buckets in the future are not "
        "filled in.",
    )
    label: LabelFilters = Field(default_factory=list)
    source: Annotated[StoredText, Field(min_length=1)] | None = Field(
        None, description="Only series with this `source`."
    )
    group_by: GroupBy = Field(default_factory=list)
    all_series: bool = Field(
        False, description="Combine all series into one group. Has no effect with `group_by`."
    )
    limit: int = Field(100, ge=1, le=1000, description="The maximum number of series.")

    @model_validator(mode="after")
    def _percentiles_are_asked_for(self) -> Self:
        if self.percentile and self.aggregation not in (None, Aggregation.PERCENTILE):
            raise FieldError(
                f"cannot be combined with `aggregation={self.aggregation}`",
                "`percentile` with `aggregation=percentile`, or only one of the two",
                "percentile",
            )
        if len(self.percentiles) > MAX_PERCENTILES:
            raise FieldError(
                f"has {len(self.percentiles)} percentiles",
                f"at most {MAX_PERCENTILES} percentiles",
                "percentile",
            )
        return self

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The percentiles asked for, or the usual ones."""
        found = dict.fromkeys(map(float, _split(self.percentile)))
        return tuple(found) or DEFAULT_PERCENTILES

    @property
    def asked_aggregation(self) -> Aggregation | None:
        """The aggregation of the parameters: percentiles alone ask for that one."""
        return Aggregation.PERCENTILE if self.percentile else self.aggregation


class Sample(ReplyModel):
    """One stored sample."""

    name: str
    labels: dict[str, str]
    timestamp: str
    value: Number | None = Field(description="null of a native histogram.")
    histogram: dict[str, Any] = Field(
        default_factory=dict, description="Only of a sample that is a native histogram: its fields."
    )


class SampleListReply(ReplyModel):
    """A page of samples."""

    samples: list[Sample]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class NameListReply(ReplyModel):
    """A page of metric names."""

    names: list[str]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


class LatestSample(ReplyModel):
    """The newest sample of a series."""

    labels: dict[str, str]
    timestamp: str
    value: Number


class LatestDistributionReply(ReplyModel):
    """The newest state of a histogram or a summary: counted since it began."""

    labels: dict[str, str]
    timestamp: str
    count: Number | None = Field(
        description="The number of observations; null if it is not stored."
    )
    sum: Number | None
    buckets: dict[str, Number] = Field(
        description="Histograms only: the number of observations at or below each bound; of "
        "native ones, the bounds of populated buckets."
    )
    quantiles: dict[str, Number] = Field(
        description="The value of each quantile, such as `0.95`: those of a summary, and the "
        "estimated quantiles 0.5, 0.95 and 0.99 of a native histogram."
    )


class LatestReply(ReplyModel):
    """The newest sample of each series, or the newest state of each histogram or summary."""

    name: str
    type: MetricType
    series: list[LatestSample | LatestDistributionReply]
    truncated: bool = Field(description="Whether there are more series than `limit`.")


class StatisticsReply(ReplyModel):
    """Statistics of one group; all but the count are null for no sample."""

    labels: dict[str, str]
    count: float = Field(
        description="The number of samples, or of observations of a histogram or summary."
    )
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
    type: MetricType
    start: str
    end: str
    groups: list[StatisticsReply]


class Point(ReplyModel):
    """The value of the bucket `[timestamp, timestamp + bucket)`."""

    timestamp: str
    value: Number | None


class PercentilePoint(ReplyModel):
    """The percentiles of the bucket `[timestamp, timestamp + bucket)`, such as `p95`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | None]

    timestamp: str


class BucketSeries(ReplyModel):
    """The buckets of one series or group."""

    labels: dict[str, str]
    points: list[Point] | list[PercentilePoint]


class SeriesReply(ReplyModel):
    """A value for each bucket."""

    name: str
    type: MetricType
    aggregation: Aggregation
    bucket: str
    series: list[BucketSeries]
    truncated: bool = Field(description="Whether there are more series than `limit`.")
    warnings: list[str]
