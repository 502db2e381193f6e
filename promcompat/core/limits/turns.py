"""Slots that tenants take in turns, so that one with much work does not keep the others waiting.

A slot cannot be taken back, and work may take minutes. So while another tenant has work, or had
some seconds ago, nobody gets more than half of the slots. And a tenant that has none gets one of
its own at once where all are taken by others, up to a number of extra ones: the operating system
then shares the processors among them.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

_LEAST_SECONDS: Final = 0.001
"""What a turn counts at least, so that tenants with short work alternate."""
_RECENT_SECONDS: Final = 10.0
_ASK_AGAIN_SECONDS: Final = 1.0


class TooManyWaitingError(Exception):
    """The tenant already has as many waiting turns as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants a slot, and within which limits (0: none).

    A `kind` has its own queue; `share` is the part of all slots that one kind may hold, at least
    one slot. A tenant of weight 2 gets twice the time of one of weight 1.
    """

    tenant: str
    kind: str = ""
    weight: int = 1
    max_running: int = 0
    max_waiting: int = 0
    share: float = 1.0


@dataclass(slots=True)
class _Queue:
    """The claims of one tenant and kind; `used` is its time, by weight, see `Turns`."""

    used: float
    n_running: int = 0
    waiting: deque[tuple[Claim, asyncio.Future[None]]] = field(default_factory=deque)


class Turns:
    """Grants slots: first to the tenant that runs least for its weight.

    Among equals, the one that has used the least time comes first; time counts from when a tenant
    last began to have work. For one event loop.
    """

    def __init__(
        self,
        n_slots: int,
        n_extra: int = 0,
        now_seconds: Callable[[], float] = time.monotonic,
        within: "Turns | None" = None,
    ) -> None:
        """`n_extra` more slots are for tenants that have none.

        `within` are the turns that these slots belong to: a tenant with work there counts here too,
        even without a slot here.
        """
        self._within = within
        self._n_slots = n_slots
        self._n_extra = n_extra
        self._now_seconds = now_seconds
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._n_running = 0
        self._running_of_kind: Counter[str] = Counter()
        self._running_of: Counter[str] = Counter()
        self._last_two: tuple[tuple[str, float], tuple[str, float]] = (("", -1e9), ("", -1e9))
        self._clock = 0.0

    def turn(self, claim: Claim) -> "Turn":
        """Holds a slot for the time of an `async with` block.

        Entering it raises TooManyWaitingError; whoever is cancelled while it waits has left.
        """
        return Turn(self, claim)

    async def _begin(self, claim: Claim) -> _Queue:
        queue = self._queue_of(claim)
        self.note(claim.tenant)
        if queue.waiting or not self._is_free(claim, queue):
            await self._wait(claim, queue)
        else:
            self._take(claim, queue)
        return queue

    def _end(self, claim: Claim, queue: _Queue, seconds: float) -> None:
        queue.used += max(_LEAST_SECONDS, seconds) / claim.weight
        self._give_back(claim, queue)

    @property
    def is_crowded(self) -> bool:
        """Whether a claim may have to wait."""
        return self._n_running > 0

    def _queue_of(self, claim: Claim) -> _Queue:
        key = claim.tenant, claim.kind
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(self._clock)
        return queue

    def note(self, tenant: str) -> None:
        """Note that a tenant has work, even if it needs no slot."""
        newest = tenant, self._now_seconds()
        first, second = self._last_two
        self._last_two = (newest, second if first[0] == tenant else first)

    def has_others(self, tenant: str) -> bool:
        """Whether another tenant has work, or had some seconds ago."""
        if self._within is not None and self._within.has_others(tenant):
            return True
        if self._n_running > self._running_of.get(tenant, 0):
            return True
        recent = self._now_seconds() - _RECENT_SECONDS
        return any(name not in ("", tenant) and at > recent for name, at in self._last_two)

    def _is_free(self, claim: Claim, queue: _Queue) -> bool:
        if claim.max_running and queue.n_running >= claim.max_running:
            return False
        is_first = not self._running_of[claim.tenant]
        if is_first and self._n_running < self._n_slots + self._n_extra:
            return True
        most = max(1, self._n_slots // 2) if self.has_others(claim.tenant) else self._n_slots
        return (
            self._n_running < self._n_slots
            and self._running_of[claim.tenant] < most
            and self._running_of_kind[claim.kind] < max(1, claim.share * self._n_slots)
        )

    def _take(self, claim: Claim, queue: _Queue) -> None:
        queue.n_running += 1
        self._n_running += 1
        self._running_of_kind[claim.kind] += 1
        self._running_of[claim.tenant] += 1
        self._clock = max(self._clock, queue.used)

    async def _wait(self, claim: Claim, queue: _Queue) -> None:
        if claim.max_waiting and len(queue.waiting) >= claim.max_waiting:
            raise TooManyWaitingError
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = claim, future
        queue.waiting.append(entry)
        try:
            while not future.done():
                done, _ = await asyncio.wait([future], timeout=_ASK_AGAIN_SECONDS)
                if not done:
                    # Slots that are kept for others become free as time passes, without a call.
                    self._grant()
        except asyncio.CancelledError:
            if future.done():
                self._give_back(claim, queue)
            else:
                # It is gone already if its turn came while it was leaving.
                with suppress(ValueError):
                    queue.waiting.remove(entry)
                self._forget_if_idle(claim, queue)
            raise

    def _give_back(self, claim: Claim, queue: _Queue) -> None:
        queue.n_running -= 1
        self._n_running -= 1
        self._running_of_kind[claim.kind] -= 1
        self._running_of[claim.tenant] -= 1
        if not self._running_of[claim.tenant]:
            del self._running_of[claim.tenant]
        self._grant()
        self._forget_if_idle(claim, queue)

    def _forget_if_idle(self, claim: Claim, queue: _Queue) -> None:
        if not queue.n_running and not queue.waiting:
            self._queues.pop((claim.tenant, claim.kind), None)
        if not self._queues:
            self._clock = 0.0

    def _grant(self) -> None:
        """Give free slots to those whose turn it is."""
        while True:
            ready = [
                (one.n_running / one.waiting[0][0].weight, one.used, number)
                for number, one in enumerate(self._queues.values())
                if one.waiting and self._is_free(one.waiting[0][0], one)
            ]
            if not ready:
                return
            queue = list(self._queues.values())[min(ready)[2]]
            claim, future = queue.waiting.popleft()
            if not future.done():
                self._take(claim, queue)
                future.set_result(None)


class Turn:
    """A slot of `Turns` that is held for the time of an `async with` block, once.

    Not a generator, because each query takes one: that saves four fifths of its time.
    """

    __slots__ = ("_claim", "_queue", "_started", "_turns")

    def __init__(self, turns: Turns, claim: Claim) -> None:
        self._turns = turns
        self._claim = claim

    async def __aenter__(self) -> None:
        self._queue = await self._turns._begin(self._claim)
        self._started = self._turns._now_seconds()

    async def __aexit__(self, *_: object) -> None:
        seconds = self._turns._now_seconds() - self._started
        self._turns._end(self._claim, self._queue, seconds)


class OneOfTenant:
    """Lets one request of each tenant do something that takes much memory or time.

    Those who wait need neither yet.
    """

    def __init__(self) -> None:
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    def turn(self, tenant: str) -> asyncio.Lock:
        """The lock of a tenant, the same one for all who hold it or wait for it."""
        return self._locks.setdefault(tenant, asyncio.Lock())
