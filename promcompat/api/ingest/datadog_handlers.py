"""Datadog's intake: series of version 1 and 2, distributions, and what its agent asks besides.

Its agent retries 404 and 429, and drops a payload on 400, 403 and 413 only.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from promcompat.api.envelope import error_headers, error_status
from promcompat.api.ingest.importing import extra_labels_of, store_columns, url_form
from promcompat.api.json_text import dump_json
from promcompat.core.errors import PromcompatError
from promcompat.http.bodies import BODIES, media_type
from promcompat.http.context import SETTINGS, TELEMETRY, services_of, tenant_of
from promcompat.http.line_bodies import whole_body
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns
from promcompat.imports.datadog_series import (
    read_distributions_json,
    read_series_json,
    read_series_protobuf,
    read_sketches,
)
from promcompat.imports.storing import Outcome

_JSON: Final = "application/json"
_PROTOBUF: Final = "application/x-protobuf"
_OK: Final = b'{"status":"ok"}'
_NO_ERRORS: Final = b'{"errors":[]}'


_Read = Callable[[bytes, ColumnsBuilder, int], None]
"""Adds the samples of a body to a builder, at a time in Unix ms where they have none."""


async def handle_series_v1(request: web.Request) -> web.Response:
    """`/api/v1/series` as JSON."""
    return await _stored(request, _read_v1, _OK)


async def handle_series_v2(request: web.Request) -> web.Response:
    """`/api/v2/series` as JSON or protobuf."""
    is_protobuf = media_type(request) == _PROTOBUF
    return await _stored(request, read_series_protobuf if is_protobuf else _read_v2, _NO_ERRORS)


async def handle_distributions(request: web.Request) -> web.Response:
    """`/api/v1/distribution_points`: the values of distributions."""
    return await _stored(request, read_distributions_json, _OK)


async def handle_sketches(request: web.Request) -> web.Response:
    """`/api/beta/sketches`: the distributions of an agent."""
    return await _stored(request, read_sketches, b"")


def _read_v1(body: bytes, builder: ColumnsBuilder, now_ms: int) -> None:
    read_series_json(body, 1, builder, now_ms)


def _read_v2(body: bytes, builder: ColumnsBuilder, now_ms: int) -> None:
    read_series_json(body, 2, builder, now_ms)


async def _stored(request: web.Request, read: _Read, accepted: bytes) -> web.Response:
    outcome = Outcome()
    try:
        await _store(request, read, outcome)
    except PromcompatError as exc:
        return _refusal(error_status(exc), [str(exc)], outcome, error_headers(exc))
    if outcome.faults.number:
        return _refusal(400, outcome.text().split("\n"), outcome, {})
    return web.Response(status=202, body=accepted, content_type=_JSON, headers=outcome.headers())


async def _store(request: web.Request, read: _Read, outcome: Outcome) -> None:
    tenant, extra_labels = tenant_of(request), extra_labels_of(url_form(request))
    body = await whole_body(request, request.app[SETTINGS].write_max_decoded_bytes)
    now_ms = services_of(request).metrics.now_ms()

    def parse() -> ImportedColumns:
        builder = ColumnsBuilder(extra_labels)
        read(body, builder, now_ms)
        return builder.finish()

    columns = await request.app[BODIES].of(tenant).parse(len(body), parse)
    await store_columns(request, tenant, "datadog", columns, outcome)


def _refusal(
    status: int, errors: list[str], outcome: Outcome, headers: dict[str, str]
) -> web.Response:
    return web.Response(
        status=status,
        body=dump_json({"errors": errors}),
        content_type=_JSON,
        headers=outcome.headers() | headers,
    )


async def handle_validate(request: web.Request) -> web.Response:
    """`/api/v1/validate`: every key is valid, because whoever guards us checks them."""
    return web.Response(body=b'{"valid":true}', content_type=_JSON)


async def handle_other(request: web.Request) -> web.Response:
    """Any other path. What is at a known one but for further slashes is stored all the same.

    Legacy agents end their paths with a slash, and an address with one makes two of it. Other
    paths are of what cannot be stored, such as service checks and host metadata: it is accepted
    and counted.
    """
    parts = request.match_info["other"].split("/")
    stores = STORED_PATHS.get("/" + "/".join(filter(None, parts)))
    return await (handle_ignored if stores is None else stores)(request)


async def handle_ignored(request: web.Request) -> web.Response:
    """What cannot be stored: accepted and counted."""
    request.app[TELEMETRY].imports.skipped.labels("datadog").inc()
    return web.Response(status=202, body=_OK, content_type=_JSON)


STORED_PATHS: Final[Mapping[str, Callable[[web.Request], Awaitable[web.Response]]]] = {
    "/api/v1/series": handle_series_v1,
    "/api/v2/series": handle_series_v2,
    "/api/v1/distribution_points": handle_distributions,
    "/api/beta/sketches": handle_sketches,
}
"""The paths whose bodies are stored, below the prefix, and their handlers."""
