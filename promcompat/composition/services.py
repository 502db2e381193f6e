"""The services of a serving process, built from the settings and its storage."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from promcompat.alerting.alert_service import AlertService
from promcompat.alerting.deliveries import Notifier, StateNotifications, StepNotifications
from promcompat.alerting.evaluator import RuleEvaluator
from promcompat.alerting.rule_file_watch import RuleFileWatch
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.rule_service import RuleService
from promcompat.alerting.senders import HttpSender, build_alertmanagers, build_webhooks
from promcompat.alerting.silences import SilenceService
from promcompat.alerting.state_machine import OutageRule
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Surroundings
from promcompat.alerting.thresholds import ThresholdAlerts
from promcompat.composition.access import build_access
from promcompat.composition.limits import current_limits, same_limits
from promcompat.composition.maintenance import make_maintenance
from promcompat.composition.network import ServiceAddress
from promcompat.composition.options import (
    engine_options,
    exemplar_limits,
    otlp_options,
    outgoing_labels,
)
from promcompat.composition.outgoing import notification_policy, secret_headers
from promcompat.composition.remediation import build_launcher, build_remediation_check
from promcompat.composition.scraping import build_scraping
from promcompat.composition.storage import (
    Storage,
    build_storage,
    connect_storage,
    open_alert_pool,
)
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.remediation import RemediationCheck
from promcompat.core.limits.tenant_limits import Limits
from promcompat.dashboards.dashboard_service import DashboardService
from promcompat.dashboards.files import DashboardFolder
from promcompat.database import NONE, owner_url
from promcompat.http.context import DEFAULT_TENANT
from promcompat.limits.current_limits import CurrentLimits
from promcompat.limits.limit_service import CountOfTenant, LimitService, amounts_of
from promcompat.metrics.correction_service import CorrectionService
from promcompat.metrics.definition_service import DefinitionService
from promcompat.metrics.exemplar_service import ExemplarService
from promcompat.metrics.maintenance_service import PeriodicMaintenance
from promcompat.metrics.metric_service import MetricService
from promcompat.metrics.snapshot_service import SnapshotService
from promcompat.otlp.reader import OtlpReader
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.querying.processes import messages
from promcompat.querying.processes.pool import EvaluationProcesses, process_command
from promcompat.querying.query_service import QueryService
from promcompat.querying.result_cache import RangeResultCache
from promcompat.remediation.service import RemediationService
from promcompat.remediation.starts import RemediationStarts
from promcompat.remediation.temporal import UnconfiguredRemediationLauncher
from promcompat.services import Receivers, Services
from promcompat.telemetry.telemetry import Telemetry
from promql.engine import Engine
from promql.evaluation.stages import QueryProcesses
from promql.features import Feature
from sql.embedded.client_programs import dump_snapshot
from sql.repositories.override_repository import PostgresLimitOverrides
from sql.repositories.tenant_retention import PostgresTenantRetentions
from sql.repositories.tenant_usage import PostgresTenantUsages
from sql.samples.metric_storage import MetricStorage

if TYPE_CHECKING:
    from promcompat.remediation.launcher import TemporalRemediationLauncher


EVALUATION_MODULE: Final = "promcompat.processes.evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Everything behind the HTTP application of a serving process."""

    storage: Storage
    services: Services


