"""Two tenants of one service: one measures how long it waits, the other goes too far.

The noisy one is a process of its own: what it does with its own time is not measured.
"""

import asyncio
import itertools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

import aiohttp
import numpy as np

from promcompat.configuration.settings import TENANT_HEADER
from tests.support.formats.remote_write import encode_request, encode_series

QUIET: Final = "quiet"
NOISY: Final = "noisy"
EXCESS: Final = 5
"""How many times its limits the noisy tenant asks for."""
_WRITE: Final = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
_HOSTILE: Final = (
    "max_over_time({__name__=~'.+'}[1h:1s])",
    'count_values("v", {__name__=~".+"} * time())',
    "max_over_time((sum by (i) (rate({__name__=~'load.*'}[5m])))[1h:10s])",
)
_RULE_SECONDS: Final = 1
_NICENESS: Final = 10
"""Of the noisy client, which stands for other machines: it must not take the service's cores."""
_NOISE_BEGINS_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The limits of the noisy tenant, which asks for five times as much, and the sizes of work."""

    rate: int = 20_000
    series: int = 10_000
    queries: int = 4
    rules: int = 20
    rule_terms: int = 2_000
    samples_per_write: int = 1_000
    quiet_series: int = 200
    noise: frozenset[str] = frozenset(("write", "query", "rule"))

    def limits(self) -> dict[str, object]:
        """The overrides of the noisy tenant."""
        return {
            "ingestion_rate": self.rate,
            "ingestion_burst_size": self.rate,
            "max_global_series_per_user": self.series,
            "max_concurrent_queries": self.queries,
            "max_outstanding_requests_per_tenant": 2 * self.queries,
            "max_rules": self.rules,
        }


@dataclass(slots=True)
class Delays:
    """Milliseconds that the quiet tenant waited, by what for."""

    write: list[float] = field(default_factory=list)
    query: list[float] = field(default_factory=list)
    rule: list[float] = field(default_factory=list)

    def percentiles(self, of: int) -> dict[str, float]:
        """A percentile of each."""
        found = {"write": self.write, "query": self.query, "rule": self.rule}
        return {name: float(np.percentile(times, of)) for name, times in found.items() if times}


class Tenant:
    """One tenant's client; `statuses` counts the answers it got."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        self._session = session
        self._url = url
        self._headers = {TENANT_HEADER: name}
        self.statuses: Counter[tuple[str, int]] = Counter()

    async def send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> tuple[int, bytes]:
        """Status and body of an answer."""
        joined = {**self._headers, **(headers or {})}
        async with self._session.request(
            method, self._url + path, headers=joined, **body
        ) as response:
            content = await response.read()
            self.statuses[what, response.status] += 1
            return response.status, content

    async def write(self, body: bytes) -> int:
        """Send a write; its status."""
        return (await self.send("POST", "/api/v1/write", "write", headers=_WRITE, data=body))[0]

    async def query(self, text: str, seconds: int = 600) -> bytes:
        """Ask a range query of 60 steps that ends now."""
        end = time.time()
        form = {
            "query": text,
            "start": f"{end - seconds:.3f}",
            "end": f"{end:.3f}",
            "step": str(seconds // 60),
        }
        return (await self.send("POST", "/api/v1/query_range", "query", data=form))[1]

    async def make_rule(self, name: str, expr: str) -> str:
        """Make a recording rule that is evaluated each second; its id, empty if it is refused."""
        rule = {
            "group": f"group {name}",
            "name": f"recorded:{name}",
            "kind": "record",
            "expr": expr,
            "interval": f"{_RULE_SECONDS}s",
        }
        _, content = await self.send("POST", "/api/v1/metrics/rules", "rule", json=rule)
        return str(json.loads(content).get("id", ""))


def body_of(name: str, first: int, count: int, at_ms: int) -> bytes:
    """A write of one sample of each of some series."""
    return encode_request(
        encode_series([("__name__", name), ("i", str(i))], (at_ms, float(at_ms % 1000)))
        for i in range(first, first + count)
    )


class QuietTenant:
    """Writes, queries and looks at its rules a few times a second, and notes how long that took."""

    def __init__(self, tenant: Tenant, load: Load) -> None:
        self.tenant = tenant
        self._load = load
        self.delays = Delays()

    async def prepare(self) -> None:
        """Some series, and rules over them."""
        await self._write()
        for number in range(3):
            await self.tenant.make_rule(f"quiet{number}", f"sum(calm) * 0 + {number}")

    async def run(self, seconds: float) -> Delays:
        """Work for so long; the delays."""
        self.delays = Delays()
        deadline = time.monotonic() + seconds
        await asyncio.gather(
            self._repeat(deadline, 0.1, self._timed_write),
            self._repeat(deadline, 0.1, self._timed_query),
            self._repeat(deadline, 0.1, self._look_at_rules),
        )
        return self.delays

    async def _repeat(
        self, deadline: float, pause: float, act: Callable[[], Awaitable[None]]
    ) -> None:
        while time.monotonic() < deadline:
            await act()
            await asyncio.sleep(pause)

    async def _write(self) -> int:
        at_ms = time.time_ns() // 1_000_000
        return await self.tenant.write(body_of("calm", 0, self._load.quiet_series, at_ms))

    async def _timed_write(self) -> None:
        started = time.perf_counter()
        status = await self._write()
        assert status == 204, status
        self.delays.write.append((time.perf_counter() - started) * 1000)

    async def _timed_query(self) -> None:
        started = time.perf_counter()
        await self.tenant.query("sum by (i) (rate(calm[1m]))")
        self.delays.query.append((time.perf_counter() - started) * 1000)

    async def _look_at_rules(self) -> None:
        """How old the newest result of a rule is, beyond its interval."""
        params = {"query": "max(timestamp(recorded:quiet0))"}
        _, content = await self.tenant.send("GET", "/api/v1/query", "query", params=params)
        _, found, text = content.partition(b'"value":[')
        if found:
            newest = float(text.partition(b',"')[2].partition(b'"')[0])
            self.delays.rule.append(max(0.0, time.time() - newest) * 1000)


class NoisyTenant:
    """Asks for five times of what it may have, without a pause."""

    def __init__(self, tenant: Tenant, load: Load) -> None:
        self.tenant = tenant
        self._load = load
        self._numbers = itertools.count()
        self._bodies: Sequence[bytes] = ()

    async def prepare(self) -> None:
        """Fill its series."""
        load = self._load
        now_ms, size = time.time_ns() // 1_000_000, load.samples_per_write
        self._bodies = [
            body_of("load", first, size, now_ms + 1000)
            for first in range(0, EXCESS * load.series, size)
        ]
        for first in range(0, load.series, size):
            await self.tenant.write(body_of("load", first, size, now_ms))
            await asyncio.sleep(size / load.rate)

    async def run(self) -> None:
        """Until cancelled, which removes its rules."""
        pause = self._load.samples_per_write / (EXCESS * self._load.rate)
        noise, tasks = self._load.noise, list[asyncio.Task[None]]()
        if "write" in noise:
            tasks += [asyncio.create_task(self._write(4 * pause)) for _ in range(4)]
        if "query" in noise:
            tasks += [
                asyncio.create_task(self._ask(_HOSTILE[number % len(_HOSTILE)]))
                for number in range(EXCESS * self._load.queries)
            ]
        try:
            async with self._rules():
                await asyncio.gather(*tasks, asyncio.Event().wait())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def _rules(self) -> AsyncIterator[None]:
        """Five times as many rules as it may have."""
        terms = " + ".join(["sum(load)"] * self._load.rule_terms)
        made = [
            await self.tenant.make_rule(f"noisy{number}", f"{terms} + {number}")
            for number in range(EXCESS * self._load.rules if "rule" in self._load.noise else 0)
        ]
        try:
            yield
        finally:
            for rule_id in filter(None, made):
                await self.tenant.send("DELETE", f"/api/v1/metrics/rules/{rule_id}", "rule")

    async def _write(self, pause: float) -> None:
        while True:
            await self.tenant.write(self._bodies[next(self._numbers) % len(self._bodies)])
            await asyncio.sleep(pause)

    async def _ask(self, text: str) -> None:
        while True:
            await self.tenant.query(text, 3600)
            # A client that is refused at once would only measure itself.
            await asyncio.sleep(0.05)


class NoisyProcess:
    """The noisy tenant in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    async def answered(self) -> Counter[tuple[str, int]]:
        """The answers so far, once what it was told last is done."""
        found: Counter[tuple[str, int]] = await asyncio.to_thread(self._pipe.recv)
        return found

    @asynccontextmanager
    async def noise(self) -> AsyncIterator[None]:
        """It is noisy for the time of a block."""
        self._pipe.send("begin")
        await asyncio.sleep(_NOISE_BEGINS_SECONDS)
        try:
            yield
        finally:
            self._pipe.send("end")


@contextmanager
def noisy_process(url: str, load: Load) -> Iterator[NoisyProcess]:
    """Start the process, and end it."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_be_noisy, args=(url, load, its), daemon=True)
    process.start()
    its.close()
    try:
        yield NoisyProcess(ours)
    finally:
        process.terminate()
        process.join()


def _be_noisy(url: str, load: Load, pipe: Connection) -> None:
    os.nice(_NICENESS)
    asyncio.run(_obey(url, load, pipe))


async def _obey(url: str, load: Load, pipe: Connection) -> None:
    """Prepare, then be noisy as often as told; the answers are sent after each."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        noisy = NoisyTenant(Tenant(session, url, NOISY), load)
        await noisy.prepare()
        while True:
            pipe.send(noisy.tenant.statuses)
            await asyncio.to_thread(pipe.recv)
            task = asyncio.create_task(noisy.run())
            await asyncio.to_thread(pipe.recv)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The delays of the quiet tenant alone and beside the noisy one, and what that one was told."""

    alone: Delays
    beside: Delays
    noisy_statuses: Counter[tuple[str, int]]


async def compare(url: str, load: Load, seconds: float, rounds: int) -> Comparison:
    """Measure the quiet tenant in turn alone and beside the noisy one, each time so long."""
    alone, beside = Delays(), Delays()
    async with aiohttp.ClientSession() as session:
        quiet = QuietTenant(Tenant(session, url, QUIET), load)
        overrides = {"overrides": load.limits()}
        status, content = await Tenant(session, url, NOISY).send(
            "PUT", "/api/v1/limits", "limits", json=overrides
        )
        assert status == 200, content
        await quiet.prepare()
        with noisy_process(url, load) as noisy:
            statuses = await noisy.answered()
            await quiet.run(seconds / 2)
            for _ in range(rounds):
                _add(alone, await quiet.run(seconds))
                async with noisy.noise():
                    _add(beside, await quiet.run(seconds))
                statuses = await noisy.answered()
                await asyncio.sleep(_NOISE_BEGINS_SECONDS)
    return Comparison(alone, beside, statuses)


def _add(total: Delays, more: Delays) -> None:
    total.write += more.write
    total.query += more.query
    total.rule += more.rule
