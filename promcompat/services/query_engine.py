"""What services ask of the query engine; the result cache answers in its place."""

from typing import Protocol

from promcompat.core.model import EvalRange
from promql.values import QueryResult


class QueryEngine(Protocol):
    """What is asked of `promql.engine.Engine`."""

    async def query(
        self,
        tenant: str,
        text: str,
        time_ms: int,
        lookback_ms: int | None = None,
        timeout_seconds: float | None = None,
        *,
        counts_samples: bool = False,
    ) -> QueryResult:
        """Evaluate at one time; `counts_samples` when the statistics must count every sample."""

    async def query_range(
        self,
        tenant: str,
        text: str,
        eval_range: EvalRange,
        lookback_ms: int | None = None,
        timeout_seconds: float | None = None,
        *,
        counts_samples: bool = False,
    ) -> QueryResult:
        """Evaluate at every step."""
