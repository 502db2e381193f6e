"""A query as it passes through the service, and the port of those who answer it."""

from dataclasses import KW_ONLY
from typing import Protocol

from promcompat.core.model import EvalRange
from promcompat.core.value_classes import value_class
from promql.values.matrix import QueryResult


@value_class(frozen=True, slots=True)
class Query:
    """A PromQL expression of a tenant, where to evaluate it, and within which limits.

    A range whose step is 0 makes an instant query. `lookback_ms` and `timeout_seconds` are the
    engine's when None; a query may ask for less time than the engine allows, never for more.
    `QueryService` cuts the answer to its first `limit` series (0: all). With `counts_samples` the
    samples no answer depends on are read as well, for the statistics to count them, and no step
    comes from a cache; without `use_cache` no step does either. The answer has what was stored
    before `asked_at`, a time of `time.monotonic` (None: before it is run): questions that were
    asked at once may share what is read for one of them. Queries `for_rules` wait in a queue of
    their own, so that neither rules nor people keep the others waiting.
    """

    tenant: str
    text: str
    eval_range: EvalRange
    _: KW_ONLY
    lookback_ms: int | None = None
    timeout_seconds: float | None = None
    limit: int = 0
    counts_samples: bool = False
    use_cache: bool = True
    asked_at: float | None = None
    for_rules: bool = False

    @property
    def is_range(self) -> bool:
        """Whether the answer has steps: those of `/api/v1/query_range`."""
        return self.eval_range.step_ms > 0


class QueryRunner(Protocol):
    """Answers queries: the engine, the cache of its results, and the service in front of both."""

    async def run(self, query: Query) -> QueryResult:
        """Evaluate a query.

        Raises ParseError for a text that is not PromQL, BadDataError for a range query of a string
        or a range vector, ExecutionError when it fails while running, QueryTimeoutError when it,
        or its turn, takes too long, and StorageUnavailableError when the database cannot answer.
        """
