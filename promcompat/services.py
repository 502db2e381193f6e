"""The use cases of a serving process, as one value for both HTTP APIs."""

from dataclasses import dataclass

from promcompat.alerting.alerts import AlertService
from promcompat.alerting.rules import RuleService
from promcompat.metrics.definition_service import DefinitionService
from promcompat.querying.metric_service import MetricService
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.remediation.service import RemediationService


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Every use case, on one database.

    `database` describes that database to people. `alertmanager_urls` are the Alertmanagers that
    alerts are sent to, without the secrets of their addresses.
    """

    database: str
    metrics: MetricService
    native_queries: NativeQueryService
    definitions: DefinitionService
    rules: RuleService
    alerts: AlertService
    remediations: RemediationService
    alertmanager_urls: tuple[str, ...]
