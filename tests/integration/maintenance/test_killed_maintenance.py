"""Maintenance that is killed at any of its statements: the next run finishes, nothing is lost."""

import asyncio
from dataclasses import replace

import pytest

from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import StorageUnavailableError
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import block_rows, make_batch, make_labels, select_name
from tests.support.long_form import stride
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import opened_storage
from tests.support.storage.statements import KilledError, Killer, killer_of_statements
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
EVER = (-(2**60), 2**60)
KEPT_DAYS = {"plain": 3, "long": 60, "gone": 3}
TIMES = {
    "plain": [NOW_MS - age * DAY_MS + 1 for age in (0, 1, 2, 5, 6, 50)],
    "long": [
        *(NOW_MS - age * DAY_MS + 1 for age in (0, 1, 5, 50, 90)),
        *(NOW_MS - 2 * DAY_MS + 1 + 1_000 * number for number in range(250)),
    ],
    "gone": [NOW_MS - 5 * DAY_MS],
}


STRIDE = stride(7)
"""A run is killed at every so many-th statement: at each one, the test would take half a minute."""


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return killer_of_statements(monkeypatch)


async def prepare(storage: MetricStorage) -> None:
    """Samples of all ages, in arrivals, runs and blocks; one metric has to change its class."""
    for part in (0, 1, 2):
        rows = {make_labels(name): sorted(times)[part::3] for name, times in TIMES.items()}
        points = {one: [(at, 1.0) for at in found] for one, found in rows.items() if found}
        batch = make_batch(points)
        await storage.store.write_batch("red", batch)
        if part < 2:
            await storage.drains.drainer.drain_all()
    await storage.drains.compact()
    definitions = PostgresDefinitionRepository(storage.database)
    definition = replace(MetricDefinition(name="long"), retention_days=KEPT_DAYS["long"])
    await definitions.save("red", definition, 0)  # Nothing if it is there already.


async def check_answers(storage: MetricStorage) -> None:
    for name, times in TIMES.items():
        (block,) = await storage.store.select("red", [select_name(name, *EVER)])
        found = [at for rows in block_rows(block).values() for at, _ in rows]
        assert found == sorted(at for at in times if at >= NOW_MS - KEPT_DAYS[name] * DAY_MS), name


async def run_killed(
    killer: Killer, service: MaintenanceService, number: int
) -> MaintenanceReport | None:
    """The report of a run; None if it was killed, or another one still holds the lock."""
    try:
        with killer.before_statement(number):
            report = await service.run_once()
    except (KilledError, StorageUnavailableError):
        return None
    return None if report.is_skipped else report


@pytest.mark.parametrize(
    "store", [StoreKind.BLOCKS, pytest.param(StoreKind.ROWS, marks=pytest.mark.rows)]
)
async def test_the_next_run_finishes_what_was_killed_at_any_statement(
    database_url: str, database_server: DatabaseServer, killer: Killer, store: StoreKind
) -> None:
    first = 0 if database_server.edition == "postgresql" else 3
    options = {"store": store, "now_ms": Clock(NOW_MS), "retention_days": 3}
    async with opened_storage(database_url, **options) as storage:
        await prepare(storage)
        service = MaintenanceService(storage.maintenance, 3, Clock(NOW_MS))
        number, report = first, None
        while report is None:
            report = await run_killed(killer, service, number)
            await check_answers(storage)
            number += STRIDE
            assert number < 300
            # The server ends the sessions of a killed process when it notices.
            await asyncio.sleep(0.01)
        assert number > 20
        assert report.failures == []
        plan = await service.plan()
        # What was moved and what is recent may be drained and merged later.
        due = {step.name for step in plan.steps if step.amount}
        assert due <= {"drain", "merge"}
        assert await storage.catalogue.label_values("red", "__name__", [], *EVER, 0) == [
            "long",
            "plain",
        ]
