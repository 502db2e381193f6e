"""Every path of the service, in one table."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from promcompat.api import (
    admin_handlers,
    cardinality_handlers,
    exemplar_handlers,
    explain_handlers,
    feature_handlers,
    operation_handlers,
    page_handlers,
    query_handlers,
    query_log_handlers,
    rule_handlers,
    ruler_handlers,
    series_handlers,
    status_handlers,
    target_handlers,
)
from promcompat.api.export import export_handlers, federation_handler
from promcompat.api.export.read_handler import handle_read
from promcompat.api.ingest import datadog_handlers, import_handlers, influx_handlers
from promcompat.api.ingest.otlp_handler import handle_export
from promcompat.api.ingest.write_handler import handle_write
from promcompat.api.middleware import answer_errors, observe
from promcompat.configuration.settings import Settings
from promcompat.core.limits.turns import OneOfTenant
from promcompat.http.audit import end_record
from promcompat.http.bodies import BODIES, BodyLimits, RequestBodies, hold_bodies
from promcompat.http.browsers import BROWSER_RULES, BrowserRules, add_common_headers
from promcompat.http.context import LISTS, SETTINGS, STATE, TELEMETRY, ServiceState
from promcompat.http.guard import guarded
from promcompat.http.route_roles import ASSET_PATH, PAGE_PATHS
from promcompat.telemetry.telemetry import Telemetry

Route = tuple[str, tuple[str, ...], Callable[[web.Request], Awaitable[web.StreamResponse]]]

API = "/api/v1"
PREFIXES = ("", "/prometheus")
"""Mimir serves Prometheus' paths below `/prometheus`, and many clients are configured for it."""

_ANY_PATH = f"{API}/{{path:.*}}"
_GET = ("GET",)
_GET_HEAD = ("GET", "HEAD")
_GET_POST = ("GET", "POST")
_POST = ("POST",)
_POST_PUT = ("POST", "PUT")


def _ruler_routes(root: str, *, has_list: bool) -> tuple[Route, ...]:
    """The ruler API below one of its roots."""
    namespace = f"{root}/{{namespace}}"
    group = f"{namespace}/{{group}}"
    listed = ((root, _GET, ruler_handlers.handle_list_groups),) if has_list else ()
    return (
        *listed,
        (namespace, _GET, ruler_handlers.handle_list_groups),
        (namespace, _POST, ruler_handlers.handle_store_group),
        (namespace, ("DELETE",), ruler_handlers.handle_delete_groups),
        (group, _GET, ruler_handlers.handle_get_group),
        (group, ("DELETE",), ruler_handlers.handle_delete_groups),
    )


def _influx_routes(prefix: str, query_methods: tuple[str, ...]) -> tuple[Route, ...]:
    """InfluxDB's paths, at the root for senders that add them to a host, and below a prefix."""
    return (
        (f"{prefix}/write", _POST, influx_handlers.handle_write_v1),
        (f"{prefix}/api/v2/write", _POST, influx_handlers.handle_write_v2),
        (f"{prefix}/ping", _GET_HEAD, influx_handlers.handle_ping),
        (f"{prefix}/health", _GET, influx_handlers.handle_health),
        (f"{prefix}/query", query_methods, influx_handlers.handle_query),
    )


