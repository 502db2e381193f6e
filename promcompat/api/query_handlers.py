"""`query`, `query_range`, `format_query` and `parse_query`."""

from collections.abc import Callable

from aiohttp import hdrs, web

from promcompat.api.ast_json import expr_json
from promcompat.api.envelope import success_response
from promcompat.api.forms import Form, read_form
from promcompat.api.params import (
    errors_naming,
    parse_eval_range,
    parse_limit,
    parse_optional_time_ms,
)
from promcompat.api.query_parsing import parse_query, read_query
from promcompat.api.result_json import query_data_parts
from promcompat.api.streamed_response import stream_success
from promcompat.core.model import EvalRange, SampleBlock, unrendered_characters
from promcompat.http.context import TELEMETRY, services_of, tenant_of
from promql.ast import Expr
from promql.parsing.printer import prettify
from promql.values.matrix import Matrix, QueryResult

_NO_STORE = "no-store"
"""The `Cache-Control` value that bypasses the result cache, as in Mimir."""
_STREAMED_FROM_POINTS = 50_000
_STREAMED_FROM_SERIES = 5_000
_STREAMED_FROM_CHARACTERS = 1_000_000
"""Of label values whose JSON is not kept."""


async def handle_query(request: web.Request) -> web.StreamResponse:
    """Evaluate an expression at one time."""
    asked_at = await _ask_ahead(request)
    form = await read_form(request)
    limit = parse_limit(form)
    now_ms = services_of(request).queries.now_ms()
    at = EvalRange.instant(parse_optional_time_ms(form, "time", now_ms))
    return await _answer(request, form, at, limit, asked_at)


async def handle_query_range(request: web.Request) -> web.StreamResponse:
    """Evaluate an expression at every step of a range."""
    asked_at = await _ask_ahead(request)
    form = await read_form(request)
    limit = parse_limit(form)
    return await _answer(request, form, parse_eval_range(form), limit, asked_at)


async def _ask_ahead(request: web.Request) -> float:
    """Begin to ask for what was written until now."""
    return await services_of(request).queries.ask_ahead(tenant_of(request))


async def _answer(
    request: web.Request, form: Form, eval_range: EvalRange, limit: int, asked_at: float
) -> web.StreamResponse:
    query = read_query(
        form,
        tenant_of(request),
        eval_range,
        limit=limit,
        counts_samples=bool(form.get("stats")),
        use_cache=_NO_STORE not in request.headers.get(hdrs.CACHE_CONTROL, ""),
        asked_at=asked_at,
    )
    with errors_naming("query"):
        result = await services_of(request).queries.run(query)
    return await _respond(request, form, result)


async def handle_format_query(request: web.Request) -> web.Response:
    """The expression as the printer formats it."""
    return await _respond_parsed(request, prettify)


async def handle_parse_query(request: web.Request) -> web.Response:
    """The syntax tree of the expression."""
    return await _respond_parsed(request, expr_json)


async def _respond_parsed(
    request: web.Request, render: Callable[[Expr], str | bytes]
) -> web.Response:
    """The result of `render` for the query, in a thread, since a query may have a megabyte."""
    form = await read_form(request)
    with errors_naming("query"):
        data = await parse_query(request, form.get("query"), render)
    return await success_response(request, data)


async def _respond(request: web.Request, form: Form, result: QueryResult) -> web.StreamResponse:
    stats = result.stats
    request.app[TELEMETRY].query.observe(
        stats.timings_seconds, stats.total_samples, stats.reused_steps
    )
    wanted = form.get("stats")
    data = query_data_parts(result, bool(wanted), per_step=wanted == "all")
    if _is_large(result):
        return await stream_success(request, data, result.warnings, result.infos)
    return await success_response(request, b"".join(data), result.warnings, result.infos)


def _is_large(result: QueryResult) -> bool:
    """Whether rendering the result takes long: by its points, its series or its labels."""
    value = result.value
    if not isinstance(value, Matrix | SampleBlock):
        return False
    if value.values.size >= _STREAMED_FROM_POINTS or len(value.labels) >= _STREAMED_FROM_SERIES:
        return True
    # `label_join` and `label_replace` make labels of any length.
    return unrendered_characters(value.labels) >= _STREAMED_FROM_CHARACTERS
