"""What handlers find in the application: its state, its settings and its metrics."""

import re
import time
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web

from promcompat.alerting.alert_service import AlertService
from promcompat.alerting.rule_service import RuleService
from promcompat.core.patterns import Pattern
from promcompat.querying.metric_service import MetricService
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry

DEFAULT_TENANT = "default"
TENANT_HEADER = "X-Scope-OrgID"
_MAX_TENANT_LENGTH = 150
_NOT_IN_TENANT = re.compile(r"[^A-Za-z0-9!\-_.*'()]")
_RESERVED_TENANTS = frozenset([".", "..", "__mimir_cluster"])
"""Those that Mimir does not take either."""


class Phase(Enum):
    """Where the service is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class ServiceUnavailableError(Exception):
    """The service is starting or stopping: 503 in plain text, as Prometheus has it."""


@dataclass(slots=True)
class ServiceState:
    """The one mutable thing of the application: the service, once there is one.

    The server listens before the database is up, so that a taken port is told at once and
    `/-/ready` has an answer.
    """

    phase: Phase = Phase.STARTING
    metric_service: MetricService | None = None
    rules: RuleService | None = None
    alerts: AlertService | None = None
    alertmanager_urls: tuple[str, ...] = ()
    database: str = ""
    obstacle: str = ""
    """What a start waits for, for people; empty when it waits for nothing."""
    started_at_seconds: float = field(default_factory=time.time)

    def wait_for(self, obstacle: str) -> None:
        """Note what the start waits for."""
        self.obstacle = obstacle

    def open_alerts(
        self, rules: RuleService, alerts: AlertService, alertmanager_urls: tuple[str, ...]
    ) -> None:
        """Rules and alerts can be shown from now on."""
        self.rules = rules
        self.alerts = alerts
        self.alertmanager_urls = alertmanager_urls

    def open(self, metric_service: MetricService, database: str) -> None:
        """From now on requests are served; `database` says which database it is."""
        self.metric_service = metric_service
        self.database = database
        self.phase = Phase.READY
        self.obstacle = ""


STATE = web.AppKey("state", ServiceState)
SETTINGS = web.AppKey("settings", Settings)
TELEMETRY = web.AppKey("telemetry", Telemetry)
CORS_ORIGIN = web.AppKey("cors_origin", Pattern)


def service_of(request: web.Request) -> MetricService:
    """The service that answers the request; ServiceUnavailableError before it is ready.

    While the service stops, what has been accepted is still served.
    """
    service = request.app[STATE].metric_service
    if service is None:
        raise ServiceUnavailableError
    return service


def tenant_of(request: web.Request) -> str:
    """The tenant the request is for: `default`, or what the header names in `header` mode.

    Raises HTTPUnauthorized without a name and HTTPBadRequest for one that Mimir would refuse.
    """
    if request.app[SETTINGS].tenancy == "single":
        return DEFAULT_TENANT
    names = set(request.headers.getall(TENANT_HEADER, ("",)))
    if len(names) > 1:
        raise web.HTTPBadRequest(text="multiple org IDs present\n")
    name = names.pop()
    if not name:
        raise web.HTTPUnauthorized(text="no org id\n")
    if len(name) > _MAX_TENANT_LENGTH:
        raise web.HTTPBadRequest(
            text=f"tenant ID is too long: max {_MAX_TENANT_LENGTH} characters\n"
        )
    if name in _RESERVED_TENANTS:
        raise web.HTTPBadRequest(text=f"tenant ID '{name}' is not allowed\n")
    unsupported = _NOT_IN_TENANT.search(name)
    if unsupported:
        character = ascii(unsupported.group())
        raise web.HTTPBadRequest(text=f"tenant ID contains unsupported character {character}\n")
    return name
