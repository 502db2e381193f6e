"""Computes the buckets of a metric with the query engine, percentiles of samples in numpy."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray, Labels, SelectHints, SeriesSelection
from promcompat.core.native_queries import BucketQuery, BucketValues
from promcompat.querying.bucket_expressions import Statistic, bucket_expression
from promcompat.querying.bucket_grid import bucket_runs, bucket_starts
from promcompat.querying.metric_kinds import MetricShape, of_metric
from promcompat.querying.query_service import QueryService
from promcompat.querying.sample_statistics import bucket_percentiles, check_cells
from promql.budget import TimeLimit
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from promql.values.matrix_histograms import without_histograms

MAX_BUCKETS = 11_000
_LOOK_BACK_MS = 86_400_000
_LEAST_SECONDS = 0.001
"""What a query gets when the time is up: it ends with the error of the engine."""
_EARLIEST_MS = -62_135_596_800_000
"""0001-01-01: no sample is earlier."""

Found = tuple[BucketValues, tuple[str, ...]]
"""Values, and the warnings and infos of the engine."""


class BucketReader:
    """Reads the buckets of a query, each call for one tenant."""

    def __init__(self, queries: QueryService) -> None:
        self._queries = queries

    async def read(
        self,
        tenant: str,
        query: BucketQuery,
        shape: MetricShape,
        statistics: Sequence[Statistic],
        limit: TimeLimit,
    ) -> Found:
        """A layer for each statistic: its value for each series or group and bucket.

        All queries of the engine together have the time of the limit, which is one of theirs.
        Raises BadDataError for a statistic that the shape does not support, and the errors of the
        engine.
        """
        percentiles = [statistic for statistic in statistics if isinstance(statistic, float)]
        if percentiles and shape is MetricShape.SAMPLES:
            return await self._percentiles(tenant, query, percentiles)
        runs = bucket_runs(query.start_ms, query.end_ms, query.bucket_ms)
        table = _Table(len(statistics), sum(run.n_buckets for run in runs))
        for layer, statistic in enumerate(statistics):
            for run in runs:
                text = bucket_expression(query, shape, statistic, run.width_ms)
                seconds = max(limit.remaining_seconds, _LEAST_SECONDS)
                asked = Query(tenant, text, run.eval_range, timeout_seconds=seconds)
                result = await self._queries.run(asked)
                # Of many thousand series, parts of it take the event loop for half a second.
                await asyncio.to_thread(table.put, layer, run.first, result)
        return await asyncio.to_thread(table.values), tuple(table.warnings)

    async def read_before(
        self,
        tenant: str,
        query: BucketQuery,
        shape: MetricShape,
        statistics: Sequence[Statistic],
        limit: TimeLimit,
    ) -> BucketValues | None:
        """The last value before the range of the query, as values of a single bucket.

        None when no sample can be earlier. The search goes back by the length of the range, at
        least a day, in buckets of the same width; no longer than the tenant may ask for, and no
        more buckets than an answer may have.
        """
        length_ms = max(query.end_ms - query.start_ms, _LOOK_BACK_MS)
        length_ms = min(length_ms, self._queries.longest_range_ms(tenant) or length_ms)
        length_ms = min(length_ms, (MAX_BUCKETS - 1) * query.bucket_ms)
        start_ms = max(query.start_ms - length_ms, _EARLIEST_MS)
        if start_ms == query.start_ms:
            return None
        earlier = replace(query, start_ms=start_ms, end_ms=query.start_ms)
        found, _ = await self.read(tenant, earlier, shape, statistics, limit)
        return await asyncio.to_thread(_last_of, found)

    async def _percentiles(
        self, tenant: str, query: BucketQuery, percentiles: Sequence[float]
    ) -> Found:
        selection = SeriesSelection(
            matchers=of_metric(query.name, query.matchers),
            start_ms=query.start_ms - 1,
            end_ms=query.end_ms - 1,
            hints=SelectHints(range_ms=query.bucket_ms, step_ms=query.bucket_ms),
        )
        starts_ms = bucket_starts(query.start_ms, query.end_ms, query.bucket_ms)
        async with self._queries.reading(tenant, [selection]) as (block,):
            found = await asyncio.to_thread(
                bucket_percentiles, block, query.group_by, starts_ms, query.bucket_ms, percentiles
            )
            return found, tuple(block.notes)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some cells of a table: `values` and `present` are those of `labels`, one row each."""

    layers: int | slice
    buckets: slice
    labels: Sequence[Labels]
    values: FloatArray
    present: BoolArray


class _Table:
    """Joins the answers of the engine, by labels: layers, series, buckets."""

    def __init__(self, n_layers: int, n_buckets: int) -> None:
        self._n_layers = n_layers
        self._n_buckets = n_buckets
        self._parts: list[_Part] = []
        self._labels: set[Labels] = set()
        self.warnings: dict[str, None] = {}

    def put(self, layer: int, first: int, result: QueryResult) -> None:
        """Add the answer for buckets from number `first` on. Raises ExecutionError."""
        matrix = result.value
        if not isinstance(matrix, Matrix):
            raise ExecutionError("the aggregation has no series")
        matrix = without_histograms(matrix)
        rows = np.flatnonzero(matrix.present.any(axis=1))
        labels = [matrix.labels[row].without_name() for row in rows.tolist()]
        self._labels.update(labels)
        check_cells(self._n_layers * len(self._labels) * self._n_buckets)
        buckets = slice(first, first + matrix.values.shape[1])
        part = _Part(layer, buckets, labels, matrix.values[rows], matrix.present[rows])
        self._parts.append(part)
        self.warnings.update(dict.fromkeys((*result.warnings, *result.infos)))

    def values(self) -> BucketValues:
        """All answers, series sorted by labels."""
        return _join(sorted(self._labels), self._n_layers, self._n_buckets, self._parts)


def _join(
    labels: Sequence[Labels], n_layers: int, n_buckets: int, parts: Iterable[_Part]
) -> BucketValues:
    row_of = {series: row for row, series in enumerate(labels)}
    values = np.zeros((n_layers, len(labels), n_buckets))
    present = np.zeros(values.shape, bool)
    for part in parts:
        rows = [row_of[series] for series in part.labels]
        values[part.layers, rows, part.buckets] = part.values
        present[part.layers, rows, part.buckets] = part.present
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
    """Both values, each with the series of either, sorted by labels. Raises ExecutionError."""
    labels = sorted({*found.labels, *before.labels})
    return _spread(found, labels), _spread(before, labels)


def _spread(some: BucketValues, labels: Sequence[Labels]) -> BucketValues:
    n_layers, _, n_buckets = some.values.shape
    check_cells(n_layers * len(labels) * n_buckets)
    every = slice(None)
    part = _Part(every, every, some.labels, some.values, some.present)
    return _join(labels, n_layers, n_buckets, [part])
