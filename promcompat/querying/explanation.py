"""Explains how a query is answered: its tree, its selections, how they are read, in what time."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import BadDataError
from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.ports import Store
from promql.ast import Expr
from promql.engine import Engine
from promql.parsing.printer import prettify, print_expr
from promql.planning.plan import Plan
from promql.query import Query

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


async def explain_query(
    store: Store, engine: Engine, query: Query, depth: ExplanationDepth
) -> QueryExplanation:
    """Explain a query, and run it when `depth` says so. Raises the errors of the engine.

    The query runs first, so that a query that fails is explained by its own error.
    """
    plan = await engine.plan(query)
    result = await engine.run(query) if depth.analyze else None
    leaves = await store.explain_select(query.tenant, plan.selections, depth)
    return QueryExplanation(
        text=query.text,
        formatted=await asyncio.to_thread(_formatted, plan.parsed),
        plan=plan,
        leaves=tuple(leaves),
        stages_seconds=None if result is None else result.stats.timings_seconds,
    )


def _formatted(expr: Expr) -> str:
    """The query laid out, or on one line where indentation would be most of it."""
    try:
        return prettify(expr, max_chars=_MAX_FORMATTED_CHARS)
    except BadDataError:
        return print_expr(expr)
