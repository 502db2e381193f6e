"""The composition root: settings become storage and services. What runs them is in `processes`."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from promcompat.alerting.alerts import AlertService
from promcompat.alerting.deliveries import Notifier, StateNotifications, StepNotifications
from promcompat.alerting.evaluator import RuleEvaluator
from promcompat.alerting.rules import RuleLimits, RuleService
from promcompat.alerting.senders import HttpSender, build_alertmanagers, build_webhooks
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.thresholds import ThresholdAlerts
from promcompat.core.label_limits import LabelLimits
from promcompat.core.ports import MaintenanceRepository
from promcompat.core.remediation import RemediationCheck, RemediationJournal
from promcompat.database import (
    ENDLESS,
    Patience,
    database_url,
    is_own_database,
    try_until_answered,
)
from promcompat.metrics.correction_service import CorrectionService
from promcompat.metrics.definition_service import DefinitionService
from promcompat.metrics.maintenance_service import MaintenanceService
from promcompat.metrics.metric_service import MetricService
from promcompat.metrics.periodic_maintenance import PeriodicMaintenance
from promcompat.metrics.snapshot_service import SnapshotService
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.querying.query_service import QueryService
from promcompat.querying.result_cache import RangeResultCache
from promcompat.remediation.actions import ActionPolicy
from promcompat.remediation.conditions import AlertConditionChecker
from promcompat.remediation.payloads import REMEDIATION_WORKFLOW
from promcompat.remediation.registry import RegistryError, load_registered
from promcompat.remediation.service import RemediationService
from promcompat.remediation.spec_check import SpecChecker
from promcompat.remediation.starts import RemediationStarts
from promcompat.remediation.temporal import TemporalOptions, UnconfiguredRemediationLauncher
from promcompat.services import Receivers, Services
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from promql.engine import Engine, EngineOptions
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.delivery_repository import PostgresLabelSetStates, PostgresStepDeliveries
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.database.connection_pool import Pool, PoolOptions, open_pool
from sql.database.database import Database, DatabaseOptions
from sql.database.database_check import check_database
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.embedded.client_programs import dump_snapshot
from sql.pushdown.rule_choice import PushdownMode
from sql.remediations.remediation_repository import PostgresRemediationRepository
from sql.samples.draining.drainer import DrainOptions
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StorageOptions, StoreKind
from sql.samples.writing.backlog import BacklogLimits

if TYPE_CHECKING:
    from promcompat.remediation.launcher import TemporalRemediationLauncher

_LOGGER = logging.getLogger(__name__)
_ALERT_POOL: Final = PoolOptions(
    max_size=4,
    statement_timeout_seconds=60.0,
    # A session is idle while the queries of a group of rules run.
    idle_in_transaction_seconds=300.0,
    application_name="promcompat alerts",
)


# Settings as the options of each part.


def engine_options(settings: Settings) -> EngineOptions:
    """The limits of queries."""
    return EngineOptions(
        lookback_delta_ms=settings.query_lookback_delta,
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        max_shared_memory_bytes=settings.queries_max_memory_bytes
        or 2 * settings.query_max_memory_bytes,
        timeout_seconds=settings.query_timeout / 1000,
        delayed_name_removal=settings.delayed_name_removal,
        default_subquery_step_ms=settings.query_default_step,
        max_concurrency=settings.query_max_concurrency,
    )


def database_options(settings: Settings) -> DatabaseOptions:
    """The limits of connections."""
    return DatabaseOptions(
        query_timeout_seconds=settings.query_timeout / 1000,
        is_own_server=is_own_database(settings),
        max_tenants=settings.max_tenants,
    )


def storage_options(settings: Settings) -> StorageOptions:
    """The limits of what is kept and remembered."""
    return StorageOptions(
        store=None if settings.store is None else StoreKind(settings.store),
        max_samples=settings.query_max_samples,
        max_memory_bytes=settings.query_max_memory_bytes,
        sample_cache_bytes=settings.query_sample_cache_bytes,
        max_head_bytes=settings.head_bytes,
        series_cache_bytes=settings.series_cache_bytes,
        label_limits=label_limits(settings),
        pushdown=PushdownMode.AUTO if settings.pushdown else PushdownMode.OFF,
        alert_max_sample_age_ms=settings.alert_max_sample_age,
        backlog=backlog_limits(settings),
        drains=drain_options(settings),
    )


def backlog_limits(settings: Settings) -> BacklogLimits:
    """How much may wait to be drained."""
    max_bytes = settings.max_undrained_bytes
    of_tenant = settings.max_tenant_undrained_bytes or max_bytes * 3 // 4
    return BacklogLimits(max_bytes=max_bytes, max_tenant_bytes=of_tenant)


def drain_options(settings: Settings) -> DrainOptions:
    """Draining begins at half of what fits into the head, and of what may wait of a tenant."""
    backlog = backlog_limits(settings)
    most = min(settings.head_bytes, backlog.max_bytes, backlog.max_tenant_bytes)
    return DrainOptions(start_bytes=most // 2)


def label_limits(settings: Settings) -> LabelLimits:
    """How large a series may be."""
    return LabelLimits(
        max_names=settings.max_label_names_per_series,
        max_names_of_info=settings.max_label_names_per_info_series,
        max_name_bytes=settings.max_label_name_bytes,
        max_value_bytes=settings.max_label_value_bytes,
        max_metadata_bytes=settings.max_metadata_bytes,
    )


def action_policy(settings: Settings) -> ActionPolicy:
    """What the operator lets remediations touch."""
    return ActionPolicy(
        commands=settings.remediation_commands,
        http_hosts=frozenset(settings.remediation_http_hosts),
        sql_functions=frozenset(settings.remediation_sql_functions),
    )


def temporal_options(settings: Settings, address: str) -> TemporalOptions:
    """How to reach the Temporal at an address."""
    api_key = settings.temporal_api_key
    return TemporalOptions(
        address=address,
        namespace=settings.temporal_namespace,
        api_key=api_key.get_secret_value() if api_key else None,
        uses_tls=settings.temporal_tls,
        timeout_seconds=settings.temporal_timeout / 1000,
    )


# Storage.


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The repositories of a serving process."""

    database: Database
    metrics: MetricStorage
    definitions: PostgresDefinitionRepository
    rules: PostgresRuleRepository
    alerts: PostgresAlertRepository
    states: PostgresLabelSetStates
    steps: PostgresStepDeliveries
    remediations: PostgresRemediationRepository
    maintenance: MaintenanceRepository


