"""Which steps the cache of results keeps, uses and joins."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from promcompat.core.errors import QueryTimeoutError
from promcompat.core.model import EvalRange
from promcompat.core.ports import ALL_TIME, ChangeReader, SampleState, TimeRange
from promcompat.querying.result_cache import RangeResultCache
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore

STEP_MS = 60_000
N_STEPS = 100
MAX_BYTES = 40_000
NOW_MS = 1_000 * STEP_MS


@dataclass(frozen=True)
class Changes:
    """The state of a store, and its changes since any other state."""

    settled_ms: int = NOW_MS
    changed: tuple[TimeRange, ...] = ()

    async def sample_state(
        self, tenant: str, start_ms: int, end_ms: int, *, asked_at: float | None = None
    ) -> SampleState:
        return self

    def changed_since(self, earlier: SampleState) -> Sequence[TimeRange]:
        return self.changed


class CountingEngine(Engine):
    """Remembers how many steps each evaluation had."""

    def __init__(self, store: InMemoryStore) -> None:
        super().__init__(store, EngineOptions())
        self.steps: list[int] = []

    async def run(self, query: Query) -> QueryResult:
        self.steps.append(query.eval_range.n_steps)
        return await super().run(query)


async def world(
    n_early: int, n_late: int, changes: ChangeReader = Changes()
) -> tuple[CountingEngine, RangeResultCache]:
    """Series from the first step on, and others that begin at the last one of `grid(0)`."""
    store = InMemoryStore()
    times = [step * STEP_MS for step in range(2 * N_STEPS)]
    points = [(time, float(time)) for time in times]
    series = {make_labels("x", n=str(n)): points for n in range(n_early)}
    series |= {make_labels("x", late=str(n)): points[N_STEPS:] for n in range(n_late)}
    await store.write_batch("default", make_batch(series))
    engine = CountingEngine(store)
    return engine, RangeResultCache(engine, changes, max_bytes=MAX_BYTES)


def grid(first_step: int) -> EvalRange:
    start_ms = first_step * STEP_MS
    return EvalRange(start_ms, start_ms + (N_STEPS - 1) * STEP_MS, STEP_MS)


async def check(
    engine: CountingEngine, cache: RangeResultCache, asked: EvalRange, text: str = "x"
) -> list[int]:
    """The answer is the engine's; how many steps were evaluated for it."""
    engine.steps.clear()
    query = Query("default", text, asked)
    answer = (await cache.run(query)).value
    evaluated = list(engine.steps)
    expected = (await engine.run(query)).value
    assert isinstance(answer, Matrix)
    assert isinstance(expected, Matrix)
    assert list(answer.labels) == list(expected.labels)
    np.testing.assert_array_equal(answer.present, expected.present)
    np.testing.assert_array_equal(answer.values[answer.present], expected.values[expected.present])
    return evaluated


async def test_small_answers_are_joined() -> None:
    engine, cache = await world(n_early=3, n_late=2)
    assert await check(engine, cache, grid(0)) == [N_STEPS]
    assert await check(engine, cache, grid(20)) == [20]
    assert cache.stats.steps_reused == N_STEPS - 20


async def test_a_parameter_that_is_that_of_the_first_step_is_evaluated_for_each_range() -> None:
    engine, cache = await world(n_early=3, n_late=0)
    # Prometheus takes `k` of the first step for all, as every step chooses from the same samples.
    text = "x * on () group_left () topk(time() < bool 3600, vector(1))"
    assert await check(engine, cache, grid(0), text) == [N_STEPS]
    assert await check(engine, cache, grid(70), text) == [N_STEPS]


async def test_answer_larger_than_an_entry_is_not_kept() -> None:
    engine, cache = await world(n_early=20, n_late=0)
    assert await check(engine, cache, grid(0)) == [N_STEPS]
    assert cache.stats.bytes_held == 0
    assert await check(engine, cache, grid(20)) == [N_STEPS]


async def test_answer_that_grows_too_large_is_evaluated_whole() -> None:
    engine, cache = await world(n_early=3, n_late=60)
    await check(engine, cache, grid(0))
    assert cache.stats.bytes_held > 0
    assert await check(engine, cache, grid(20)) == [20, N_STEPS]


def at(step: int) -> int:
    return step * STEP_MS


async def evaluated_after(*changed: TimeRange) -> list[int]:
    """How many steps are evaluated when a query is repeated after changes."""
    engine, cache = await world(n_early=3, n_late=0, changes=Changes(changed=changed))
    await check(engine, cache, grid(0))
    return await check(engine, cache, grid(0))


async def test_steps_are_used_again_until_their_samples_change() -> None:
    lookback = 5
    assert await evaluated_after() == []
    assert await evaluated_after((at(N_STEPS), ALL_TIME[1])) == []
    assert await evaluated_after((ALL_TIME[0], at(-lookback) - 1)) == []
    assert await evaluated_after(ALL_TIME) == [N_STEPS]
    assert await evaluated_after((at(90) - 10, at(90) - 5)) == [10]
    assert await evaluated_after((at(20), at(20))) == [20 + lookback + 1]
    # Of two runs of unchanged steps the longer one is used.
    assert await evaluated_after((at(10), at(10)), (at(80), at(80))) == [10 + lookback + 1, 20]


async def test_steps_whose_samples_may_still_change_are_not_kept() -> None:
    engine, cache = await world(n_early=3, n_late=0, changes=Changes(settled_ms=at(59)))
    await check(engine, cache, grid(0))
    assert await check(engine, cache, grid(0)) == [N_STEPS - 60]


class SilentChanges(Changes):
    """A store that never says what changed."""

    async def sample_state(
        self, tenant: str, start_ms: int, end_ms: int, *, asked_at: float | None = None
    ) -> SampleState:
        await asyncio.Event().wait()
        return self


async def test_a_query_waits_for_the_state_no_longer_than_it_may_take() -> None:
    _, cache = await world(n_early=1, n_late=0, changes=SilentChanges())
    with pytest.raises(QueryTimeoutError):
        await cache.run(Query("default", "x", grid(0), timeout_seconds=0.05))
