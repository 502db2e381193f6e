"""Maintenance of a whole database: what the store of samples does, and what comes after that."""

from promcompat.composition.options import exemplar_limits
from promcompat.configuration.settings import Settings
from promcompat.limits.current_limits import CurrentLimits
from promcompat.metrics.exemplar_service import ExemplarStep
from promcompat.metrics.maintenance_service import MaintenanceService
from sql.repositories.exemplar_repository import PostgresExemplarRepository
from sql.samples.metric_storage import MetricStorage
from sql.series.metadata import MetadataStep
from sql.series.starts import SeriesStartStep


def make_maintenance(
    metrics: MetricStorage, settings: Settings, current: CurrentLimits
) -> MaintenanceService:
    """The one ordered job, which the service and `promcompat maintain` run."""
    exemplars = PostgresExemplarRepository(metrics.database)
    return MaintenanceService(
        metrics.maintenance,
        settings.retention_days,
        further_steps=[
            ExemplarStep(exemplars, exemplar_limits(settings, current)),
            SeriesStartStep(metrics.database.write_pool),
            MetadataStep(metrics.database.write_pool),
        ],
    )
