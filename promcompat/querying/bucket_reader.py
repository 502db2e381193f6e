"""Computes the buckets of a metric: with the query engine, percentiles of samples in numpy."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import (
    METRIC_NAME,
    BoolArray,
    FloatArray,
    Labels,
    SelectHints,
    SeriesSelection,
)
from promcompat.core.native_queries import BucketQuery, BucketValues
from promcompat.querying.bucket_expressions import MetricShape, Statistic, bucket_expression
from promcompat.querying.bucket_grid import (
    BucketRun,
    bucket_runs,
    bucket_starts,
    count_buckets,
)
from promcompat.querying.query_service import QueryService
from promcompat.querying.sample_statistics import bucket_percentiles, check_cells
from promql.query import Query
from promql.values.matrix import Matrix

MAX_BUCKETS = 11_000
_LOOK_BACK_MS = 86_400_000
_EARLIEST_MS = -62_135_596_800_000
"""0001-01-01: no sample is earlier."""

Found = tuple[BucketValues, tuple[str, ...]]
"""Values, and what the engine warned of."""


class BucketReader:
    """The buckets of a query. Everything is done for one tenant."""

    def __init__(self, queries: QueryService) -> None:
        self._queries = queries

    async def read(
        self,
        tenant: str,
        query: BucketQuery,
        shape: MetricShape,
        statistics: Sequence[Statistic],
    ) -> Found:
        """A layer for each statistic: its value for each series or group and bucket.

        Raises BadDataError for a statistic that the shape does not have, and the errors of the
        engine.
        """
        percentiles = [one for one in statistics if isinstance(one, float)]
        if percentiles and shape is MetricShape.SAMPLES:
            return await self._percentiles(tenant, query, percentiles), ()
        table = _Table(
            len(statistics), count_buckets(query.start_ms, query.end_ms, query.bucket_ms)
        )
        for layer, statistic in enumerate(statistics):
            for run in bucket_runs(query.start_ms, query.end_ms, query.bucket_ms):
                await self._evaluate(tenant, query, shape, statistic, run, layer, table)
        return await asyncio.to_thread(table.values), tuple(table.warnings)

    async def read_before(
        self,
        tenant: str,
        query: BucketQuery,
        shape: MetricShape,
        statistics: Sequence[Statistic],
    ) -> BucketValues | None:
        """The last value before the range of the query, as values of a single bucket.

        None when nothing can be earlier. It is looked for as far back as the range is long, at
        least a day, in the same buckets.
        """
        length_ms = max(query.end_ms - query.start_ms, _LOOK_BACK_MS)
        length_ms = min(length_ms, (MAX_BUCKETS - 1) * query.bucket_ms)
        start_ms = max(query.start_ms - length_ms, _EARLIEST_MS)
        if start_ms == query.start_ms:
            return None
        earlier = replace(query, start_ms=start_ms, end_ms=query.start_ms)
        found, _ = await self.read(tenant, earlier, shape, statistics)
        return _last_of(found)

    async def _evaluate(
        self,
        tenant: str,
        query: BucketQuery,
        shape: MetricShape,
        statistic: Statistic,
        run: BucketRun,
        layer: int,
        table: "_Table",
    ) -> None:
        text = bucket_expression(query, shape, statistic, run.width_ms)
        result = await self._queries.run(Query(tenant, text, run.eval_range))
        if not isinstance(result.value, Matrix):
            raise ExecutionError("the aggregation has no series")
        table.put(layer, run.first, result.value)
        table.warn(*result.warnings, *result.infos)

    async def _percentiles(
        self, tenant: str, query: BucketQuery, percentiles: Sequence[float]
    ) -> BucketValues:
        selection = SeriesSelection(
            matchers=of_metric(query.name, query.matchers),
            start_ms=query.start_ms - 1,
            end_ms=query.end_ms - 1,
            hints=SelectHints(range_ms=query.bucket_ms, step_ms=query.bucket_ms),
        )
        starts_ms = bucket_starts(query.start_ms, query.end_ms, query.bucket_ms)
        async with self._queries.reading(tenant, [selection]) as (block,):
            return await asyncio.to_thread(
                bucket_percentiles, block, query.group_by, starts_ms, query.bucket_ms, percentiles
            )


def of_metric(name: str, matchers: tuple[LabelMatcher, ...]) -> tuple[LabelMatcher, ...]:
    """The matchers, and that of the metric's name."""
    return (LabelMatcher(METRIC_NAME, MatchOp.EQUAL, name), *matchers)


class _Table:
    """Joins what the engine answers, by labels: layers, series, buckets."""

    def __init__(self, n_layers: int, n_buckets: int) -> None:
        self._n_layers = n_layers
        self._n_buckets = n_buckets
        self._parts: list[tuple[int, int, list[Labels], FloatArray, BoolArray]] = []
        self._labels: set[Labels] = set()
        self.warnings: dict[str, None] = {}

    def put(self, layer: int, first: int, matrix: Matrix) -> None:
        """Add the answer for buckets from number `first` on. Raises ExecutionError."""
        rows = np.flatnonzero(matrix.present.any(axis=1))
        labels = [matrix.labels[row].without_name() for row in rows.tolist()]
        self._labels.update(labels)
        check_cells(self._n_layers * len(self._labels) * self._n_buckets)
        self._parts.append((layer, first, labels, matrix.values[rows], matrix.present[rows]))

    def warn(self, *texts: str) -> None:
        """Add warnings, each once."""
        self.warnings.update(dict.fromkeys(texts))

    def values(self) -> BucketValues:
        """What was put, series sorted by labels."""
        labels = sorted(self._labels)
        number = {one: row for row, one in enumerate(labels)}
        values = np.zeros((self._n_layers, len(labels), self._n_buckets))
        present = np.zeros(values.shape, bool)
        for layer, first, names, numbers, known in self._parts:
            rows = [number[one] for one in names]
            columns = slice(first, first + numbers.shape[1])
            values[layer, rows, columns] = numbers
            present[layer, rows, columns] = known
        return BucketValues(labels=labels, values=values, present=present)


def _last_of(found: BucketValues) -> BucketValues:
    """The last value of each series, as values of a single bucket."""
    n_buckets = found.present.shape[2]
    last = n_buckets - 1 - np.argmax(found.present[:, :, ::-1], axis=2)[:, :, None]
    return BucketValues(
        labels=found.labels,
        values=np.take_along_axis(found.values, last, axis=2),
        present=np.take_along_axis(found.present, last, axis=2),
    )


def series_union(found: BucketValues, before: BucketValues) -> tuple[BucketValues, BucketValues]:
    """Both with the series of either, sorted by labels."""
    labels = sorted({*found.labels, *before.labels})
    number = {one: row for row, one in enumerate(labels)}
    return _spread(found, labels, number), _spread(before, labels, number)


def _spread(
    some: BucketValues, labels: Sequence[Labels], number: Mapping[Labels, int]
) -> BucketValues:
    rows = [number[one] for one in some.labels]
    n_layers, _, n_buckets = some.values.shape
    check_cells(n_layers * len(labels) * n_buckets)
    values = np.zeros((n_layers, len(labels), n_buckets))
    present = np.zeros(values.shape, bool)
    values[:, rows], present[:, rows] = some.values, some.present
    return BucketValues(labels=labels, values=values, present=present)
