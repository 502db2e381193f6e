"""What handlers of both HTTP APIs find in the application: its state, settings and metrics."""

import time
from dataclasses import dataclass, field
from enum import Enum

from aiohttp import web

from promcompat.configuration.settings import TENANT_HEADER, Settings
from promcompat.core.access import ANYBODY, Principal
from promcompat.core.errors import ForbiddenError
from promcompat.core.limits.turns import OneOfTenant
from promcompat.core.tenants import tenant_name_fault
from promcompat.services import Services
from promcompat.telemetry.telemetry import Telemetry

DEFAULT_TENANT = "default"


class Phase(Enum):
    """The phase of the service's life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class ServiceUnavailableError(Exception):
    """There are no services yet: the Prometheus API answers 503 in plain text, as Prometheus does.

    It is not a PromcompatError, so that no handler treats it as a fault of its request.
    """


@dataclass(slots=True)
class ServiceState:
    """The one mutable value of the application.

    The server listens before the database is up, so that a port in use is reported at once and
    `/-/ready` has an answer.
    """

    phase: Phase = Phase.STARTING
    services: Services | None = None
    obstacle: str = ""
    """A text for people: what the start is waiting for; empty if nothing."""
    started_at_seconds: float = field(default_factory=time.time)

    def wait_for(self, obstacle: str) -> None:
        """Record what the start is waiting for."""
        self.obstacle = obstacle

    def open(self, services: Services) -> None:
        """Serve requests from now on."""
        self.services = services
        self.phase = Phase.READY
        self.obstacle = ""


STATE = web.AppKey("state", ServiceState)
SETTINGS = web.AppKey("settings", Settings)
TELEMETRY = web.AppKey("telemetry", Telemetry)
LISTS = web.AppKey("lists", OneOfTenant)
"""For answers with all rules or alerts of a tenant."""
PRINCIPAL = web.RequestKey("principal", Principal)
BASIC_USER = web.RequestKey("basic_user", str)
"""The user name of basic authentication, which some clients use for the tenant."""


def services_of(request: web.Request) -> Services:
    """The services that answer the request; ServiceUnavailableError before there are any.

    While the process stops, requests that were accepted are still served.
    """
    services = request.app[STATE].services
    if services is None:
        raise ServiceUnavailableError
    return services


def principal_of(request: web.Request) -> Principal:
    """In whose name the request is made; `promcompat.http.guard` has found it.

    Not to be asked for routes that anybody may use.
    """
    return request[PRINCIPAL]


def actor_of(request: web.Request, claimed: str = "") -> str:
    """Who is recorded as having done what the request asks for: the name of its principal.

    While access is not restricted, that is who the request claims to be from, else its address.
    """
    principal = principal_of(request)
    if principal is not ANYBODY:
        return principal.name
    return claimed or request.remote or "unknown"


def names_tenant(request: web.Request) -> bool:
    """Whether the request has the header that names its tenant."""
    return bool(request.headers.get(TENANT_HEADER))


def tenant_of(request: web.Request) -> str:
    """The tenant the request is for: `default`, or what the header names in `header` mode.

    Without the header it is the one tenant of the principal, or the one that their user name names.
    Raises HTTPUnauthorized without a name, HTTPBadRequest for a name that Mimir would reject, and
    ForbiddenError for a tenant that the principal has no access to.
    """
    if request.app[SETTINGS].tenancy == "single":
        return DEFAULT_TENANT
    names = set(request.headers.getall(TENANT_HEADER, ("",)))
    if len(names) > 1:
        raise web.HTTPBadRequest(text="multiple org IDs present\n")
    principal = principal_of(request)
    name = names.pop() or _tenant_of_principal(request, principal)
    if not name:
        raise web.HTTPUnauthorized(text="no org id\n")
    if found := tenant_name_fault(name):
        raise web.HTTPBadRequest(text=f"{found}\n")
    if not principal.may_work_for(name):
        raise ForbiddenError(f"{principal.name} has no access to the tenant {name}")
    return name


def tenant_or_none(request: web.Request) -> str:
    """The tenant of a request; empty where none is named, as for what is about the service."""
    try:
        return tenant_of(request)
    except (web.HTTPException, ForbiddenError):
        return ""


def _tenant_of_principal(request: web.Request, principal: Principal) -> str:
    """The tenant of a request without the header; empty if nothing tells it."""
    if principal.tenants is None:
        return ""
    user: str = request.get(BASIC_USER, "")
    if user in principal.tenants:
        return user
    return next(iter(principal.tenants)) if len(principal.tenants) == 1 else ""
