"""The role that each route needs: one table for both HTTP APIs.

A route is written as its method, a space and its path as the router has it. Paths below
`/prometheus` have the role of the same path without it. `promcompat.http.guard` refuses to build an
application with a route that is not here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from promcompat.core.access import Role

_API: Final = "/api/v1"
_NATIVE: Final = "/api/v1/metrics"
_CHANGING: Final = frozenset((Role.EDIT, Role.OPERATE, Role.ADMIN))
_READING_METHODS: Final = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Need:
    """What a principal must have.

    `role` is None for routes that anybody may use, without a credential. `is_service_wide`: the
    answer is about all tenants, so that the principal must have access to each of them.
    """

    role: Role | None
    is_service_wide: bool = False

    def is_change(self, method: str) -> bool:
        """Whether the request changes what the audit trail is about: anything but samples."""
        return self.role in _CHANGING and method not in _READING_METHODS


def _each(methods: str, *paths: str) -> Iterator[str]:
    """Every path with every method; methods are separated by spaces."""
    for path in paths:
        for method in methods.split():
            yield f"{method} {path}"


def _ruler(methods: str, suffix: str) -> Iterator[str]:
    roots = ("/config/v1/rules", "/api/prom/rules", f"{_API}/rules")
    return _each(methods, *(root + suffix for root in roots))


PAGE_PATHS: Final = (
    "/",
    "/alerts",
    "/dashboards",
    "/explore",
    "/metrics-explorer",
    "/repairs",
    "/rules",
    "/status",
    # Where links of Prometheus 2 and 3, and of alerts, lead.
    "/graph",
    "/query",
)
"""The addresses of the page, which shows what its script finds in them: one file for all.

