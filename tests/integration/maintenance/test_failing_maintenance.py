"""A step of maintenance that fails stops no other, and the next run does what it left."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from promcompat.core.errors import QueryTimeoutError
from promcompat.core.maintenance import MaintenanceTask, StepNotes
from promcompat.core.ports import MaintenanceRepository, MaintenanceStep, MaintenanceSteps
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.samples.storage_options import StoreKind
from tests.integration.maintenance.test_killed_maintenance import NOW_MS, check_answers, prepare
from tests.support.storage.repositories import opened_storage
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class FailingStep:
    """Fails in place of a step."""

    name: str
    unit: str

    async def plan(self) -> int:
        raise QueryTimeoutError("planted")

    async def run(self, notes: StepNotes) -> int:
        raise QueryTimeoutError("planted")


@dataclass(slots=True)
class Failing:
    """The maintenance of a store, whose step of one name fails."""

    repository: MaintenanceRepository
    failing: str = ""
    steps: MaintenanceSteps | None = None

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        async with self.repository.lock() as self.steps:
            yield self

    def ordered(self, task: MaintenanceTask) -> Sequence[MaintenanceStep]:
        assert self.steps is not None
        return [
            FailingStep(step.name, step.unit) if step.name == self.failing else step
            for step in self.steps.ordered(task)
        ]


@pytest.mark.parametrize(
    "store", [StoreKind.BLOCKS, pytest.param(StoreKind.ROWS, marks=pytest.mark.rows)]
)
async def test_every_step_may_fail_and_the_others_are_done(
    database_url: str, store: StoreKind
) -> None:
    options = {"store": store, "now_ms": Clock(NOW_MS), "retention_days": 3}
    async with opened_storage(database_url, **options) as storage:
        maintenance = Failing(storage.maintenance)
        service = MaintenanceService(maintenance, 3, Clock(NOW_MS))
        names = [step.name for step in (await service.plan()).steps]
        assert len(names) == len(set(names)) >= 7
        for name in names:
            await prepare(storage)
            maintenance.failing = name
            report = await service.run_once()
            assert [(failure.task, failure.reason) for failure in report.failures] == [
                (name, "planted")
            ]
            assert [step.name for step in report.steps] == names
            await check_answers(storage)
        maintenance.failing = ""
        assert (await service.run_once()).failures == []
        due = {step.name for step in (await service.plan()).steps if step.amount}
        assert due <= {"drain", "merge"}
        await check_answers(storage)
