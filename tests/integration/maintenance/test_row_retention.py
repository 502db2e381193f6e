"""How long rows are kept: readers see exactly what is kept, and the others are deleted."""

from collections.abc import AsyncIterator

import pytest

from promcompat.core.model import EvalRange
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.pushdown.rule_choice import PushdownMode
from sql.repositories.tenant_retention import set_retention
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.integration.maintenance.test_retention import answer
from tests.support.factories import make_labels
from tests.support.storage.repositories import connected, drain_and_compact, opened_storage
from tests.support.storage.retained_samples import (
    ALL_TIMES,
    DAY_MS,
    DEFAULT_DAYS,
    EVER,
    HOUR_MS,
    KEPT_DAYS,
    LONG,
    NOW_MS,
    PLAIN,
    SHORT,
    define,
    everything_agrees,
    kept,
    maintain,
    retaining_storage,
    time_of_age,
    times_of,
    write,
)
from tests.support.storage.stored_blocks import Clock

pytestmark = [pytest.mark.integration, pytest.mark.rows]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_MS)


@pytest.fixture
async def storage(database_url: str, clock: Clock) -> AsyncIterator[MetricStorage]:
    async with retaining_storage(database_url, StoreKind.ROWS, clock) as storage:
        yield storage


async def times_on_disk(database_url: str, name: str, tenant: str = "red") -> list[int]:
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT floor(extract(epoch FROM p.ts) * 1000)::bigint AS at FROM sample AS p"
            " JOIN series AS s ON s.id = p.series_id JOIN tenant AS t ON t.id = s.tenant_id"
            " WHERE s.metric_name = $1 AND t.name = $2 ORDER BY 1",
            name,
            tenant,
        )
    return [row["at"] for row in rows]


def left_on_disk(name: str, now_ms: int = NOW_MS) -> list[int]:
    """What maintenance leaves of a metric: whole hours."""
    limit_ms = (now_ms - KEPT_DAYS[name] * DAY_MS) // HOUR_MS * HOUR_MS
    return [at for at in ALL_TIMES if at >= limit_ms]


