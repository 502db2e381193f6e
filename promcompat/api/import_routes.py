"""The paths of imports and exports, by the systems whose clients use them."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from promcompat.api import datadog_handlers, export_handlers, import_handlers, influx_handlers

Route = tuple[str, tuple[str, ...], Callable[[web.Request], Awaitable[web.StreamResponse]]]

_GET: Final = ("GET",)
_GET_HEAD: Final = ("GET", "HEAD")
_GET_POST: Final = ("GET", "POST")
_POST: Final = ("POST",)
_POST_PUT: Final = ("POST", "PUT")

_VICTORIA_METRICS: tuple[Route, ...] = (
    ("/api/v1/import", _POST, import_handlers.handle_json),
    ("/api/v1/import/prometheus", _POST, import_handlers.handle_exposition),
    ("/api/v1/import/prometheus/metrics/{labels:.+}", _POST_PUT, import_handlers.handle_push),
    ("/api/v1/import/csv", _POST, import_handlers.handle_csv),
    ("/api/v1/import/native", _POST, import_handlers.handle_native),
    ("/api/v1/export", _GET_POST, export_handlers.handle_export),
    ("/api/v1/export/csv", _GET_POST, export_handlers.handle_csv),
    ("/api/v1/export/native", _GET_POST, export_handlers.handle_native),
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


_DATADOG: tuple[Route, ...] = (
    # Below a prefix, because /api/v1/series is Prometheus' list of series.
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
)

IMPORT_ROUTES: tuple[Route, ...] = (
    *_VICTORIA_METRICS,
    *_influx_routes("", _POST),
    *_influx_routes("/influx", _GET_POST),
    *_DATADOG,
)
