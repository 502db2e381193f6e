"""Queries wait for their turn within the limits of their tenant."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from promcompat.core.errors import QueryTimeoutError, RateLimitedError
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import EvalRange
from promql.budget import TimeLimit
from promql.query import Query
from promql.query_slots import QuerySlots


def slots(n_slots: int = 4, **limits: int) -> QuerySlots:
    return QuerySlots(Limits(SameLimits(TenantLimits(**limits))), n_slots, 1)


def of(tenant: str, *, for_rules: bool = False) -> Query:
    return Query(tenant, "1", EvalRange.instant(0), for_rules=for_rules)


async def test_another_query_of_a_tenant_is_refused_when_enough_wait() -> None:
    limited = slots(max_concurrent_queries=1, max_outstanding_requests_per_tenant=1)
    async with AsyncExitStack() as held:

        async def wait() -> None:
            async with limited.slot(of("a"), TimeLimit.after(60)):
                pass

        await held.enter_async_context(limited.slot(of("a"), TimeLimit.after(60)))
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with pytest.raises(RateLimitedError, match="1 queries of the tenant are waiting"):
            await wait()
        async with limited.slot(of("b"), TimeLimit.after(60)):
            pass
        # Whoever disconnects leaves the queue.
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


async def test_a_query_waits_no_longer_than_it_may_take() -> None:
    limited = slots(1)
    async with AsyncExitStack() as held:
        await held.enter_async_context(limited.slot(of("a"), TimeLimit.after(60)))
        with pytest.raises(QueryTimeoutError, match="query queue"):
            await held.enter_async_context(limited.slot(of("a"), TimeLimit.after(0.01)))


async def test_rules_and_people_do_not_wait_for_each_other() -> None:
    limited = slots(4)
    async with AsyncExitStack() as held:
        for _ in range(2):
            rule = limited.slot(of("a", for_rules=True), TimeLimit.after(60))
            await held.enter_async_context(rule)
        third = limited.slot(of("a", for_rules=True), TimeLimit.after(0.01))
        with pytest.raises(QueryTimeoutError):
            await held.enter_async_context(third)
        await held.enter_async_context(limited.slot(of("a"), TimeLimit.after(60)))
