"""`explain`: how a query would be executed, and with `analyze` what executing it cost."""

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.explanation_json import explanation_json
from promcompat.api.forms import Form, read_form
from promcompat.api.params import (
    errors_naming,
    invalid_parameter,
    parse_eval_range,
    parse_optional_time_ms,
)
from promcompat.api.query_parsing import read_query
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import EvalRange
from promcompat.http.bodies import work_of
from promcompat.http.context import services_of, tenant_of
from promql.query import Query

_RANGE_PARAMETERS = ("start", "end", "step")
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})


async def handle_explain(request: web.Request) -> web.Response:
    """The parameters of `query_range` when any of its own is given, else those of `query`."""
    form = await read_form(request)
    service = services_of(request).queries
    query = read_explained_query(form, tenant_of(request), service.now_ms())
    depth = read_depth(form)
    with errors_naming("query"):
        explanation = await service.explain(query, depth)
    # The query may be a megabyte long.
    data = await work_of(request).in_thread(explanation_json, explanation)
    return await success_response(request, data)


def read_explained_query(form: Form, tenant: str, now_ms: int) -> Query:
    """The query to explain. Raises the errors of the query's own endpoint."""
    if any(form.get(name) for name in _RANGE_PARAMETERS):
        eval_range = parse_eval_range(form)
    else:
        eval_range = EvalRange.instant(parse_optional_time_ms(form, "time", now_ms))
    return read_query(form, tenant, eval_range)


def read_depth(form: Form) -> ExplanationDepth:
    """How much to find out beyond the plan. Raises BadDataError."""
    # PostgreSQL counts buffers only while it runs a statement.
    analyze = [_parse_bool(form, name) for name in ("analyze", "buffers")]
    return ExplanationDepth(analyze=any(analyze), database_plan=_parse_bool(form, "database_plan"))


def _parse_bool(form: Form, name: str) -> bool:
    text = form.get(name)
    if text not in _TRUE | _FALSE:
        raise invalid_parameter(name, f"cannot parse {text!r} to a boolean")
    return text in _TRUE