ROUTES: tuple[Route, ...] = (
    (f"{API}/query", _GET_POST, query_handlers.handle_query),
    (f"{API}/query_range", _GET_POST, query_handlers.handle_query_range),
    (f"{API}/query_exemplars", _GET_POST, exemplar_handlers.handle_query_exemplars),
    (f"{API}/format_query", _GET_POST, query_handlers.handle_format_query),
    (f"{API}/parse_query", _GET_POST, query_handlers.handle_parse_query),
    (f"{API}/explain", _GET_POST, explain_handlers.handle_explain),
    (f"{API}/labels", _GET_POST, series_handlers.handle_labels),
    (f"{API}/label/{{name}}/values", _GET_POST, series_handlers.handle_label_values),
    (f"{API}/series", _GET_POST, series_handlers.handle_series),
    (f"{API}/metadata", _GET, series_handlers.handle_metadata),
    (f"{API}/targets", _GET, target_handlers.handle_targets),
    (f"{API}/targets/metadata", _GET, target_handlers.handle_target_metadata),
    (f"{API}/scrape_pools", _GET, target_handlers.handle_scrape_pools),
    (f"{API}/rules", _GET, rule_handlers.handle_rules),
    (f"{API}/alerts", _GET, rule_handlers.handle_alerts),
    (f"{API}/alertmanagers", _GET, rule_handlers.handle_alertmanagers),
    # Mimir's ruler API, and Cortex', whose list would be Prometheus' /api/v1/rules.
    *_ruler_routes("/config/v1/rules", has_list=True),
    *_ruler_routes("/api/prom/rules", has_list=True),
    *_ruler_routes(f"{API}/rules", has_list=False),
    (f"{API}/features", _GET, feature_handlers.handle_features),
    (f"{API}/status/buildinfo", _GET, status_handlers.handle_build_information),
    (f"{API}/status/config", _GET, status_handlers.handle_config),
    (f"{API}/status/flags", _GET, status_handlers.handle_flags),
    (f"{API}/status/runtimeinfo", _GET, status_handlers.handle_runtime_information),
    (f"{API}/status/tsdb", _GET, status_handlers.handle_tsdb),
    (f"{API}/status/top_queries", _GET_POST, query_log_handlers.handle_top_queries),
    (f"{API}/status/active_queries", _GET_POST, query_log_handlers.handle_active_queries),
    (f"{API}/status/active_queries/{{id}}", ("DELETE",), query_log_handlers.handle_cancel_query),
    (f"{API}/cardinality/label_names", _GET_POST, cardinality_handlers.handle_label_names),
    (f"{API}/cardinality/label_values", _GET_POST, cardinality_handlers.handle_label_values),
    (f"{API}/cardinality/active_series", _GET_POST, cardinality_handlers.handle_active_series),
    (f"{API}/status/walreplay", _GET, status_handlers.handle_wal_replay),
    (f"{API}/notifications", _GET, status_handlers.handle_notifications),
    (f"{API}/notifications/live", _GET, status_handlers.handle_notifications_live),
    (f"{API}/admin/tsdb/delete_series", _POST_PUT, admin_handlers.handle_delete_series),
    (f"{API}/admin/tsdb/clean_tombstones", _POST_PUT, admin_handlers.handle_clean_tombstones),
    (f"{API}/admin/tsdb/snapshot", _POST_PUT, admin_handlers.handle_snapshot),
    (f"{API}/write", _POST, handle_write),
    (f"{API}/read", _POST, handle_read),
    # Where Mimir, Cortex and Grafana's recording rules write.
    (f"{API}/push", _POST, handle_write),
    ("/api/prom/push", _POST, handle_write),
    (f"{API}/otlp/v1/metrics", _POST, handle_export),
    # Where Mimir and the Collector have it; exporters append the path to a base address.
    ("/otlp/v1/metrics", _POST, handle_export),
    ("/v1/metrics", _POST, handle_export),
    # VictoriaMetrics.
    (f"{API}/import", _POST, import_handlers.handle_json),
    (f"{API}/import/prometheus", _POST, import_handlers.handle_exposition),
    (f"{API}/import/prometheus/metrics/{{labels:.+}}", _POST_PUT, import_handlers.handle_push),
    (f"{API}/import/csv", _POST, import_handlers.handle_csv),
    (f"{API}/import/native", _POST, import_handlers.handle_native),
    (f"{API}/export", _GET_POST, export_handlers.handle_export),
    (f"{API}/export/csv", _GET_POST, export_handlers.handle_csv),
    (f"{API}/export/native", _GET_POST, export_handlers.handle_native),
    *_influx_routes("", _POST),
    *_influx_routes("/influx", _GET_POST),
    # Datadog: below a prefix, because /api/v1/series is Prometheus' list of series.
    *((f"/datadog{path}", _POST, stores) for path, stores in datadog_handlers.STORED_PATHS.items()),
    ("/api/v2/series", _POST, datadog_handlers.handle_series_v2),
    ("/datadog/api/v1/validate", _GET, datadog_handlers.handle_validate),
    ("/api/v1/validate", _GET, datadog_handlers.handle_validate),
    *(
        (f"/datadog{path}", _POST, datadog_handlers.handle_ignored)
        for path in ("/api/v1/check_run", "/api/v1/metadata", "/api/v1/events", "/intake")
    ),
    # The agent repeats what is answered 404 for ever, so that every path is taken.
    ("/datadog/{other:.+}", _POST, datadog_handlers.handle_other),
    ("/federate", _GET, federation_handler.handle_federate),
    ("/-/healthy", _GET_HEAD, operation_handlers.handle_healthy),
    ("/-/ready", _GET_HEAD, operation_handlers.handle_ready),
    ("/-/reload", ("*",), operation_handlers.handle_lifecycle),
    ("/-/quit", ("*",), operation_handlers.handle_lifecycle),
    ("/metrics", _GET, operation_handlers.handle_metrics),
    ("/version", _GET, operation_handlers.handle_version),
    *((path, _GET_HEAD, page_handlers.handle_page) for path in PAGE_PATHS),
    (ASSET_PATH, _GET_HEAD, page_handlers.handle_asset),
)


def build_application(
    settings: Settings, state: ServiceState, telemetry: Telemetry
) -> web.Application:
    """The HTTP application; it serves as soon as `state` has services."""
    app = web.Application(middlewares=[observe, end_record, answer_errors, hold_bodies])
    app[SETTINGS] = settings
    app[STATE] = state
    app[TELEMETRY] = telemetry
    app[LISTS] = OneOfTenant()
    app[BODIES] = RequestBodies(
        BodyLimits(
            max_held_bytes=settings.max_held_body_bytes,
            read_timeout_seconds=settings.read_timeout / 1000,
        )
    )
    app[BROWSER_RULES] = BrowserRules.of(settings)
    app.on_response_prepare.append(add_common_headers)
    for prefix in PREFIXES:
        for path, methods, handler in ROUTES:
            for method in methods:
                app.router.add_route(method, prefix + path, guarded(method, path, handler))
        app.router.add_route(
            "OPTIONS", prefix + _ANY_PATH, guarded("OPTIONS", _ANY_PATH, _handle_options)
        )
    return app


async def _handle_options(request: web.Request) -> web.Response:
    return web.Response(status=204)
