"""The repositories of a serving process, on a database that answers."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from promcompat.alerting.deliveries import Notifier
from promcompat.composition.options import database_options, storage_options
from promcompat.configuration.settings import Settings
from promcompat.core.errors import DatabaseRefusedError
from promcompat.core.limits.tenant_limits import Limits
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
from sql.database.connecting import describe_place
from sql.database.connection_pool import Pool, PoolOptions, open_pool
from sql.database.database import LEAST_CONNECTIONS, Database, DatabaseOptions
from sql.database.database_check import allowed_connections, check_database
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.repositories.dashboard_repository import PostgresDashboardRepository
from sql.repositories.exemplar_repository import PostgresExemplarRepository
from sql.repositories.override_repository import PostgresLimitOverrides
from sql.repositories.remediation_repository import PostgresRemediationRepository
from sql.samples.metric_storage import MetricStorage

_LOGGER = logging.getLogger(__name__)


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
        wanted = _fitting(database_options(settings), await allowed_connections(url), settings)
        return await MetricStorage.open(url, options, wanted)

    return await try_until_answered(attempt, patience)


def _fitting(wanted: DatabaseOptions, allowed: int, settings: Settings) -> DatabaseOptions:
    """The options of one of the processes that share the `allowed` connections."""
    share = allowed // settings.workers
    if share < LEAST_CONNECTIONS:
        raise DatabaseRefusedError(
            f"cannot use {describe_place(database_url(settings))}: it allows this user {allowed} "
            f"connections, and each of {settings.workers} workers needs {LEAST_CONNECTIONS} at "
            f"least and uses up to {wanted.most_connections}; raise max_connections of the server, "
            "or CONNECTION LIMIT of the user or the database"
        )
    if share < wanted.most_connections:
        _LOGGER.warning(
            "the database allows fewer connections than the service would use",
            extra={"allowed": allowed, "wanted": settings.workers * wanted.most_connections},
        )
    return wanted.within(share)


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
    options = PoolOptions(
        max_size=database.options.alert_connections,
        statement_timeout_seconds=60.0,
        # A session is idle while the queries of a group of rules run.
        idle_in_transaction_seconds=300.0,
        application_name="promcompat alerts",
    )
    pool = await open_pool(database_url(settings), options)
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
    )
