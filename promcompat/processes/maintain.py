"""Maintenance: as a loop of the service, and once as a command."""

import logging

from promcompat.composition import SHORT, open_repository
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.maintenance import RetainedMetric
from promcompat.loops import PeriodicLoop
from promcompat.metrics.maintenance_service import (
    MaintenanceFailure,
    MaintenanceReport,
    MaintenanceService,
)
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from sql.embedded.data_folder import read_database_url
from sql.samples.maintenance_repository import PostgresMaintenanceRepository
from sql.samples.metric_repository import PostgresMetricRepository

_LOGGER = logging.getLogger(__name__)
_PAUSE_SECONDS = 3600.0
"""Retention is in days and rollups are in hours; an hour more does not matter."""


class Maintenance:
    """Maintenance of a serving process: again and again, logged and counted."""

    def __init__(
        self, settings: Settings, repository: PostgresMetricRepository, telemetry: Telemetry
    ) -> None:
        self._service = MaintenanceService(
            PostgresMaintenanceRepository(repository.database), settings.retention_days
        )
        self._telemetry = telemetry
        self._failing: set[tuple[str, str]] = set()
        self._ignored: set[RetainedMetric] = set()

    def loop(self) -> PeriodicLoop:
        """Maintenance every hour; of all processes on a database one does it."""
        return PeriodicLoop("maintenance", _PAUSE_SECONDS, self.run_once, _PAUSE_SECONDS)

    async def run_once(self) -> None:
        """Do all there is to do now. Raises StorageUnavailableError when the database fails."""
        report = await self._service.run_once()
        if report.is_skipped:
            return
        _log_deleted(report)
        self._log_new_failures(report.failures)
        self._log_ignored(report.ignored)
        self._telemetry.maintenance.add(
            samples_deleted=report.n_deleted,
            chunks_dropped=report.n_chunks_dropped,
            hours_computed=report.n_hours_computed,
            series_removed=report.n_series_removed,
            failed_tasks=[failure.task for failure in report.failures],
        )

    def _log_new_failures(self, failures: list[MaintenanceFailure]) -> None:
        """What fails every hour is logged once, and again when it has worked in between."""
        reasons = {(failure.task, failure.subject): failure.reason for failure in failures}
        for (task, subject), reason in reasons.items():
            if (task, subject) not in self._failing:
                _LOGGER.warning(
                    "a step of maintenance failed; it is tried again every hour",
                    extra={"task": task, "subject": subject, "reason": reason},
                )
        self._failing = set(reasons)

    def _log_ignored(self, metrics: list[RetainedMetric]) -> None:
        for metric in metrics:
            if metric not in self._ignored:
                _LOGGER.warning(
                    "the retention of a definition is longer than PROMCOMPAT_RETENTION_DAYS, "
                    "which all samples are kept for at most",
                    extra={
                        "tenant": metric.tenant,
                        "metric": metric.name,
                        "days": metric.retention_days,
                    },
                )
        self._ignored = set(metrics)


async def maintain(settings: Settings) -> MaintenanceReport:
    """Do maintenance once, on the database of the settings or of the service that runs here.

    Raises PromcompatError, also when that database does not answer.
    """
    given = settings.database_url
    url = given.get_secret_value() if given else read_database_url(settings.data_dir)
    if url is None:
        raise StorageUnavailableError(
            "maintenance needs the database of a service: set PROMCOMPAT_DATABASE_URL, or start "
            "promcompat serve, which does maintenance every hour by itself"
        )
    repository = await open_repository(settings, url, SHORT)
    try:
        maintenance = PostgresMaintenanceRepository(repository.database)
        report = await MaintenanceService(maintenance, settings.retention_days).run_once()
    finally:
        await repository.close()
    _log_deleted(report)
    return report


def _log_deleted(report: MaintenanceReport) -> None:
    for metric, count in report.deleted:
        _LOGGER.info(
            "samples older than the metric's retention deleted",
            extra={"tenant": metric.tenant, "metric": metric.name, "samples": count},
        )
    if report.n_chunks_dropped:
        _LOGGER.info("chunks of samples dropped", extra={"chunks": report.n_chunks_dropped})
