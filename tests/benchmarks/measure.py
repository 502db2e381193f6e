"""The measurements: each asks both servers in turn, so that a busy machine hurts both alike."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from conformance.prometheus_api import PrometheusApi, WriteError
from tests.benchmarks.payload import WriteRequest

N_CONNECTIONS = 4
RETRY_SECONDS = 0.02
MAX_TRIES = 500
Call = Callable[[PrometheusApi], Awaitable[None]]


@dataclass(slots=True)
class Measurement:
    """The figures of one thing for both servers; `is_rate`: more is better, else less is."""

    name: str
    unit: str
    is_rate: bool
    ours: list[float] = field(default_factory=list)
    prometheus: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Our median as a multiple of Prometheus'."""
        return median(self.ours) / median(self.prometheus)


@dataclass(frozen=True, slots=True)
class Servers:
    """A client of each server."""

    ours: PrometheusApi
    prometheus: PrometheusApi


async def send(api: PrometheusApi, requests: Sequence[WriteRequest]) -> float:
    """Send all requests over a few connections; samples per second. Overload is retried.

    As with a real sender, the samples of a series go one after the other: a request waits for the
    one before it of the same shard.
    """
    waiting = list(requests)
    busy_shards: set[int] = set()
    freed = asyncio.Condition()

    async def take_next() -> WriteRequest | None:
        async with freed:
            while waiting:
                for index, request in enumerate(waiting):
                    if request.shard not in busy_shards:
                        busy_shards.add(request.shard)
                        return waiting.pop(index)
                await freed.wait()
        return None

    async def send_rest() -> None:
        while (request := await take_next()) is not None:
            await _send_until_taken(api, request)
            async with freed:
                busy_shards.remove(request.shard)
                freed.notify_all()

    start = time.perf_counter()
    await asyncio.gather(*(send_rest() for _ in range(N_CONNECTIONS)))
    return sum(request.n_samples for request in requests) / (time.perf_counter() - start)


async def _send_until_taken(api: PrometheusApi, request: WriteRequest) -> None:
    """Send a request, and again for as long as the server asks to try later."""
    for _ in range(MAX_TRIES - 1):
        try:
            return await api.write_body(request.body)
        except WriteError as exc:
            if exc.status not in (429, 503):
                raise
        await asyncio.sleep(RETRY_SECONDS)
    await api.write_body(request.body)


async def measure_ingest(
    servers: Servers, name: str, unit: str, rounds: Sequence[Sequence[WriteRequest]]
) -> Measurement:
    """Samples per second of every round, sent to one server and then to the other."""
    measurement = Measurement(name, unit, is_rate=True)
    for number, requests in enumerate(rounds):
        order = (servers.ours, servers.prometheus)
        for api in order if number % 2 == 0 else reversed(order):
            rate = await send(api, requests)
            (measurement.ours if api is servers.ours else measurement.prometheus).append(rate)
    return measurement


async def measure_latency(
    servers: Servers, name: str, call: Call, *, repetitions: int
) -> Measurement:
    """Milliseconds of a call, alternating; the first ones, which fill caches, do not count."""
    measurement = Measurement(name, "ms", is_rate=False)
    for number in range(-2, repetitions):
        for api in (servers.ours, servers.prometheus):
            start = time.perf_counter()
            await call(api)
            spent_ms = (time.perf_counter() - start) * 1000
            if number >= 0:
                times = measurement.ours if api is servers.ours else measurement.prometheus
                times.append(spent_ms)
    return measurement