They have one segment, so that its links, which are relative, lead to the same places from each.
"""
ASSET_PATH: Final = "/assets/{name}"

_PUBLIC: Final = (
    # The page is the same for everybody; what it asks for needs a role.
    *_each("GET HEAD", *PAGE_PATHS, ASSET_PATH),
    *_each("GET HEAD", "/-/healthy", "/-/ready"),
    # Clients of InfluxDB look for the server before they send a credential.
    *_each("GET HEAD", "/ping", "/influx/ping"),
    *_each("GET", "/health", "/influx/health"),
    # Documentation, which is the same for everybody.
    *_each("GET HEAD", "/docs", "/openapi.json"),
    # A browser sends no credential with the question whether it may send a request.
    *_each("OPTIONS", f"{_API}/{{path:.*}}"),
)

_WRITE: Final = (
    *_each("POST", f"{_API}/write", f"{_API}/push", "/api/prom/push"),
    *_each("POST", f"{_API}/otlp/v1/metrics", "/otlp/v1/metrics", "/v1/metrics"),
    *_each(
        "POST",
        f"{_API}/import",
        f"{_API}/import/prometheus",
        f"{_API}/import/csv",
        f"{_API}/import/native",
    ),
    *_each("POST PUT", f"{_API}/import/prometheus/metrics/{{labels:.+}}"),
    *_each("POST", "/write", "/api/v2/write", "/influx/write", "/influx/api/v2/write"),
    # CREATE DATABASE, which writers send first.
    *_each("POST", "/query"),
    *_each("GET POST", "/influx/query"),
    *_each(
        "POST",
        "/api/v2/series",
        "/datadog/api/v1/series",
        "/datadog/api/v2/series",
        "/datadog/api/v1/distribution_points",
        "/datadog/api/beta/sketches",
        "/datadog/api/v1/check_run",
        "/datadog/api/v1/metadata",
        "/datadog/api/v1/events",
        "/datadog/intake",
        "/datadog/{other:.+}",
    ),
    *_each("GET", "/datadog/api/v1/validate", f"{_API}/validate"),
    *_each("POST", f"{_NATIVE}/ingest", f"{_NATIVE}/ingest/batch"),
)

_READ: Final = (
    *_each(
        "GET POST",
        f"{_API}/query",
        f"{_API}/query_range",
        f"{_API}/query_exemplars",
        f"{_API}/format_query",
        f"{_API}/parse_query",
        f"{_API}/explain",
        f"{_API}/labels",
        f"{_API}/label/{{name}}/values",
        f"{_API}/series",
        f"{_API}/status/top_queries",
        f"{_API}/status/active_queries",
        f"{_API}/cardinality/label_names",
        f"{_API}/cardinality/label_values",
        f"{_API}/cardinality/active_series",
        f"{_API}/export",
        f"{_API}/export/csv",
        f"{_API}/export/native",
    ),
    *_each("POST", f"{_API}/read", f"{_NATIVE}/rules/test"),
    *_each(
        "GET",
        "/federate",
        "/version",
        f"{_API}/metadata",
        f"{_API}/targets",
        f"{_API}/targets/metadata",
        f"{_API}/scrape_pools",
        f"{_API}/rules",
        f"{_API}/alerts",
        f"{_API}/alertmanagers",
        f"{_API}/notifications",
        f"{_API}/notifications/live",
        f"{_API}/features",
        f"{_API}/status/buildinfo",
        f"{_API}/status/tsdb",
        f"{_API}/status/walreplay",
        f"{_API}/usage",
        f"{_API}/limits",
        f"{_API}/user_limits",
    ),
    *_each("GET", "/config/v1/rules", "/api/prom/rules"),
    *_ruler("GET", "/{namespace}"),
    *_ruler("GET", "/{namespace}/{group}"),
    *_each(
        "GET",
        f"{_NATIVE}/",
        f"{_NATIVE}/names",
        f"{_NATIVE}/latest/{{name}}",
        f"{_NATIVE}/aggregate/{{name}}",
        f"{_NATIVE}/series/{{name}}",
        f"{_NATIVE}/definitions",
        f"{_NATIVE}/definitions/{{name}}",
        f"{_NATIVE}/retention",
        f"{_NATIVE}/whoami",
        f"{_NATIVE}/rules",
        f"{_NATIVE}/rules/{{id}}",
        f"{_NATIVE}/alerts",
        f"{_NATIVE}/alerts/{{id}}",
        f"{_NATIVE}/alerts/{{id}}/history",
        f"{_NATIVE}/silences",
        f"{_NATIVE}/silences/{{id}}",
        f"{_NATIVE}/receivers",
        f"{_NATIVE}/remediations",
        f"{_NATIVE}/remediations/{{id}}",
        f"{_NATIVE}/corrections",
        f"{_NATIVE}/corrections/{{id}}",
        f"{_NATIVE}/dashboards",
        f"{_NATIVE}/dashboards/{{uid}}",
        f"{_NATIVE}/dashboards/{{uid}}/export",
        f"{_NATIVE}/dashboards/{{uid}}/versions",
        f"{_NATIVE}/dashboards/{{uid}}/versions/{{version}}",
    ),
)

_READ_OF_SERVICE: Final = (
    *_each("GET", "/metrics"),
    *_each("GET", f"{_API}/status/config", f"{_API}/status/flags", f"{_API}/status/runtimeinfo"),
)

_EDIT: Final = (
    *_ruler("POST DELETE", "/{namespace}"),
    *_ruler("DELETE", "/{namespace}/{group}"),
    *_each("POST", f"{_NATIVE}/definitions", f"{_NATIVE}/rules", f"{_NATIVE}/silences"),
    *_each("PUT PATCH DELETE", f"{_NATIVE}/definitions/{{name}}", f"{_NATIVE}/rules/{{id}}"),
    *_each("POST", f"{_NATIVE}/rules/{{id}}/enable", f"{_NATIVE}/rules/{{id}}/disable"),
    *_each("POST", f"{_NATIVE}/alerts/{{id}}/acknowledge", f"{_NATIVE}/alerts/{{id}}/resolve"),
    *_each("DELETE", f"{_NATIVE}/silences/{{id}}"),
    *_each(
        "POST",
        f"{_NATIVE}/dashboards",
        f"{_NATIVE}/dashboards/import",
        f"{_NATIVE}/dashboards/{{uid}}/versions/{{version}}/restore",
    ),
    *_each("PUT DELETE", f"{_NATIVE}/dashboards/{{uid}}"),
)

_OPERATE: Final = (
    *_each(
        "POST",
        f"{_NATIVE}/remediations/{{id}}/approve",
        f"{_NATIVE}/remediations/{{id}}/deny",
        f"{_NATIVE}/remediations/{{id}}/cancel",
        f"{_NATIVE}/corrections/delete",
        f"{_NATIVE}/corrections/replace",
        f"{_NATIVE}/corrections/scale",
        f"{_NATIVE}/corrections/rename",
    ),
    *_each("POST PUT", f"{_API}/admin/tsdb/delete_series", f"{_API}/admin/tsdb/clean_tombstones"),
    *_each("DELETE", f"{_API}/status/active_queries/{{id}}"),
)

_ADMIN: Final = (
    *_each("PUT", f"{_NATIVE}/retention"),
    *_each("GET POST", f"{_NATIVE}/tokens"),
    *_each("DELETE", f"{_NATIVE}/tokens/{{id}}"),
    *_each("GET", f"{_NATIVE}/audit"),
)

_ADMIN_OF_SERVICE: Final = (
    # Limits protect the service from its tenants.
    *_each("PUT PATCH DELETE", f"{_API}/limits"),
    *_each("POST PUT", f"{_API}/admin/tsdb/snapshot"),
    *_each("*", "/-/reload", "/-/quit"),
)

_GROUPS: Final = (
    (Need(None), _PUBLIC),
    (Need(Role.WRITE), _WRITE),
    (Need(Role.READ), _READ),
    (Need(Role.READ, is_service_wide=True), _READ_OF_SERVICE),
    (Need(Role.EDIT), _EDIT),
    (Need(Role.OPERATE), _OPERATE),
    (Need(Role.ADMIN), _ADMIN),
    (Need(Role.ADMIN, is_service_wide=True), _ADMIN_OF_SERVICE),
)

NEED_OF_ROUTE: Final[Mapping[str, Need]] = {
    route: need for need, routes in _GROUPS for route in routes
}


def need_of(method: str, path: str) -> Need:
    """What a route needs. Raises LookupError for one that the table does not have."""
    try:
        return NEED_OF_ROUTE[f"{method} {path}"]
    except KeyError:
        raise LookupError(
            f"the route {method} {path} has no role; add it to promcompat/http/route_roles.py"
        ) from None
