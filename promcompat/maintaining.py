"""Maintenance: as a loop of the service, and once as a command."""

import logging

from promcompat.app import SHORT, open_repository
from promcompat.background import PeriodicLoop
from promcompat.core.errors import StorageUnavailableError
from promcompat.services.maintenance_service import MaintenanceReport, MaintenanceService
from promcompat.settings import Settings
from sql.embedded.data_folder import read_database_url
from sql.storage.maintenance_repository import PostgresMaintenanceRepository
from sql.storage.metric_repository import PostgresMetricRepository

_LOGGER = logging.getLogger(__name__)
_PAUSE_SECONDS = 3600.0
"""Retention is in days; an hour more does not matter."""


def maintenance_loop(repository: PostgresMetricRepository) -> PeriodicLoop:
    """Maintenance every hour; of all processes on a database one does it."""
    return PeriodicLoop(
        "maintenance", _PAUSE_SECONDS, lambda: run_maintenance(repository), _PAUSE_SECONDS
    )


async def run_maintenance(repository: PostgresMetricRepository) -> MaintenanceReport:
    """Do maintenance once and log what was done."""
    service = MaintenanceService(PostgresMaintenanceRepository(repository.database))
    report = await service.run_once()
    for metric, count in report.deleted:
        _LOGGER.info(
            "samples older than the metric's retention deleted",
            extra={"tenant": metric.tenant, "metric": metric.name, "samples": count},
        )
    return report


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
        return await run_maintenance(repository)
    finally:
        await repository.close()
