"""What is known of a metric: its type, the aggregation of its buckets, the shape of its series."""

from dataclasses import dataclass
from enum import Enum

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.errors import NotFoundError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME
from promcompat.core.ports import (
    ALL_TIME_MS,
    Catalogue,
    DefinitionRepository,
    SampleListReader,
)

_DEFAULT_OF_TYPE = {
    MetricType.GAUGE: Aggregation.AVG,
    MetricType.COUNTER: Aggregation.RATE,
    MetricType.HISTOGRAM: Aggregation.PERCENTILE,
    MetricType.SUMMARY: Aggregation.AVG,
}
_DISTRIBUTIONS = (MetricType.HISTOGRAM, MetricType.SUMMARY)


class MetricShape(Enum):
    """How the series of a metric hold its observations."""

    SAMPLES = "samples"
    """Each sample under the metric's name is a value."""
    HISTOGRAM = "histogram"
    """A classic histogram: `_bucket` series with `le`, `_sum` and `_count`."""
    NATIVE_HISTOGRAM = "native_histogram"
    """Samples under the metric's name are histograms; there may be the series of a classic one."""
    SUMMARY = "summary"
    """Series with `quantile` under the metric's name, `_sum` and `_count`."""


_TYPE_OF_SHAPE = {
    MetricShape.HISTOGRAM: MetricType.HISTOGRAM,
    MetricShape.NATIVE_HISTOGRAM: MetricType.HISTOGRAM,
    MetricShape.SUMMARY: MetricType.SUMMARY,
}


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What is known of a metric before its samples are read."""

    type: MetricType
    aggregation: Aggregation
    shape: MetricShape


def of_metric(name: str, matchers: tuple[LabelMatcher, ...]) -> tuple[LabelMatcher, ...]:
    """The matchers, and the one of the metric's name."""
    return (LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name), *matchers)


class MetricKinds:
    """Finds the kind of a metric from its definition, its metadata and its series."""

    def __init__(
        self,
        samples: SampleListReader,
        catalogue: Catalogue,
        definitions: DefinitionRepository,
    ) -> None:
        self._samples = samples
        self._catalogue = catalogue
        self._definitions = definitions

    async def find(self, tenant: str, name: str) -> MetricKind:
        """The kind of a metric that was written. Raises NotFoundError."""
        definition = await self._definitions.find(tenant, name)
        if definition is not None:
            metric_type: MetricType | None = definition.type
            aggregation = definition.aggregation
        else:
            metric_type, aggregation = await self._type_by_senders(tenant, name), None
        shape = await self._shape(tenant, name, metric_type)
        metric_type = metric_type or MetricType.GAUGE
        if shape is not MetricShape.SAMPLES and metric_type not in _DISTRIBUTIONS:
            # Nobody declared the type, or the series contradict it.
            metric_type, aggregation = _TYPE_OF_SHAPE[shape], None
        return MetricKind(metric_type, aggregation or _DEFAULT_OF_TYPE[metric_type], shape)

    async def _type_by_senders(self, tenant: str, name: str) -> MetricType | None:
        for entry in await self._catalogue.metadata(tenant, name):
            if entry.type in set(MetricType):
                return MetricType(entry.type)
        return None

    async def _shape(self, tenant: str, name: str, declared: MetricType | None) -> MetricShape:
        """The shape of the declared type where there are such series, else that of their names.

        An application that posts its observations one by one may declare a histogram or summary
        and have plain samples. Raises NotFoundError when there are no series at all.
        """
        if declared in (MetricType.GAUGE, MetricType.COUNTER) and await self._is_written(
            tenant, name
        ):
            return MetricShape.SAMPLES
        if await self._has_native_histograms(tenant, name):
            return MetricShape.NATIVE_HISTOGRAM
        if declared is not MetricType.SUMMARY and await self._is_written(tenant, f"{name}_bucket"):
            return MetricShape.HISTOGRAM
        has_counters = await self._has_counters(tenant, name)
        if not await self._is_written(tenant, name):
            if has_counters:
                return MetricShape.SUMMARY
            raise NotFoundError(f"the metric {name!r} has no samples")
        may_be_summary = has_counters or declared is MetricType.SUMMARY
        if may_be_summary and await self._has_only_quantiles(tenant, name):
            return MetricShape.SUMMARY
        return MetricShape.SAMPLES

    async def _has_native_histograms(self, tenant: str, name: str) -> bool:
        """Whether the newest sample of the newest series of that name is one.

        One series is enough: senders of native histograms send them for all series of a metric.
        Reading the newest samples of all series would cost as much as the query itself.
        """
        newest = await self._samples.sample_of_newest_series(tenant, of_metric(name, ()))
        return newest is not None and newest.histogram is not None

    async def _has_counters(self, tenant: str, name: str) -> bool:
        return await self._is_written(tenant, f"{name}_count") and await self._is_written(
            tenant, f"{name}_sum"
        )

    async def _has_only_quantiles(self, tenant: str, name: str) -> bool:
        """Whether all series of that name have the label `quantile`."""
        without_quantile = LabelMatcher("quantile", MatchOp.EQUAL, "")
        matchers = of_metric(name, (without_quantile,))
        return not await self._catalogue.series(tenant, [matchers], *ALL_TIME_MS, 1)

    async def _is_written(self, tenant: str, name: str) -> bool:
        return await self._samples.metric_names(tenant, name, "", 1) == [name]
