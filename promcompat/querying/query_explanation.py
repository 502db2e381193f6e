"""How a query is answered: its tree, the samples it needs, how they are read, what that took."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from promcompat.core.errors import BadDataError
from promcompat.core.explanations import PLANNED_ONLY, ExplanationDepth, SelectionExplanation
from promcompat.core.model import EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import MetricRepository
from promcompat.querying.query_engine import QueryEngine
from promql.parsing.parser import parse_expr
from promql.parsing.printer import prettify, print_expr
from promql.planning.plan import Plan
from promql.query_parameters import DEFAULTS, QueryParameters
from promql.values.matrix import QueryResult

_MAX_FORMATTED_CHARS: Final = 1_000_000


class PlanningEngine(QueryEngine, Protocol):
    """A `QueryEngine` that also tells its plans, and reads samples within the same limits."""

    def reading(
        self, tenant: str, selections: Sequence[SeriesSelection]
    ) -> AbstractAsyncContextManager[list[SampleBlock]]:
        """The samples of selections; they count as those of a query until the block ends."""

    async def plan_aside(
        self,
        text: str,
        eval_range: EvalRange,
        is_range: bool,
        parameters: QueryParameters = DEFAULTS,
    ) -> Plan:
        """The plan of a query, with the errors the query would have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryToExplain:
    """A query as it would be asked; to analyze it is to run it, past the cache of results."""

    text: str
    eval_range: EvalRange
    is_range: bool
    depth: ExplanationDepth = PLANNED_ONLY
    parameters: QueryParameters = DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryExplanation:
    """`leaves[i]` says how `plan.selections[i]` is read; `stages_seconds` what the run took."""

    text: str
    formatted: str
    plan: Plan
    leaves: tuple[SelectionExplanation, ...]
    stages_seconds: Mapping[str, float] | None


async def explain_query(
    repository: MetricRepository, engine: PlanningEngine, tenant: str, query: QueryToExplain
) -> QueryExplanation:
    """Explain a query, and run it when it says so. Raises the errors of the engine.

    The query runs first, so that what it may not do fails as the query fails.
    """
    plan = await engine.plan_aside(query.text, query.eval_range, query.is_range, query.parameters)
    result = await _run(engine, tenant, query) if query.depth.analyze else None
    leaves = await repository.explain_select(tenant, plan.selections, query.depth)
    return QueryExplanation(
        text=query.text,
        formatted=await asyncio.to_thread(_formatted, query.text),
        plan=plan,
        leaves=tuple(leaves),
        stages_seconds=None if result is None else result.stats.timings_seconds,
    )


def _formatted(text: str) -> str:
    """The query laid out, or on one line where indentation would be most of it."""
    expr = parse_expr(text)
    try:
        return prettify(expr, max_chars=_MAX_FORMATTED_CHARS)
    except BadDataError:
        return print_expr(expr)


async def _run(engine: PlanningEngine, tenant: str, query: QueryToExplain) -> QueryResult:
    parameters = query.parameters
    if query.is_range:
        return await engine.query_range(tenant, query.text, query.eval_range, parameters)
    return await engine.query(tenant, query.text, query.eval_range.start_ms, parameters)
