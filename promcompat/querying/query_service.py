"""Answers PromQL queries, reads samples for other computations, and explains queries."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import numpy as np

from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.core.ports import Store
from promcompat.querying.explanation import QueryExplanation, explain_query
from promql.engine import Engine
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult
from promql.values.shapes import take_rows

TRUNCATION_WARNING = "results truncated due to limit"


class QueryService:
    """A `QueryRunner` in front of the engine and the cache of its results."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        cache: QueryRunner | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`engine` reads from `store`; `cache`, if any, answers queries in front of it."""
        self._store = store
        self._engine = engine
        self._runner: QueryRunner = cache or engine
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """The time of an instant query that names none, Unix milliseconds."""
        return self._now_ms()

    async def run(self, query: Query) -> QueryResult:
        """See the port; the answer is cut to the limit of the query."""
        return truncate_result(await self._runner.run(query), query.limit)

    def reading(
        self, tenant: str, selections: Sequence[SeriesSelection]
    ) -> AbstractAsyncContextManager[list[SampleBlock]]:
        """The samples of selections; until the block ends they count as those of a query.

        Raises the errors of the engine.
        """
        return self._engine.reading(tenant, selections)

    async def explain(self, query: Query, depth: ExplanationDepth) -> QueryExplanation:
        """How the engine answers a query. Raises its errors."""
        return await explain_query(self._store, self._engine, query, depth)


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
            kept = SampleBlock(
                value.labels[:limit],
                value.timestamps[:end],
                value.values[:end],
                value.offsets[: limit + 1],
            )
        case _:
            return result
    return replace(result, value=kept, warnings=(*result.warnings, TRUNCATION_WARNING))
