"""What native handlers find in the application: who asks, and the services that answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from promcompat.alerting.alert_service import AlertService
from promcompat.alerting.rule_service import RuleService
from promcompat.core.errors import StorageUnavailableError
from promcompat.metrics.definition_service import DefinitionService
from promcompat.querying.metric_service import MetricService
from promcompat.querying.native_query_service import NativeQueryService
from promcompat.remediation.remediation_service import RemediationService
from promcompat.telemetry import NativeIngestMetrics

ServiceT = TypeVar("ServiceT")


@dataclass(slots=True, kw_only=True)
class NativeState:
    """The services, once there are any: the server listens before the database is up.

    `tenant_of` is the rule of the Prometheus API, handed in because adapters do not know each
    other. The limits are those of remote write.
    """

    tenant_of: Callable[[web.Request], str]
    max_body_bytes: int
    max_decoded_bytes: int
    ingest_metrics: NativeIngestMetrics
    metrics: MetricService | None = None
    queries: NativeQueryService | None = None
    definitions: DefinitionService | None = None
    rules: RuleService | None = None
    alerts: AlertService | None = None
    remediations: RemediationService | None = None


STATE = web.AppKey("native_state", NativeState)


def ready(service: ServiceT | None) -> ServiceT:
    """The service, or StorageUnavailableError while the database is not there yet."""
    if service is None:
        raise StorageUnavailableError("the service is starting; try again")
    return service
