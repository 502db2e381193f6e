"""Maintenance as a loop of the service: it logs and counts its results."""

import logging

from promcompat.core.maintenance import RetainedMetric
from promcompat.metrics.maintenance_service import (
    MaintenanceFailure,
    MaintenanceReport,
    MaintenanceService,
)
from promcompat.telemetry import MaintenanceMetrics

_LOGGER = logging.getLogger(__name__)


class PeriodicMaintenance:
    """Runs maintenance in a serving process, logs it and counts it."""

    def __init__(self, service: MaintenanceService, metrics: MaintenanceMetrics) -> None:
        self._service = service
        self._metrics = metrics
        self._failing: set[tuple[str, str]] = set()
        self._ignored: set[RetainedMetric] = set()

    async def run_once(self) -> None:
        """Do everything that is due. Raises StorageUnavailableError when the database fails."""
        report = await self._service.run_once()
        if report.is_skipped:
            return
        log_deleted(report)
        self._log_new_failures(report.failures)
        self._log_ignored(report.ignored)
        self._metrics.add(
            samples_deleted=report.n_deleted,
            chunks_dropped=report.n_chunks_dropped,
            hours_computed=report.n_hours_computed,
            series_removed=report.n_series_removed,
            failed_tasks=[failure.task for failure in report.failures],
        )

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

    def _log_ignored(self, metrics: list[RetainedMetric]) -> None:
        for metric in metrics:
            if metric not in self._ignored:
                _LOGGER.warning(
                    "the retention of a definition has no effect because it is longer than "
                    "PROMCOMPAT_RETENTION_DAYS",
                    extra={
                        "tenant": metric.tenant,
                        "metric": metric.name,
                        "days": metric.retention_days,
                    },
                )
        self._ignored = set(metrics)


def log_deleted(report: MaintenanceReport) -> None:
    """Log what a run deleted."""
    for metric, count in report.deleted:
        _LOGGER.info(
            "deleted samples older than the retention of their metric",
            extra={"tenant": metric.tenant, "metric": metric.name, "samples": count},
        )
    if report.n_chunks_dropped:
        _LOGGER.info("dropped chunks of samples", extra={"chunks": report.n_chunks_dropped})
