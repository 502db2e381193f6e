"""What a metric is: its type, the aggregation of its buckets, and how its series are made."""

from dataclasses import dataclass

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.errors import NotFoundError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.ports import DefinitionRepository, MetricRepository, SampleListReader
from promcompat.services.bucket_expressions import MetricShape, default_aggregation
from promcompat.services.bucket_reader import of_metric

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
        repository: MetricRepository,
        definitions: DefinitionRepository,
    ) -> None:
        self._samples = samples
        self._repository = repository
        self._definitions = definitions

    async def find(self, tenant: str, name: str) -> MetricKind:
        """The kind of a metric that was written. Raises NotFoundError."""
        definition = await self._definitions.find(tenant, name)
        if definition is not None:
            metric_type, aggregation = definition.type, definition.aggregation
        else:
            metric_type, aggregation = await self._type_by_senders(tenant, name), None
        shape = await self._shape(tenant, name, metric_type)
        if shape is not MetricShape.SAMPLES and metric_type not in _DISTRIBUTIONS:
            # Nobody said so, but there are no other series.
            metric_type, aggregation = MetricType(shape.value), None
        return MetricKind(metric_type, aggregation or default_aggregation(metric_type), shape)

    async def _type_by_senders(self, tenant: str, name: str) -> MetricType:
        for entry in await self._repository.metadata(tenant, name):
            if entry.type in set(MetricType):
                return MetricType(entry.type)
        return MetricType.GAUGE

    async def _shape(self, tenant: str, name: str, metric_type: MetricType) -> MetricShape:
        """How the series are made: as the type says, else as samples if there are any.

        An application that posts its observations one by one has a histogram or summary without
        the series of one.
        """
        is_distribution = metric_type in _DISTRIBUTIONS
        if not is_distribution and await self._is_written(tenant, name):
            return MetricShape.SAMPLES
        if metric_type is not MetricType.SUMMARY and await self._is_written(
            tenant, f"{name}_bucket"
        ):
            return MetricShape.HISTOGRAM
        if await self._is_summary(tenant, name):
            return MetricShape.SUMMARY
        if is_distribution and await self._is_written(tenant, name):
            return MetricShape.SAMPLES
        raise NotFoundError(f"no metric {name!r} was ever written")

    async def _is_summary(self, tenant: str, name: str) -> bool:
        if await self._is_written(tenant, f"{name}_count"):
            return await self._is_written(tenant, f"{name}_sum")
        quantile = LabelMatcher("quantile", MatchOp.NOT_EQUAL, "")
        matchers = of_metric(name, (quantile,))
        return bool(await self._repository.series(tenant, [matchers], *_ALL_MS, 1))

    async def _is_written(self, tenant: str, name: str) -> bool:
        return await self._samples.metric_names(tenant, name, "", 1) == [name]


_DISTRIBUTIONS = (MetricType.HISTOGRAM, MetricType.SUMMARY)