async def test_readers_see_exactly_what_is_kept_wherever_it_is(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    await write(storage, SHORT, PLAIN, LONG, times=ALL_TIMES)
    await everything_agrees(storage, database_url)
    await drain_and_compact(storage)
    await everything_agrees(storage, database_url)
    report = await maintain(storage, clock)
    assert report.n_chunks_dropped >= 1, "that of 70 days ago"
    await everything_agrees(storage, database_url)
    for name in ("short", "plain"):
        assert await times_on_disk(database_url, name) == left_on_disk(name)


async def test_maintenance_deletes_only_what_has_expired_since(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    times = [at for at in ALL_TIMES if at >= time_of_age(40)]
    await write(storage, SHORT, PLAIN, LONG, times=times)
    service = MaintenanceService(storage.maintenance, DEFAULT_DAYS, clock)
    await drain_and_compact(storage)
    n_due = sum(at not in left_on_disk(name) for name in ("short", "plain") for at in times)
    assert (await service.plan()).amount_of("delete expired") == n_due
    assert (await service.run_once()).n_deleted == n_due
    assert (await service.run_once()).n_deleted == 0
    clock.now_ms += DAY_MS
    assert (await service.run_once()).n_deleted == 2
    # What comes too late is never seen, and goes again.
    await write(storage, SHORT, times=[time_of_age(9), time_of_age(8)])
    assert await times_of(storage, "short") == kept("short", clock.now_ms)
    assert (await service.run_once()).n_deleted == 2
    assert (await service.run_once()).n_deleted == 0


async def test_a_tenant_has_a_retention_of_its_own(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    for tenant in ("red", "blue"):
        await write(storage, SHORT, PLAIN, times=ALL_TIMES, tenant=tenant)
    await drain_and_compact(storage)
    assert await set_retention(storage.database, "blue", 1)
    last_day = [at for at in ALL_TIMES if at >= time_of_age(1)]
    for _ in range(2):
        assert await times_of(storage, "plain", "blue") == last_day
        assert await times_of(storage, "plain", "red") == kept("plain")
        await maintain(storage, clock)
    assert len(await times_on_disk(database_url, "plain", "blue")) == len(last_day)
    # A longer retention brings back nothing, and a definition that is gone leaves nothing behind.
    await define(storage, "short", None)
    await write(storage, PLAIN, times=ALL_TIMES)
    await maintain(storage, clock)
    assert await times_on_disk(database_url, "plain") == left_on_disk("plain")
    clock.now_ms += 10 * DAY_MS
    await maintain(storage, clock)
    assert await storage.catalogue.series("blue", [], *EVER, 0) == []
    for tenant in ("red", "blue"):
        assert await times_on_disk(database_url, "short", tenant) == []


async def test_a_metric_that_is_no_longer_kept_longer_is_deleted(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    times = [at for at in ALL_TIMES if at >= time_of_age(40)]
    await write(storage, PLAIN, LONG, times=times)
    await maintain(storage, clock)
    assert await times_on_disk(database_url, "long") == times
    # The chunks stay for another metric.
    await define(storage, "plain", 90)
    await define(storage, "long", None)
    report = await maintain(storage, clock)
    assert report.n_deleted == len(times) - len(left_on_disk("plain"))
    assert await times_on_disk(database_url, "long") == left_on_disk("plain")


async def test_hours_stay_where_only_the_service_says_how_long_samples_are_kept(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    """As they do when a chunk is dropped; a shorter retention of a metric takes them with it."""
    times = [time_of_age(age) for age in (4, 3, 1)]
    await write(storage, SHORT, PLAIN, LONG, times=times)
    await maintain(storage, clock)
    clock.now_ms += 3 * DAY_MS
    await maintain(storage, clock)
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT name, sum(count) AS n FROM metrics_hourly GROUP BY 1 ORDER BY 1"
        )
    assert [tuple(row) for row in rows] == [("long", 3), ("plain", 3)]
    assert len(await times_on_disk(database_url, "plain")) == 1


async def test_what_is_pushed_down_leaves_out_what_is_no_longer_kept(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    series = [make_labels(name) for name in KEPT_DAYS]
    times = [NOW_MS - 300_000 - n * 600_000 for n in range(8 * 144)]
    await write(storage, *series, times=sorted(times))
    await drain_and_compact(storage)
    end_ms = NOW_MS // HOUR_MS * HOUR_MS
    options = {"store": StoreKind.ROWS, "now_ms": clock, "retention_days": DEFAULT_DAYS}
    pushdown = PushdownMode.FORCED
    async with opened_storage(database_url, **options, pushdown=pushdown) as pushed:
        for n_days in (1, 4, 8):
            grid = EvalRange(end_ms - n_days * DAY_MS, end_ms, HOUR_MS)
            for text in (
                'last_over_time({__name__=~".+"}[1h])',
                "sum_over_time(plain[1d])",
                "count_over_time(short[1h])",
                "max_over_time(long[1d])",
            ):
                expected = await answer(storage, text, grid)
                assert await answer(pushed, text, grid) == expected, (n_days, text)


async def test_hours_come_although_maintenance_ran_by_a_clock_that_was_ahead(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    await write(storage, PLAIN, times=[time_of_age(1)])
    clock.now_ms += DAY_MS
    await maintain(storage, clock)
    clock.now_ms -= DAY_MS
    hours: list[int] = []
    for _ in range(3):
        hours.append(clock.now_ms // HOUR_MS)
        await write(storage, PLAIN, times=[clock.now_ms])
        await drain_and_compact(storage)
        clock.now_ms += HOUR_MS
        await maintain(storage, clock)
    hours.append(clock.now_ms // HOUR_MS)
    await write(storage, PLAIN, times=[clock.now_ms])
    await drain_and_compact(storage)
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT extract(epoch FROM bucket)::bigint / 3600 AS hour FROM metrics_hourly"
            " WHERE name = 'plain' ORDER BY 1"
        )
    assert [row["hour"] for row in rows][1:] == hours
