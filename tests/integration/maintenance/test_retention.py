"""How long samples of blocks are kept: by metric, by tenant, and as the service keeps them."""

from collections.abc import AsyncIterator

import numpy as np
import pytest

from promcompat.core.model import EvalRange, Labels
from promcompat.core.texts.times import format_time_ms
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import Matrix
from sql.database.connection_pool import Connection
from sql.pushdown.rule_choice import PushdownMode
from sql.repositories.tenant_retention import list_retentions, set_retention
from sql.samples.draining.block_retention import BlockRetention
from sql.samples.metric_storage import MetricStorage
from sql.samples.reading import snapshots
from sql.samples.storage_options import StoreKind
from sql.samples.tables.slots import FAR_SLOT, class_of_slot, day_of_slot
from tests.support.factories import block_rows, make_labels, select_name
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

pytestmark = pytest.mark.integration


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW_MS)


@pytest.fixture
async def storage(database_url: str, clock: Clock) -> AsyncIterator[MetricStorage]:
    async with retaining_storage(database_url, StoreKind.BLOCKS, clock) as storage:
        yield storage


async def slots_of(database_url: str) -> set[tuple[int, int]]:
    """The days and classes that have samples, far ones aside."""
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT slot FROM sample_run UNION SELECT slot FROM sample_block"
        )
    found = {row["slot"] for row in rows} - {FAR_SLOT}
    return {(day_of_slot(slot), class_of_slot(slot)) for slot in found}


