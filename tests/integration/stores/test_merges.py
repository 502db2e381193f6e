"""Merges while something else happens to the same samples: days come near, retention, classes."""

from collections.abc import AsyncIterator, Iterable

import pytest

from tests.support.storage.stored_blocks import (
    DAY_MS,
    NOW_MS,
    Model,
    StoredBlocks,
    stored_blocks,
)

pytestmark = pytest.mark.integration

TENANT = 7
ONE = 4607182418800017408  # The bits of 1.0.


@pytest.fixture
async def blocks(plain_database_url: str) -> AsyncIterator[StoredBlocks]:
    async with stored_blocks(plain_database_url) as opened:
        yield opened


async def backfill(
    blocks: StoredBlocks, model: Model, start_ms: int, series: Iterable[int]
) -> None:
    """Append eight arrivals with 40 samples each of some series, and drain each of them."""
    for part in range(8):
        times = range(start_ms + 40 * part, start_ms + 40 * part + 40)
        new = {(one, time_ms): ONE for one in series for time_ms in times}
        await blocks.append(TENANT, new)
        model.append(TENANT, new)
        await blocks.drainer.drain_all()


async def test_merges_end_although_the_day_of_far_samples_has_become_near(
    blocks: StoredBlocks,
) -> None:
    """Such samples stay where they are, and are more than a step takes."""
    model = Model()
    blocks.compactor.max_samples = 1_500
    await backfill(blocks, model, NOW_MS + 10 * DAY_MS, range(1, 6))
    await blocks.compact_all()
    blocks.clock.now_ms += 10 * DAY_MS
    await backfill(blocks, model, blocks.clock.now_ms + 1, range(1, 2))
    for number in range(3):
        await backfill(blocks, model, NOW_MS - (100 + number) * DAY_MS, range(1, 4))
        await blocks.compact_all()
    assert await blocks.read(TENANT, range(1, 6)) == model.read(TENANT, range(1, 6))
