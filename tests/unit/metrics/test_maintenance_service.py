"""What one run of maintenance does when steps of it fail."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from promcompat.core.errors import ConnectionLostError, PromcompatError, QueryTimeoutError
from promcompat.core.maintenance import MaintenanceFailure, MaintenanceTask, StepNotes, StepReport
from promcompat.core.ports import MaintenanceStep, MaintenanceSteps
from promcompat.metrics.maintenance_service import MaintenanceService


@dataclass(slots=True)
class Step:
    """Does two things of its unit for each subject, unless the subject fails."""

    name: str
    subjects: Sequence[str] = ("one",)
    fault: PromcompatError | None = None
    failing: Sequence[str] = ()
    unit: str = "things"
    done: list[str] = field(default_factory=list)

    async def plan(self) -> int:
        if self.fault is not None:
            raise self.fault
        return 2 * len(self.subjects)

    async def run(self, notes: StepNotes) -> int:
        if self.fault is not None:
            raise self.fault
        for subject in self.subjects:
            await notes.attempt(subject, self._work(subject))
        return 2 * len(self.done)

    async def _work(self, subject: str) -> None:
        if subject in self.failing:
            raise QueryTimeoutError("too slow")
        self.done.append(subject)


@dataclass(slots=True)
class Steps:
    """The steps of a store; `is_held`: another process does maintenance."""

    steps: Sequence[Step]
    is_held: bool = False
    tasks: list[MaintenanceTask] = field(default_factory=list)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        yield None if self.is_held else self

    def ordered(self, task: MaintenanceTask) -> Sequence[MaintenanceStep]:
        self.tasks.append(task)
        return self.steps


async def test_a_subject_that_fails_stops_no_other() -> None:
    step = Step("retain", subjects=("a", "bad", "c"), failing=("bad",))
    report = await MaintenanceService(Steps([step]), 30).run_once()
    assert step.done == ["a", "c"]
    assert report.failures == [MaintenanceFailure("retain", "bad", "too slow")]
    assert [(one.amount, one.n_failures) for one in report.steps] == [(4, 1)]


async def test_a_step_that_fails_stops_no_other() -> None:
    for failing in range(3):
        steps = [Step(name) for name in ("drain", "retain", "orphans")]
        steps[failing].fault = QueryTimeoutError("too slow")
        report = await MaintenanceService(Steps(steps), 30).run_once()
        name = steps[failing].name
        assert report.failures == [MaintenanceFailure(name, name, "too slow")]
        assert [step.done for step in steps] == [[] if step.fault else ["one"] for step in steps]


async def test_a_lost_connection_ends_the_run() -> None:
    steps = [Step("drain", fault=ConnectionLostError("gone")), Step("retain")]
    with pytest.raises(ConnectionLostError):
        await MaintenanceService(Steps(steps), 30).run_once()
    assert steps[1].done == []


async def test_progress_is_told_step_by_step() -> None:
    told: list[StepReport] = []
    report = await MaintenanceService(Steps([Step("a"), Step("b")]), 30).run_once(told.append)
    assert [(one.name, one.amount, one.unit) for one in told] == [
        ("a", 2, "things"),
        ("b", 2, "things"),
    ]
    assert told == report.steps


async def test_a_plan_does_nothing_and_says_what_cannot_be_told() -> None:
    steps = [Step("a", fault=QueryTimeoutError("too slow")), Step("b", subjects=("x", "y"))]
    report = await MaintenanceService(Steps(steps), 30).plan()
    assert [(one.name, one.amount) for one in report.steps] == [("a", 0), ("b", 4)]
    assert report.failures == [MaintenanceFailure("a", "plan", "too slow")]
    assert steps[1].done == []


async def test_only_the_first_run_of_a_process_is_the_first() -> None:
    steps = Steps([Step("a")])
    service = MaintenanceService(steps, 30, lambda: 7)
    await service.plan()
    await service.run_once()
    await service.run_once()
    assert steps.tasks == [MaintenanceTask(30, 7, is_first) for is_first in (True, True, False)]


async def test_while_another_process_does_it_nothing_is_done() -> None:
    step = Step("a")
    report = await MaintenanceService(Steps([step], is_held=True), 30).run_once()
    assert report.is_skipped
    assert step.done == []
