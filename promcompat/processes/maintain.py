"""`promcompat maintain`: maintenance once, for people whose scheduler runs it."""

import sys

import uvloop

from promcompat.composition.limits import stored_limits
from promcompat.composition.maintenance import make_maintenance
from promcompat.composition.storage import open_storage
from promcompat.configuration.settings import Settings
from promcompat.core.maintenance import StepReport
from promcompat.database import SHORT
from promcompat.metrics.maintenance_service import MaintenanceReport, log_deleted


def run_maintain(settings: Settings, *, is_dry_run: bool = False) -> int:
    """Do maintenance and print what each step did; exit code 1 when a part of one failed.

    `is_dry_run`: print what each step would do, and do nothing. Raises PromcompatError, also when
    the database does not answer.
    """
    report = uvloop.run(_maintain(settings, is_dry_run=is_dry_run))
    log_deleted(report)
    if report.is_skipped:
        sys.stdout.write("Another process is running maintenance right now.\n")
    elif is_dry_run:
        _print_plan(report)
    else:
        sys.stdout.write(
            f"{report.n_deleted} samples deleted, {report.n_chunks_dropped} chunks dropped, "
            f"{report.n_hours_computed} hours computed, {report.n_series_removed} series removed.\n"
        )
    for failure in report.failures:
        sys.stderr.write(f"promcompat: {failure.task}: {failure.subject}: {failure.reason}\n")
    return 1 if report.failures else 0


async def _maintain(settings: Settings, *, is_dry_run: bool) -> MaintenanceReport:
    async with open_storage(settings, SHORT) as storage:
        limits = await stored_limits(settings, storage.database)
        service = make_maintenance(storage, settings, limits)
        return await (service.plan() if is_dry_run else service.run_once(_print_step))


def _print_step(step: StepReport) -> None:
    failed = f", {step.n_failures} failures" if step.n_failures else ""
    sys.stdout.write(f"{step.name}: {step.amount:,} {step.unit} in {step.seconds:.1f} s{failed}\n")
    sys.stdout.flush()


def _print_plan(report: MaintenanceReport) -> None:
    for step in report.steps:
        sys.stdout.write(f"{step.name}: {step.amount:,} {step.unit} are due\n")
