"""What a metric is: its type, the aggregation of its buckets, and how its series are made."""

from dataclasses import dataclass

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.errors import NotFoundError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.ports import Catalogue, DefinitionRepository, SampleListReader
from promcompat.querying.bucket_expressions import MetricShape, default_aggregation
from promcompat.querying.bucket_reader import of_metric

_ALL_MS = (-(1 << 62), 1 << 62)


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What is known of a metric before its samples are read."""

    type: MetricType
    aggregation: Aggregation
    shape: MetricShape


class MetricKinds:
    """Finds the kind of a metric from its definition, its senders and its series."""

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
            told: MetricType | None = definition.type
            aggregation = definition.aggregation
        else:
            told, aggregation = await self._type_by_senders(tenant, name), None
        shape = await self._shape(tenant, name, told)
        metric_type = told or MetricType.GAUGE
        if shape is not MetricShape.SAMPLES and metric_type not in _DISTRIBUTIONS:
            # Nobody said so, or there are no series of another kind.
            metric_type, aggregation = MetricType(shape.value), None
        return MetricKind(metric_type, aggregation or default_aggregation(metric_type), shape)

    async def _type_by_senders(self, tenant: str, name: str) -> MetricType | None:
        for entry in await self._catalogue.metadata(tenant, name):
            if entry.type in set(MetricType):
                return MetricType(entry.type)
        return None

    async def _shape(self, tenant: str, name: str, told: MetricType | None) -> MetricShape:
        """How the series are made: as the type says, else as they are named.

        An application that posts its observations one by one has a histogram or summary without
        the series of one. Raises NotFoundError when there are no series at all.
        """
        if told in (MetricType.GAUGE, MetricType.COUNTER) and await self._is_written(tenant, name):
            return MetricShape.SAMPLES
        if told is not MetricType.SUMMARY and await self._is_written(tenant, f"{name}_bucket"):
            return MetricShape.HISTOGRAM
        has_counters = await self._has_counters(tenant, name)
        if not await self._is_written(tenant, name):
            if has_counters:
                return MetricShape.SUMMARY
            raise NotFoundError(f"the metric {name!r} has never been written")
        may_be_summary = has_counters or told is MetricType.SUMMARY
        if may_be_summary and await self._has_only_quantiles(tenant, name):
            return MetricShape.SUMMARY
        return MetricShape.SAMPLES

    async def _has_counters(self, tenant: str, name: str) -> bool:
        return await self._is_written(tenant, f"{name}_count") and await self._is_written(
            tenant, f"{name}_sum"
        )

    async def _has_only_quantiles(self, tenant: str, name: str) -> bool:
        """Whether every series under the name itself has the label `quantile`."""
        without_quantile = LabelMatcher("quantile", MatchOp.EQUAL, "")
        matchers = of_metric(name, (without_quantile,))
        return not await self._catalogue.series(tenant, [matchers], *_ALL_MS, 1)

    async def _is_written(self, tenant: str, name: str) -> bool:
        return await self._samples.metric_names(tenant, name, "", 1) == [name]


_DISTRIBUTIONS = (MetricType.HISTOGRAM, MetricType.SUMMARY)
