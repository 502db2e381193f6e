"""`query_exemplars`: the exemplars of the series that a query selects."""

from collections.abc import Sequence

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.float_format import format_sample_value, format_timestamp
from promcompat.api.forms import read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import MAX_TIME_MS, MIN_TIME_MS, parse_optional_time_ms
from promcompat.api.query_parsing import parse_query, within_query_time
from promcompat.core.errors import BadDataError
from promcompat.core.exemplars import Exemplar, ExemplarsOfSeries
from promcompat.core.matchers import LabelMatcher
from promcompat.http.bodies import work_of
from promcompat.http.context import services_of, tenant_of
from promql.ast import Expr, VectorSelector, walk

_BYTES_PER_EXEMPLAR = 200


async def handle_query_exemplars(request: web.Request) -> web.Response:
    """The exemplars from `start` to `end`; an expression without a selector gets 204.

    Offsets, ranges and times of the expression do not matter, as in Prometheus.
    """
    form = await read_form(request)
    start_ms = parse_optional_time_ms(form, "start", MIN_TIME_MS)
    end_ms = parse_optional_time_ms(form, "end", MAX_TIME_MS)
    if end_ms < start_ms:
        raise BadDataError("end timestamp must not be before start timestamp")
    tenant = tenant_of(request)
    selectors = await parse_query(request, form.get("query"), _selectors)
    if not selectors:
        return web.Response(status=204)
    async with within_query_time(request):
        service = services_of(request).exemplars
        found = await service.select(tenant, selectors, start_ms, end_ms)
    n_bytes = _BYTES_PER_EXEMPLAR * sum(len(series.exemplars) for series in found)
    return await success_response(
        request, await work_of(request).work(n_bytes, _exemplars_json, found)
    )


def _selectors(expr: Expr) -> list[tuple[LabelMatcher, ...]]:
    """The matchers of every selector in an expression."""
    return [node.matchers for node in walk(expr) if isinstance(node, VectorSelector)]


def _exemplars_json(found: Sequence[ExemplarsOfSeries]) -> bytes:
    series = (
        b'{"seriesLabels":%b,"exemplars":[%b]}'
        % (item.series.json(), b",".join(map(_exemplar_json, item.exemplars)))
        for item in found
    )
    return b"[%b]" % b",".join(series)


def _exemplar_json(exemplar: Exemplar) -> bytes:
    value = dump_json(format_sample_value(exemplar.value))
    time = format_timestamp(exemplar.timestamp_ms).encode()
    return b'{"labels":%b,"value":%b,"timestamp":%b}' % (exemplar.labels.json(), value, time)