async def test_readers_see_exactly_what_is_kept_wherever_it_is(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    await write(storage, SHORT, PLAIN, LONG, times=ALL_TIMES)
    await everything_agrees(storage, database_url)
    await drain_and_compact(storage)
    await everything_agrees(storage, database_url)
    await maintain(storage, clock)
    await everything_agrees(storage, database_url)


async def test_a_class_and_day_is_a_partition_and_dropped_as_a_whole(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    await maintain(storage, clock)
    times = [at for at in ALL_TIMES if at >= time_of_age(20)]
    await write(storage, SHORT, PLAIN, LONG, times=times)
    await drain_and_compact(storage)
    today = NOW_MS // DAY_MS
    classes = {retention_class for _, retention_class in await slots_of(database_url)}
    assert classes == {0, 3}, "what is kept for 2 days shares the class of 5 days"
    report = await maintain(storage, clock)
    assert report.n_chunks_dropped > 0
    for day, retention_class in await slots_of(database_url):
        assert retention_class == 3 or day >= today - DEFAULT_DAYS
    clock.now_ms += 92 * DAY_MS
    await maintain(storage, clock)
    assert await slots_of(database_url) == set()


async def test_a_longer_retention_moves_what_is_stored_before_it_would_be_dropped(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    times = kept("plain")
    series = [make_labels("plain", n=str(number)) for number in range(5)]
    await write(storage, *series, SHORT, times=times[:3])
    await drain_and_compact(storage)
    await write(storage, *series, SHORT, times=times[3:])
    await drain_and_compact(storage)
    await define(storage, "plain", 80)
    await maintain(storage, clock)
    assert {one for _, one in await slots_of(database_url)} == {0, 3}
    clock.now_ms += 30 * DAY_MS
    await maintain(storage, clock)
    (block,) = await storage.store.select("red", [select_name("plain", *EVER)])
    found = block_rows(block)
    assert len(found) == 5
    assert all([at for at, _ in rows] == times for rows in found.values())
    assert await times_of(storage, "short") == []
    assert {one for _, one in await slots_of(database_url)} == {3}


async def test_samples_stay_until_they_can_be_moved_to_where_they_are_kept_longer(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    """While arrivals of a tenant are set aside, its metrics get no other class."""
    times = kept("plain")
    await write(storage, PLAIN, SHORT, times=times)
    await drain_and_compact(storage)
    await write(storage, SHORT, times=[NOW_MS])
    async with connected(database_url) as connection:
        # As if a later version had appended it.
        arrival_id = await connection.fetchval("UPDATE arrival SET kind = 9 RETURNING id")
    await storage.drains.drainer.set_aside(arrival_id)
    await define(storage, "plain", 80)
    await define(storage, "short", 1)
    clock.now_ms += 30 * DAY_MS
    await maintain(storage, clock)
    assert await times_of(storage, "plain") == times
    assert {one for _, one in await slots_of(database_url)} == {0}
    await storage.drains.aside.drop(arrival_id)
    await maintain(storage, clock)
    assert await times_of(storage, "plain") == times
    assert {one for _, one in await slots_of(database_url)} == {3}


async def test_every_step_that_deletes_far_samples_is_logged(
    storage: MetricStorage, database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question that began under a longer retention notices each of them, and begins again."""
    await write(storage, PLAIN, times=[time_of_age(400), time_of_age(399)])
    await drain_and_compact(storage)
    logged: list[int] = []

    async def narrow(
        _retention: BlockRetention, connection: Connection, *, tenant_id: int, before_ms: int
    ) -> None:
        logged.append(await connection.fetchval("SELECT count(*) FROM sample_change"))

    async with connected(database_url) as connection:
        n_before = await connection.fetchval("SELECT count(*) FROM sample_change")
    monkeypatch.setattr(BlockRetention, "_narrow_extent", narrow)
    await maintain(storage, clock)
    assert logged
    assert logged[0] > n_before


async def test_a_tenant_has_a_retention_of_its_own(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    for tenant in ("red", "blue"):
        await write(storage, SHORT, PLAIN, times=ALL_TIMES, tenant=tenant)
    assert await set_retention(storage.database, "blue", 1)
    assert not await set_retention(storage.database, "nobody", 1)
    assert await list_retentions(storage.database) == {"blue": 1, "red": None}
    last_day = [at for at in ALL_TIMES if at >= time_of_age(1)]
    for _ in range(2):
        assert await times_of(storage, "plain", "blue") == last_day
        assert await times_of(storage, "plain", "red") == kept("plain")
        await drain_and_compact(storage)
        await maintain(storage, clock)
    assert await set_retention(storage.database, "red", 0)
    await write(storage, PLAIN, times=ALL_TIMES)
    assert await times_of(storage, "plain") == ALL_TIMES
    assert await times_of(storage, "short") == kept("short")
    await maintain(storage, clock)
    clock.now_ms += 400 * DAY_MS
    await maintain(storage, clock)
    assert await times_of(storage, "plain") == ALL_TIMES
    assert await times_of(storage, "short") == []
    series = await storage.catalogue.series("blue", [], *EVER, 0)
    assert series == [], "orphans leave every listing"


async def test_samples_that_nobody_will_see_are_counted_and_logged(
    storage: MetricStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """A metric of the tenant keeps samples for 60 days: older ones are seen in no metric."""
    counted = []
    for ages in ([0, 40], [40, 70, 90], [70]):
        await write(storage, PLAIN, times=[time_of_age(age) for age in ages])
        counted.append(storage.stats.samples_past_retention)
    assert counted == [0, 2, 3]
    times = np.array([time_of_age(age) for age in (0, 59, 61)], np.int64)
    assert await storage.store.count_unseen("red", times) == 1
    assert await storage.store.count_unseen("nobody", times) == 0
    (first, _) = [one for one in caplog.records if "nobody sees them" in one.getMessage()]
    assert (vars(first)["tenant"], vars(first)["samples"]) == ("red", 2)
    assert vars(first)["oldest"] == format_time_ms(time_of_age(90))
    assert await set_retention(storage.database, "red", 0)
    await times_of(storage, "plain")
    await write(storage, PLAIN, times=[time_of_age(900)])
    assert storage.stats.samples_past_retention == 3
    assert await set_retention(storage.database, "red", 1)
    await write(storage, PLAIN, times=[time_of_age(59)])
    assert storage.stats.samples_past_retention == 3, "the other metric keeps it"


async def test_samples_of_a_tenant_that_nobody_asks_for_are_counted_by_its_own_retention(
    storage: MetricStorage, database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a worker that only stores samples of the tenant."""
    monkeypatch.setattr(snapshots, "_ASKED_JUST_NOW_SECONDS", 0.0)
    await write(storage, PLAIN, times=[time_of_age(0)], tenant="blue")
    assert await set_retention(storage.database, "blue", 1)
    async with retaining_storage(database_url, StoreKind.BLOCKS, clock) as other:
        for age in (2, 0, 2):
            await write(other, PLAIN, times=[time_of_age(age)], tenant="blue")
        assert other.stats.samples_past_retention == 2
        assert await set_retention(storage.database, "blue", 3)
        await write(other, PLAIN, times=[time_of_age(2)], tenant="blue")
        assert other.stats.samples_past_retention == 2
        assert await set_retention(storage.database, "blue", 1)
        await write(other, PLAIN, times=[time_of_age(2)], tenant="blue")
        assert other.stats.samples_past_retention == 3


async def test_what_a_retention_has_passed_leaves_cached_answers(
    storage: MetricStorage, clock: Clock
) -> None:
    await write(storage, SHORT, PLAIN, times=ALL_TIMES)
    before = await storage.store.sample_state("red", *EVER)
    clock.now_ms += 1_000
    after = await storage.store.sample_state("red", *EVER)
    limits = [NOW_MS - days * DAY_MS for days in sorted(KEPT_DAYS.values())]
    expected = sorted((limit, limit + 999) for limit in limits)
    assert list(after.changed_since(before)) == expected


async def test_a_dry_run_says_what_is_due_and_does_nothing(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    await write(storage, SHORT, PLAIN, times=ALL_TIMES)
    await drain_and_compact(storage)
    await write(storage, PLAIN, times=[NOW_MS])
    service = MaintenanceService(storage.maintenance, DEFAULT_DAYS, clock)
    before = await slots_of(database_url)
    plan = await service.plan()
    assert plan.failures == []
    assert plan.amount_of("drain") == 1
    assert plan.amount_of("retention classes") == 2
    assert plan.amount_of("retain") == len([day for day, _ in before if day < day_kept()])
    assert await slots_of(database_url) == before
    report = await service.run_once()
    for step in ("retain", "retain far days"):
        assert report.amount_of(step) == plan.amount_of(step) > 0
    assert (await service.plan()).amount_of("retain") == 0


async def hours_agree(database_url: str) -> None:
    """`metrics_hourly` and `hours()` have exactly the samples of `metrics`."""
    async with connected(database_url) as connection:
        by_hour, called, by_sample = [
            await connection.fetch(
                f"SELECT name, {hour} AS hour, sum({count}) AS n FROM {source}"  # noqa: S608
                " GROUP BY 1, 2 ORDER BY 1, 2"
            )
            for source, hour, count in (
                ("metrics_hourly", "bucket", "count"),
                ("hours(NULL, '-infinity')", "bucket", "count"),
                ("metrics", "date_trunc('hour', timestamp)", "1"),
            )
        ]
    assert by_hour == called == by_sample


async def test_rollups_are_read_only_as_far_as_samples_are_kept(
    storage: MetricStorage, database_url: str, clock: Clock
) -> None:
    every_ten_minutes = [NOW_MS - 300_000 - n * 600_000 for n in range(8 * 144)]
    await write(storage, SHORT, PLAIN, LONG, times=sorted(every_ten_minutes))
    await drain_and_compact(storage)
    end_ms = NOW_MS // HOUR_MS * HOUR_MS
    grid = EvalRange(end_ms - 8 * DAY_MS, end_ms, HOUR_MS)
    options = {"store": StoreKind.BLOCKS, "now_ms": clock, "retention_days": DEFAULT_DAYS}

    async def answers_agree(n_most: int) -> None:
        """At most so many samples of `plain` are read, and the answer is that of all samples."""
        for text in ('last_over_time({__name__=~".+"}[1h])', "sum_over_time(plain[1d])"):
            before = rolled.stats.samples_selected
            expected = await answer(storage, text, grid)
            assert await answer(rolled, text, grid) == expected, text
        assert rolled.stats.samples_selected - before <= n_most
        await hours_agree(database_url)

    async with opened_storage(database_url, **options, pushdown=PushdownMode.AUTO) as rolled:
        assert rolled.rollups is not None
        await answers_agree(6 * 144)
        assert await rolled.rollups.run(100)
        # The days on which the retention and the grid end are read as samples.
        await answers_agree(3 * 144)
        clock.now_ms += 7 * HOUR_MS
        await answers_agree(3 * 144)
        report = await maintain(storage, clock)
        assert report.n_chunks_dropped > 0
        await answers_agree(3 * 144)
        assert await rolled.rollups.run(100)
        await answers_agree(3 * 144)
        # Samples that are gone do not come back as rollups.
        await define(storage, "plain", 80)
        await answers_agree(4 * 144)
    async with connected(database_url) as connection:
        names = await connection.fetch(
            "SELECT DISTINCT s.metric_name FROM sample_hour AS h"
            " JOIN series AS s ON s.id = h.series_id WHERE h.bucket < from_unix_ms($1)",
            day_kept() * DAY_MS,
        )
    assert [row[0] for row in names] == ["long"]


async def answer(storage: MetricStorage, text: str, grid: EvalRange) -> dict[Labels, object]:
    """The steps and values of each series."""
    found = (await Engine(storage.store, EngineOptions()).run(Query("red", text, grid))).value
    assert isinstance(found, Matrix)
    rows = zip(found.labels, found.values, found.present, strict=True)
    return {labels: (present.tolist(), row[present].tolist()) for labels, row, present in rows}


def day_kept() -> int:
    return (NOW_MS - DEFAULT_DAYS * DAY_MS) // DAY_MS
