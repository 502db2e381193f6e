"""The part of the composition root that is about alerts: its services and its loops."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from promcompat.alerting.alerts import AlertService
from promcompat.alerting.deliveries import Notifier, StateNotifications, StepNotifications
from promcompat.alerting.evaluator import RuleEvaluator
from promcompat.alerting.rules import RuleLimits, RuleService
from promcompat.alerting.senders import (
    HttpSender,
    build_alertmanagers,
    build_webhooks,
)
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.thresholds import ThresholdAlerts
from promcompat.core.alerts import REMEDIATION_RECEIVER
from promcompat.core.remediation import RemediationCheck, RemediationLauncher
from promcompat.loops import PeriodicLoop
from promcompat.querying.metric_service import MetricService
from promcompat.remediation.starts import RemediationStarts
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.delivery_repository import PostgresLabelSetStates, PostgresStepDeliveries
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.database.connection_pool import Pool, PoolOptions, open_pool
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_repository import PostgresMetricRepository

_SESSIONS = 4
_STATEMENT_SECONDS = 60.0
_IDLE_SECONDS = 300.0
_PUBLISH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Those who are told of alerts, and what tells them."""

    alertmanagers: Sequence[Notifier]
    webhooks: Sequence[Notifier]
    states: StateNotifications
    steps: StepNotifications
    sender: HttpSender

    @property
    def names(self) -> tuple[str, ...]:
        """What the database calls them, and the remediations."""
        notifiers = (*self.alertmanagers, *self.webhooks)
        return (*(notifier.name for notifier in notifiers), REMEDIATION_RECEIVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """What a serving process has for alerts."""

    rules: RuleService
    alerts: AlertService
    evaluator: RuleEvaluator
    thresholds: ThresholdAlerts
    receivers: Receivers
    remediations: RemediationStarts
    repository: PostgresAlertRepository
    metric_repository: PostgresMetricRepository
    stats: AlertingStats
    alertmanager_urls: tuple[str, ...]
    pool: Pool

    async def close(self) -> None:
        """Close the connections of its own."""
        await self.receivers.sender.close()
        await self.pool.close()


async def open_alerting(
    settings: Settings,
    url: str,
    repository: PostgresMetricRepository,
    metrics: MetricService,
    launcher: RemediationLauncher,
    check_remediation: RemediationCheck,
    external_url: str,
) -> Alerting:
    """The services of alerts, on the database at `url`; thresholds are watched from now on.

    `external_url` is where people reach this service.
    """
    options = PoolOptions(
        max_size=_SESSIONS,
        statement_timeout_seconds=_STATEMENT_SECONDS,
        # A session is idle while the queries of a group of rules run.
        idle_in_transaction_seconds=_IDLE_SECONDS,
        application_name="promcompat alerts",
    )
    pool = await open_pool(url, options)
    repository.database.heartbeat.watch(pool)
    database, stats = repository.database, AlertingStats()
    sender = HttpSender()
    webhooks = build_webhooks(sender, settings.webhook_url_list, external_url)
    alertmanagers = build_alertmanagers(
        sender,
        settings.alertmanager_url_list,
        external_url,
        has_tenants=settings.tenancy == "header",
    )
    step_receivers = [webhook.name for webhook in webhooks]
    alerts = PostgresAlertRepository(database, pool, step_receivers, metrics.now_ms)
    definitions = PostgresDefinitionRepository(database)
    if settings.alerting:
        await repository.threshold_watch.refresh()
    return Alerting(
        rules=RuleService(
            PostgresRuleRepository(database),
            alerts,
            definitions,
            RuleLimits(settings.max_rules, settings.max_rules_per_group),
            check_remediation,
        ),
        alerts=AlertService(
            alerts,
            metrics,
            max_silences=settings.max_silences,
            receivers=[*alertmanagers, *webhooks],
        ),
        evaluator=RuleEvaluator(alerts, metrics, stats, external_url),
        thresholds=ThresholdAlerts(
            alerts,
            definitions,
            metrics,
            stats,
            metrics.now_ms,
            max_sample_age_ms=settings.alert_max_sample_age,
            expiry_ms=settings.threshold_expiry,
        ),
        receivers=Receivers(
            alertmanagers=alertmanagers,
            webhooks=webhooks,
            states=StateNotifications(PostgresLabelSetStates(pool), alerts, stats, metrics.now_ms),
            steps=StepNotifications(
                PostgresStepDeliveries(pool),
                alerts,
                stats,
                retry_ms=settings.notification_retry,
                max_waiting=settings.max_waiting_notifications,
                now_ms=metrics.now_ms,
            ),
            sender=sender,
        ),
        remediations=RemediationStarts(
            PostgresStepDeliveries(pool),
            alerts,
            launcher,
            metrics,
            stats,
            external_url=external_url,
            now_ms=metrics.now_ms,
        ),
        repository=alerts,
        metric_repository=repository,
        stats=stats,
        alertmanager_urls=tuple(one.address for one in alertmanagers),
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
        now_ms = time.time_ns() // 1_000_000
        before_ms = now_ms - settings.alert_retention
        await alerting.repository.prune(before_ms, alerting.receivers.names, now_ms)

    return [
        PeriodicLoop("thresholds", 2.0, alerting.metric_repository.threshold_watch.refresh),
        PeriodicLoop("rules", 1.0, alerting.evaluator.run_due),
        PeriodicLoop("breaches", 0.5, alerting.thresholds.dispatch_breaches),
        PeriodicLoop("levels", 3.0, alerting.thresholds.verify),
        PeriodicLoop("remediations", 0.5, alerting.remediations.start_due),
        PeriodicLoop("alert metrics", _PUBLISH_SECONDS, publish),
        PeriodicLoop("alert retention", 300.0, prune),
        *receiver_loops(alerting.receivers),
    ]


def receiver_loops(receivers: Receivers) -> Iterator[PeriodicLoop]:
    """A loop for each receiver: none waits for another."""
    for one in receivers.alertmanagers:
        yield PeriodicLoop(f"notify {one.name}", 0.5, partial(receivers.states.deliver, one))
    for one in receivers.webhooks:
        yield PeriodicLoop(f"notify {one.name}", 0.5, partial(receivers.steps.deliver, one))
        yield PeriodicLoop(f"bound {one.name}", 10.0, partial(receivers.steps.bound, one))
