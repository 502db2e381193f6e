"""Alerting on a test database, driven by hand: a clock that is set, receivers that remember."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from promcompat.alerting.alert_service import AlertService
from promcompat.alerting.deliveries import (
    Notification,
    NotificationError,
    NotificationRefusedError,
    StateNotifications,
    StepNotifications,
)
from promcompat.alerting.evaluator import RuleEvaluator
from promcompat.alerting.rule_runner import RuleRunner
from promcompat.alerting.rule_service import RuleService
from promcompat.alerting.silences import SilenceService
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.templates.expansion import Surroundings
from promcompat.alerting.thresholds import ThresholdAlerts
from promcompat.core.alerting.alerts import Alert, AlertFilter, AlertState, Rule
from promcompat.core.alerting.ports import ReceiverDepth
from promcompat.core.alerting.remediation import RemediationRequest, RemediationSpec
from promcompat.core.alerting.thresholds import AlertThreshold, Direction
from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import StorageUnavailableError
from promcompat.core.limits.tenant_limits import NO_LIMITS
from promcompat.core.model import EvalRange, Labels
from promcompat.metrics.metric_service import MetricService
from promcompat.querying.query_service import QueryService
from promcompat.remediation.starts import RemediationStarts
from promql.engine import Engine, EngineOptions
from promql.query import Query
from sql.alerting.alert_repository import PostgresAlertRepository
from sql.alerting.delivery_repository import (
    PostgresLabelSetStates,
    PostgresStepDeliveries,
)
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.alerting.silence_repository import PostgresSilenceRepository
from sql.database.connection_pool import PoolOptions, open_pool
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import Points, make_batch
from tests.support.storage.repositories import opened_storage

NOW_MS = 1_700_000_000_000
TENANT = "t"
_EVERY_ALERT = AlertFilter(limit=1000)


@dataclass
class Clock:
    """The time of every service of a test."""

    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class RememberingNotifier:
    """A receiver that keeps what it is told, or refuses."""

    name: str = "webhook-test"
    is_down: bool = False
    refused: Callable[[Notification], bool] = lambda _: False
    told: list[Notification] = field(default_factory=list)
    address: str = "http://receiver"

    async def send(self, notifications: Sequence[Notification], now_ms: int) -> None:
        if self.is_down:
            raise NotificationError("down")
        if any(map(self.refused, notifications)):
            raise NotificationRefusedError("answered 400: no")
        self.told += notifications

    @property
    def states(self) -> list[str]:
        """The states told, in order."""
        return [notification.alert.state.value for notification in self.told]


@dataclass
class RememberingLauncher:
    """Remediations that were started: a second start of an id does nothing."""

    is_down: bool = False
    started: dict[str, RemediationRequest] = field(default_factory=dict)
    withdrawn: list[str] = field(default_factory=list)
    n_calls: int = 0

    async def start(self, request: RemediationRequest) -> None:
        self.n_calls += 1
        if self.is_down:
            raise StorageUnavailableError("down")
        self.started.setdefault(request.workflow_id, request)

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        self.withdrawn.append(workflow_id)


@dataclass
class AlertingFixture:
    """Everything one process has for alerts, on one database."""

    clock: Clock
    storage: MetricStorage
    metrics: MetricService
    queries: QueryService
    repository: PostgresAlertRepository
    rules: RuleService
    alerts: AlertService
    silences: SilenceService
    evaluator: RuleEvaluator
    thresholds: ThresholdAlerts
    steps: StepNotifications
    state_changes: StateNotifications
    remediations: RemediationStarts
    notifier: RememberingNotifier
    alertmanager: RememberingNotifier
    deliveries: PostgresStepDeliveries
    label_sets: PostgresLabelSetStates
    launcher: RememberingLauncher
    stats: AlertingStats
    definitions: PostgresDefinitionRepository

    async def write(self, labels: Labels, *points: tuple[int, float], tenant: str = TENANT) -> None:
        """Write samples of one series; times are relative to NOW_MS."""
        rows: Points = [(NOW_MS + at, value) for at, value in points]
        await self.metrics.write(tenant, make_batch({labels: rows}))

    async def evaluate(self, at_ms: int) -> None:
        """Evaluate what is due at a time relative to NOW_MS."""
        self.clock.now_ms = NOW_MS + at_ms
        await self.evaluator.run_due()

    async def settle(self) -> None:
        """Dispatch breaches and deliver until nothing is left to do."""
        while await self.thresholds.dispatch_breaches():
            pass
        await self.thresholds.verify()
        await self.deliver()

    async def deliver(self) -> None:
        """Tell the receivers, and start remediations."""
        await self.steps.deliver(self.notifier)
        await self.state_changes.deliver(self.alertmanager)
        await self.remediations.start_due()

    async def listed(self, wanted: AlertFilter = _EVERY_ALERT) -> Sequence[Alert]:
        """The first page of alerts, newest first."""
        return (await self.alerts.list_alerts(TENANT, wanted)).alerts

    async def receiver_depths(self, tenant: str) -> Mapping[str, ReceiverDepth]:
        """What of a tenant waits for each receiver."""
        return await self.repository.receiver_depths(tenant)

    async def define(self, name: str, threshold: AlertThreshold | None) -> None:
        """Give a metric a threshold and let the writer know."""
        known = await self.definitions.find(TENANT, name)
        definition = MetricDefinition(name=name, alert_threshold=threshold)
        await self.definitions.save(TENANT, definition, known.version if known else 0)
        await self.storage.threshold_watch.refresh()

    async def series(self, expr: str, at_ms: int) -> list[dict[str, str]]:
        """The labels of the result of an expression."""
        result = await self.queries.run(Query(TENANT, expr, EvalRange.instant(NOW_MS + at_ms)))
        return [labels.as_dict() for labels in result.value.labels]  # type: ignore[union-attr]


@asynccontextmanager
async def running_alerting(
    url: str,
    *,
    notifier: RememberingNotifier | None = None,
    alertmanager: RememberingNotifier | None = None,
    launcher: RememberingLauncher | None = None,
    clock: Clock | None = None,
    max_sample_age_ms: int = 0,
    webhooks: Sequence[str] = (),
    expiry_ms: int = 0,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[AlertingFixture]:
    """The services of one process; several on one database are replicas.

    `webhooks` are the names of more receivers of steps.
    """
    notifier, launcher = notifier or RememberingNotifier(), launcher or RememberingLauncher()
    alertmanager = alertmanager or RememberingNotifier("alertmanager-test")
    clock, stats = clock or Clock(), AlertingStats()
    options = {"now_ms": clock, "alert_max_sample_age_ms": max_sample_age_ms}
    async with opened_storage(url, **options) as storage:
        pool = await open_pool(url, PoolOptions(max_size=4))
        try:
            metrics = MetricService(storage.store, storage.catalogue, now_ms=clock)
            engine = Engine(storage.store, EngineOptions())
            queries = QueryService(storage.store, engine, now_ms=clock)
            alerts = PostgresAlertRepository(
                storage.database, pool, storage.sample_lookup, [notifier.name, *webhooks], clock
            )
            silences = PostgresSilenceRepository(storage.database, pool)
            deliveries, label_sets = PostgresStepDeliveries(pool), PostgresLabelSetStates(pool)
            definitions = PostgresDefinitionRepository(storage.database)
            await storage.threshold_watch.refresh()
            yield AlertingFixture(
                clock=clock,
                storage=storage,
                metrics=metrics,
                queries=queries,
                repository=alerts,
                rules=RuleService(PostgresRuleRepository(storage.database), alerts, definitions),
                alerts=AlertService(alerts, metrics),
                silences=SilenceService(silences, NO_LIMITS, clock),
                evaluator=RuleEvaluator(
                    alerts,
                    metrics,
                    RuleRunner(metrics, queries, stats, Surroundings("http://here")),
                    stats,
                    monotonic=monotonic,
                ),
                thresholds=ThresholdAlerts(
                    alerts, definitions, metrics, stats, clock, max_sample_age_ms, expiry_ms
                ),
                steps=StepNotifications(
                    deliveries,
                    silences,
                    stats,
                    retry_ms=3_600_000,
                    max_waiting=100,
                    now_ms=clock,
                ),
                state_changes=StateNotifications(label_sets, silences, stats, clock),
                remediations=RemediationStarts(
                    deliveries,
                    silences,
                    launcher,
                    queries,
                    stats,
                    external_url="http://here",
                    now_ms=clock,
                ),
                notifier=notifier,
                alertmanager=alertmanager,
                deliveries=deliveries,
                label_sets=label_sets,
                launcher=launcher,
                stats=stats,
                definitions=definitions,
            )
        finally:
            await pool.close()


def make_rule(name: str = "R", expr: str = "m > 5", **changes: Any) -> Rule:
    """A rule that is evaluated every ten seconds."""
    values: dict[str, Any] = {
        "id": 0,
        "group": "g",
        "name": name,
        "expr": expr,
        "interval_ms": 10_000,
        "for_ms": 0,
        "keep_firing_for_ms": 0,
        "severity": "",
        "labels": {},
        "annotations": {},
        "enabled": True,
        "remediation": None,
        "version": 0,
    }
    return Rule(**values | changes)


def make_alert(labels: Labels, **changes: Any) -> Alert:
    """A firing alert of a rule."""
    values: dict[str, Any] = {
        "id": 1,
        "rule_id": 1,
        "rule_name": "R",
        "annotations": {},
        "state": AlertState.FIRING,
        "severity": "",
        "value": 1.0,
        "active_at_ms": 1,
        "fired_at_ms": 1,
        "resolved_at_ms": 0,
        "keep_firing_since_ms": 0,
        "acknowledged_at_ms": 0,
        "acknowledged_by": "",
    }
    return Alert(labels=labels, **values | changes)


def make_threshold(**changes: Any) -> AlertThreshold:
    """A warning from 5 on, critical from 8 on."""
    values: dict[str, Any] = {"warning": 5.0, "critical": 8.0, "direction": Direction.ABOVE}
    return AlertThreshold(**values | changes)


def make_remediation(**changes: Any) -> RemediationSpec:
    """A remediation whose input names the series."""
    values: dict[str, Any] = {
        "workflow_type": "RemediationWorkflow",
        "task_queue": "q",
        "input_template": {"host": "{{ $labels.host }}", "n": 1, "deep": [{"v": "{{ $value }}"}]},
    }
    return RemediationSpec(**values | changes)
