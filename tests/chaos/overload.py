"""More senders than the service can serve: what it takes is stored, and it stays answering."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from conformance.prometheus_api import PrometheusApi, format_seconds
from tests.benchmarks.ingest_load import LoadResult, Scrapes, load_process, send_load
from tests.benchmarks.process_usage import SERVICE, watched_memory
from tests.benchmarks.snappy_template import make_template
from tests.chaos.replicas import Replica
from tests.support.factories import encode_labels, make_labels

_METRIC: Final = "overload_total"
_LONG: Final = "x" * 250
"""A label as long as a template needs."""
_INTERVAL_MS: Final = 1_000
MAX_MEMORY_BYTES: Final = 2 << 30
"""Of a service with the default limits: a head of 512 MB, caches, and requests that wait."""
MAX_RECOVERY_SECONDS: Final = 30.0
_BACK_MS: Final = 7 * 86_400_000
_ASK_SECONDS: Final = 0.2


@dataclass(slots=True)
class Overload:
    """What was seen."""

    load: LoadResult
    n_stored: int
    peak_bytes: int
    query_answers: dict[int, int] = field(default_factory=dict)
    recovery_seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether what was acknowledged is stored, and the rest was refused for the time being."""
        return (
            self.n_stored == self.load.n_samples > 0
            and set(self.load.refused) == {"503"}
            and set(self.query_answers) <= {200, 503}
            and self.query_answers.get(200, 0) > 0
            and self.peak_bytes < MAX_MEMORY_BYTES
            and self.recovery_seconds < MAX_RECOVERY_SECONDS
        )

    def __str__(self) -> str:
        return (
            f"{self.load.n_samples:,} samples acknowledged "
            f"({self.load.samples_per_second:,.0f}/s), {self.n_stored:,} stored; "
            f"refused {self.load.refused}; queries {self.query_answers}; "
            f"service at most {self.peak_bytes / (1 << 20):,.0f} MiB; taken again after "
            f"{self.recovery_seconds:.1f} s"
        )


def make_load(n_senders: int, n_series: int, metric: str = _METRIC) -> Scrapes:
    """Each sender's series, again and again, a second of samples after the other."""
    templates = [
        make_template(
            [
                encode_labels(make_labels(metric, number=str(number), pad=_LONG))
                for number in range(sender * n_series, (sender + 1) * n_series)
            ]
        )
        for sender in range(n_senders)
    ]
    return Scrapes(templates, time.time_ns() // 1_000_000 - _BACK_MS, _INTERVAL_MS)


async def overload(replica: Replica, api: PrometheusApi, load: Scrapes, seconds: float) -> Overload:
    """Send over a connection for each sender at once, and ask meanwhile."""
    assert replica.program is not None
    with watched_memory(replica.program.process.pid) as peak:
        async with _asking(api) as answers:
            result = await send(replica, load, seconds, len(load.templates))
        started = time.monotonic()
        await _write_one(api)
        recovery = time.monotonic() - started
    stored = await count_stored(api)
    return Overload(result, stored, peak.memory_bytes[SERVICE], answers, recovery)


async def send(replica: Replica, load: Scrapes, seconds: float, n_senders: int) -> LoadResult:
    """Send from another process, over so many connections."""
    with load_process() as process:
        sending = partial(send_load, replica.url, load, n_senders, seconds)
        return await asyncio.get_running_loop().run_in_executor(process, sending)


@asynccontextmanager
async def _asking(api: PrometheusApi) -> AsyncIterator[dict[int, int]]:
    """Ask again and again for as long as the block lasts; how often each status was answered."""
    answers: dict[int, int] = {}

    async def ask() -> None:
        while True:
            now = format_seconds(time.time_ns() // 1_000_000 - _BACK_MS + 60_000)
            response = await api.query(f"count({_METRIC})", now)
            answers[response.status] = answers.get(response.status, 0) + 1
            await asyncio.sleep(_ASK_SECONDS)

    task = asyncio.create_task(ask())
    try:
        yield answers
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _write_one(api: PrometheusApi) -> None:
    await api.write({make_labels("after_overload"): [(time.time_ns() // 1_000_000, 1.0)]})


async def count_stored(api: PrometheusApi) -> int:
    """How many samples of the load are stored, asked for in parts because a query has a limit."""
    now, n_stored = format_seconds(time.time_ns() // 1_000_000), 0
    for digit in range(10):
        expr = f'sum(count_over_time({_METRIC}{{number=~".*{digit}"}}[8d]))'
        response = await api.query(expr, now)
        assert response.is_success, response.body
        n_stored += sum(int(row["value"][1]) for row in response.data["result"])
    return n_stored
