"""The slots in which queries run, and the threads they compute in: tenants take them in turns."""

import asyncio
from typing import Final

from promcompat.core.errors import QueryTimeoutError, RateLimitedError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.limits.turns import Claim, TooManyWaitingError, Turns
from promql.budget import TimeLimit
from promql.query import Query

_SHARE_OF_RULES: Final = 0.5
"""The share of the slots that queries of rules may hold."""
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

    def slot(self, query: Query, limit: TimeLimit) -> "QueryTurn":
        """Holds a slot for the time of a block, after waiting no longer than the query may take.

        Entering it raises QueryTimeoutError, and RateLimitedError when too many of the tenant's
        wait already.
        """
        return QueryTurn(self._slots, self._claim(query, is_bounded=True), limit, self._limits)

    def thread(self, query: Query, limit: TimeLimit) -> "QueryTurn":
        """Holds a thread in the same way, within a slot. Entering it raises QueryTimeoutError."""
        return QueryTurn(self._threads, self._claim(query, is_bounded=False), limit, self._limits)

    def work(self, query: Query, limit: TimeLimit) -> "QueryTurn":
        """Holds a place for what is no query, and does not wait for the queries of its tenant.

        Entering it raises QueryTimeoutError.
        """
        return QueryTurn(self._works, self._claim(query, is_bounded=False), limit, self._limits)

    def has_others(self, tenant: str) -> bool:
        """Whether another tenant has queries, or had some seconds ago."""
        return self._slots.has_others(tenant)

    def _claim(self, query: Query, *, is_bounded: bool) -> Claim:
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


class QueryTurn:
    """A turn of a query, which waits for it no longer than it may take."""

    __slots__ = ("_claim", "_limit", "_limits", "_turn", "_turns")

    def __init__(self, turns: Turns, claim: Claim, limit: TimeLimit, limits: Limits) -> None:
        self._turns = turns
        self._claim = claim
        self._turn = turns.turn(claim)
        self._limit = limit
        self._limits = limits

    async def __aenter__(self) -> None:
        if not self._turns.is_crowded:
            await self._turn.__aenter__()
            return
        try:
            async with asyncio.timeout(self._limit.remaining_seconds):
                await self._turn.__aenter__()
        except TimeoutError as exc:
            raise QueryTimeoutError("query timed out in query queue") from exc
        except TooManyWaitingError:
            name = "max_outstanding_requests_per_tenant"
            text = self._limits.refuse(self._claim.tenant, name)
            raise RateLimitedError(text, _RETRY_AFTER_SECONDS) from None

    async def __aexit__(self, *_: object) -> None:
        await self._turn.__aexit__()
