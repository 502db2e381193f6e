"""Resolved selectors are used until the tenant's series change, whichever service changes them."""

import asyncio

import pytest

from tests.support.factories import make_batch, make_labels, select_name
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration


async def test_new_series_of_another_service_is_in_the_next_answer(database_url: str) -> None:
    async with opened_storage(database_url) as ours, opened_storage(database_url) as other:
        for number in range(5):
            labels = make_labels("up", number=str(number))
            await other.store.write_batch("default", make_batch({labels: [(1, 1.0)]}))
            for end_ms in (1, 2):
                (block,) = await ours.store.select("default", [select_name("up", 0, end_ms)])
                assert len(block.labels) == number + 1
        assert ours.stats.selector_cache_hits == 5
        assert ours.stats.selector_cache_misses == 5


async def test_services_that_make_the_same_series_at_once_do_not_block_each_other(
    database_url: str,
) -> None:
    series = {make_labels("up", number=str(number)): [(1, 1.0)] for number in range(500)}
    async with opened_storage(database_url) as ours, opened_storage(database_url) as other:
        await asyncio.gather(
            *(
                storage.store.write_batch("default", make_batch(series))
                for storage in (ours, other) * 4
            )
        )
        (block,) = await ours.store.select("default", [select_name("up", 0, 1)])
        assert len(block.labels) == 500
