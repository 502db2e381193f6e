"""A query is refused before it makes what would take more memory than it may."""

import asyncio
import gc
import tracemalloc

import pytest

from promcompat.core.errors import ExecutionError, QueryTimeoutError
from promcompat.core.model import EvalRange, Labels
from promql.budget import memory_stays_taken, too_much_memory
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import QueryResult
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.fakes import InMemoryStore

LIMIT = 3_000_000
N_SERIES = 100
STEP_MS = 15_000
GRID = EvalRange(0, 399 * STEP_MS, STEP_MS)
REPEATED = "$1" * 500
BLOW_UPS = {
    "count_values": 'count_values("v", x)',
    "label_replace": (
        f'label_replace(label_replace(x, "a", "{REPEATED}", "long", "(.*)"), '
        f'"b", "{REPEATED}", "a", "(.*)")'
    ),
    "label_join": f'label_join(x, "a", "{"-" * 30_000}", "long", "n")',
    "group_left": "x * on() group_left(n) y",
    "subquery": "max_over_time(x[1d:1s])",
    "subquery of windows": "max_over_time(rate(x[5m])[1h:1s])",
    "steps": "sum_over_time(vector(1)[5m:1ms])",
    "nested subqueries": "max_over_time(" * 300 + "x" + "[1h:1m])" * 300,
    "tree": "+".join(["1"] * 10_000),
}


def engine_of(store: InMemoryStore, max_memory_bytes: int) -> Engine:
    return Engine(store, EngineOptions(max_memory_bytes=max_memory_bytes))


async def filled() -> InMemoryStore:
    """Series x and y whose operators and functions alone fit; all but one y begin later."""
    times = [step * STEP_MS for step in range(200)]
    series: dict[Labels, list[tuple[int, float]]] = {}
    for number in range(N_SERIES):
        points = [(time, float(time + number)) for time in times]
        series[make_labels("x", n=str(number), long="l" * 100)] = points
        series[make_labels("y", n=str(number))] = points[100 if number else 0 :]
    store = InMemoryStore()
    await store.write_batch("default", make_batch(series))
    return store


async def run(engine: Engine, query: str) -> QueryResult:
    return await engine.run(Query("default", query, GRID))


@pytest.mark.parametrize("query", BLOW_UPS.values(), ids=BLOW_UPS.keys())
async def test_query_is_refused_where_it_would_grow(query: str) -> None:
    engine = engine_of(await filled(), LIMIT)
    for fits in ("x", "y", "rate(x[5m])"):
        await run(engine, fits)
    with pytest.raises(ExecutionError) as refused:
        await run(engine, query)
    assert str(refused.value) == too_much_memory(LIMIT)


async def test_text_made_by_label_functions_counts_before_it_is_made() -> None:
    store = await filled()
    nested = "x"
    for depth in range(8):
        source = "long" if depth == 0 else f"a{depth - 1}"
        nested = f'label_replace({nested}, "a{depth}", "{"$1" * 1000}", "{source}", "(.*)")'
    with pytest.raises(ExecutionError) as refused:
        await run(engine_of(store, LIMIT), nested)
    assert str(refused.value) == too_much_memory(LIMIT)


async def test_what_fits_is_answered_and_memory_is_given_back() -> None:
    # Each operand takes 0.36 MB; only two of them and a result are there at once.
    query = "+".join(["x"] * 12)
    result = await run(engine_of(await filled(), LIMIT), query)
    assert len(result.value.labels) == N_SERIES  # type: ignore[union-attr]


async def test_duplicates_are_refused_without_pairing_them() -> None:
    query = "x * on() group_left(n) x"
    with pytest.raises(ExecutionError, match="found duplicate series for the match group"):
        await run(engine_of(await filled(), LIMIT), query)


async def test_nested_subqueries_take_no_more_than_is_counted() -> None:
    query = "max_over_time(" * 1_000 + "vector(1)" + "[1h:1m])" * 1_000
    engine = engine_of(InMemoryStore(), 200_000_000)
    tracemalloc.start()
    with pytest.raises(ExecutionError, match="max_estimated_memory_consumption_per_query"):
        await engine.run(Query("default", query, EvalRange.instant(0)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250_000_000


def shared_engine(store: InMemoryStore, max_bytes: int) -> Engine:
    options = EngineOptions(max_memory_bytes=max_bytes, max_shared_memory_bytes=max_bytes)
    return Engine(store, options)


async def test_queries_wait_for_memory_that_others_hold() -> None:
    engine = shared_engine(await filled(), LIMIT)

    async def count() -> int:
        return len((await run(engine, "rate(x[5m]) + x")).value.labels)  # type: ignore[union-attr]

    # Each takes more than half of what all have together.
    assert await asyncio.gather(*(count() for _ in range(8))) == [N_SERIES] * 8
    gc.collect()
    assert engine.memory.held_bytes == 0


async def test_memory_of_a_result_is_held_until_it_is_gone() -> None:
    engine = shared_engine(await filled(), LIMIT)
    results = [await run(engine, "x * 1"), await run(engine, "x * 2")]
    assert engine.memory.held_bytes >= 2 * N_SERIES * 400 * 8
    del results
    gc.collect()
    assert engine.memory.held_bytes == 0


async def test_query_that_waits_too_long_times_out_with_the_reason() -> None:
    engine = shared_engine(await filled(), LIMIT)
    engine.memory.take(LIMIT - 1_000, 0)
    with pytest.raises(QueryTimeoutError) as refused:
        await engine.run(Query("default", "rate(x[5m]) + x", GRID, timeout_seconds=0.3))
    assert str(refused.value) == memory_stays_taken(LIMIT)
    engine.memory.give_back(LIMIT - 1_000)
    await run(engine, "rate(x[5m]) + x")
    gc.collect()
    assert engine.memory.held_bytes == 0


async def test_failing_queries_give_all_memory_back() -> None:
    engine = shared_engine(await filled(), LIMIT)
    for query in BLOW_UPS.values():
        with pytest.raises(ExecutionError):
            await run(engine, query)
    gc.collect()
    assert engine.memory.held_bytes == 0


async def test_samples_read_without_promql_wait_for_memory_and_hold_it() -> None:
    """They take half a megabyte more than what nobody has to ask for."""
    store = InMemoryStore()
    points = [(step, 1.0) for step in range(100_000)]
    await store.write_batch("default", make_batch({make_labels("x"): points}))
    engine = shared_engine(store, LIMIT)
    everything = [select_name("x", -1, 1_000_000)]
    order: list[str] = []

    async def read(name: str) -> None:
        async with engine.reading("default", everything) as (block,):
            order.append(f"{name} begins")
            assert len(block.timestamps) == 100_000
            assert engine.memory.held_bytes >= 1_600_000
            await asyncio.sleep(0.1)
            order.append(f"{name} ends")

    await asyncio.gather(read("first"), read("second"))
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert engine.memory.held_bytes == 0
    with pytest.raises(ExecutionError) as refused:
        async with engine_of(store, 1_000_000).reading("default", everything):
            pass
    assert str(refused.value) == too_much_memory(1_000_000)