@asynccontextmanager
async def open_backend(
    settings: Settings,
    telemetry: Telemetry,
    address: ServiceAddress,
    large_query_ended: Callable[[], None] = lambda: None,
) -> AsyncIterator[Backend]:
    """Storage and services on a migrated database that is known to be usable.

    `large_query_ended` as in Engine. At the end of the block waiting writes are answered. Errors as
    in `connect_storage`, without patience; BadDataError when a file of the settings cannot be used.
    """
    current = current_limits(settings)
    limits = Limits(current, telemetry.limits)
    metric_storage = await connect_storage(settings, NONE, is_checked=True, limits=limits)
    sender = HttpSender(notification_policy(settings), settings.outgoing_answer_bytes)
    n_processes = settings.query_processes if messages.IS_SUPPORTED else 0
    processes = EvaluationProcesses(n_processes, process_command(EVALUATION_MODULE))
    try:
        metric_storage.database.guard.on_step_back(current.forget)
        await current.refresh(PostgresLimitOverrides(metric_storage.database))
        metrics = MetricService(metric_storage.store, metric_storage.catalogue, limits=limits)
        async with open_alert_pool(settings, metric_storage.database) as pool:
            alertmanagers, webhooks = _build_notifiers(settings, sender, address.external_url)
            storage = build_storage(metric_storage, pool, webhooks, metrics.now_ms)
            if settings.alerting:
                await metric_storage.threshold_watch.refresh()
            services = _ServiceBuilder(
                settings=settings,
                storage=storage,
                metrics=metrics,
                current_limits=current,
                limits=limits,
                queries=build_query_service(
                    settings,
                    metric_storage,
                    large_query_ended,
                    limits,
                    processes if n_processes else None,
                ),
                alertmanagers=alertmanagers,
                webhooks=webhooks,
                address=address,
                check_remediation=build_remediation_check(settings),
                launcher=build_launcher(settings, storage.remediations),
            ).build(telemetry)
            try:
                yield Backend(storage=storage, services=services)
            finally:
                await services.rule_evaluator.close()
                await services.scraping.close()
    finally:
        # It waits for each that is idle to end.
        await asyncio.to_thread(processes.close)
        await sender.close()
        await metric_storage.close()
        telemetry.storage.update(asdict(metric_storage.stats))


def build_query_service(
    settings: Settings,
    storage: MetricStorage,
    large_query_ended: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
    processes: QueryProcesses | None = None,
) -> QueryService:
    """Queries over one storage of metrics; `large_query_ended` and `processes` as in Engine.

    Without `limits`, all tenants have those of the settings.
    """
    known = limits or same_limits(settings)
    stats = storage.stats
    engine = Engine(
        storage.store,
        engine_options(settings),
        large_query_ended,
        known,
        processes,
        is_writing=lambda: stats.rows_waiting > 0,
    )
    cache = build_range_cache(settings, engine, storage)
    return QueryService(storage.store, engine, cache=cache, limits=known)