async def connect_storage(
    settings: Settings, patience: Patience = ENDLESS, *, is_checked: bool = False
) -> MetricStorage:
    """Connect to the migrated database of the settings as soon as it answers.

    `is_checked`: this process, or its parent, has found already that the database can be used.
    Raises NoDatabaseError, DatabaseRefusedError when the database can never be used with these
    settings, and StorageUnavailableError when patience ends.
    """
    url = database_url(settings)

    async def attempt() -> MetricStorage:
        if not is_checked:
            await check_database(url)
        return await MetricStorage.open(url, storage_options(settings), database_options(settings))

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
async def _open_alert_pool(settings: Settings, database: Database) -> AsyncIterator[Pool]:
    """Connections for alerting, whose transactions are long."""
    pool = await open_pool(database_url(settings), _ALERT_POOL)
    database.heartbeat.watch(pool)
    try:
        yield pool
    finally:
        await pool.close()


def _build_storage(
    metrics: MetricStorage,
    alert_pool: Pool,
    webhooks: Sequence[Notifier],
    now_ms: Callable[[], int],
) -> Storage:
    database, step_receivers = metrics.database, [webhook.name for webhook in webhooks]
    return Storage(
        database=database,
        metrics=metrics,
        definitions=PostgresDefinitionRepository(database),
        rules=PostgresRuleRepository(database),
        alerts=PostgresAlertRepository(
            database, alert_pool, metrics.sample_lookup, step_receivers, now_ms
        ),
        states=PostgresLabelSetStates(alert_pool),
        steps=PostgresStepDeliveries(alert_pool),
        remediations=PostgresRemediationRepository(database),
        maintenance=metrics.maintenance,
    )


