"""The cache of results over the block store: used until a sample that a step depends on changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.integration.querying.test_result_cache import (
    CLOCK,
    DASHBOARD,
    MINUTE_MS,
    REFRESHES,
    T0,
    TENANT,
    WRITES,
    World,
    play,
)
from tests.support.factories import select_name
from tests.support.storage.repositories import (
    connected,
    delete_samples,
    drain_and_compact,
    opened_storage,
)

pytestmark = pytest.mark.integration

Action = tuple[object, ...]
TABLES = (
    "series, series_generation, arrival, sample_run, sample_block, sample_deletion, sample_change,"
    " drained_extent, block_slot"
)
REFRESH: Action = ("check", "m_total", 30, 30)
LOOKBACK_STEPS = 5
BUCKET_STEPS = 1
"""A change may seem to be up to 16 s longer than it was."""


class BlockWorld(World):
    """Two services with caches on the block store, and one without a cache."""

    async def drain(self) -> None:
        await drain_and_compact(self.storages[0])

    async def delete(self, age_ms: int) -> None:
        """Delete a minute of samples, so long before now."""
        start_ms = self.now_ms - age_ms
        selection = select_name("m_total", start_ms, start_ms + MINUTE_MS)
        await delete_samples(self.storages[1], TENANT, selection)

    async def act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case ("drain",):
                    await self.drain()
                case ("delete", int(age_ms)):
                    await self.delete(age_ms)
                case _:
                    await play(self, [action])


async def opened_world(url: str, opened: AsyncExitStack) -> BlockWorld:
    clock: list[BlockWorld] = []

    def now_ms() -> int:
        return clock[0].now_ms if clock else T0

    storages: list[MetricStorage] = [
        await opened.enter_async_context(opened_storage(url, store=StoreKind.BLOCKS, now_ms=now_ms))
        for _ in range(3)
    ]
    world = BlockWorld(storages[:2], storages[2])
    clock.append(world)
    return world


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[BlockWorld]:
    async with AsyncExitStack() as opened:
        yield await opened_world(database_url, opened)


async def evaluated(world: BlockWorld, *actions: Action) -> int:
    """How many steps the first cache does not reuse when a dashboard is refreshed again."""
    await world.act([*actions])
    before = world.caches[0].stats.steps_reused
    await world.act([REFRESH])
    return 31 - (world.caches[0].stats.steps_reused - before)


LIVE: list[Action] = [
    ("write", 0, job, age * 15_000, "m_total") for job in (0, 1) for age in range(8)
]


async def test_steps_near_now_are_used_until_something_arrives(world: BlockWorld) -> None:
    assert await evaluated(world, *LIVE) == 31
    assert await evaluated(world) == 0
    # The newest sample may change the last step only.
    assert 0 < await evaluated(world, ("write", 1, 2, 0, "m_total")) <= 1 + BUCKET_STEPS
    assert await evaluated(world) == 0


async def test_a_late_write_of_another_service_changes_the_steps_around_it(
    world: BlockWorld,
) -> None:
    await evaluated(world, *LIVE)
    late: Action = ("write", 1, 5, 10 * MINUTE_MS, "m_total")
    # The steps after it are evaluated again too, for only one run of steps is used.
    n_steps = await evaluated(world, late)
    assert LOOKBACK_STEPS < n_steps <= 10 + 1 + BUCKET_STEPS
    assert await evaluated(world) == 0


async def test_drains_and_merges_change_no_step(world: BlockWorld) -> None:
    await evaluated(world, *LIVE)
    assert await evaluated(world, ("drain",)) == 0


async def test_a_deletion_changes_the_steps_of_its_times(world: BlockWorld) -> None:
    await evaluated(world, *LIVE, ("drain",))
    assert 0 < await evaluated(world, ("delete", MINUTE_MS)) < 31
    assert await evaluated(world) == 0


async def test_nothing_is_used_of_a_database_that_went_back(
    world: BlockWorld, database_url: str
) -> None:
    await evaluated(world, *LIVE)
    async with connected(database_url) as connection:
        await connection.execute("DELETE FROM arrival")
    assert await evaluated(world) == 31


DRAIN = st.tuples(st.just("drain"))
DELETE = st.tuples(st.just("delete"), st.integers(-MINUTE_MS, 40 * MINUTE_MS))
ACTIONS = st.lists(
    st.one_of(WRITES, WRITES, REFRESHES, DASHBOARD, CLOCK, DRAIN, DELETE), min_size=10, max_size=40
)


async def play_all(url: str, actions: list[Action]) -> None:
    async with connected(url) as connection:
        await connection.execute(f"TRUNCATE {TABLES}")
    async with AsyncExitStack() as opened:
        await (await opened_world(url, opened)).act(actions)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ACTIONS)
def test_any_order_of_changes_and_refreshes_gives_the_engines_answers(
    database_url: str, actions: list[Action]
) -> None:
    asyncio.run(play_all(database_url, actions))
