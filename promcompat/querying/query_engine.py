"""What services ask of the query engine; the result cache answers in its place."""

from typing import Protocol

from promcompat.core.model import EvalRange
from promql.query_parameters import DEFAULTS, QueryParameters
from promql.values.matrix import QueryResult


class QueryEngine(Protocol):
    """What is asked of `promql.engine.Engine`."""

    async def query(
        self,
        tenant: str,
        text: str,
        time_ms: int,
        parameters: QueryParameters = DEFAULTS,
    ) -> QueryResult:
        """Evaluate at one time."""

    async def query_range(
        self,
        tenant: str,
        text: str,
        eval_range: EvalRange,
        parameters: QueryParameters = DEFAULTS,
    ) -> QueryResult:
        """Evaluate at every step."""
