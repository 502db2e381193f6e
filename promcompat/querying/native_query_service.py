"""The reads of the native API: pages of samples, newest samples, statistics, buckets."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from promcompat.core.definitions import MetricType
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import Labels, SampleBlock, SelectHints, SeriesSelection
from promcompat.core.native_queries import (
    BucketedSeries,
    BucketQuery,
    LatestDistribution,
    SamplePageQuery,
    SampleRow,
    Statistics,
)
from promcompat.core.ports import Catalogue, DefinitionRepository, SampleListReader
from promcompat.querying.bucket_expressions import statistics_of
from promcompat.querying.bucket_grid import bucket_starts
from promcompat.querying.bucket_reader import BucketReader, series_union
from promcompat.querying.distributions import (
    BUCKET,
    COUNT,
    QUANTILE,
    SUM,
    distribution_statistics,
    latest_distributions,
)
from promcompat.querying.metric_kinds import MetricKind, MetricKinds, MetricShape, of_metric
from promcompat.querying.native_histograms import native_statistics, newest_states
from promcompat.querying.query_service import QueryService
from promcompat.querying.sample_statistics import group_statistics

_MAX_PARTS = 1_000_000
_SUFFIXES = {
    MetricShape.SAMPLES: ("",),
    MetricShape.HISTOGRAM: (BUCKET, SUM, COUNT),
    MetricShape.NATIVE_HISTOGRAM: ("", BUCKET, SUM, COUNT),
    MetricShape.SUMMARY: (QUANTILE, SUM, COUNT),
}


class NativeQueryService:
    """The reads of the native API, each for one tenant.

    The query engine computes buckets, so a rate is PromQL's, and pushdown, rollups and caches
    make buckets fast as well.
    """

    def __init__(
        self,
        samples: SampleListReader,
        catalogue: Catalogue,
        definitions: DefinitionRepository,
        queries: QueryService,
    ) -> None:
        """`queries` evaluates buckets and reads samples, within the limits of all queries."""
        self._samples = samples
        self._queries = queries
        self._kinds = MetricKinds(samples, catalogue, definitions)
        self._buckets = BucketReader(queries)

    async def sample_page(
        self, tenant: str, query: SamplePageQuery
    ) -> tuple[list[SampleRow], bool]:
        """The samples of a page, and whether there are more."""
        found = await self._samples.sample_page(tenant, replace(query, limit=query.limit + 1))
        return found[: query.limit], len(found) > query.limit

    async def metric_names(
        self, tenant: str, prefix: str, after: str, limit: int
    ) -> tuple[list[str], bool]:
        """Metric names of a page, and whether there are more."""
        found = await self._samples.metric_names(tenant, prefix, after, limit + 1)
        return found[:limit], len(found) > limit

    async def kind(self, tenant: str, name: str) -> MetricKind:
        """The kind of a metric. Raises NotFoundError for one that was never written."""
        return await self._kinds.find(tenant, name)

    async def latest(
        self,
        tenant: str,
        name: str,
        shape: MetricShape,
        matchers: tuple[LabelMatcher, ...],
        limit: int,
    ) -> tuple[list[SampleRow | LatestDistribution], bool]:
        """The newest sample of each series, and whether there are more series.

        Instead of samples, histograms and summaries have states. Where the series of a classic
        histogram stand beside a native one of the same labels, the newer state counts.
        """
        most = limit + 1 if shape is MetricShape.SAMPLES else _MAX_PARTS
        rows_of = {
            suffix: await self._samples.latest_samples(
                tenant, of_metric(name + suffix, matchers), most
            )
            for suffix in _SUFFIXES[shape]
        }
        found = await asyncio.to_thread(_newest_states, shape, rows_of, limit + 1)
        return found[:limit], len(found) > limit

    async def statistics(
        self,
        tenant: str,
        name: str,
        matchers: tuple[LabelMatcher, ...],
        bounds_ms: tuple[int, int],
        group_by: tuple[str, ...],
    ) -> tuple[MetricType, list[Statistics]]:
        """The metric's type, and statistics over its samples in `[start, end)`, for each group.

        For a histogram or summary they are statistics of the observations that it counted; those
        of a classic histogram are left out of a group that has native ones. Raises NotFoundError
        for a metric that was never written and ExecutionError for more samples than a query may
        hold.
        """
        kind = await self._kinds.find(tenant, name)
        suffixes = _SUFFIXES[kind.shape]
        selections = [_selection(name + suffix, matchers, bounds_ms) for suffix in suffixes]
        async with self._queries.reading(tenant, selections) as blocks:
            by_suffix = dict(zip(suffixes, blocks, strict=True))
            found = await asyncio.to_thread(_statistics, kind.shape, by_suffix, group_by)
            return kind.type, found

    async def buckets(self, tenant: str, query: BucketQuery) -> BucketedSeries:
        """A value for each series or group and bucket.

        Raises NotFoundError for a metric that was never written, BadDataError for an aggregation
        that its type does not support, and the errors of the engine.
        """
        kind = await self._kinds.find(tenant, query.name)
        aggregation = query.aggregation or kind.aggregation
        statistics = statistics_of(aggregation, query.percentiles)
        limit = self._queries.time_limit(tenant)
        arguments = tenant, query, kind.shape, list(statistics.values()), limit
        found, warnings = await self._buckets.read(*arguments)
        before = await self._buckets.read_before(*arguments) if query.looks_back else None
        if before is not None:
            found, before = await asyncio.to_thread(series_union, found, before)
        return BucketedSeries(
            type=kind.type,
            aggregation=aggregation,
            layers=tuple(statistics),
            starts_ms=bucket_starts(query.start_ms, query.end_ms, query.bucket_ms),
            buckets=found,
            before=before,
            warnings=warnings,
        )


def _newest_states(
    shape: MetricShape, rows_of: dict[str, list[SampleRow]], limit: int
) -> list[SampleRow | LatestDistribution]:
    """The first states of a metric whose newest samples are `rows_of` each suffix."""
    match shape:
        case MetricShape.SAMPLES:
            return newest_states(rows_of[""])
        case MetricShape.NATIVE_HISTOGRAM:
            rows = sorted(rows_of.pop(""), key=lambda row: row.labels.without_name())
            native = newest_states(rows[:limit])
            classic = latest_distributions(rows_of, _MAX_PARTS)
            return _newer_of_each(classic, native)[:limit]
        case _:
            return [*latest_distributions(rows_of, limit)]


def _newer_of_each(
    classic: Sequence[LatestDistribution], native: Sequence[SampleRow | LatestDistribution]
) -> list[SampleRow | LatestDistribution]:
    """The newer state of each series, the native one of two at one time, sorted by labels."""
    found: dict[Labels, SampleRow | LatestDistribution] = {state.labels: state for state in classic}
    for state in native:
        if isinstance(state, SampleRow):
            labels, time_ms = state.labels.without_name(), state.position.timestamp_us // 1000
        else:
            labels, time_ms = state.labels, state.timestamp_ms
        other = found.get(labels)
        if not isinstance(other, LatestDistribution) or other.timestamp_ms <= time_ms:
            found[labels] = state
    return [state for _, state in sorted(found.items(), key=lambda item: item[0])]


def _statistics(
    shape: MetricShape, blocks: dict[str, SampleBlock], group_by: tuple[str, ...]
) -> list[Statistics]:
    """Statistics of a metric whose samples are the `blocks` of each suffix."""
    match shape:
        case MetricShape.SAMPLES:
            return group_statistics(blocks[""], group_by)
        case MetricShape.NATIVE_HISTOGRAM:
            native = native_statistics(blocks.pop(""), group_by)
            classic = distribution_statistics(blocks, group_by)
            found = {of_group.labels: of_group for of_group in (*classic, *native)}
            return [of_group for _, of_group in sorted(found.items())]
        case _:
            return distribution_statistics(blocks, group_by)


def _selection(
    name: str, matchers: tuple[LabelMatcher, ...], bounds_ms: tuple[int, int]
) -> SeriesSelection:
    """The samples of `[start, end)`: a selection is left-open, and times are whole milliseconds."""
    start_ms, end_ms = bounds_ms
    return SeriesSelection(
        matchers=of_metric(name, matchers),
        start_ms=start_ms - 1,
        end_ms=end_ms - 1,
        hints=SelectHints(range_ms=max(end_ms - start_ms, 1)),
    )
