"""Samples that were read are kept until a counted write, whichever service makes it.

That no order of writes and queries gives another answer is the property in test_result_cache.
"""

from contextlib import AsyncExitStack

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import SampleBlock
from sql.caching.late_writes import CACHEABLE_AFTER_MS, LATE_AFTER_MS
from sql.samples.metric_storage import MetricStorage
from tests.factories import Points, make_batch, make_labels, select_name
from tests.repositories import opened_storage

pytestmark = [pytest.mark.integration, pytest.mark.rows]

HOUR_MS = 3_600_000
T0 = 20_000 * 24 * HOUR_MS + 12 * HOUR_MS
TENANT = "default"


class Clock:
    """The time of all services of a test."""

    def __init__(self) -> None:
        self.now_ms = T0

    def __call__(self) -> int:
        return self.now_ms


async def write(storage: MetricStorage, number: int, points: Points) -> None:
    labels = make_labels("m", number=str(number))
    await storage.store.write_batch(TENANT, make_batch({labels: points}))


async def read(storage: MetricStorage, start_ms: int, end_ms: int) -> SampleBlock:
    (block,) = await storage.store.select(TENANT, [select_name("m", start_ms, end_ms)])
    return block


def every_minute(first_ms: int, n: int) -> Points:
    return [(first_ms + index * 60_000, float(index)) for index in range(n)]


async def test_refresh_reads_the_newest_samples_only(database_url: str) -> None:
    clock = Clock()
    async with opened_storage(database_url, now_ms=clock) as storage:
        for number in range(3):
            await write(storage, number, every_minute(T0 - HOUR_MS, 61))
        for _ in range(20):
            block = await read(storage, clock.now_ms - HOUR_MS, clock.now_ms)
            assert block.timestamps.reshape(3, 60)[2].tolist() == [
                clock.now_ms - HOUR_MS + 60_000 * index for index in range(1, 61)
            ]
            clock.now_ms += 60_000
            for number in range(3):
                await write(storage, number, [(clock.now_ms, 1.0)])
        assert storage.stats.sample_cache_misses == 1
        assert storage.stats.sample_cache_hits == 19


async def test_late_sample_of_another_service_is_in_the_next_answer(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        clock = Clock()
        ours, other = [
            await stack.enter_async_context(opened_storage(database_url, now_ms=clock))
            for _ in range(2)
        ]
        await write(ours, 0, every_minute(T0 - HOUR_MS, 61))
        before = await read(ours, T0 - HOUR_MS, T0)
        late_ms = T0 - CACHEABLE_AFTER_MS - 1
        for number in (0, 1):  # One of a series that is known, and one of a new one.
            await write(other, number, [(late_ms, 7.0)])
            after = await read(ours, T0 - HOUR_MS, T0)
            assert len(after.timestamps) == len(before.timestamps) + number + 1
        assert ours.stats.sample_cache_hits == 0
        await read(ours, T0 - HOUR_MS + 1, T0)
        assert ours.stats.sample_cache_hits == 1


async def test_sample_that_is_not_late_is_in_the_next_answer(database_url: str) -> None:
    clock = Clock()
    async with opened_storage(database_url, now_ms=clock) as storage:
        await write(storage, 0, every_minute(T0 - HOUR_MS, 50))
        await read(storage, T0 - HOUR_MS, T0)
        await write(storage, 1, [(T0 - LATE_AFTER_MS, 1.0)])
        block = await read(storage, T0 - HOUR_MS, T0)
        assert block.timestamps.tolist()[-1] == T0 - LATE_AFTER_MS
        assert storage.stats.sample_cache_hits == 1


async def test_what_is_kept_counts_towards_the_limit_of_samples(database_url: str) -> None:
    clock = Clock()
    async with opened_storage(database_url, now_ms=clock, max_samples=100) as storage:
        await write(storage, 0, every_minute(T0 - HOUR_MS, 61))
        await write(storage, 1, every_minute(T0 - 30 * 60_000, 31))
        assert len((await read(storage, T0 - HOUR_MS, T0)).timestamps) == 91
        for number in range(2, 6):
            await write(storage, number, every_minute(T0 - 60_000, 2))
        await read(storage, T0 - HOUR_MS, T0)
        await write(storage, 7, every_minute(T0 - 60_000, 2))
        with pytest.raises(ExecutionError, match="too many samples"):
            await read(storage, T0 - HOUR_MS, T0)
        assert storage.stats.sample_cache_hits == 2


async def test_cache_stays_within_its_memory(database_url: str) -> None:
    clock = Clock()
    async with opened_storage(database_url, now_ms=clock, sample_cache_bytes=6_000) as storage:
        await write(storage, 0, every_minute(T0 - 5 * HOUR_MS, 301))
        small = (T0 - HOUR_MS, T0 - HOUR_MS + 10 * 60_000)
        for start_ms, end_ms in (small, (T0 - 5 * HOUR_MS, T0), small):
            await read(storage, start_ms, end_ms)
        # The large one alone would fill most of it: nothing was kept of it, and it took the place.
        assert storage.stats.sample_cache_hits == 0
        await read(storage, small[0] + 1, small[1])
        assert storage.stats.sample_cache_hits == 1
