"""The rules of QueryService: which answers are cut, and where."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np

from promcompat.core.model import EvalRange, SampleBlock
from promcompat.core.native_queries import BucketQuery
from promcompat.querying.bucket_reader import BucketReader
from promcompat.querying.metric_kinds import MetricShape
from promcompat.querying.query_service import TRUNCATION_WARNING, QueryService, truncate_result
from promql.budget import TimeLimit
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult, ScalarGrid
from tests.support.factories import make_block, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.histograms import histogram_of

NOW = 1_700_000_000_000


class CannedEngine:
    """Answers every query with one result and remembers the queries."""

    def __init__(self, result: QueryResult) -> None:
        self.result = result
        self.seconds = 0.0
        self.queries: list[Query] = []

    async def run(self, query: Query) -> QueryResult:
        self.queries.append(query)
        await asyncio.sleep(self.seconds)
        return self.result

    def time_limit(self, query: Query) -> TimeLimit:
        return TimeLimit.after(min(query.timeout_seconds or 5.0, 5.0))


def vector(n_series: int, missing: frozenset[int] = frozenset()) -> QueryResult:
    labels = [make_labels("m", i=str(i)) for i in range(n_series)]
    present = np.array([[i not in missing] for i in range(n_series)]).reshape(-1, 1)
    matrix = Matrix.of(labels, np.arange(n_series, dtype=float).reshape(-1, 1), present)
    return QueryResult(matrix, np.array([NOW]), False)


async def test_a_query_reaches_the_engine_and_its_answer_is_cut() -> None:
    engine = CannedEngine(vector(3))
    service = QueryService(InMemoryStore(), engine)
    grid = EvalRange.instant(NOW)
    query = Query("t", "m", grid, lookback_ms=7, timeout_seconds=1.5, limit=2)
    result = await service.run(query)
    assert engine.queries == [query]
    assert result.warnings == (TRUNCATION_WARNING,)


def test_absent_rows_do_not_count_against_the_limit() -> None:
    result = truncate_result(vector(4, frozenset([0, 2])), 2)
    assert result.warnings == ()
    cut = truncate_result(vector(4, frozenset([0])), 2)
    assert isinstance(cut.value, Matrix)
    assert [labels.get("i") for labels in cut.value.labels] == ["1", "2"]
    assert cut.warnings == (TRUNCATION_WARNING,)


def test_raw_samples_are_cut_by_series() -> None:
    block = make_block({make_labels("m", i=str(i)): [(1, 1.0), (2, 2.0)] for i in range(3)})
    block = replace(block, notes=("a note",), histograms=histogram_of(count=2))
    cut = truncate_result(QueryResult(block, np.array([NOW]), False), 2).value
    assert isinstance(cut, SampleBlock)
    assert (len(cut.labels), cut.offsets.tolist(), len(cut.values)) == (2, [0, 2, 4], 4)
    assert (cut.notes, cut.histograms) == (block.notes, block.histograms)


def test_scalars_are_not_cut() -> None:
    result = QueryResult(ScalarGrid(np.array([1.0])), np.array([NOW]), False)
    assert truncate_result(result, 1) is result


async def test_all_queries_of_a_question_for_buckets_have_the_time_of_one() -> None:
    """Twenty percentiles of a range that cuts two buckets off are sixty queries."""
    engine = CannedEngine(vector(2))
    engine.seconds = 0.01
    service = QueryService(InMemoryStore(), engine)
    percentiles = [50.0, 95.0, 99.0]
    question = BucketQuery(
        name="m",
        matchers=(),
        start_ms=NOW + 1,
        end_ms=NOW + 60_001,
        bucket_ms=60_000,
        aggregation=None,
        group_by=None,
    )
    reader, limit = BucketReader(service), service.time_limit("t")
    await reader.read("t", question, MetricShape.HISTOGRAM, percentiles, limit)
    seconds = [query.timeout_seconds or 0 for query in engine.queries]
    assert len(seconds) == 2 * len(percentiles)
    assert seconds[0] <= 5
    assert all(later <= earlier - 0.009 for earlier, later in pairwise(seconds))
    # When the time is up, the engine says so.
    await reader.read("t", question, MetricShape.HISTOGRAM, percentiles, TimeLimit.after(-1))
    assert 0 < (engine.queries[-1].timeout_seconds or 0) < 0.01
