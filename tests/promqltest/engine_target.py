"""Lets test scripts run against the engine, in process."""

from collections.abc import Mapping
from dataclasses import dataclass

from promcompat.core.errors import PromcompatError
from promcompat.core.model import EvalRange, Labels
from promcompat.core.ports import Store
from promql.engine import Engine
from promql.query import Query
from promql.values.matrix import QueryResult
from tests.promqltest.answer import read_answer
from tests.promqltest.target import Reply
from tests.support.factories import MixedPoints, Starts, make_batch


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """The engine on a store, in process; `tenant` must be new."""

    store: Store
    engine: Engine
    tenant: str

    async def load(self, series: Mapping[Labels, MixedPoints], starts: Starts) -> None:
        """See Target."""
        await self.store.write_batch(self.tenant, make_batch(series, starts=starts))

    async def query(self, expr: str, time_ms: int) -> Reply:
        """See Target."""
        return await self.query_range(expr, EvalRange.instant(time_ms))

    async def query_range(self, expr: str, grid: EvalRange) -> Reply:
        """See Target."""
        try:
            return _reply(await self.engine.run(Query(self.tenant, expr, grid)))
        except PromcompatError as exc:
            return Reply(None, str(exc))


def _reply(result: QueryResult) -> Reply:
    return Reply(read_answer(result), "", result.warnings, result.infos)
