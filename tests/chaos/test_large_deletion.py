"""The short form of a large deletion: no transaction of it is large."""

import pytest

from sql.samples.storage_options import StoreKind
from sql.samples.tables.block_groups import SERIES_TOGETHER
from tests.chaos.large_deletion import NOW_MS, TENANT, delete, fill, series_of
from tests.support.factories import block_rows, select_name
from tests.support.storage.repositories import opened_storage
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

DAYS, PER_DAY, N_SERIES = 3, 300, 20
"""Enough samples a day for blocks."""
N_KEPT = 3
STEP_SAMPLES = 1_500
EVER = (-(1 << 60), 1 << 60)


async def test_a_deletion_is_worked_off_in_transactions_of_bounded_size(
    plain_database_url: str,
) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": Clock(NOW_MS)}
    async with opened_storage(plain_database_url, **options) as storage:
        assert storage.drains.compactor is not None
        deleted, kept = series_of("deleted", N_SERIES), series_of("kept", N_KEPT)
        await fill(storage, [*deleted, *kept], DAYS, PER_DAY)
        storage.drains.compactor.max_samples = STEP_SAMPLES
        found = await delete(storage, "deleted")
        sizes = [step.n_samples for step in found.steps]
        # Series that are kept may be in the same blocks.
        n_series = sum(sizes) // (DAYS * PER_DAY)
        assert N_SERIES <= n_series <= N_SERIES + N_KEPT, str(found)
        # A step ends with the page that reaches its limit.
        assert max(sizes) < STEP_SAMPLES + SERIES_TOGETHER * PER_DAY, str(found)
        [record], _ = await storage.corrections.list(TENANT, 1 << 62, 10)
        assert not record.has_tombstones
        for name, n_series in (("deleted", 0), ("kept", N_KEPT)):
            (block,) = await storage.store.select(TENANT, [select_name(name, *EVER)])
            rows = [found for found in block_rows(block).values() if found]
            assert [len(one) for one in rows] == [DAYS * PER_DAY] * n_series
