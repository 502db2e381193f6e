"""Maintenance as a loop of the service: it logs and counts its results."""

import logging

from promcompat.core.maintenance import MaintenanceFailure
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from promcompat.telemetry.maintenance import MaintenanceMetrics

_LOGGER = logging.getLogger(__name__)


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
