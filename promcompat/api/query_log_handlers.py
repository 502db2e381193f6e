"""`status/top_queries` and `status/active_queries`, as VictoriaMetrics has them, and cancelling."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from promcompat.api.envelope import success_response
from promcompat.api.forms import read_form
from promcompat.api.json_text import dump_json
from promcompat.api.params import parse_go_int
from promcompat.core.errors import BadDataError, NotFoundError
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.http.context import services_of, tenant_of
from promcompat.querying.query_log import MAX_ENDED, EndedQuery

_DEFAULT_TOP: Final = 20
_MAX_TOP: Final = 1_000
_DEFAULT_AGE: Final = "10m"


async def handle_top_queries(request: web.Request) -> web.Response:
    """The tenant's queries that ran most often, and those that took longest."""
    form = await read_form(request)
    top = _top(form.get("topN"))
    age = form.get("maxLifetime") or _DEFAULT_AGE
    try:
        age_ms = parse_duration_ms(age)
    except ValueError as exc:
        raise BadDataError(f"invalid parameter 'maxLifetime': {exc}") from exc
    ended = services_of(request).queries.log.ended(tenant_of(request), age_ms / 1000)
    groups = _grouped(ended)
    data = {
        "topN": str(top),
        "maxLifetime": age,
        "search.queryStats.lastQueriesCount": MAX_ENDED,
        "search.queryStats.minQueryDuration": "1ms",
        "topByCount": _listed(groups, top, "count"),
        "topByAvgDuration": _listed(groups, top, "avgDurationSeconds"),
        "topBySumDuration": _listed(groups, top, "sumDurationSeconds"),
    }
    return web.Response(body=dump_json(data), content_type="application/json")


async def handle_active_queries(request: web.Request) -> web.Response:
    """The tenant's queries that run now, the oldest first."""
    now = time.monotonic()
    running = services_of(request).queries.log.now_running(tenant_of(request))
    data = [
        {
            "duration": f"{now - entry.started:.3f}s",
            "id": entry.id,
            "query": entry.query.text,
            "start": entry.query.eval_range.start_ms,
            "end": entry.query.eval_range.end_ms,
            "step": entry.query.eval_range.step_ms,
        }
        for entry in running
    ]
    return web.Response(
        body=dump_json({"status": "ok", "data": data}), content_type="application/json"
    )


async def handle_cancel_query(request: web.Request) -> web.Response:
    """End a running query of the tenant: its client gets the error `canceled`."""
    query_id = request.match_info["id"]
    if not services_of(request).queries.log.cancel(tenant_of(request), query_id):
        raise NotFoundError(f"no query with the id {query_id} runs in this process")
    return await success_response(request, {"id": query_id})


def _grouped(ended: Sequence[EndedQuery]) -> list[dict[str, str | float]]:
    """The runs of each query over ranges of one length, with the names of the answer."""
    by_query: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for one in ended:
        by_query[one.text, one.range_seconds].append(one.seconds)
    return [
        {
            "query": text,
            "timeRangeSeconds": span,
            "count": len(seconds),
            "avgDurationSeconds": round(sum(seconds) / len(seconds), 3),
            "sumDurationSeconds": round(sum(seconds), 3),
        }
        for (text, span), seconds in by_query.items()
    ]


def _listed(
    groups: Sequence[Mapping[str, str | float]], top: int, weight: str
) -> list[dict[str, str | float]]:
    """The groups with the largest `weight`, without the other measures but the count."""
    chosen = sorted(groups, key=lambda one: (-float(one[weight]), one["query"]))[:top]
    shown = ("query", "timeRangeSeconds", weight, "count")
    return [{name: one[name] for name in dict.fromkeys(shown)} for one in chosen]


def _top(text: str) -> int:
    top = parse_go_int(text) if text else _DEFAULT_TOP
    if top < 1:
        raise BadDataError("'topN' must be a positive number")
    return min(top, _MAX_TOP)
