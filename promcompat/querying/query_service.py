"""Answers PromQL queries, reads samples for other computations, and explains queries."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import BadDataError
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits
from promcompat.core.model import EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import Store
from promcompat.core.texts.durations import format_duration_ms
from promcompat.querying.query_log import QueryLog
from promql.ast import Expr
from promql.budget import TimeLimit
from promql.engine import Engine
from promql.parsing.printer import prettify, print_expr
from promql.planning.plan import Plan
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult
from promql.values.shapes import take_rows

ResultT = TypeVar("ResultT")

TRUNCATION_WARNING = "results truncated due to limit"
_MAX_FORMATTED_CHARS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryExplanation:
    """`leaves[i]` explains how `plan.selections[i]` is read.

    `stages_seconds` are the durations of the run's stages, None when the query was not run.
    """

    text: str
    formatted: str
    plan: Plan
    leaves: tuple[SelectionExplanation, ...]
    stages_seconds: Mapping[str, float] | None


class QueryService(QueryRunner):
    """Stands in front of the engine and the cache of its results."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        cache: QueryRunner | None = None,
        limits: Limits = NO_LIMITS,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        """`engine` reads from `store`; `cache`, if any, answers queries in front of it."""
        self._store = store
        self._engine = engine
        self._runner: QueryRunner = cache or engine
        self._limits = limits
        self._now_ms = now_ms
        self.log = QueryLog()

    def now_ms(self) -> int:
        """The time of an instant query that names none, Unix milliseconds."""
        return self._now_ms()

    async def ask_ahead(self, tenant: str) -> float:
        """Begin to ask for what was written until now; the `asked_at` of a query that follows."""
        return await self._store.ask_ahead(tenant)

    async def run(self, query: Query) -> QueryResult:
        """See the port; the answer is cut to the limit of the query.

        Raises BadDataError for a range that is longer than the tenant may ask for, and
        QueryCanceledError when somebody cancels the query.
        """
        self.check_length(query.tenant, query.eval_range.end_ms - query.eval_range.start_ms)
        with self.log.running(query):
            return truncate_result(await self._runner.run(query), query.limit)

    def longest_range_ms(self, tenant: str) -> int | None:
        """The longest range that a tenant may ask for; None: any."""
        return self._limits.of(tenant).max_total_query_length or None

    def check_length(self, tenant: str, length_ms: int) -> None:
        """Raises BadDataError for a range that is longer than the tenant may ask for."""
        longest_ms = self.longest_range_ms(tenant)
        if longest_ms is not None and length_ms > longest_ms:
            detail = f": {format_duration_ms(length_ms)}"
            raise BadDataError(self._limits.refuse(tenant, "max_total_query_length", detail))

    def time_limit(self, tenant: str) -> TimeLimit:
        """The time that a query of a tenant may take from now on."""
        return self._engine.time_limit(Query(tenant, "", EvalRange.instant(0)))

    def reading(
        self, tenant: str, selections: Sequence[SeriesSelection]
    ) -> AbstractAsyncContextManager[list[SampleBlock]]:
        """The samples of selections; until the block ends they count as those of a query.

        Raises the errors of the engine.
        """
        return self._engine.reading(tenant, selections)

    async def work(
        self, tenant: str, n_characters: int, function: Callable[[], ResultT]
    ) -> ResultT:
        """See `LongParsing`."""
        return await self._engine.work(tenant, n_characters, function)

    async def explain(self, query: Query, depth: ExplanationDepth) -> QueryExplanation:
        """How the engine answers a query; runs it when `depth` says so. Raises its errors.

        The query runs before its selections are explained, so that a query that fails is explained
        by its own error.
        """
        plan = await self._engine.plan(query)
        result = await self._engine.run(query) if depth.analyze else None
        leaves = await self._store.explain_select(query.tenant, plan.selections, depth)
        return QueryExplanation(
            text=query.text,
            formatted=await asyncio.to_thread(_formatted, plan.parsed),
            plan=plan,
            leaves=tuple(leaves),
            stages_seconds=None if result is None else result.stats.timings_seconds,
        )


def truncate_result(result: QueryResult, limit: int) -> QueryResult:
    """The first `limit` series of a vector or matrix with a warning; other results unchanged."""
    if not limit:
        return result
    value = result.value
    match value:
        case Matrix():
            rows = np.flatnonzero(value.present.any(axis=1))
            if len(rows) <= limit:
                return result
            kept: Matrix | SampleBlock = take_rows(value, rows[:limit].tolist())
        case SampleBlock():
            if len(value.labels) <= limit:
                return result
            end = int(value.offsets[limit])
            cut = value.take(value.labels[:limit], slice(end), value.offsets[: limit + 1])
            kept = replace(cut, notes=value.notes)
        case _:
            return result
    return replace(result, value=kept, warnings=(*result.warnings, TRUNCATION_WARNING))


def _formatted(expr: Expr) -> str:
    """The query laid out, or on one line where indentation would be most of it."""
    try:
        return prettify(expr, max_chars=_MAX_FORMATTED_CHARS)
    except BadDataError:
        return print_expr(expr)
