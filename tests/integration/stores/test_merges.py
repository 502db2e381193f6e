"""Merges while something else happens to the same samples: days come near, retention, classes."""

from collections.abc import AsyncIterator, Iterable

import pytest

from sql.query_loader import load_migrations
from sql.samples.tables.slots import FAR_SLOT, slot_of
from tests.support.storage.stored_blocks import (
    DAY_MS,
    NOW_MS,
    SERIES_OF_METRICS,
    TODAY,
    Model,
    StoredBlocks,
    stored_blocks,
)

pytestmark = pytest.mark.integration

TENANT = 7
ONE = 4607182418800017408  # The bits of 1.0.


@pytest.fixture
async def blocks(database_url: str) -> AsyncIterator[StoredBlocks]:
    async with stored_blocks(database_url) as opened:
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


async def counted_blocks(blocks: StoredBlocks) -> tuple[int, int, int] | None:
    """The counts of far blocks: samples and number of unmerged ones, samples of merged ones."""
    async with blocks.connection() as connection:
        row = await connection.fetchrow(
            "SELECT unmerged_samples, unmerged_blocks, merged_samples FROM drained_extent"
            " WHERE slot = $1",
            FAR_SLOT,
        )
    return None if row is None else tuple(row)


async def test_blocks_that_retention_deleted_are_no_longer_counted(blocks: StoredBlocks) -> None:
    """Or the merge of what is counted and not there would be due again and again."""
    old, older = NOW_MS - 100 * DAY_MS, NOW_MS - 200 * DAY_MS
    for start_ms in (older, old):
        await backfill(blocks, Model(), start_ms, range(1, 4))
    await blocks.compactor.compact()
    async with blocks.connection() as connection:
        await connection.execute(SERIES_OF_METRICS, TENANT)
    [limit] = await blocks.retention.far_limits(150)
    assert await blocks.retention.clip_far(limit, 150, NOW_MS) == 3
    assert await counted_blocks(blocks) == (3 * 320, 3, 0)
    # Versions before migration 0073 left the counts as they were.
    migration = next(one for one in load_migrations() if one.version == 73)
    async with blocks.connection() as connection:
        await connection.execute("UPDATE drained_extent SET unmerged_samples = 9999")
        await connection.execute(migration.text)
    assert await counted_blocks(blocks) == (3 * 320, 3, 0)
    await blocks.compact_all()
    assert await counted_blocks(blocks) == (0, 0, 3 * 320)
    [limit] = await blocks.retention.far_limits(50)
    await blocks.retention.clip_far(limit, 50, NOW_MS)
    assert await counted_blocks(blocks) is None
    assert await blocks.compact_all() == 0


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 0)])
async def test_a_merge_before_samples_are_moved_changes_no_answer(
    before: int, after: int, blocks: StoredBlocks
) -> None:
    """Of a sample in both classes, the one in the class that was left came first."""
    async with blocks.connection() as connection:
        await connection.execute(SERIES_OF_METRICS, TENANT)
    await blocks.keep(TENANT, "long", before)
    await blocks.move_one()
    await blocks.append(TENANT, {(3, NOW_MS): ONE})
    await blocks.drainer.drain_all()
    await blocks.keep(TENANT, "long", after)
    await blocks.append(TENANT, {(3, NOW_MS): 0, (3, NOW_MS + 1): 0})
    await blocks.drainer.drain_all()
    blocks.clock.now_ms += 2 * DAY_MS
    is_done = False
    while not is_done:
        is_done = (await blocks.compactor.compact()).is_done
        assert await blocks.read(TENANT, [3]) == {(3, NOW_MS): ONE, (3, NOW_MS + 1): 0}
    await blocks.move_one()
    await blocks.compact_all()
    assert await blocks.read(TENANT, [3]) == {(3, NOW_MS): ONE, (3, NOW_MS + 1): 0}
    assert await blocks.fetchval("SELECT min(slot) FROM sample_run") == slot_of(TODAY, after)


async def test_merges_with_what_arrives_later_wait_until_samples_are_moved(
    blocks: StoredBlocks,
) -> None:
    """Or what was moved would have arrived after what is in its new class already."""
    async with blocks.connection() as connection:
        await connection.execute(SERIES_OF_METRICS, TENANT)
    await blocks.append(TENANT, {(3, NOW_MS): ONE})
    await blocks.drainer.drain_all()
    await blocks.keep(TENANT, "long", 3)
    await blocks.append(TENANT, {(3, NOW_MS): 0, (3, NOW_MS + 1): 0})
    await blocks.drainer.drain_all()
    await backfill(blocks, Model(), NOW_MS, [1])
    expected = {(3, NOW_MS): ONE, (3, NOW_MS + 1): 0}
    for work in (blocks.compact_all, blocks.move_one, blocks.compact_all):
        await work()
        assert await blocks.read(TENANT, [3]) == expected
    assert await blocks.fetchval("SELECT count(*) FROM sample_run WHERE slot & 7 = 0") == 0
