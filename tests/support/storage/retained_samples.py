"""Samples of metrics that are kept for different times, and what readers should see of them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from promcompat.core.definitions import MetricDefinition
from promcompat.core.model import Labels
from promcompat.core.native_queries import SamplePageQuery
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import block_rows, make_batch, make_labels, select_name
from tests.support.storage.repositories import connected, opened_storage
from tests.support.storage.stored_blocks import Clock

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
NOW_MS = time.time_ns() // 1_000_000
EVER = (-(2**60), 2**60)
DEFAULT_DAYS = 5
SHORT, PLAIN, LONG = make_labels("short"), make_labels("plain"), make_labels("long")
KEPT_DAYS = {"short": 2, "plain": DEFAULT_DAYS, "long": 60}
_TIMES = "SELECT floor(extract(epoch FROM timestamp) * 1000)::bigint AS at FROM SOURCE ORDER BY 1"
AGES = [*range(0, 12), 40, 70]
"""Days; half a day is added to each."""


@asynccontextmanager
async def retaining_storage(
    database_url: str, store: StoreKind, clock: Clock
) -> AsyncIterator[MetricStorage]:
    """Storage of a service that keeps samples DEFAULT_DAYS, with definitions of two metrics."""
    options = {"store": store, "now_ms": clock, "retention_days": DEFAULT_DAYS}
    async with opened_storage(database_url, **options) as storage:
        for name in ("short", "long"):
            await define(storage, name, KEPT_DAYS[name])
        yield storage


async def define(storage: MetricStorage, name: str, days: int | None, tenant: str = "red") -> None:
    """Say how long a metric is kept."""
    definitions = PostgresDefinitionRepository(storage.database)
    known = await definitions.find(tenant, name)
    definition = replace(MetricDefinition(name=name), retention_days=days)
    assert await definitions.save(tenant, definition, 0 if known is None else known.version)


def time_of_age(days: float) -> int:
    return NOW_MS - int(days * DAY_MS)


ALL_TIMES = sorted(time_of_age(age + 0.5) for age in AGES)


def kept(name: str, now_ms: int = NOW_MS) -> list[int]:
    """The times of a metric that are kept."""
    return [at for at in ALL_TIMES if at >= now_ms - KEPT_DAYS[name] * DAY_MS]


async def write(
    storage: MetricStorage, *series: Labels, times: list[int], tenant: str = "red"
) -> None:
    points = [(at, float(at % 7)) for at in times]
    await storage.store.write_batch(tenant, make_batch(dict.fromkeys(series, points)))


async def maintain(storage: MetricStorage, clock: Clock) -> MaintenanceReport:
    service = MaintenanceService(storage.maintenance, DEFAULT_DAYS, clock)
    report = await service.run_once()
    assert report.failures == []
    return report


async def times_of(storage: MetricStorage, name: str, tenant: str = "red") -> list[int]:
    """What a query sees of a metric."""
    (block,) = await storage.store.select(tenant, [select_name(name, *EVER)])
    found = list(block_rows(block).values())
    return [at for at, _ in found[0]] if found else []


async def everything_agrees(storage: MetricStorage, database_url: str) -> None:
    """Queries, bounds, catalogue, lists and SQL see exactly what is kept."""
    for name in KEPT_DAYS:
        assert await times_of(storage, name) == kept(name), name
    assert await storage.store.sample_bounds("red") == (min(kept("long")), max(ALL_TIMES))
    # 3.5 and 8.5 days ago.
    for age, names in ((3.5, ["long", "plain"]), (8.5, ["long"]), (70.5, [])):
        bounds = time_of_age(age), time_of_age(age)
        found = await storage.catalogue.label_values("red", "__name__", [], *bounds, 0)
        assert found == names, age
        page = await storage.sample_lists.sample_page(
            "red",
            SamplePageQuery(
                matchers=(), start_ms=bounds[0], end_ms=bounds[1] + 1, descending=False, limit=100
            ),
        )
        assert sorted(row.labels.as_dict()["__name__"] for row in page) == names, age
    async with connected(database_url) as connection:
        for source in ("metrics WHERE name = $1", "samples($1, '-infinity', 'infinity')"):
            for name in KEPT_DAYS:
                rows = await connection.fetch(_TIMES.replace("SOURCE", source), name)
                assert [row["at"] for row in rows] == kept(name), (source, name)
