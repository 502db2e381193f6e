"""The repositories of a serving process, on a database that answers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from promcompat.alerting.deliveries import Notifier
from promcompat.composition.options import database_options, storage_options
from promcompat.configuration.settings import Settings
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.ports import MaintenanceRepository
from promcompat.database import (
    ENDLESS,
    Patience,
    database_url,
    try_until_answered,
)
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.delivery_repository import PostgresLabelSetStates, PostgresStepDeliveries
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.alerting.silence_repository import PostgresSilenceRepository
from sql.dashboards.dashboard_repository import PostgresDashboardRepository
from sql.database.connection_pool import Pool, PoolOptions, open_pool
from sql.database.database import Database
from sql.database.database_check import check_database
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.exemplars.exemplar_repository import PostgresExemplarRepository
from sql.limits.override_repository import PostgresLimitOverrides
from sql.remediations.remediation_repository import PostgresRemediationRepository
from sql.samples.metric_storage import MetricStorage

_ALERT_POOL: Final = PoolOptions(
    max_size=8,
    statement_timeout_seconds=60.0,
    # A session is idle while the queries of a group of rules run.
    idle_in_transaction_seconds=300.0,
    application_name="promcompat alerts",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The repositories of a serving process."""

    database: Database
    metrics: MetricStorage
    exemplars: PostgresExemplarRepository
    limit_overrides: PostgresLimitOverrides
    definitions: PostgresDefinitionRepository
    rules: PostgresRuleRepository
    dashboards: PostgresDashboardRepository
    alerts: PostgresAlertRepository
    silences: PostgresSilenceRepository
    states: PostgresLabelSetStates
    steps: PostgresStepDeliveries
    remediations: PostgresRemediationRepository
    maintenance: MaintenanceRepository


async def connect_storage(
    settings: Settings,
    patience: Patience = ENDLESS,
    *,
    is_checked: bool = False,
    limits: Limits | None = None,
) -> MetricStorage:
    """Connect to the migrated database of the settings as soon as it answers.

    `is_checked`: this process, or its parent, has found already that the database can be used.
    Without `limits`, all tenants have those of the settings.
    Raises NoDatabaseError, DatabaseRefusedError when the database can never be used with these
    settings, and StorageUnavailableError when patience ends.
    """
    url, options = database_url(settings), storage_options(settings, limits)

    async def attempt() -> MetricStorage:
        if not is_checked:
            await check_database(url)
        return await MetricStorage.open(url, options, database_options(settings))

    return await try_until_answered(attempt, patience)


@asynccontextmanager
async def open_storage(settings: Settings, patience: Patience) -> AsyncIterator[MetricStorage]:
    """Storage of metrics for the time of a block; errors as in `connect_storage`."""
    metrics = await connect_storage(settings, patience)
    try:
        yield metrics
    finally:
        await metrics.close()


@asynccontextmanager
async def open_alert_pool(settings: Settings, database: Database) -> AsyncIterator[Pool]:
    """Connections for alerting, whose transactions are long."""
    pool = await open_pool(database_url(settings), _ALERT_POOL)
    database.heartbeat.watch(pool)
    try:
        yield pool
    finally:
        await pool.close()


def build_storage(
    metrics: MetricStorage,
    alert_pool: Pool,
    webhooks: Sequence[Notifier],
    now_ms: Callable[[], int],
) -> Storage:
    database, step_receivers = metrics.database, [webhook.name for webhook in webhooks]
    return Storage(
        database=database,
        metrics=metrics,
        exemplars=PostgresExemplarRepository(database),
        limit_overrides=PostgresLimitOverrides(database),
        definitions=PostgresDefinitionRepository(database),
        rules=PostgresRuleRepository(database),
        dashboards=PostgresDashboardRepository(database),
        alerts=PostgresAlertRepository(
            database, alert_pool, metrics.sample_lookup, step_receivers, now_ms
        ),
        silences=PostgresSilenceRepository(database, alert_pool),
        states=PostgresLabelSetStates(alert_pool),
        steps=PostgresStepDeliveries(alert_pool),
        remediations=PostgresRemediationRepository(database),
        maintenance=metrics.maintenance,
    )
