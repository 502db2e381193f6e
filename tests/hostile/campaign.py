"""Carries out attacks and random requests, and says what went wrong."""

import asyncio
import time
from collections.abc import Iterable

from tests.hostile.attacks import Attack
from tests.hostile.service import AttackedService, Request, max_health_seconds

_AT_ONCE = 8
_TRIES = 4
"""What the service holds up it holds up each time; other work on the machine comes and goes."""


async def carry_out(service: AttackedService, attack: Attack) -> list[str]:
    """The faults of an attack."""
    requests = attack.make()
    faults: list[str] = []
    worst = 0.0
    for _ in range(_TRIES):
        started = time.monotonic()
        answers = await asyncio.gather(*map(service.send, requests))
        faults += [answer.fault for answer in answers if answer.fault]
        await asyncio.sleep(0.1)
        worst = service.worst_health_seconds(started)
        if worst <= max_health_seconds():
            break
    else:
        faults.append(f"/-/healthy took {worst:.3f} s")
    return [f"{attack.name}: {fault}" for fault in faults]


async def send_all(service: AttackedService, requests: Iterable[Request]) -> list[str]:
    """The faults of many requests, some of which are on their way at the same time."""
    waiting = iter(requests)
    faults: list[str] = []

    async def send_in_turn() -> None:
        for request in waiting:
            answer = await service.send(request)
            if answer.fault:
                faults.append(f"{answer.fault} to {request.head[:1000]!r} {request.body[:300]!r}")

    await asyncio.gather(*(send_in_turn() for _ in range(_AT_ONCE)))
    return faults
