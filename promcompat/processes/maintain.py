"""`promcompat maintain`: maintenance once, for people whose scheduler runs it."""

import sys

import uvloop

from promcompat.composition.storage import open_storage
from promcompat.database import SHORT
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from promcompat.metrics.periodic_maintenance import log_deleted
from promcompat.settings import Settings


def run_maintain(settings: Settings) -> int:
    """Do maintenance and print what was done; exit code 1 when a step failed.

    Raises PromcompatError, also when the database does not answer.
    """
    report = uvloop.run(_maintain(settings))
    log_deleted(report)
    if report.is_skipped:
        sys.stdout.write("Another process is running maintenance right now.\n")
    else:
        sys.stdout.write(
            f"{report.n_deleted} samples deleted, {report.n_chunks_dropped} chunks dropped, "
            f"{report.n_hours_computed} hours computed, {report.n_series_removed} series removed.\n"
        )
    for failure in report.failures:
        sys.stderr.write(f"promcompat: {failure.task}: {failure.subject}: {failure.reason}\n")
    return 1 if report.failures else 0


async def _maintain(settings: Settings) -> MaintenanceReport:
    async with open_storage(settings, SHORT) as storage:
        service = MaintenanceService(storage.maintenance, storage.store, settings.retention_days)
        return await service.run_once()
