"""Carries out attacks and random requests, and says what went wrong."""

import asyncio
import time
from collections.abc import Iterable
from itertools import islice

from tests.hostile.attacks import Attack
from tests.hostile.channel import Channel, Raw
from tests.hostile.service import AttackedService, Request, max_health_seconds

_AT_ONCE = 8
_PIPELINED = 4
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
    """The faults of many requests, on some connections, each with some requests under way."""
    waiting = iter(requests)
    faults: list[str] = []

    async def send_in_turn() -> None:
        channel = service.channel()
        while batch := list(islice(waiting, _PIPELINED)):
            while batch:
                raws = await channel.exchange([(one.head, one.body) for one in batch])
                if not raws:
                    # The first of them cut the connection, or it was at its end before.
                    await ask_alone(channel, batch.pop(0))
                for request, raw in zip(batch, raws, strict=False):
                    look_at(request, raw)
                del batch[: len(raws)]
        channel.close()

    async def ask_alone(channel: Channel, request: Request) -> None:
        channel.close()
        raws = await channel.exchange([(request.head, request.body)])
        look_at(request, raws[0] if raws else None)

    def look_at(request: Request, raw: Raw | None) -> None:
        if fault := service.note(request, raw).fault:
            faults.append(f"{fault} to {request.head[:1000]!r} {request.body[:300]!r}")

    await asyncio.gather(*(send_in_turn() for _ in range(_AT_ONCE)))
    return faults
