"""Reads the queries and selectors of requests; parses them within the time of a query."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from aiohttp import web

from promcompat.api.forms import Form
from promcompat.api.params import parse_lookback_ms, parse_matcher_sets, parse_timeout_seconds
from promcompat.core.errors import QueryTimeoutError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import EvalRange
from promcompat.http.bodies import work_of
from promcompat.http.context import SETTINGS, STATE, services_of, tenant_or_none
from promcompat.querying.query_service import QueryService
from promql.ast import Expr
from promql.budget import TimeLimit, run_limited
from promql.features import Features
from promql.parsing.parser import parse_expr
from promql.query import Query

T = TypeVar("T")
_SHORT: Final = 1_000
"""Characters of selectors that take a millisecond to parse, without regular expressions."""


def read_query(form: Form, tenant: str, eval_range: EvalRange, **options: Any) -> Query:
    """The query of a form, as every endpoint reads it; `options` are other fields of `Query`.

    Raises BadDataError.
    """
    return Query(
        tenant,
        form.get("query"),
        eval_range,
        timeout_seconds=parse_timeout_seconds(form),
        lookback_ms=parse_lookback_ms(form),
        **options,
    )


def time_limit(request: web.Request) -> TimeLimit:
    """The time that a query may take."""
    return TimeLimit.after(request.app[SETTINGS].query_timeout / 1000)


async def parse_query(request: web.Request, text: str, render: Callable[[Expr], T]) -> T:
    """The result of `render`, which can be pickled, for a query.

    Raises ParseError and QueryTimeoutError.
    """
    limit, features = time_limit(request), request.app[SETTINGS].language_features
    work = partial(_rendered, text, features, limit, render)
    return await _work(request, services_of(request).queries, len(text), limit, work)


async def limited_in_thread(request: web.Request, limit: TimeLimit, function: Callable[[], T]) -> T:
    """The result of a function that checks a limit, in a thread, once it is the tenant's turn.

    It ends at its next check when nobody waits for it any more.
    """
    try:
        return await work_of(request).in_thread(function)
    except asyncio.CancelledError:
        limit.cancel()
        raise


async def _work(
    request: web.Request,
    queries: QueryService,
    n_characters: int,
    limit: TimeLimit,
    function: Callable[[], T],
) -> T:
    """The result of parsing, in the tenant's turn if it is of many characters."""
    try:
        return await queries.work(tenant_or_none(request), n_characters, function)
    except asyncio.CancelledError:
        limit.cancel()
        raise


def _rendered(text: str, features: Features, limit: TimeLimit, render: Callable[[Expr], T]) -> T:
    return render(parse_expr(text, lambda _: limit.check_time(), features=features))


async def parse_selectors(
    request: web.Request, selectors: list[str]
) -> list[tuple[LabelMatcher, ...]]:
    """The distinct sets of matchers of `match[]`. Raises as `parse_matcher_sets`."""
    if sum(map(len, selectors)) < _SHORT and not any("~" in text for text in selectors):
        return parse_matcher_sets(selectors)
    return await _parse_in_turn(request, selectors, may_match_all=False)


async def parse_any_selectors(
    request: web.Request, selectors: list[str]
) -> list[tuple[LabelMatcher, ...]]:
    """The same, but a selector may match every series, as in the admin API."""
    return await _parse_in_turn(request, selectors, may_match_all=True)


async def _parse_in_turn(
    request: web.Request, selectors: list[str], *, may_match_all: bool
) -> list[tuple[LabelMatcher, ...]]:
    """Not in the event loop's default pool, if there are many: expressions take long to compile."""
    limit, services = time_limit(request), request.app[STATE].services
    work = partial(parse_matcher_sets, selectors, limit.check_time, may_match_all=may_match_all)
    if services is None:
        return await run_limited(None, limit, work)
    n_characters = sum(map(len, selectors))
    return await _work(request, services.queries, n_characters, limit, work)


@asynccontextmanager
async def within_query_time(request: web.Request) -> AsyncIterator[None]:
    """Raises QueryTimeoutError when the block takes longer than a query may."""
    try:
        async with asyncio.timeout(time_limit(request).remaining_seconds):
            yield
    except TimeoutError as exc:
        raise QueryTimeoutError("query timed out in query execution") from exc