def build_range_cache(
    settings: Settings, engine: Engine, storage: MetricStorage
) -> RangeResultCache | None:
    """The cache of range queries' answers; None where it could not be used.

    With delayed name removal label sets are compared over all steps at once, so that no step is
    independent of the others.
    """
    is_delayed = Feature.DELAYED_NAME_REMOVAL in settings.language_features
    if not settings.query_cache_bytes or is_delayed:
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
    current_limits: CurrentLimits
    limits: Limits
    queries: QueryService
    alertmanagers: Sequence[Notifier]
    webhooks: Sequence[Notifier]
    address: ServiceAddress
    check_remediation: RemediationCheck
    launcher: "TemporalRemediationLauncher | UnconfiguredRemediationLauncher"
    stats: AlertingStats = field(default_factory=AlertingStats)

    def build(self, telemetry: Telemetry) -> Services:
        """Every service."""
        storage, metrics = self.storage, self.metrics
        groups = RuleGroups(storage.rules, self.limits, self.queries.work)
        dashboards = DashboardService(storage.dashboards, self.limits)
        exemplars = self._exemplars()
        return Services(
            database=storage.database.capabilities.describe(),
            access=build_access(
                self.settings,
                storage.database,
                telemetry.access,
                self.limits,
                self.address.own_secret,
            ),
            metrics=metrics,
            queries=self.queries,
            native_queries=NativeQueryService(
                storage.metrics.sample_lists,
                storage.metrics.catalogue,
                storage.definitions,
                self.queries,
            ),
            definitions=self._definitions(),
            retention=PostgresTenantRetentions(storage.database, self.settings.retention_days),
            usage=PostgresTenantUsages(storage.database),
            limits=self._limit_service(),
            corrections=CorrectionService(storage.metrics.corrections, storage.definitions),
            exemplars=exemplars,
            otlp=OtlpReader(otlp_options(self.settings)),
            snapshots=SnapshotService(
                self.settings.data_dir / "snapshots",
                partial(dump_snapshot, owner_url(self.settings)),
            ),
            rules=self._rules(),
            rule_groups=groups,
            dashboards=dashboards,
            dashboard_folder=DashboardFolder(
                dashboards, DEFAULT_TENANT, self.settings.dashboard_folder
            ),
            rule_files=RuleFileWatch(groups, DEFAULT_TENANT, self.settings.rule_files, self.stats),
            alerts=AlertService(storage.alerts, metrics, [*self.alertmanagers, *self.webhooks]),
            silences=SilenceService(storage.silences, self.limits, metrics.now_ms),
            remediations=RemediationService(
                storage.remediations, storage.remediations, self.launcher
            ),
            rule_evaluator=self._rule_evaluator(),
            thresholds=self._thresholds(),
            receivers=self._receivers(),
            remediation_starts=self._remediation_starts(),
            maintenance=PeriodicMaintenance(
                make_maintenance(storage.metrics, self.settings, self.current_limits),
                telemetry.maintenance,
            ),
            scraping=build_scraping(
                self.settings,
                storage.database,
                metrics,
                exemplars,
                telemetry.scrapes,
                self.address,
            ),
            alerting_stats=self.stats,
            launcher_stats=self.launcher.stats,
        )

    def _limit_service(self) -> LimitService:
        storage = self.storage

        counts: Mapping[str, CountOfTenant] = {
            "max_global_series_per_user": storage.limit_overrides.count_series,
            **amounts_of("max_rules", storage.rules.amount),
            **amounts_of("max_definitions", storage.definitions.amount),
            **amounts_of("max_dashboards", storage.dashboards.amount),
            "alertmanager_max_silences_count": lambda tenant: storage.silences.count(
                tenant, self.metrics.now_ms()
            ),
        }
        return LimitService(self.current_limits, storage.limit_overrides, self.limits, counts)

    def _exemplars(self) -> ExemplarService:
        return ExemplarService(
            self.storage.exemplars,
            exemplar_limits(self.settings, self.current_limits),
            self.limits,
            self.metrics.now_ms,
            self.metrics.latest_ms,
        )

    def _definitions(self) -> DefinitionService:
        return DefinitionService(
            self.storage.definitions,
            self.storage.metrics.threshold_watch.catch_up,
            self.limits,
            self.check_remediation,
        )

    def _rules(self) -> RuleService:
        return RuleService(
            self.storage.rules,
            self.storage.alerts,
            self.storage.definitions,
            self.limits,
            self.check_remediation,
            self.queries.work,
        )

    def _rule_evaluator(self) -> RuleEvaluator:
        surroundings = Surroundings(self.address.external_url, self.settings.external_label_set)
        outages = OutageRule(
            self.settings.rules_for_grace_period, self.settings.rules_for_outage_tolerance
        )
        runner = RuleRunner(
            self.metrics, self.queries, self.stats, surroundings, self.limits, outages
        )
        return RuleEvaluator(
            self.storage.alerts, self.metrics, runner, self.stats, self.limits.reader
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
            states=StateNotifications(storage.states, storage.silences, self.stats, now_ms),
            steps=StepNotifications(
                storage.steps,
                storage.silences,
                self.stats,
                retry_ms=self.settings.notification_retry,
                max_waiting=self.settings.max_waiting_notifications,
                now_ms=now_ms,
            ),
        )

    def _remediation_starts(self) -> RemediationStarts:
        return RemediationStarts(
            self.storage.steps,
            self.storage.silences,
            self.launcher,
            self.queries,
            self.stats,
            external_url=self.address.external_url,
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
        outgoing_labels(settings),
        secret_headers(settings, settings.alertmanager_header_set),
        has_tenants=settings.tenancy == "header",
    )
    webhook_headers = secret_headers(settings, settings.webhook_header_set)
    webhooks = build_webhooks(sender, settings.webhook_url_list, external_url, webhook_headers)
    return alertmanagers, webhooks
