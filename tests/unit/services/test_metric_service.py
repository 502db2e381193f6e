"""The rules of MetricService, over the in-memory store."""

import numpy as np
import pytest

from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import EvalRange, Labels, MetricMetadata, SampleBlock
from promcompat.querying.metric_service import (
    ALL_TIME_MS,
    TRUNCATION_WARNING,
    Listing,
    MetricService,
    count_series,
    truncate_result,
)
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult, ScalarGrid
from tests.factories import (
    block_rows,
    make_batch,
    make_block,
    make_labels,
    make_matcher,
    select_name,
)
from tests.fakes import InMemoryStore

NOW = 1_700_000_000_000
TEN_MINUTES = 600_000


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


def make_service(
    store: InMemoryStore, max_future_ms: int = TEN_MINUTES, n_series: int = 0
) -> MetricService:
    engine = CannedEngine(vector(n_series))
    return MetricService(store, store, engine, max_future_ms=max_future_ms, now_ms=lambda: NOW)


async def stored(store: InMemoryStore) -> dict[Labels, list[tuple[int, int]]]:
    (block,) = await store.select("t", [select_name("m", *ALL_TIME_MS)])
    return block_rows(block)


async def test_samples_too_far_in_the_future_are_rejected_and_the_others_stored() -> None:
    store = InMemoryStore()
    limit = NOW + TEN_MINUTES
    batch = make_batch({make_labels("m"): [(limit + 1, 1.0), (limit, 2.0), (5, 3.0)]})
    with pytest.raises(WriteRejectedError) as caught:
        await make_service(store).write("t", batch)
    assert str(caught.value) == "out of bounds: timestamp is too far in the future"
    (rows,) = (await stored(store)).values()
    assert [time for time, _ in rows] == [5, limit]


async def test_a_batch_wholly_in_the_future_stores_its_metadata() -> None:
    store = InMemoryStore()
    metadata = [MetricMetadata("m", "gauge", "", "")]
    batch = make_batch({make_labels("m"): [(NOW * 2, 1.0)]}, metadata)
    with pytest.raises(WriteRejectedError):
        await make_service(store).write("t", batch)
    assert await stored(store) == {}
    assert await store.metadata("t", None) == metadata


async def test_without_a_bound_any_future_is_stored() -> None:
    store = InMemoryStore()
    batch = make_batch({make_labels("m"): [(NOW * 2, 1.0)]})
    await make_service(store, max_future_ms=0).write("t", batch)
    assert len(await stored(store)) == 1


async def test_lists_are_cut_to_the_limit_with_a_warning() -> None:
    store = InMemoryStore()
    await store.write_batch(
        "t", make_batch({make_labels("m", a=str(i)): [(5, 1.0)] for i in range(3)})
    )
    service = make_service(store)
    sets = [(make_matcher("__name__", "=", "m"),)]
    cut = await service.series("t", sets, 0, 9, 2)
    assert [labels.get("a") for labels in cut.items] == ["0", "1"]
    assert cut.warnings == (TRUNCATION_WARNING,)
    for limit in (0, 3, 4):
        whole = await service.series("t", sets, 0, 9, limit)
        assert (len(whole.items), whole.warnings) == (3, ())
    values = await service.label_values("t", "a", sets, 0, 9, 1)
    assert (values.items, values.warnings) == (["0"], (TRUNCATION_WARNING,))
    names = await service.label_names("t", [], 0, 9, 1)
    assert (names.items, names.warnings) == (["__name__"], (TRUNCATION_WARNING,))


async def test_a_query_reaches_the_engine_and_its_answer_is_cut() -> None:
    engine = CannedEngine(vector(3))
    service = MetricService(InMemoryStore(), InMemoryStore(), engine, max_future_ms=0)
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
    cut = truncate_result(QueryResult(block, np.array([NOW]), False), 2).value
    assert isinstance(cut, SampleBlock)
    assert (len(cut.labels), cut.offsets.tolist(), len(cut.values)) == (2, [0, 2, 4], 4)


def test_scalars_are_not_cut() -> None:
    result = QueryResult(ScalarGrid(np.array([1.0])), np.array([NOW]), False)
    assert truncate_result(result, 1) is result


def test_series_are_counted() -> None:
    listing = Listing([make_labels("m", a="1"), make_labels("m", a="2"), make_labels("n", a="1")])
    found = count_series(listing)
    assert found.n_series == 3
    assert found.n_label_pairs == 4
    assert found.series_by_metric_name == {"m": 2, "n": 1}
    assert found.values_by_label_name == {"__name__": 2, "a": 2}
    assert found.series_by_label_pair["a=1"] == 2
