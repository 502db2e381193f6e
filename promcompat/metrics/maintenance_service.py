"""Maintains the database: one ordered job, which one process at a time does.

The steps are those of the store. Each is made of transactions of its own. A step that fails is
reported, and the others still run.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from promcompat.core.clock import wall_clock_ms
from promcompat.core.maintenance import (
    MaintenanceFailure,
    MaintenanceTask,
    StepNotes,
    StepReport,
)
from promcompat.core.ports import MaintenanceRepository, MaintenanceStep
from promcompat.telemetry.maintenance import MaintenanceMetrics

_LOGGER = logging.getLogger(__name__)


def ignore_step(report: StepReport) -> None:
    """Told of each step; for callers that do not show progress."""


@dataclass(slots=True)
class MaintenanceReport:
    """The results of one run: what each step did, and what failed.

    `is_skipped`: another process was doing maintenance, so this run did nothing.
    """

    steps: list[StepReport] = field(default_factory=list)
    failures: list[MaintenanceFailure] = field(default_factory=list)
    is_skipped: bool = False

    def amount_of(self, *steps: str) -> int:
        """How much some steps did together; those that a store does not have did nothing."""
        return sum(one.amount for one in self.steps if one.name in steps)

    @property
    def n_deleted(self) -> int:
        """The number of samples deleted one by one, without those of dropped chunks."""
        return self.amount_of("delete expired")

    @property
    def n_chunks_dropped(self) -> int:
        """The number of chunks or partitions dropped."""
        return self.amount_of("retain", "empty chunks")

    @property
    def n_hours_computed(self) -> int:
        """The number of hours computed for `metrics_hourly`."""
        return self.amount_of("hours")

    @property
    def n_series_removed(self) -> int:
        """The number of series removed because they had no sample left."""
        return self.amount_of("orphans")


class MaintenanceService:
    """Runs maintenance in one process at a time."""

    def __init__(
        self,
        repository: MaintenanceRepository,
        retention_days: int,
        now_ms: Callable[[], int] = wall_clock_ms,
        further_steps: Sequence[MaintenanceStep] = (),
    ) -> None:
        """Samples are kept for `retention_days` (0: forever).

        `further_steps` come after those of the store: they maintain what it does not store.
        """
        self._repository = repository
        self._retention_days = retention_days
        self._now_ms = now_ms
        self._further_steps = tuple(further_steps)
        self._is_first_run = True

    async def run_once(
        self, on_step: Callable[[StepReport], None] = ignore_step
    ) -> MaintenanceReport:
        """Do everything that is due; `on_step` is told of each step when it has ended.

        Raises StorageUnavailableError when the database fails.
        """
        async with self._repository.lock() as steps:
            if steps is None:
                return MaintenanceReport(is_skipped=True)
            task = self._task()
            self._is_first_run = False
            report = MaintenanceReport()
            for step in (*steps.ordered(task), *self._further_steps):
                notes, started = StepNotes(step.name), time.perf_counter()
                amount = await notes.attempt(step.name, step.run(notes)) or 0
                _add(report, step, amount, started, notes)
                on_step(report.steps[-1])
            return report

    async def plan(self) -> MaintenanceReport:
        """What each step of `run_once` would do now, without doing it. Raises as `run_once`."""
        report = MaintenanceReport()
        async with self._repository.lock() as steps:
            if steps is None:
                return MaintenanceReport(is_skipped=True)
            for step in (*steps.ordered(self._task()), *self._further_steps):
                notes, started = StepNotes(step.name), time.perf_counter()
                amount = await notes.attempt("plan", step.plan()) or 0
                _add(report, step, amount, started, notes)
        return report

    def _task(self) -> MaintenanceTask:
        return MaintenanceTask(self._retention_days, self._now_ms(), self._is_first_run)


def _add(
    report: MaintenanceReport, step: MaintenanceStep, amount: int, started: float, notes: StepNotes
) -> None:
    """Add what a step did, since `started`, to the report of a run."""
    seconds, n_failures = time.perf_counter() - started, len(notes.failures)
    report.steps.append(StepReport(step.name, amount, step.unit, seconds, n_failures))
    report.failures += notes.failures


class PeriodicMaintenance:
    """Runs maintenance in a serving process, logs it and counts it."""

    def __init__(self, service: MaintenanceService, metrics: MaintenanceMetrics) -> None:
        self._service = service
        self._metrics = metrics
        self._failing: set[tuple[str, str]] = set()

    async def run_once(self) -> None:
        """Do everything that is due. Raises StorageUnavailableError when the database fails."""
        report = await self._service.run_once()
        if report.is_skipped:
            return
        log_deleted(report)
        self._log_new_failures(report.failures)
        self._metrics.add(
            samples_deleted=report.n_deleted,
            chunks_dropped=report.n_chunks_dropped,
            hours_computed=report.n_hours_computed,
            series_removed=report.n_series_removed,
            failed_tasks=[failure.task for failure in report.failures],
        )
        self._metrics.add_steps(report.steps)

    def _log_new_failures(self, failures: list[MaintenanceFailure]) -> None:
        """Log a step that fails every hour once, and again after it has succeeded in between."""
        reasons = {(failure.task, failure.subject): failure.reason for failure in failures}
        for (task, subject), reason in reasons.items():
            if (task, subject) not in self._failing:
                _LOGGER.warning(
                    "a maintenance step failed; it is retried every hour",
                    extra={"task": task, "subject": subject, "reason": reason},
                )
        self._failing = set(reasons)


def log_deleted(report: MaintenanceReport) -> None:
    """Log what a run deleted."""
    if report.n_chunks_dropped:
        _LOGGER.info("dropped chunks of samples", extra={"chunks": report.n_chunks_dropped})
