"""InfluxDB's write endpoints, version 1 and 2, as its clients and Telegraf use them."""

from typing import Final

from aiohttp import hdrs, web

from promcompat.api.envelope import error_headers, error_status
from promcompat.api.forms import Form
from promcompat.api.ingest.importing import extra_labels_of, import_lines, url_form
from promcompat.api.json_text import dump_json
from promcompat.core.errors import BadDataError, PromcompatError, RateLimitedError
from promcompat.http.context import services_of, tenant_of
from promcompat.http.line_bodies import LinePiece
from promcompat.imports.columns import ColumnsBuilder
from promcompat.imports.influx_lines import PRECISIONS, InfluxOptions, read_influx_lines
from promcompat.imports.storing import Outcome

_JSON: Final = "application/json"
_VERSION: Final = {"X-Influxdb-Version": "1.8.0", "X-Influxdb-Build": "promcompat"}
_CODES: Final = {
    400: "invalid",
    413: "request too large",
    429: "too many requests",
    503: "unavailable",
}


async def handle_write_v1(request: web.Request) -> web.Response:
    """`/write`: errors are `{"error": …}`; Telegraf drops what is answered `partial write`.

    It also drops what is answered 429, which it would send again for version 2: so this is 503.
    """
    outcome = Outcome()
    try:
        form = url_form(request)
        await _write(request, form, form.get("db"), outcome)
    except PromcompatError as exc:
        status = 503 if isinstance(exc, RateLimitedError) else error_status(exc)
        return _answer(status, {"error": str(exc)}, outcome, error_headers(exc))
    if outcome.faults.number:
        return _answer(400, {"error": f"partial write: {outcome.text()}"}, outcome)
    return web.Response(status=204, headers=outcome.headers() | _VERSION)


async def handle_write_v2(request: web.Request) -> web.Response:
    """`/api/v2/write`: the bucket does not become a label, the body of errors has a code."""
    outcome = Outcome()
    try:
        form = url_form(request)
        await _write(request, form, form.get("db"), outcome)
    except PromcompatError as exc:
        status = error_status(exc)
        body = {"code": _CODES.get(status, "internal error"), "message": str(exc)}
        return _answer(status, body, outcome, error_headers(exc))
    if outcome.faults.number:
        message = f"partial write: {outcome.text()}"
        return _answer(400, {"code": "invalid", "message": message}, outcome)
    return web.Response(status=204, headers=outcome.headers())


async def _write(request: web.Request, form: Form, database: str, outcome: Outcome) -> None:
    precision = form.get("precision")
    if precision and precision not in PRECISIONS:
        raise BadDataError(f"invalid precision {precision!r}; use one of {', '.join(PRECISIONS)}")
    options = InfluxOptions(services_of(request).metrics.now_ms(), precision, database)

    def read(piece: LinePiece, builder: ColumnsBuilder) -> None:
        read_influx_lines(piece.lines(), piece.first_line, builder, options)

    labels = extra_labels_of(form)
    await import_lines(request, tenant_of(request), "influx", labels, read, outcome)


def _answer(
    status: int, body: dict[str, str], outcome: Outcome, headers: dict[str, str] | None = None
) -> web.Response:
    """Telegraf retries a 400 whose body is not JSON."""
    return web.Response(
        status=status,
        body=dump_json(body),
        content_type=_JSON,
        headers=outcome.headers() | (headers or {}),
    )


async def handle_ping(request: web.Request) -> web.Response:
    """`/ping`, by which clients find out that somebody is there."""
    verbose = url_form(request).get("verbose") in ("true", "1")
    if verbose:
        return web.Response(body=b'{"version":"1.8.0"}', content_type=_JSON, headers=_VERSION)
    return web.Response(status=204, headers=_VERSION)


async def handle_health(request: web.Request) -> web.Response:
    """`/health` of version 2."""
    body = {"name": "influxdb", "message": "ready for queries and writes", "status": "pass"}
    return web.Response(body=dump_json({**body, "checks": []}), content_type=_JSON)


async def handle_query(request: web.Request) -> web.Response:
    """`/query`: Telegraf asks for `CREATE DATABASE`, which needs no work here."""
    body = {"results": [{"statement_id": 0}]}
    return web.Response(body=dump_json(body), headers={hdrs.CONTENT_TYPE: _JSON} | _VERSION)
