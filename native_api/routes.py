"""The table of all routes of the native API, and their installation in the application."""

import re

import orjson
from aiohttp import web

from native_api.access.handlers import ROUTES as ACCESS_ROUTES
from native_api.alerts.handlers import ROUTES as ALERT_ROUTES
from native_api.contract.dispatch import answer_problems, http_handler
from native_api.contract.docs_page import render_docs
from native_api.contract.openapi import build_openapi
from native_api.contract.responses import json_response
from native_api.contract.route import BASE, Route
from native_api.corrections.handlers import ROUTES as CORRECTION_ROUTES
from native_api.dashboards.handlers import ROUTES as DASHBOARD_ROUTES
from native_api.definitions.handlers import ROUTES as DEFINITION_ROUTES
from native_api.definitions.retention import RETENTION_ROUTES
from native_api.ingest.handlers import ROUTES as INGEST_ROUTES
from native_api.limits.handlers import ROUTES as LIMIT_ROUTES
from native_api.query.handlers import ROUTES as QUERY_ROUTES
from native_api.remediations.handlers import ROUTES as REMEDIATION_ROUTES
from native_api.rules.handlers import ROUTES as RULE_ROUTES
from native_api.usage.handlers import ROUTES as USAGE_ROUTES
from promcompat.http.browsers import page_response
from promcompat.http.guard import guarded
from promcompat.version import promcompat_version

ROUTES: tuple[Route, ...] = (
    *INGEST_ROUTES,
    *DEFINITION_ROUTES,
    *RETENTION_ROUTES,
    *RULE_ROUTES,
    *ALERT_ROUTES,
    *REMEDIATION_ROUTES,
    *QUERY_ROUTES,
    *DASHBOARD_ROUTES,
    *CORRECTION_ROUTES,
    *USAGE_ROUTES,
    *ACCESS_ROUTES,
    *LIMIT_ROUTES,
)
"""In the order of the docs. Where two paths match a request, the fixed one comes first."""


def _pattern(route: Route) -> str:
    """The path for the router; a part matches anything without a slash, including braces."""
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", route.full_path)


def install_native_api(app: web.Application) -> None:
    """Add the routes, `/openapi.json` and `/docs` to the application of the Prometheus API."""
    app.middlewares.append(answer_problems)
    for route in ROUTES:
        # Both `/api/v1/metrics/` and `/api/v1/metrics`, since many clients drop or add the slash.
        handler = guarded(route.method, route.full_path, http_handler(route))
        app.router.add_route(route.method, _pattern(route), handler)
        if route.path == "/":
            app.router.add_route(route.method, BASE, handler)
    document = build_openapi(ROUTES, promcompat_version())
    specification, page = orjson.dumps(document), render_docs(document)

    async def handle_openapi(request: web.Request) -> web.Response:
        return json_response(request, specification)

    async def handle_docs(request: web.Request) -> web.Response:
        return page_response(page)

    for method in ("GET", "HEAD"):
        for path, handle in (("/openapi.json", handle_openapi), ("/docs", handle_docs)):
            app.router.add_route(method, path, guarded(method, path, handle))
