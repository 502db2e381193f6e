"""`/api/v1/import…`: the formats of VictoriaMetrics and Prometheus' text, as vmctl sends them.

204 if every sample was stored; 400 with the reasons if some were not, while all others were.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final
from urllib.parse import unquote

from aiohttp import hdrs, web

from promcompat.api.envelope import text_error, text_response
from promcompat.api.forms import Form
from promcompat.api.ingest.importing import (
    ReadPiece,
    extra_labels_of,
    import_lines,
    store_columns,
    url_form,
)
from promcompat.api.params import parse_go_int
from promcompat.core.errors import BadDataError, PromcompatError
from promcompat.http.bodies import BODIES, media_type
from promcompat.http.context import services_of, tenant_of
from promcompat.http.line_bodies import LinePiece, whole_body
from promcompat.imports.columns import ColumnsBuilder
from promcompat.imports.csv_lines import CsvFormat, parse_csv_format, read_csv_lines
from promcompat.imports.exposition import ExpositionOptions, read_exposition, unit_of
from promcompat.imports.json_lines import read_json_lines
from promcompat.imports.storing import Outcome
from promcompat.scraping.pushed_families import read_pushed

_BASE64: Final = "@base64"
_PROTOBUF: Final = "application/vnd.google.protobuf"
_DELIMITED: Final = {"encoding=delimited", "proto=io.prometheus.client.metricfamily"}
_MAX_PROTOBUF_BYTES: Final = 2 << 20
"""A family is read as a whole, and a few bytes may stand for a metric."""
_Store = Callable[[web.Request, str, Form, dict[str, str], Outcome], Awaitable[None]]
"""Stores the body of a request of a tenant, with labels; adds to the outcome."""


async def handle_json(request: web.Request) -> web.Response:
    """`/api/v1/import`: a series per line, with arrays of values and timestamps."""

    def prepare(_form: Form) -> ReadPiece:
        return lambda piece, builder: read_json_lines(piece.lines(), piece.first_line, builder)

    return await _import(request, "json", prepare)


async def handle_exposition(request: web.Request) -> web.Response:
    """`/api/v1/import/prometheus`: exposition text, OpenMetrics or protobuf."""
    return await _import_exposition(request)


async def handle_push(request: web.Request) -> web.Response:
    """`/api/v1/import/prometheus/metrics/job/…`, where clients of a Pushgateway send.

    They push by PUT and add by POST, which is the same here. Go's client takes no success but 200
    and 202.
    """
    answer = await _import_exposition(request)
    if answer.status == 204:
        answer.set_status(200)
    return answer


async def _import_exposition(request: web.Request) -> web.Response:
    if media_type(request) == _PROTOBUF:
        return await _answered(request, _import_protobuf)

    def prepare(form: Form) -> ReadPiece:
        unit = unit_of(request.headers.get(hdrs.CONTENT_TYPE, ""))
        options = ExpositionOptions(_time_of(request, form), unit)
        return partial(_read_exposition, options=options)

    return await _import(request, "exposition", prepare)


async def _import_protobuf(
    request: web.Request, tenant: str, form: Form, labels: dict[str, str], outcome: Outcome
) -> None:
    """Store metric families, each after its length, as Go's client of a Pushgateway sends them."""
    content_type = request.headers.get(hdrs.CONTENT_TYPE, "").replace(" ", "").lower()
    if not set(content_type.split(";")) >= _DELIMITED:
        raise BadDataError(f"expected {_PROTOBUF}; {'; '.join(sorted(_DELIMITED))}")
    body = await whole_body(request, _MAX_PROTOBUF_BYTES)
    time_ms = _time_of(request, form)
    # In a thread even if it is short: two bytes may stand for a metric.
    for columns in (
        await request.app[BODIES].of(tenant).in_thread(read_pushed, body, labels, time_ms)
    ):
        await store_columns(request, tenant, "exposition", columns, outcome)


def _time_of(request: web.Request, form: Form) -> int:
    """The time of samples without one: the parameter `timestamp`, else now."""
    time = form.get("timestamp")
    return parse_go_int(time) if time else services_of(request).metrics.now_ms()


def _read_exposition(piece: LinePiece, builder: ColumnsBuilder, options: ExpositionOptions) -> None:
    read_exposition(piece.lines(), piece.first_line, builder, options)


async def handle_csv(request: web.Request) -> web.Response:
    """`/api/v1/import/csv`: rows, whose columns `format` names."""

    def prepare(form: Form) -> ReadPiece:
        columns = parse_csv_format(form.get("format"))
        now_ms = services_of(request).metrics.now_ms()
        return partial(_read_csv, columns=columns, now_ms=now_ms)

    return await _import(request, "csv", prepare)


def _read_csv(piece: LinePiece, builder: ColumnsBuilder, columns: CsvFormat, now_ms: int) -> None:
    read_csv_lines(piece.lines(), piece.first_line, builder, columns, now_ms)


async def handle_native(request: web.Request) -> web.Response:
    """VictoriaMetrics' own binary format, which changes between its versions."""
    return text_response(
        400,
        "VictoriaMetrics' native format is not supported, because it is private to its versions; "
        "send JSON lines to /api/v1/import (vmctl: without vm-native)\n",
    )


async def _import(
    request: web.Request, format_name: str, prepare: Callable[[Form], ReadPiece]
) -> web.Response:
    async def store(
        request: web.Request, tenant: str, form: Form, labels: dict[str, str], outcome: Outcome
    ) -> None:
        await import_lines(request, tenant, format_name, labels, prepare(form), outcome)

    return await _answered(request, store)


async def _answered(request: web.Request, store: _Store) -> web.Response:
    outcome = Outcome()
    try:
        form = url_form(request)
        labels = extra_labels_of(form) | _path_labels(request.raw_path)
        await store(request, tenant_of(request), form, labels, outcome)
    except PromcompatError as exc:
        answer = text_error(exc)
        answer.headers.update(outcome.headers())
        return answer
    if outcome.faults.number:
        return text_response(400, outcome.text() + "\n", outcome.headers())
    return web.Response(status=204, headers=outcome.headers())


def _path_labels(raw_path: str) -> dict[str, str]:
    """The labels of `…/metrics/job/<job>/<label>/<value>…`; `label@base64` has an encoded value.

    The path is split before it is decoded, because values may have slashes.
    """
    path = raw_path.partition("?")[0].partition("/import/prometheus/metrics/")[2].strip("/")
    parts = path.split("/") if path else []
    if len(parts) % 2:
        raise BadDataError(f"the label {parts[-1]!r} of the path has no value")
    labels = {}
    for name, value in zip(map(unquote, parts[::2]), parts[1::2], strict=True):
        if name.endswith(_BASE64):
            labels[name.removesuffix(_BASE64)] = _decoded(value)
        else:
            labels[name] = unquote(value)
    return labels


def _decoded(text: str) -> str:
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadDataError(f"{text!r} in the path is not base64 of UTF-8") from None
