"""The use cases of a serving process, as one value for both HTTP APIs and the loops."""

from collections.abc import Sequence
from dataclasses import dataclass

from promcompat.access.access import Access
from promcompat.alerting.alert_service import AlertService
from promcompat.alerting.deliveries import Notifier, StateNotifications, StepNotifications
from promcompat.alerting.evaluator import RuleEvaluator
from promcompat.alerting.rule_file_watch import RuleFileWatch
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.alerting.rule_service import RuleService
from promcompat.alerting.silences import SilenceService
from promcompat.alerting.stats import AlertingStats
from promcompat.alerting.thresholds import ThresholdAlerts
from promcompat.core.alerting.alerts import REMEDIATION_RECEIVER
from promcompat.core.tenants import TenantRetentions, TenantUsages
from promcompat.dashboards.dashboard_service import DashboardService
from promcompat.dashboards.files import DashboardFolder
from promcompat.limits.limit_service import LimitService
from promcompat.metrics.correction_service import CorrectionService
from promcompat.metrics.definition_service import DefinitionService
from promcompat.metrics.exemplar_service import ExemplarService
from promcompat.metrics.maintenance_service import PeriodicMaintenance
from promcompat.metrics.metric_service import MetricService
from promcompat.metrics.snapshot_service import SnapshotService
from promcompat.otlp.reader import OtlpReader
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.querying.query_service import QueryService
from promcompat.remediation.service import RemediationService
from promcompat.remediation.starts import RemediationStarts
from promcompat.remediation.temporal import LauncherStats
from promcompat.scraping.scrape_service import ScrapeService


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivers:
    """Everybody who is notified of alerts, and what notifies them.

    Alertmanagers are sent the states of label sets, webhooks each step of an alert.
    """

    alertmanagers: Sequence[Notifier]
    webhooks: Sequence[Notifier]
    states: StateNotifications
    steps: StepNotifications

    @property
    def names(self) -> tuple[str, ...]:
        """Their names in the database, and that of the remediations."""
        notifiers = (*self.alertmanagers, *self.webhooks)
        return (*(notifier.name for notifier in notifiers), REMEDIATION_RECEIVER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Every use case, on one database, which `database` describes to people.

    The first group serves clients, the second works in the background; `promcompat.loops` lists
    when. The counters are of this process.
    """

    database: str
    access: Access
    metrics: MetricService
    queries: QueryService
    native_queries: NativeQueryService
    definitions: DefinitionService
    retention: TenantRetentions
    usage: TenantUsages
    limits: LimitService
    corrections: CorrectionService
    snapshots: SnapshotService
    otlp: OtlpReader
    exemplars: ExemplarService
    rules: RuleService
    rule_groups: RuleGroups
    rule_files: RuleFileWatch
    dashboards: DashboardService
    dashboard_folder: DashboardFolder
    alerts: AlertService
    silences: SilenceService
    remediations: RemediationService

    rule_evaluator: RuleEvaluator
    thresholds: ThresholdAlerts
    receivers: Receivers
    remediation_starts: RemediationStarts
    maintenance: PeriodicMaintenance
    scraping: ScrapeService

    alerting_stats: AlertingStats
    launcher_stats: LauncherStats

    @property
    def alertmanager_urls(self) -> list[str]:
        """The Alertmanagers in use, without the secrets of their addresses."""
        return [alertmanager.address for alertmanager in self.receivers.alertmanagers]
