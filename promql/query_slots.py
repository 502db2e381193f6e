"""The slots in which queries run, and the threads they compute in: tenants take them in turns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from promcompat.core.errors import QueryTimeoutError, RateLimitedError
from promcompat.core.tenant_limits import Limits
from promcompat.core.turns import Claim, TooManyWaitingError, Turns
from promql.budget import TimeLimit
from promql.query import Query

_SHARE_OF_RULES: Final = 0.5
"""Of the slots, that queries of rules may hold."""
_RETRY_AFTER_SECONDS: Final = 5


class QuerySlots:
    """The turns of queries, by the limits of their tenants.

    Queries of rules and those of people have queues of their own. What runs in a thread takes a
    turn there too, since a few queries keep all threads busy.
    """

    def __init__(self, limits: Limits, n_slots: int, n_threads: int) -> None:
        """At most half as many slots, and as many threads again, are for tenants that have none."""
        self._limits = limits
        self._slots = Turns(n_slots, n_slots // 2)
        self._threads = Turns(n_threads, n_threads, within=self._slots)
        self._works = Turns(n_threads, n_threads, within=self._slots)

    @asynccontextmanager
    async def slot(self, query: Query, limit: TimeLimit) -> AsyncIterator[None]:
        """Hold a slot for the time of a block, after waiting no longer than the query may take.

        Raises QueryTimeoutError, and RateLimitedError when too many of the tenant's wait already.
        """
        async with AsyncExitStack() as held:
            try:
                await self._take(self._slots, query, limit, held)
            except TooManyWaitingError:
                text = self._limits.refuse(query.tenant, "max_outstanding_requests_per_tenant")
                raise RateLimitedError(text, _RETRY_AFTER_SECONDS) from None
            yield

    @asynccontextmanager
    async def thread(self, query: Query, limit: TimeLimit) -> AsyncIterator[None]:
        """Hold a thread in the same way, within a slot. Raises QueryTimeoutError."""
        async with AsyncExitStack() as held:
            await self._take(self._threads, query, limit, held)
            yield

    @asynccontextmanager
    async def work(self, query: Query, limit: TimeLimit) -> AsyncIterator[None]:
        """Hold a place for what is no query, and does not wait for the queries of its tenant.

        Raises QueryTimeoutError.
        """
        async with AsyncExitStack() as held:
            await self._take(self._works, query, limit, held)
            yield

    def has_others(self, query: Query) -> bool:
        """Whether another tenant has queries, or had some seconds ago."""
        return self._slots.has_others(query.tenant)

    async def _take(
        self, turns: Turns, query: Query, limit: TimeLimit, held: AsyncExitStack
    ) -> None:
        turn = turns.turn(self._claim(query, turns is self._slots))
        if not turns.is_crowded:
            await held.enter_async_context(turn)
            return
        try:
            async with asyncio.timeout(limit.remaining_seconds):
                await held.enter_async_context(turn)
        except TimeoutError as exc:
            raise QueryTimeoutError("query timed out in query queue") from exc

    def _claim(self, query: Query, is_bounded: bool) -> Claim:
        limits = self._limits.of(query.tenant)
        if query.for_rules:
            share = _SHARE_OF_RULES
            return Claim(tenant=query.tenant, kind="rules", weight=limits.weight, share=share)
        if not is_bounded:
            return Claim(tenant=query.tenant, weight=limits.weight)
        return Claim(
            tenant=query.tenant,
            weight=limits.weight,
            max_running=limits.max_concurrent_queries,
            max_waiting=limits.max_outstanding_requests_per_tenant,
        )
