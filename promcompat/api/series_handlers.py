"""`series`, `labels`, `label/<name>/values` and `metadata`."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote_to_bytes

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import Form, read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    check_label_name,
    errors_naming,
    parse_go_int,
    parse_limit,
    parse_optional_time_ms,
    unescape_label_name,
)
from promcompat.api.query_parsing import parse_selectors, within_query_time
from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels, MetricMetadata
from promcompat.http.bodies import work_of
from promcompat.http.context import services_of, tenant_of
from promcompat.metrics.metric_service import ItemT, Listing

_DUMPED_IN_THREAD_FROM: Final = 2_000
"""Items; this many label sets take some milliseconds."""
_METADATA_BYTES: Final = 200
"""About, of a family."""


async def handle_series(request: web.Request) -> web.Response:
    """The label sets of the series that match any selector."""
    form = await read_form(request)
    form.check()
    selectors = form.all("match[]")
    if not selectors:
        raise BadDataError("no match[] parameter provided")
    bounds = _bounds(form)
    with errors_naming("match[]"):
        matcher_sets = await parse_selectors(request, selectors)
    find = partial(services_of(request).metrics.series, tenant_of(request), matcher_sets)
    return await _respond(request, find, bounds, _label_sets_json)


async def handle_labels(request: web.Request) -> web.Response:
    """The label names of the series that match any selector, or of all."""
    form = await read_form(request)
    bounds = _bounds(form)
    matcher_sets = await parse_selectors(request, form.all("match[]"))
    find = partial(services_of(request).metrics.label_names, tenant_of(request), matcher_sets)
    return await _respond(request, find, bounds, dump_json)


async def handle_label_values(request: web.Request) -> web.Response:
    """The values of a label of such series; POST is accepted too, since Grafana sends it."""
    form = await read_form(request)
    name = unescape_label_name(_raw_label_name(request))
    check_label_name(name)
    bounds = _bounds(form)
    matcher_sets = await parse_selectors(request, form.all("match[]"))
    find = partial(
        services_of(request).metrics.label_values, tenant_of(request), name, matcher_sets
    )
    if "\x00" in name:
        return await success_response(request, [])
    return await _respond(request, find, bounds, dump_json)


async def _respond(
    request: web.Request,
    find: Callable[[int, int, int], Awaitable[Listing[ItemT]]],
    bounds: tuple[int, int, int],
    to_json: Callable[[Sequence[ItemT]], bytes],
) -> web.Response:
    """The list found within `start`, `end` and `limit`, dumped in a thread when it is long."""
    start_ms, end_ms, _ = bounds
    if start_ms > end_ms:
        return await success_response(request, [])
    async with within_query_time(request):
        listing = await find(*bounds)
    if len(listing.items) < _DUMPED_IN_THREAD_FROM:
        data = to_json(listing.items)
    else:
        data = await work_of(request).in_thread(to_json, listing.items)
    return await success_response(request, data, listing.warnings)


def _label_sets_json(label_sets: Sequence[Labels]) -> bytes:
    """The list in JSON, made of what label sets keep of their own."""
    return b"[" + b",".join([labels.json() for labels in label_sets]) + b"]"


async def handle_metadata(request: web.Request) -> web.Response:
    """The metadata that senders report for each metric family; a family's list is never empty."""
    form = await read_form(request)
    limit = _metadata_limit(form, "limit")
    limit_per_metric = _metadata_limit(form, "limit_per_metric")
    tenant, family = tenant_of(request), form.get("metric") or None
    async with within_query_time(request):
        found = await services_of(request).metrics.metadata(tenant, family)
    data = await work_of(request).work(
        len(found) * _METADATA_BYTES, _families_json, found, limit, limit_per_metric
    )
    return await success_response(request, data)


def _families_json(found: Sequence[MetricMetadata], limit: int, limit_per_metric: int) -> bytes:
    by_family: dict[str, list[dict[str, str]]] = {}
    for entry in found:
        entries = by_family.setdefault(entry.family, [])
        if limit_per_metric <= 0 or len(entries) < limit_per_metric:
            entries.append(_metadata_json(entry))
    return dump_json(dict(list(by_family.items())[: limit if limit >= 0 else None]))


def _metadata_json(entry: MetricMetadata) -> dict[str, str]:
    return {"type": entry.type, "unit": entry.unit, "help": entry.help}


def _metadata_limit(form: Form, name: str) -> int:
    text = form.get(name)
    try:
        return parse_go_int(text) if text else -1
    except BadDataError as exc:
        raise BadDataError(f"{name} must be a number") from exc


def _bounds(form: Form) -> tuple[int, int, int]:
    """`start`, `end` and `limit`; all of time and no limit when they are absent."""
    limit = parse_limit(form)
    start_ms = parse_optional_time_ms(form, "start", MIN_TIME_MS)
    return start_ms, parse_optional_time_ms(form, "end", MAX_TIME_MS), limit


def _raw_label_name(request: web.Request) -> str:
    """The path segment before `/values`; bytes that are not UTF-8 become lone surrogates."""
    path, _, _ = request.raw_path.partition("?")
    return unquote_to_bytes(path.split("/")[-2]).decode(errors="surrogateescape")
