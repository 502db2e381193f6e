"""What the native API answers: pages of samples, newest samples, statistics, buckets."""

import asyncio
from dataclasses import replace

import numpy as np

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.errors import ExecutionError, NotFoundError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, EvalRange, SelectHints, SeriesSelection
from promcompat.core.native_queries import (
    BucketedSeries,
    BucketQuery,
    SamplePageQuery,
    SampleRow,
    Statistics,
)
from promcompat.core.ports import DefinitionRepository, MetricRepository, SampleListReader
from promcompat.services.bucket_expressions import (
    bucket_expression,
    default_aggregation,
    percentile_of,
)
from promcompat.services.metric_service import MetricService, QueryOptions
from promcompat.services.sample_statistics import bucket_percentile, group_statistics
from promql.values import Matrix, QueryResult


class NativeQueryService:
    """The reading use cases of the native API. Everything is done for one tenant.

    Buckets are computed by the query engine, so a rate is PromQL's and whatever makes queries
    fast (pushdown, rollups, caches) serves here too.
    """

    def __init__(
        self,
        samples: SampleListReader,
        repository: MetricRepository,
        definitions: DefinitionRepository,
        metrics: MetricService,
    ) -> None:
        """`metrics` runs the queries of buckets, beside those of the Prometheus API."""
        self._samples = samples
        self._repository = repository
        self._definitions = definitions
        self._metrics = metrics

    async def sample_page(
        self, tenant: str, query: SamplePageQuery
    ) -> tuple[list[SampleRow], bool]:
        """The samples of a page, and whether more follow."""
        found = await self._samples.sample_page(tenant, replace(query, limit=query.limit + 1))
        return found[: query.limit], len(found) > query.limit

    async def metric_names(
        self, tenant: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        """Names of metrics, and whether more follow."""
        found = await self._samples.metric_names(tenant, prefix, after, limit + 1)
        return found[:limit], len(found) > limit

    async def latest(
        self, tenant: str, name: str, matchers: tuple[LabelMatcher, ...], limit: int
    ) -> tuple[list[SampleRow], bool]:
        """The newest sample of each series, and whether there are more series.

        Raises NotFoundError for a metric that was never written.
        """
        found = await self._samples.latest_samples(tenant, _of_metric(name, matchers), limit + 1)
        if not found:
            await self._require_metric(tenant, name)
        return found[:limit], len(found) > limit

    async def statistics(
        self,
        tenant: str,
        name: str,
        matchers: tuple[LabelMatcher, ...],
        bounds_ms: tuple[int, int],
        group_by: tuple[str, ...],
    ) -> list[Statistics]:
        """Statistics over the samples in `[start, end)`, for each group.

        Raises NotFoundError for a metric that was never written and ExecutionError for more
        samples than a query may hold.
        """
        start_ms, end_ms = bounds_ms
        selection = SeriesSelection(
            matchers=_of_metric(name, matchers),
            start_ms=start_ms - 1,
            end_ms=end_ms - 1,
            hints=SelectHints(range_ms=max(end_ms - start_ms, 1)),
        )
        block = (await self._repository.select(tenant, [selection]))[0]
        if not len(block.labels):
            await self._require_metric(tenant, name)
        return await asyncio.to_thread(group_statistics, block, group_by)

    async def buckets(self, tenant: str, query: BucketQuery) -> BucketedSeries:
        """A value for each series or group and bucket.

        Raises NotFoundError for a metric that was never written, BadDataError for an aggregation
        that its type does not have, and the errors of the engine.
        """
        metric_type, aggregation = await self._aggregation_of(tenant, query)
        percentile = percentile_of(aggregation)
        is_histogram = metric_type is MetricType.HISTOGRAM
        if percentile is not None and query.group_by is not None and not is_histogram:
            answer = await self._grouped_percentile(tenant, query, percentile)
        else:
            answer = await self._evaluate(tenant, query, metric_type, aggregation)
            if is_histogram and percentile is not None and not len(answer.labels):
                # An application that posts its observations one by one has no `_bucket` series.
                answer = await self._percentile_of_samples(tenant, query, aggregation)
        if not len(answer.labels):
            await self._require_written(tenant, query.name, metric_type)
        return replace(answer, type=metric_type, aggregation=aggregation)

    async def _aggregation_of(
        self, tenant: str, query: BucketQuery
    ) -> tuple[MetricType, Aggregation]:
        """The metric's type, and the aggregation asked for, else defined, else of the type."""
        definition = await self._definitions.find(tenant, query.name)
        if definition is not None:
            metric_type, defined = definition.type, definition.aggregation
        else:
            metric_type, defined = await self._type_by_senders(tenant, query.name), None
        return metric_type, query.aggregation or defined or default_aggregation(metric_type)

    async def _type_by_senders(self, tenant: str, name: str) -> MetricType:
        for entry in await self._repository.metadata(tenant, name):
            if entry.type in set(MetricType):
                return MetricType(entry.type)
        return MetricType.GAUGE

    async def _evaluate(
        self,
        tenant: str,
        query: BucketQuery,
        metric_type: MetricType,
        aggregation: Aggregation,
    ) -> BucketedSeries:
        text = bucket_expression(query, metric_type, aggregation)
        grid = EvalRange(query.first_end_ms, query.last_end_ms, query.bucket_ms)
        result = await self._metrics.query_range(tenant, text, grid, QueryOptions())
        return _bucketed(result, metric_type, aggregation)

    async def _percentile_of_samples(
        self, tenant: str, query: BucketQuery, aggregation: Aggregation
    ) -> BucketedSeries:
        percentile = percentile_of(aggregation)
        if query.group_by is None or percentile is None:
            return await self._evaluate(tenant, query, MetricType.GAUGE, aggregation)
        return await self._grouped_percentile(tenant, query, percentile)

    async def _grouped_percentile(
        self, tenant: str, query: BucketQuery, percentile: float
    ) -> BucketedSeries:
        selection = SeriesSelection(
            matchers=_of_metric(query.name, query.matchers),
            start_ms=query.first_end_ms - query.bucket_ms,
            end_ms=query.last_end_ms,
            hints=SelectHints(range_ms=query.bucket_ms, step_ms=query.bucket_ms),
        )
        block = (await self._repository.select(tenant, [selection]))[0]
        ends_ms = query.first_end_ms + np.arange(query.n_buckets, dtype=np.int64) * query.bucket_ms
        group_by = query.group_by or ()
        labels, values, present = await asyncio.to_thread(
            bucket_percentile, block, group_by, ends_ms, query.bucket_ms, percentile
        )
        rows = np.flatnonzero(present.any(axis=1))
        return BucketedSeries(
            type=MetricType.GAUGE,
            aggregation=Aggregation.P50,
            labels=[labels[row] for row in rows.tolist()],
            ends_ms=ends_ms,
            values=values[rows],
            present=present[rows],
        )

    async def _require_written(self, tenant: str, name: str, metric_type: MetricType) -> None:
        suffixes = [""]
        if metric_type in (MetricType.HISTOGRAM, MetricType.SUMMARY):
            suffixes += ["_bucket", "_count"]
        for suffix in suffixes:
            if await self._is_written(tenant, name + suffix):
                return
        raise _missing(name)

    async def _require_metric(self, tenant: str, name: str) -> None:
        if not await self._is_written(tenant, name):
            raise _missing(name)

    async def _is_written(self, tenant: str, name: str) -> bool:
        return await self._samples.metric_names(tenant, name, "", 1) == [name]


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"no metric {name!r} was ever written")


def _of_metric(name: str, matchers: tuple[LabelMatcher, ...]) -> tuple[LabelMatcher, ...]:
    return (LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name), *matchers)


def _bucketed(
    result: QueryResult, metric_type: MetricType, aggregation: Aggregation
) -> BucketedSeries:
    if not isinstance(result.value, Matrix):
        raise ExecutionError("the aggregation has no series")
    matrix = result.value
    rows = np.flatnonzero(matrix.present.any(axis=1))
    return BucketedSeries(
        type=metric_type,
        aggregation=aggregation,
        labels=[matrix.labels[row].without_name() for row in rows.tolist()],
        ends_ms=result.timestamps,
        values=matrix.values[rows],
        present=matrix.present[rows],
        warnings=(*result.warnings, *result.infos),
    )
