"""The rules of QueryService: which answers are cut, and where."""

from dataclasses import replace

import numpy as np

from promcompat.core.model import EvalRange, SampleBlock
from promcompat.querying.query_service import TRUNCATION_WARNING, QueryService, truncate_result
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
        self.queries: list[Query] = []

    async def run(self, query: Query) -> QueryResult:
        self.queries.append(query)
        return self.result


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
