"""`explain`: how a query would be answered, and with `analyze` what answering it took."""

import asyncio

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.explanation_json import explanation_json
from promcompat.api.forms import read_form
from promcompat.api.params import (
    Form,
    invalid_parameter,
    parse_eval_range,
    parse_lookback_ms,
    parse_optional_time_ms,
    parse_timeout_seconds,
)
from promcompat.core.errors import BadDataError
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import EvalRange
from promcompat.http.context import services_of, tenant_of
from promcompat.querying.query_explanation import QueryToExplain
from promql.query_parameters import QueryParameters

_RANGE_PARAMETERS = ("start", "end", "step")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})


async def handle_explain(request: web.Request) -> web.Response:
    """The parameters of `query_range` when any of its own is given, else those of `query`."""
    form = await read_form(request)
    service = services_of(request).metrics
    query = read_query(form, service.now_ms())
    try:
        explanation = await service.explain(tenant_of(request), query)
    except BadDataError as exc:
        raise invalid_parameter("query", str(exc)) from exc
    # The query may be a megabyte long.
    data = await asyncio.to_thread(explanation_json, explanation)
    return await success_response(request, data)


def read_query(form: Form, now_ms: int) -> QueryToExplain:
    """What is to be explained, and how deep. Raises the errors of the query's own endpoint."""
    is_range = any(form.get(name) for name in _RANGE_PARAMETERS)
    if is_range:
        eval_range = parse_eval_range(form)
    else:
        eval_range = EvalRange.instant(parse_optional_time_ms(form, "time", now_ms))
    # PostgreSQL counts buffers only while it runs a statement.
    analyze = [_parse_bool(form, name) for name in ("analyze", "buffers")]
    return QueryToExplain(
        text=form.get("query"),
        eval_range=eval_range,
        is_range=is_range,
        depth=ExplanationDepth(
            analyze=any(analyze), database_plan=_parse_bool(form, "database_plan")
        ),
        parameters=QueryParameters(
            lookback_ms=parse_lookback_ms(form), timeout_seconds=parse_timeout_seconds(form)
        ),
    )


def _parse_bool(form: Form, name: str) -> bool:
    text = form.get(name)
    if text not in _TRUE | _FALSE:
        raise invalid_parameter(name, f"cannot parse {text!r} to a boolean")
    return text in _TRUE
