"""The caches of results and of samples over real databases: never another answer than without."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import PromcompatError, WriteRejectedError
from promcompat.core.model import EvalRange, Labels
from promcompat.querying.result_cache import RangeResultCache
from promql.engine import Engine, EngineOptions
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import Points, make_batch, make_labels
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

STEP_MS = 60_000
MINUTE_MS = 60_000
LATE_MS = 120_000
DAY_MS = 24 * 60 * MINUTE_MS
T0 = 20_000 * DAY_MS - 30 * MINUTE_MS
"""Half an hour before midnight, so that two days are read and one may change alone."""
TENANT = "default"
QUERIES = (
    "m_total",
    "sum by (job) (rate(m_total[5m]))",
    "topk(1, m_total)",
    "max_over_time(m_total[4m:1m])",
    "m_total offset -3m",
    "absent(m_total)",
    "count_values('v', m_total)",
    "m_total > 5 or other",
    "label_replace(m_total, 'x', '$1', 'job', '(.*)')",
    "m_total @ end()",
    'rate({__name__=~"m_.*"}[5m])',
)


class World:
    """A database, two services on it with caches, one without, and one clock."""

    def __init__(self, storages: list[MetricStorage], reference: MetricStorage) -> None:
        self.storages = storages
        self.now_ms = T0
        self.caches = [
            RangeResultCache(
                Engine(storage.store, EngineOptions()), storage.store, max_bytes=1 << 20
            )
            for storage in storages
        ]
        self.engine = Engine(reference.store, EngineOptions())
        self._values = 0.0

    async def write(self, service: int, job: int, age_ms: int, name: str = "m_total") -> None:
        """One sample of a series, so long before now."""
        self._values = (self._values * 7 + 3) % 11
        labels = make_labels(name, job=f"j{job}")
        time_ms = (self.now_ms - age_ms) // 15_000 * 15_000
        batch: Mapping[Labels, Points] = {labels: [(time_ms, self._values)]}
        # Where another value is there already nothing is stored, as in Prometheus.
        with suppress(WriteRejectedError):
            await self.storages[service].store.write_batch(TENANT, make_batch(batch))

    async def check(self, text: str, first_step: int, n_steps: int) -> None:
        """Both services answer as an engine without caches does, results kept or not."""
        end_ms = self.now_ms // STEP_MS * STEP_MS
        start_ms = end_ms - first_step * STEP_MS
        grid = EvalRange(start_ms, min(end_ms, start_ms + n_steps * STEP_MS), STEP_MS)
        expected = await outcome(self.engine, text, grid)
        for cache in self.caches:
            assert await outcome(cache, text, grid) == expected
        for storage in self.storages:
            assert await outcome(Engine(storage.store, EngineOptions()), text, grid) == expected


async def outcome(runner: QueryRunner, text: str, grid: EvalRange) -> object:
    try:
        return rows_of(await runner.run(Query(TENANT, text, grid)))
    except PromcompatError as exc:
        return type(exc), str(exc)


def rows_of(result: QueryResult) -> object:
    matrix = result.value
    assert isinstance(matrix, Matrix)
    bits = np.where(matrix.present, matrix.values, 0.0).view(np.uint64)
    rows = [
        (labels, shown.tolist(), present.tolist())
        for labels, shown, present in zip(matrix.labels, bits, matrix.present, strict=True)
    ]
    return rows, result.timestamps.tolist(), result.warnings, result.infos


WRITES = st.tuples(
    st.just("write"),
    st.integers(0, 1),
    st.integers(0, 3),
    st.one_of(
        st.integers(-60_000, LATE_MS),
        st.integers(LATE_MS, 90 * MINUTE_MS),
    ),
    st.sampled_from(["m_total", "m_total", "m_other", "other"]),
)
REFRESHES = st.tuples(
    st.just("check"), st.sampled_from(QUERIES), st.integers(5, 80), st.integers(2, 80)
)
DASHBOARD = st.tuples(st.just("check"), st.sampled_from(QUERIES[:5]), st.just(40), st.just(40))
CLOCK = st.tuples(st.just("tick"), st.integers(1, 20 * MINUTE_MS))


async def play(world: World, actions: list[tuple[object, ...]]) -> None:
    for action in actions:
        match action:
            case ("write", int(service), int(job), int(age_ms), str(name)):
                await world.write(service, job, age_ms, name)
            case ("check", str(text), int(first), int(n_steps)):
                await world.check(text, first, n_steps)
            case ("tick", int(elapsed_ms)):
                world.now_ms += elapsed_ms
            case _:
                raise AssertionError(action)


async def with_world(url: str, actions: list[tuple[object, ...]]) -> World:
    clock: list[World] = []

    def now_ms() -> int:
        return clock[0].now_ms if clock else T0

    async with connected(url) as connection:
        await connection.execute("TRUNCATE series, sample, series_generation")
    async with AsyncExitStack() as stack:
        # One that leaves samples out wherever it can, and one that reads all.
        options: list[dict[str, object]] = [
            {"pushdown": PushdownMode.FORCED},
            {"pushdown": PushdownMode.OFF},
            {"pushdown": PushdownMode.OFF},
        ]
        *storages, reference = [
            await stack.enter_async_context(opened_storage(url, now_ms=now_ms, **changed))
            for changed in options
        ]
        world = World(storages, reference)
        clock.append(world)
        await play(world, actions)
        return world


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.one_of(WRITES, WRITES, REFRESHES, DASHBOARD, CLOCK), min_size=10, max_size=40))
def test_any_order_of_writes_and_refreshes_gives_the_engines_answers(
    timescaledb_url: str, actions: list[tuple[object, ...]]
) -> None:
    asyncio.run(with_world(timescaledb_url, actions))


async def test_refresh_evaluates_new_steps_only_until_a_late_write(database_url: str) -> None:
    live = [("write", 0, job, age * 15_000, "m_total") for job in (0, 1) for age in range(160)]
    refresh = ("check", "m_total", 30, 30)
    world = await with_world(database_url, [*live, refresh, refresh, ("tick", STEP_MS), refresh])
    for cache in world.caches:
        assert (cache.stats.hits, cache.stats.misses) == (2, 1)
        assert cache.stats.steps_reused > 30
        assert 0 < cache.stats.bytes_held < 1 << 20
