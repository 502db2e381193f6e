"""Retention, orphans and hours of the block store."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from promcompat.core.maintenance import StepNotes
from promcompat.core.model import Labels
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from sql.samples.stores.maintenance_repository import StoreSteps
from sql.samples.stores.store_steps import OrphanStep
from tests.support.factories import block_rows, make_batch, make_labels, make_matcher, select_name
from tests.support.storage.repositories import (
    connected,
    delete_samples,
    drain_and_compact,
    opened_storage,
)

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 1_700_000_000_000 // DAY_MS * DAY_MS + 22 * HOUR_MS
EVER = (-(2**60), 2**60)
LOAD, JOBS = make_labels("load", host="a"), make_labels("jobs")


@pytest.fixture
async def storage(database_url: str) -> AsyncIterator[MetricStorage]:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with opened_storage(database_url, **options) as storage:
        yield storage


async def write(storage: MetricStorage, *series: Labels, times: list[int]) -> None:
    points = [(at, float(at % 7)) for at in times]
    await storage.store.write_batch("red", make_batch(dict.fromkeys(series, points)))


async def maintain(storage: MetricStorage, retention_days: int = 0) -> MaintenanceReport:
    service = MaintenanceService(storage.maintenance, retention_days, lambda: NOW_MS)
    report = await service.run_once()
    assert report.failures == []
    return report


async def times_of(storage: MetricStorage) -> Mapping[str, list[int]]:
    """The times of the samples of each metric."""
    found = {}
    for name in ("load", "jobs"):
        (block,) = await storage.store.select("red", [select_name(name, *EVER)])
        for rows in block_rows(block).values():
            found[name] = [at for at, _ in rows]
    return found


def every_eight_hours(days: int) -> list[int]:
    return list(range(NOW_MS - days * DAY_MS, NOW_MS + 1, 8 * HOUR_MS))


@pytest.mark.parametrize("is_drained", [False, True])
async def test_whole_days_are_dropped_after_the_retention(
    storage: MetricStorage, *, is_drained: bool
) -> None:
    times = every_eight_hours(5)
    await write(storage, LOAD, times=times)
    if is_drained:
        await drain_and_compact(storage)
    await write(storage, JOBS, times=[7, *times])
    await maintain(storage, retention_days=2)
    # The storage clips nothing: readers see what is on disk.
    first_ms = (NOW_MS - 2 * DAY_MS) // DAY_MS * DAY_MS
    kept = [at for at in times if at >= first_ms]
    assert await times_of(storage) == {"load": kept, "jobs": kept}
    # What comes later than the retention is taken, and goes again.
    await write(storage, JOBS, times=[NOW_MS - 4 * DAY_MS])
    await maintain(storage, retention_days=2)
    assert await times_of(storage) == {"load": kept, "jobs": kept}


async def test_without_a_retention_samples_of_any_age_stay(storage: MetricStorage) -> None:
    await write(storage, LOAD, times=[7, NOW_MS])
    await drain_and_compact(storage)
    assert (await maintain(storage)).n_chunks_dropped == 0
    assert await times_of(storage) == {"load": [7, NOW_MS]}


@pytest.mark.parametrize("is_drained", [False, True])
async def test_series_go_with_their_last_sample(
    storage: MetricStorage, *, is_drained: bool
) -> None:
    await write(storage, LOAD, JOBS, times=[NOW_MS - 5 * DAY_MS])
    await write(storage, JOBS, times=[NOW_MS])
    if is_drained:
        await drain_and_compact(storage)
    report = await maintain(storage, retention_days=2)
    assert report.n_series_removed == 1
    assert await storage.catalogue.series("red", [], *EVER, 0) == [JOBS]
    # Its writer learns that the id is gone, and makes the series again.
    await write(storage, LOAD, times=[NOW_MS])
    assert await times_of(storage) == {"load": [NOW_MS], "jobs": [NOW_MS]}


async def test_many_neighbouring_series_are_read_without_those_between_them(
    storage: MetricStorage,
) -> None:
    """Their ids reach the server as ranges, which leave out the series of another metric."""
    names = ["jobs" if n % 9 == 4 else "load" for n in range(2_000)]
    hosts = [make_labels(name, host=f"{n}") for n, name in enumerate(names)]
    points = {labels: [(NOW_MS - n, 0.0)] for n, labels in enumerate(hosts)}
    await storage.store.write_batch("red", make_batch(points))
    await drain_and_compact(storage)
    for wanted in ("load", "jobs"):
        (block,) = await storage.store.select("red", [select_name(wanted, *EVER)])
        of_name = [labels for labels, name in zip(hosts, names, strict=True) if name == wanted]
        assert block_rows(block) == {labels: [(points[labels][0][0], 0)] for labels in of_name}


async def test_series_go_after_a_deletion_was_worked_off(storage: MetricStorage) -> None:
    service = MaintenanceService(storage.maintenance, 0, lambda: NOW_MS)
    await write(storage, LOAD, JOBS, times=[NOW_MS - DAY_MS])
    await drain_and_compact(storage)
    assert (await service.run_once()).n_series_removed == 0
    await delete_samples(storage, "red", select_name("load", *EVER))
    assert (await service.plan()).amount_of("orphans") == 0
    await drain_and_compact(storage)
    assert (await service.plan()).amount_of("orphans") == 1
    assert (await service.run_once()).n_series_removed == 1
    assert (await service.run_once()).n_series_removed == 0
    assert await storage.catalogue.series("red", [], *EVER, 0) == [JOBS]


async def test_a_search_for_orphans_goes_on_where_the_last_one_stopped(
    storage: MetricStorage,
) -> None:
    series = [make_labels("load", host=str(number)) for number in range(5)]
    await write(storage, *series, times=[NOW_MS])
    await delete_samples(storage, "red", select_name("load", *EVER))
    await drain_and_compact(storage)
    n_removed = []
    for _ in range(5):
        async with storage.maintenance.lock() as steps:
            assert isinstance(steps, StoreSteps)
            step = OrphanStep(steps.removal, is_forced=False, series_at_once=2, max_pages=1)
            n_removed.append(await step.run(StepNotes("orphans")))
    assert n_removed == [2, 2, 1, 0, 0]


async def test_a_search_for_orphans_that_failed_somewhere_is_repeated(
    storage: MetricStorage, database_url: str
) -> None:
    """Also if the run that ended it had no failure."""
    series = [make_labels("load", host=str(number)) for number in range(4)]
    await write(storage, *series, times=[NOW_MS])
    await delete_samples(storage, "red", select_name("load", *EVER))
    await drain_and_compact(storage)
    async with storage.maintenance.lock() as steps, connected(database_url) as other:
        assert isinstance(steps, StoreSteps)
        step = OrphanStep(steps.removal, is_forced=False, series_at_once=2, max_pages=1)
        notes = StepNotes("orphans")
        async with other.transaction():
            await other.execute("LOCK TABLE series_removal IN ROW EXCLUSIVE MODE")
            assert await step.run(notes) == 0
        assert notes.failures
        assert [await step.run(StepNotes("orphans")) for _ in range(4)] == [2, 0, 2, 0]
        assert await step.run(StepNotes("orphans")) == 0
        assert await storage.catalogue.series("red", [], *EVER, 0) == []


async def test_a_series_that_gets_a_sample_before_it_is_removed_stays(
    storage: MetricStorage,
) -> None:
    await write(storage, LOAD, JOBS, times=[NOW_MS - DAY_MS])
    for name in ("load", "jobs"):
        await delete_samples(storage, "red", select_name(name, *EVER))
    async with storage.maintenance.lock() as steps:
        assert isinstance(steps, StoreSteps)
        page = await steps.removal.find(0)
        assert page is not None
        assert len(page.ids) == 2
        await write(storage, JOBS, times=[NOW_MS])
        assert await steps.removal.remove(page.ids) == 1
        assert await steps.removal.find(page.last_id) is None
    assert await times_of(storage) == {"jobs": [NOW_MS]}


async def test_hours_are_those_of_all_samples(storage: MetricStorage, database_url: str) -> None:
    hour_ms = NOW_MS - 3 * HOUR_MS
    await write(storage, LOAD, times=[hour_ms, hour_ms + 1, hour_ms + 2])
    await drain_and_compact(storage)
    await write(storage, LOAD, make_labels("load", host="b"), times=[hour_ms + 2, hour_ms + 3])
    await maintain(storage)
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT extract(epoch FROM bucket)::bigint * 1000 AS at, name, count, min, max, sum"
            " FROM metrics_hourly"
        )
    values = [float(at % 7) for at in (hour_ms + step for step in (0, 1, 2, 3, 2, 3))]
    assert [tuple(row) for row in rows] == [
        (hour_ms, "load", 6, min(values), max(values), sum(values))
    ]


async def test_deleted_samples_of_head_and_blocks_are_gone(storage: MetricStorage) -> None:
    await write(storage, LOAD, times=[NOW_MS - 2 * DAY_MS, NOW_MS - DAY_MS])
    await drain_and_compact(storage)
    await write(storage, LOAD, times=[NOW_MS - 2, NOW_MS - 1])
    matchers = (make_matcher("host", "=", "a"),)
    selection = replace(select_name("load", NOW_MS - DAY_MS - 1, NOW_MS - 2), matchers=matchers)
    assert await delete_samples(storage, "red", selection) == 2
    kept = {"load": [NOW_MS - 2 * DAY_MS, NOW_MS - 1]}
    assert await times_of(storage) == kept
    await write(storage, LOAD, times=[NOW_MS - 2])
    kept["load"].insert(1, NOW_MS - 2)
    assert await times_of(storage) == kept
    await drain_and_compact(storage)
    assert await times_of(storage) == kept
