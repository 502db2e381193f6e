"""The part of the composition root that is about alerts: its services and its loops."""

import dataclasses
import time
from dataclasses import dataclass

from promcompat.background import PeriodicLoop
from promcompat.core.alerts import REMEDIATION_RECEIVER
from promcompat.core.remediation import RemediationLauncher
from promcompat.notifications.receivers import HttpSender, build_notifiers
from promcompat.services.alert_service import AlertService
from promcompat.services.alerting_stats import AlertingStats
from promcompat.services.metric_service import MetricService
from promcompat.services.notification_service import NotificationService
from promcompat.services.rule_evaluator import RuleEvaluator
from promcompat.services.rule_service import RuleLimits, RuleService
from promcompat.services.threshold_alerts import ThresholdAlerts
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from sql.storage.alert_repository import PostgresAlertRepository
from sql.storage.connection_pool import Pool, PoolOptions, open_pool
from sql.storage.definition_repository import PostgresDefinitionRepository
from sql.storage.metric_repository import PostgresMetricRepository
from sql.storage.rule_repository import PostgresRuleRepository

_SESSIONS = 4
_IDLE_SECONDS = 600.0
_PUBLISH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """What a serving process has for alerts."""

    rules: RuleService
    alerts: AlertService
    evaluator: RuleEvaluator
    thresholds: ThresholdAlerts
    notifications: NotificationService
    repository: PostgresAlertRepository
    metric_repository: PostgresMetricRepository
    stats: AlertingStats
    receivers: tuple[str, ...]
    alertmanager_urls: tuple[str, ...]
    sender: HttpSender
    pool: Pool

    async def close(self) -> None:
        """Close the connections of its own."""
        await self.sender.close()
        await self.pool.close()


async def open_alerting(
    settings: Settings,
    url: str,
    repository: PostgresMetricRepository,
    metrics: MetricService,
    launcher: RemediationLauncher,
) -> Alerting:
    """The services of alerts, on the database at `url`; thresholds are watched from now on."""
    options = PoolOptions(
        max_size=_SESSIONS,
        statement_timeout_seconds=settings.query_timeout / 1000,
        # A session is idle while the queries of a group of rules run.
        idle_in_transaction_seconds=_IDLE_SECONDS,
        application_name="promcompat alerts",
    )
    pool = await open_pool(url, options)
    sender, stats = HttpSender(), AlertingStats()
    alertmanagers = settings.alertmanager_url_list
    notifiers = build_notifiers(
        sender, alertmanagers, settings.webhook_url_list, settings.external_url
    )
    receivers = tuple(notifier.name for notifier in notifiers)
    alerts = PostgresAlertRepository(repository.database, pool, receivers)
    definitions = PostgresDefinitionRepository(repository.database)
    if settings.alerting:
        await repository.threshold_watch.refresh()
    return Alerting(
        rules=RuleService(
            PostgresRuleRepository(repository.database),
            alerts,
            definitions,
            RuleLimits(settings.max_rules, settings.max_rules_per_group),
        ),
        alerts=AlertService(alerts, metrics.now_ms),
        evaluator=RuleEvaluator(alerts, metrics, stats, settings.external_url),
        thresholds=ThresholdAlerts(
            alerts,
            definitions,
            metrics,
            stats,
            metrics.now_ms,
            max_sample_age_ms=settings.alert_max_sample_age,
        ),
        notifications=NotificationService(
            alerts,
            notifiers,
            launcher,
            metrics,
            stats,
            external_url=settings.external_url,
            now_ms=metrics.now_ms,
        ),
        repository=alerts,
        metric_repository=repository,
        stats=stats,
        receivers=(*receivers, REMEDIATION_RECEIVER),
        alertmanager_urls=tuple(alertmanagers),
        sender=sender,
        pool=pool,
    )


def alerting_loops(
    settings: Settings, alerting: Alerting, telemetry: Telemetry
) -> list[PeriodicLoop]:
    """What every process does again and again; locks see to it that one at a time does it."""
    if not settings.alerting:
        return []

    async def publish() -> None:
        states, depths = await alerting.repository.counts()
        telemetry.alerting.update(dataclasses.asdict(alerting.stats), states, depths)

    async def prune() -> None:
        before_ms = time.time_ns() // 1_000_000 - settings.alert_retention
        await alerting.repository.prune(before_ms, alerting.receivers)

    return [
        PeriodicLoop("thresholds", 2.0, alerting.metric_repository.threshold_watch.refresh),
        PeriodicLoop("rules", 1.0, alerting.evaluator.run_due),
        PeriodicLoop("breaches", 0.5, alerting.thresholds.dispatch_breaches),
        PeriodicLoop("levels", 3.0, alerting.thresholds.verify),
        PeriodicLoop("notifications", 0.5, alerting.notifications.deliver),
        PeriodicLoop("remediations", 0.5, alerting.notifications.remediate),
        PeriodicLoop("repetitions", 5.0, alerting.notifications.resend),
        PeriodicLoop("alert metrics", _PUBLISH_SECONDS, publish),
        PeriodicLoop("alert retention", 300.0, prune),
    ]
