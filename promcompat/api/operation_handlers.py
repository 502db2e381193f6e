"""For operators and their tools: health, readiness, metrics, version."""

import orjson
from aiohttp import hdrs, web

from promcompat.api.envelope import RETRY_AFTER_SECONDS, text_response
from promcompat.api.status_handlers import build_information
from promcompat.core.errors import StorageUnavailableError
from promcompat.http.context import STATE, TELEMETRY, Phase, ServiceState
from promcompat.telemetry.telemetry import CONTENT_TYPE


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
    headers = {
        "X-Prometheus-Stopping": str(state.phase is Phase.STOPPING).lower(),
        hdrs.RETRY_AFTER: str(RETRY_AFTER_SECONDS),
    }
    return text_response(503, f"Service Unavailable: {reason}\n", headers)


async def handle_metrics(request: web.Request) -> web.Response:
    """The service's own metrics in the text format."""
    body = request.app[TELEMETRY].render()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


async def handle_version(request: web.Request) -> web.Response:
    """The build as JSON, in plain text as Prometheus sends it."""
    return text_response(200, orjson.dumps(build_information()).decode() + "\n")


async def handle_lifecycle(request: web.Request) -> web.Response:
    """`/-/reload` and `/-/quit`, disabled as in a Prometheus without --web.enable-lifecycle."""
    if request.method not in ("POST", "PUT"):
        return text_response(405, "Only POST or PUT requests allowed")
    return text_response(403, "Lifecycle API is not enabled.")
