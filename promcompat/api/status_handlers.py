"""`status/*` and `notifications`: information about the server itself."""

import gc
import os
import platform
import socket
import threading

import orjson
from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import read_form
from promcompat.api.params import parse_go_int
from promcompat.api.query_parsing import within_query_time
from promcompat.configuration.text import public_values
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import BadDataError
from promcompat.core.texts.durations import format_duration_ms
from promcompat.core.texts.times import format_time_ms
from promcompat.http.bodies import work_of
from promcompat.http.context import SETTINGS, STATE, services_of, tenant_of
from promcompat.metrics.cardinality import Largest, series_statistics
from promcompat.version import PROMETHEUS_VERSION, promcompat_version

_DEFAULT_TOP = 10
_MAX_TOP = 10_000
_EMPTY_HEAD_MS = ((1 << 63) - 1, -(1 << 63))
"""The first and last time that Prometheus reports for a head without samples."""


def build_information() -> dict[str, str]:
    """Clients detect features by `version`, so it is that of the Prometheus we emulate."""
    return {
        "version": PROMETHEUS_VERSION,
        "revision": f"promcompat-{promcompat_version()}",
        "branch": "promcompat",
        "buildUser": "",
        "buildDate": "",
        "goVersion": f"python{platform.python_version()}",
    }


async def handle_build_information(request: web.Request) -> web.Response:
    """Version and build."""
    data: dict[str, object] = dict(build_information())
    if request.app[SETTINGS].ruler_feature:
        data["features"] = {"ruler_config_api": "true", "alertmanager_config_api": "false"}
    return await success_response(request, data)


async def handle_flags(request: web.Request) -> web.Response:
    """The settings by flag name, and by Prometheus' flag name where it has the same setting."""
    settings = request.app[SETTINGS]
    flags = {name.replace("_", "-"): value for name, value in public_values(settings).items()}
    flags |= {
        "query.lookback-delta": format_duration_ms(settings.query_lookback_delta),
        "query.max-concurrency": str(settings.query_max_concurrency),
        "query.max-samples": str(settings.query_max_samples),
        "query.timeout": format_duration_ms(settings.query_timeout),
        "web.enable-remote-write-receiver": "true",
        "web.enable-admin-api": str(settings.admin_api).lower(),
        "web.enable-lifecycle": "false",
    }
    return await success_response(request, dict(sorted(flags.items())))


async def handle_config(request: web.Request) -> web.Response:
    """The settings as a YAML mapping of strings (JSON strings are YAML)."""
    values = public_values(request.app[SETTINGS])
    lines = [f"{name}: {orjson.dumps(value).decode()}\n" for name, value in values.items()]
    return await success_response(request, {"yaml": "".join(lines)})


async def handle_runtime_information(request: web.Request) -> web.Response:
    """The process, by Prometheus' keys; keys about Go's runtime have the nearest equivalent."""
    state = request.app[STATE]
    started = format_time_ms(round(state.started_at_seconds * 1000))
    data = {
        "startTime": started,
        "CWD": os.getcwd(),
        "hostname": socket.gethostname(),
        "serverTime": format_time_ms(wall_clock_ms()),
        "reloadConfigSuccess": True,
        "lastConfigTime": started,
        "corruptionCount": 0,
        "goroutineCount": threading.active_count(),
        "GOMAXPROCS": os.cpu_count() or 1,
        "GOMEMLIMIT": (1 << 63) - 1,
        "GOGC": str(gc.get_threshold()[0]),
        "GODEBUG": "",
        "storageRetention": "0s",
        "database": "" if state.services is None else state.services.database,
    }
    return await success_response(request, data)


async def handle_tsdb(request: web.Request) -> web.Response:
    """Cardinality of the tenant's series; the keys of Prometheus' head."""
    form = await read_form(request)
    top = _parse_top(form.get("limit"))
    metrics, tenant = services_of(request).metrics, tenant_of(request)
    async with within_query_time(request):
        counts = await metrics.label_counts(tenant)
        bounds_ms = await metrics.sample_bounds(tenant)
    found = await work_of(request).in_thread(series_statistics, counts, top)
    min_ms, max_ms = bounds_ms or _EMPTY_HEAD_MS
    data = {
        "headStats": {
            "numSeries": found.n_series,
            "numLabelPairs": found.n_labels,
            "chunkCount": 0,
            "minTime": min_ms,
            "maxTime": max_ms,
        },
        "seriesCountByMetricName": _listed(found.series_by_metric_name),
        "labelValueCountByLabelName": _listed(found.values_by_label_name),
        "memoryInBytesByLabelName": _listed(found.bytes_by_label_name),
        "seriesCountByLabelValuePair": _listed(found.series_by_label),
    }
    return await success_response(request, data)


async def handle_wal_replay(request: web.Request) -> web.Response:
    """There is no write-ahead log to replay here: the database has its own."""
    return await success_response(request, {"min": 0, "max": 0, "current": 0})


async def handle_notifications(request: web.Request) -> web.Response:
    """Notices for the user of the web interface."""
    return await success_response(request, [])


async def handle_notifications_live(request: web.Request) -> web.Response:
    """There are never live notices; 204 tells the web interface so."""
    return web.Response(status=204)


def _parse_top(text: str) -> int:
    if not text:
        return _DEFAULT_TOP
    try:
        top = parse_go_int(text)
    except BadDataError:
        top = 0
    if top < 1:
        raise BadDataError("limit must be a positive number")
    return min(top, _MAX_TOP)


def _listed(counts: Largest) -> list[dict[str, str | int]]:
    return [{"name": name, "value": count} for name, count in counts]