# Services.


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Everything behind the HTTP application of a serving process."""

    storage: Storage
    services: Services


@asynccontextmanager
async def open_backend(
    settings: Settings,
    telemetry: Telemetry,
    external_url: str,
    patience: Patience = ENDLESS,
    large_query_ended: Callable[[], None] = lambda: None,
) -> AsyncIterator[Backend]:
    """Storage and services on a migrated database that is known to be usable.

    `external_url` is where people reach this service; `large_query_ended` as in Engine. At the end
    of the block waiting writes are answered. Errors as in `connect_storage`.
    """
    metric_storage = await connect_storage(settings, patience, is_checked=True)
    sender = HttpSender()
    try:
        metrics = _build_metric_service(settings, metric_storage)
        async with _open_alert_pool(settings, metric_storage.database) as pool:
            alertmanagers, webhooks = _build_notifiers(settings, sender, external_url)
            storage = _build_storage(metric_storage, pool, webhooks, metrics.now_ms)
            if settings.alerting:
                await metric_storage.threshold_watch.refresh()
            services = _ServiceBuilder(
                settings=settings,
                storage=storage,
                metrics=metrics,
                queries=build_query_service(settings, metric_storage, large_query_ended),
                alertmanagers=alertmanagers,
                webhooks=webhooks,
                external_url=external_url,
                check_remediation=build_remediation_check(settings),
                launcher=_build_launcher(settings, storage.remediations),
            ).build(telemetry)
            yield Backend(storage=storage, services=services)
    finally:
        await sender.close()
        await metric_storage.close()
        telemetry.storage.update(asdict(metric_storage.stats))


def _build_metric_service(settings: Settings, storage: MetricStorage) -> MetricService:
    return MetricService(
        storage.store,
        storage.catalogue,
        max_future_ms=settings.max_future,
        label_limits=label_limits(settings),
    )


def build_query_service(
    settings: Settings,
    storage: MetricStorage,
    large_query_ended: Callable[[], None] = lambda: None,
) -> QueryService:
    """Queries over one storage of metrics; `large_query_ended` as in Engine."""
    engine = Engine(storage.store, engine_options(settings), large_query_ended)
    cache = build_range_cache(settings, engine, storage)
    return QueryService(storage.store, engine, cache=cache)


def build_range_cache(
    settings: Settings, engine: Engine, storage: MetricStorage
) -> RangeResultCache | None:
    """The cache of range queries' answers; None where it could not be used.

    With delayed name removal label sets are compared over all steps at once, so that no step is
    independent of the others.
    """
    if not settings.query_cache_bytes or settings.delayed_name_removal:
        return None
    cache = RangeResultCache(engine, storage.store, max_bytes=settings.query_cache_bytes)
    storage.database.guard.on_step_back(cache.forget)
    return cache


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServiceBuilder:
    """Builds the services of a serving process from what several of them need."""

    settings: Settings
    storage: Storage
    metrics: MetricService
    queries: QueryService
    alertmanagers: Sequence[Notifier]
    webhooks: Sequence[Notifier]
    external_url: str
    check_remediation: RemediationCheck
    launcher: "TemporalRemediationLauncher | UnconfiguredRemediationLauncher"
    stats: AlertingStats = field(default_factory=AlertingStats)

    def build(self, telemetry: Telemetry) -> Services:
        """Every service."""
        storage, metrics = self.storage, self.metrics
        return Services(
            database=storage.database.capabilities.describe(),
            metrics=metrics,
            queries=self.queries,
            native_queries=NativeQueryService(
                storage.metrics.sample_lists,
                storage.metrics.catalogue,
                storage.definitions,
                self.queries,
            ),
            definitions=self._definitions(),
            corrections=CorrectionService(storage.metrics.corrections, storage.definitions),
            snapshots=SnapshotService(
                self.settings.data_dir.expanduser() / "snapshots",
                partial(dump_snapshot, database_url(self.settings)),
            ),
            rules=self._rules(),
            alerts=AlertService(
                storage.alerts,
                metrics,
                max_silences=self.settings.max_silences,
                receivers=[*self.alertmanagers, *self.webhooks],
            ),
            remediations=RemediationService(
                storage.remediations, storage.remediations, self.launcher
            ),
            rule_evaluator=RuleEvaluator(
                storage.alerts, metrics, self.queries, self.stats, self.external_url
            ),
            thresholds=self._thresholds(),
            receivers=self._receivers(),
            remediation_starts=self._remediation_starts(),
            maintenance=PeriodicMaintenance(
                MaintenanceService(
                    storage.maintenance, storage.metrics.store, self.settings.retention_days
                ),
                telemetry.maintenance,
            ),
            alerting_stats=self.stats,
            launcher_stats=self.launcher.stats,
        )

    def _definitions(self) -> DefinitionService:
        return DefinitionService(
            self.storage.definitions,
            self.storage.metrics.threshold_watch.catch_up,
            self.settings.max_definitions,
            self.check_remediation,
        )

    def _rules(self) -> RuleService:
        return RuleService(
            self.storage.rules,
            self.storage.alerts,
            self.storage.definitions,
            RuleLimits(self.settings.max_rules, self.settings.max_rules_per_group),
            self.check_remediation,
        )

    def _thresholds(self) -> ThresholdAlerts:
        return ThresholdAlerts(
            self.storage.alerts,
            self.storage.definitions,
            self.metrics,
            self.stats,
            self.metrics.now_ms,
            max_sample_age_ms=self.settings.alert_max_sample_age,
            expiry_ms=self.settings.threshold_expiry,
        )

    def _receivers(self) -> Receivers:
        storage, now_ms = self.storage, self.metrics.now_ms
        return Receivers(
            alertmanagers=self.alertmanagers,
            webhooks=self.webhooks,
            states=StateNotifications(storage.states, storage.alerts, self.stats, now_ms),
            steps=StepNotifications(
                storage.steps,
                storage.alerts,
                self.stats,
                retry_ms=self.settings.notification_retry,
                max_waiting=self.settings.max_waiting_notifications,
                now_ms=now_ms,
            ),
        )

    def _remediation_starts(self) -> RemediationStarts:
        return RemediationStarts(
            self.storage.steps,
            self.storage.alerts,
            self.launcher,
            self.queries,
            self.stats,
            external_url=self.external_url,
            now_ms=self.metrics.now_ms,
        )


def _build_notifiers(
    settings: Settings, sender: HttpSender, external_url: str
) -> tuple[Sequence[Notifier], Sequence[Notifier]]:
    """The Alertmanagers and the webhooks of the settings."""
    alertmanagers = build_alertmanagers(
        sender,
        settings.alertmanager_url_list,
        external_url,
        has_tenants=settings.tenancy == "header",
    )
    return alertmanagers, build_webhooks(sender, settings.webhook_url_list, external_url)


# Remediations.


def build_remediation_check(settings: Settings) -> SpecChecker:
    """What checks remediations when they are defined."""
    workflow_types: frozenset[str] | None
    try:
        registered = load_registered(settings.remediation_package)
    except RegistryError as exc:
        # The worker needs the package and fails without it; the service only checks less.
        _LOGGER.warning("workflow types are not checked", extra={"reason": str(exc)})
        workflow_types = None
    else:
        workflow_types = frozenset({REMEDIATION_WORKFLOW, *registered.workflow_types})
    return SpecChecker(settings.task_queue, action_policy(settings), workflow_types)


def _build_launcher(
    settings: Settings, journal: RemediationJournal
) -> "TemporalRemediationLauncher | UnconfiguredRemediationLauncher":
    """What starts remediations; Temporal is reached when the first one starts."""
    if settings.temporal_address is None:
        return UnconfiguredRemediationLauncher(journal)
    # Imported here: Temporal's client takes 0.3 s and 30 MB, and most services do not need it.
    from promcompat.remediation.launcher import TemporalRemediationLauncher

    return TemporalRemediationLauncher(
        temporal_options(settings, settings.temporal_address), journal
    )


def build_condition_checker(queries: QueryService, storage: MetricStorage) -> AlertConditionChecker:
    """What a remediation worker verifies conditions with."""
    database, samples = storage.database, storage.sample_lookup
    return AlertConditionChecker(
        queries,
        PostgresAlertRepository(database, database.read_pool, samples, (), queries.now_ms),
        PostgresRuleRepository(database),
        PostgresDefinitionRepository(database),
    )
