"""Tenants take slots in turns."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from promcompat.core.limits.turns import Claim, TooManyWaitingError, Turns
from tests.support.waiting import until


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Worker:
    """Turns whose holders end when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.running: list[tuple[str, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, claim: Claim, number: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._hold(claim)) for _ in range(number)]

    async def _hold(self, claim: Claim) -> None:
        async with self.turns.turn(claim):
            end = asyncio.Event()
            self.order.append(claim.tenant)
            self.running.append((claim.tenant, end))
            await end.wait()

    async def end_first(self) -> str:
        tenant, end = self.running.pop(0)
        end.set()
        await settle()
        return tenant

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_tenants_with_work_alternate_whoever_asked_more() -> None:
    worker = Worker(Turns(1, now_seconds=lambda: 0.0))
    worker.ask(Claim(tenant="a"), 10)
    await settle()
    worker.ask(Claim(tenant="b"), 3)
    await settle()
    for _ in range(6):
        await worker.end_first()
    assert Counter(worker.order[1:7]) == {"a": 3, "b": 3}
    await worker.close()


async def test_a_tenant_of_more_weight_gets_more_turns() -> None:
    worker = Worker(Turns(1, now_seconds=lambda: 0.0))
    worker.ask(Claim(tenant="x"))
    await settle()
    worker.ask(Claim(tenant="a", weight=2), 20)
    worker.ask(Claim(tenant="b"), 20)
    await settle()
    for _ in range(12):
        await worker.end_first()
    assert Counter(worker.order[1:]) == {"a": 8, "b": 4}
    await worker.close()


async def test_beside_others_a_tenant_gets_half_of_the_slots() -> None:
    now = 100.0
    worker = Worker(Turns(4, now_seconds=lambda: now))
    worker.ask(Claim(tenant="b"))
    await settle()
    await worker.end_first()
    worker.ask(Claim(tenant="a"), 6)
    await settle()
    assert worker.order == ["b", "a", "a"]
    now += 11
    await worker.end_first()
    assert worker.order == ["b", *["a"] * 5]
    await worker.close()


async def test_a_tenant_without_a_slot_gets_an_extra_one_at_once() -> None:
    worker = Worker(Turns(2, 2))
    worker.ask(Claim(tenant="a"), 5)
    await settle()
    assert worker.order == ["a", "a"]
    for tenant in ("b", "b", "c", "d"):
        worker.ask(Claim(tenant=tenant))
    await settle()
    assert worker.order == ["a", "a", "b", "c"]
    await worker.close()


async def test_a_tenant_gets_one_extra_slot_whatever_kinds_of_work_it_has() -> None:
    worker = Worker(Turns(2, 2))
    worker.ask(Claim(tenant="b"), 1)
    worker.ask(Claim(tenant="a", kind="query"), 2)
    worker.ask(Claim(tenant="a", kind="rules"), 2)
    await settle()
    assert worker.order == ["b", "a"]
    await worker.close()


async def test_a_tenant_and_a_kind_hold_no_more_than_their_parts() -> None:
    worker = Worker(Turns(8))
    worker.ask(Claim(tenant="a", max_running=2), 3)
    worker.ask(Claim(tenant="a", kind="rules", share=0.125), 3)
    await settle()
    assert len(worker.running) == 3
    worker.ask(Claim(tenant="b"))
    await settle()
    assert worker.order[-1] == "b"
    await worker.close()


async def test_whoever_leaves_while_waiting_takes_no_turn() -> None:
    worker = Worker(Turns(1))
    worker.ask(Claim(tenant="a"))
    worker.ask(Claim(tenant="b"), 2)
    await settle()
    worker.tasks[1].cancel()
    await settle()
    # One that is cancelled as it is granted its turn gives it back.
    tenant, end = worker.running.pop(0)
    end.set()
    await asyncio.sleep(0)
    worker.tasks[2].cancel()
    worker.ask(Claim(tenant="c"))
    await settle()
    assert (tenant, worker.order[-1]) == ("a", "c")
    await worker.close()


async def test_a_bounded_number_waits() -> None:
    turns, claim = Turns(1), Claim(tenant="a", max_waiting=1)
    worker = Worker(turns)
    worker.ask(claim, 2)
    await settle()
    async with AsyncExitStack() as opened:
        with pytest.raises(TooManyWaitingError):
            await opened.enter_async_context(turns.turn(claim))
    await worker.close()
    async with turns.turn(claim):
        pass


async def test_who_has_a_little_work_keeps_half_of_the_slots_free() -> None:
    slots = Turns(4)
    threads = Worker(Turns(4, within=slots))
    slots.note("b")
    threads.ask(Claim(tenant="a"), 4)
    await settle()
    assert len(threads.order) == 2
    await threads.close()
    bodies = Turns(4)
    bodies.note("b")
    worker = Worker(bodies)
    worker.ask(Claim(tenant="a"), 4)
    await settle()
    assert len(worker.order) == 2
    await worker.close()


async def test_who_waits_gets_the_slots_of_others_once_these_have_had_no_work_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody needs to end a turn for that."""
    monkeypatch.setattr("promcompat.core.limits.turns._ASK_AGAIN_SECONDS", 0.01)
    now = 0.0
    worker = Worker(Turns(4, now_seconds=lambda: now))
    worker.turns.note("b")
    worker.ask(Claim(tenant="a"), 4)
    await asyncio.sleep(0.05)
    assert len(worker.running) == 2
    now = 60.0
    await until(lambda: len(worker.running) == 4)
    await worker.close()
    assert not worker.turns.is_crowded
