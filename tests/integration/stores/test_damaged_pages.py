"""Stored pages whose bytes have changed: a query that needs one says which, and others go on."""

import asyncio
import time

import pytest

from promcompat.core.errors import PromcompatError
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.services.native_service import running_native_service
from tests.support.storage.repositories import (
    connected,
    delete_samples,
    drain_and_compact,
    opened_storage,
)

pytestmark = pytest.mark.integration

DAMAGE = "UPDATE sample_run SET payload = set_byte(payload, 9, get_byte(payload, 9) # 1)"


async def test_a_query_that_needs_a_damaged_page_names_it(plain_database_url: str) -> None:
    now = int(time.time())
    async with running_native_service(plain_database_url) as native:
        for name, age_seconds in (("damaged", 60), ("damaged", 10), ("whole", 20)):
            batch = {"name": name, "value": 1, "timestamp": now - age_seconds}
            await native.ingest(batch)
            if age_seconds == 60:
                await native.storage.drains.drainer.drain_all()
        async with connected(plain_database_url) as admin:
            await admin.execute(DAMAGE)
            series_id = await admin.fetchval("SELECT first_series FROM sample_run")
        parameters = {"query": "damaged[1h]", "time": str(now)}
        response = await native.client.get("/api/v1/query", params=parameters)
        answer = await response.json()
        assert response.status == 500, answer
        assert f"sample_run with first_series = {series_id}, first_ms = " in answer["error"]
        assert "docs/runbooks/damaged-page.md" in answer["error"]
        assert native.storage.drains.stats.pages_unreadable == 1
        found = await native.prometheus("query", query="whole[1h]", time=str(now))
        assert len(found["result"]) == 1


async def test_a_damaged_page_ends_the_removal_of_what_was_deleted(plain_database_url: str) -> None:
    async with opened_storage(plain_database_url, store=StoreKind.BLOCKS) as storage:
        now_ms = int(time.time() * 1_000)
        await storage.store.write_batch("red", make_batch({make_labels("m"): [(now_ms, 1.0)]}))
        await storage.drains.drainer.drain_all()
        assert await delete_samples(storage, "red", select_name("m", 0, now_ms)) == 1
        async with connected(plain_database_url) as admin:
            await admin.execute(DAMAGE)
        with pytest.raises(PromcompatError, match=r"docs/runbooks/damaged-page\.md"):
            await asyncio.wait_for(storage.corrections.clean_tombstones("red"), 20)


async def test_series_without_samples_are_removed_beside_a_damaged_page(
    plain_database_url: str,
) -> None:
    """A series that the page may have stays; a later one and that of another tenant go."""
    now_ms = int(time.time() * 1_000)
    async with opened_storage(plain_database_url, store=StoreKind.BLOCKS) as storage:
        for tenant, names in (("red", "abc"), ("blue", "d"), ("red", "e")):
            series = {make_labels(name): [(now_ms, 1.0)] for name in names}
            await storage.store.write_batch(tenant, make_batch(series))
        await storage.drains.drainer.drain_all()
        for tenant, name in (("red", "b"), ("blue", "d"), ("red", "e")):
            assert await delete_samples(storage, tenant, select_name(name, 0, now_ms)) == 1
        await drain_and_compact(storage)
        async with connected(plain_database_url) as admin:
            await admin.execute(DAMAGE)
            service = MaintenanceService(storage.maintenance, 0, lambda: now_ms)
            assert (await service.run_once()).failures == []
            rows = await admin.fetch("SELECT metric_name FROM series ORDER BY id")
            assert [row["metric_name"] for row in rows] == ["a", "b", "c"]


async def test_a_damaged_page_that_is_to_be_cut_fails_its_tenant_alone(
    plain_database_url: str,
) -> None:
    """Maintenance goes on with other tenants and its other steps, and says what failed."""
    now_ms = int(time.time() * 1_000)
    points = [(now_ms - days * 86_400_000, 1.0) for days in (200, 50)]
    async with (
        opened_storage(plain_database_url, store=StoreKind.BLOCKS) as storage,
        connected(plain_database_url) as admin,
    ):
        service = MaintenanceService(storage.maintenance, 100, lambda: now_ms)
        for tenant in ("red", "blue"):
            await storage.store.write_batch(tenant, make_batch({make_labels("m"): points}))
            await storage.drains.drainer.drain_all()
            if tenant == "red":
                await admin.execute(DAMAGE)
        red, blue = await admin.fetchrow("SELECT min(id), max(id) FROM tenant")
        (failure,) = (await service.run_once()).failures
        assert failure.subject == f"tenant {red}"
        assert "the page of sample_run with first_series = " in failure.reason
        n_samples = "SELECT sum(n_samples) FROM sample_run WHERE tenant_id = $1"
        assert await admin.fetchval(n_samples, red) == 2
        assert await admin.fetchval(n_samples, blue) == 1
