"""For operators and their tools: health, readiness, metrics, version, the landing page."""

import html

import orjson
from aiohttp import web

from promcompat.api.envelope import text_response
from promcompat.api.status_handlers import build_information
from promcompat.core.errors import StorageUnavailableError
from promcompat.http.browsers import page_response
from promcompat.http.context import SETTINGS, STATE, TELEMETRY, Phase, ServiceState
from promcompat.telemetry import CONTENT_TYPE
from promcompat.version import promcompat_version

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>promcompat</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 44rem; margin: 3rem auto; padding: 0 1rem }}
code, pre {{ background: #8882; border-radius: 4px; padding: .1em .3em }} pre {{ padding: .8em }}
</style></head><body>
<h1>promcompat {version}</h1>
<p>Prometheus-compatible metrics on {database}.
Status: <b>{phase}</b>, tenancy: <b>{tenancy}</b>.</p>
<p>To write samples from Prometheus, add to its configuration:</p>
<pre>remote_write:
  - url: {base}/api/v1/write</pre>
<p>In Grafana, add a data source of type Prometheus with the URL <code>{base}</code>.</p>
<ul>
<li><a href="api/v1/query?query=1%2B1">api/v1/query</a>, the Prometheus HTTP API</li>
<li><a href="docs">docs</a>, the native JSON API (<a href="openapi.json">openapi.json</a>)</li>
<li><a href="api/v1/status/tsdb">api/v1/status/tsdb</a>, cardinality statistics</li>
<li><a href="-/healthy">-/healthy</a>, <a href="-/ready">-/ready</a></li>
<li><a href="metrics">metrics</a>, the service's own metrics</li>
</ul></body></html>
"""


async def handle_healthy(request: web.Request) -> web.Response:
    """The process runs."""
    return text_response(200, "Prometheus Server is Healthy.\n")


async def handle_ready(request: web.Request) -> web.Response:
    """200 if requests are served and the database answers, else 503 with the reason."""
    state = request.app[STATE]
    if state.phase is not Phase.READY or state.services is None:
        return _not_ready(state, state.obstacle or f"the service is {state.phase.value}")
    try:
        await state.services.metrics.check_ready()
    except StorageUnavailableError as exc:
        return _not_ready(state, str(exc))
    return text_response(200, "Prometheus Server is Ready.\n")


def _not_ready(state: ServiceState, reason: str) -> web.Response:
    stopping = {"X-Prometheus-Stopping": str(state.phase is Phase.STOPPING).lower()}
    return text_response(503, f"Service Unavailable: {reason}\n", stopping)


async def handle_metrics(request: web.Request) -> web.Response:
    """The service's own metrics in the text format."""
    body = request.app[TELEMETRY].render()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def handle_version(request: web.Request) -> web.Response:
    """The build as JSON, in plain text as Prometheus sends it."""
    return text_response(200, orjson.dumps(build_information()).decode() + "\n")


async def handle_landing(request: web.Request) -> web.Response:
    """The page for people who open the address in a browser."""
    state = request.app[STATE]
    services = state.services
    values = {
        "version": promcompat_version(),
        "database": services.database if services else "a database that is still starting",
        "phase": state.phase.value,
        "tenancy": request.app[SETTINGS].tenancy,
        "base": str(request.url.origin()) + request.path.rstrip("/"),
    }
    page = _PAGE.format_map({name: html.escape(value) for name, value in values.items()})
    return page_response(page)


async def handle_lifecycle(request: web.Request) -> web.Response:
    """`/-/reload` and `/-/quit`, disabled as in a Prometheus without --web.enable-lifecycle."""
    if request.method not in ("POST", "PUT"):
        return text_response(405, "Only POST or PUT requests allowed")
    return text_response(403, "Lifecycle API is not enabled.")
