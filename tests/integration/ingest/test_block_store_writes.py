"""Writes to the block store, with drains in between."""

from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from promcompat.core.errors import OverloadedError, WriteRejectedError
from promcompat.core.model import WriteBatch
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from sql.samples.writing import backlog
from sql.samples.writing.backlog import BacklogLimits
from sql.times import YEARS_1_TO_9999
from tests.support.factories import block_rows, make_batch, make_labels, select_name, value_bits
from tests.support.storage.repositories import opened_storage

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
UP = make_labels("up", job="a")


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[MetricStorage]:
    async with opened_storage(database_url, store=StoreKind.BLOCKS) as storage:
        yield storage


async def points(storage: MetricStorage, tenant: str = "red") -> list[tuple[int, int]]:
    (block,) = await storage.store.select(tenant, [select_name("up", -(2**62), 2**62)])
    return block_rows(block).get(UP, [])


async def drain(storage: MetricStorage) -> None:
    await storage.drains.drainer.drain_all()


def timed_by_server(batch: WriteBatch) -> WriteBatch:
    return replace(batch, server_timed=np.ones(len(batch), np.bool_))


@pytest.mark.parametrize("is_drained", [False, True])
async def test_samples_timed_by_the_server_find_a_free_millisecond(
    storage: MetricStorage, is_drained: bool
) -> None:
    """Also if what has their millisecond is in blocks already."""
    await storage.store.write_batch("red", make_batch({UP: [(T0, 1.0), (T0 + 1, 2.0)]}))
    if is_drained:
        await drain(storage)
    await storage.store.write_batch("red", timed_by_server(make_batch({UP: [(T0, 3.0)]})))
    assert await points(storage) == [(T0 + at, value_bits(at + 1.0)) for at in range(3)]


async def test_the_newest_sample_is_found_wherever_it_is(storage: MetricStorage) -> None:
    """A late sample in memory is not the newest one of its series if a later one was drained."""
    early, late, new = (make_labels("up", job=job) for job in ("early", "late", "new"))
    await storage.store.write_batch("red", make_batch({early: [(T0, 1.0)], late: [(T0 + 9, 2.0)]}))
    await drain(storage)
    await storage.store.write_batch(
        "red", make_batch({early: [(T0 + 20, 3.0)], late: [(T0 + 1, 4.0)], new: [(T0 + 5, 5.0)]})
    )
    rows = await storage.sample_lists.latest_samples("red", (), 10)
    tenant_id = await storage.database.tenants.find("red")
    assert tenant_id is not None
    ids = [row.position.series_id for row in rows]
    found = await storage.sample_lookup.newest(tenant_id, ids)
    assert [(found[one].timestamp_ms - T0, found[one].value) for one in ids] == [
        (20, 3.0), (9, 2.0), (5, 5.0),
    ]  # fmt: skip


async def test_first_value_stays_where_a_conflict_was_not_noticed(storage: MetricStorage) -> None:
    """After the drain the head does not have the first value, and the fold decides."""
    await storage.store.write_batch("red", make_batch({UP: [(T0, 1.0)]}))
    with pytest.raises(WriteRejectedError, match="existing 1, new value 2"):
        await storage.store.write_batch("red", make_batch({UP: [(T0, 2.0)]}))
    await drain(storage)
    await storage.store.write_batch("red", make_batch({UP: [(T0, 3.0)]}))
    for _ in range(2):
        assert await points(storage) == [(T0, value_bits(1.0))]
        await drain(storage)


async def test_times_are_within_the_years_1_to_9999(storage: MetricStorage) -> None:
    first, last = YEARS_1_TO_9999.start_ms, YEARS_1_TO_9999.end_ms
    batch = make_batch({UP: [(first - 1, 1.0), (first, 2.0), (last, 3.0), (last + 1, 4.0)]})
    with pytest.raises(WriteRejectedError, match="out of bounds") as raised:
        await storage.store.write_batch("red", batch)
    assert sorted(raised.value.refused) == [0, 3]
    for _ in range(2):
        assert await points(storage) == [(first, value_bits(2.0)), (last, value_bits(3.0))]
        await drain(storage)


async def test_writes_get_503_until_what_waits_is_drained(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "_MEASURED_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(backlog, "_COST_RATIO", 0.0)
    limits = BacklogLimits(max_bytes=150_000, max_tenant_bytes=50_000)
    many = make_batch({UP: [(T0 + at, 1.0) for at in range(5_000)]})
    async with opened_storage(database_url, store=StoreKind.BLOCKS, backlog=limits) as storage:
        await storage.store.write_batch("red", many)
        with pytest.raises(OverloadedError, match="of this tenant") as raised:
            await storage.store.write_batch("red", make_batch({UP: [(T0, 1.0)]}))
        assert raised.value.retry_after_seconds > 0
        await storage.store.write_batch("blue", many)
        await drain(storage)
        await storage.store.write_batch("red", make_batch({UP: [(T0 - 1, 1.0)]}))
        assert len(await points(storage)) == 5_001
