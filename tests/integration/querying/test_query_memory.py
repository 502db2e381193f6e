"""What one query takes of a real service's memory, and that it comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from conformance.processes import running_promcompat
from promql.budget import too_much_memory
from tests.support.formats.remote_write import encode_request, encode_series

pytestmark = pytest.mark.integration

LIMIT_BYTES = 100_000_000
OTHER_BYTES = 100_000_000
"""Freed memory that the process keeps, the pieces operators work on, the answer on its way."""
N_SERIES, N_SAMPLES, SAMPLE_SECONDS = 1_000, 500, 15
N_STEPS, STEP_SECONDS = 3_000, 2.5
START = 1_700_000_000
END = START + N_SAMPLES * SAMPLE_SECONDS
WRITE_HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
ANSWERED = [
    "x",
    "count(rate(x[5m]))",
    "count(deriv(x[5m]))",
    "count(quantile_over_time(0.9, x[5m]))",
    "count(avg by (n) (x))",
    "count(quantile by (n) (0.5, x))",
    "count(year(x))",
    "count(x ^ 2.5)",
    "count(max_over_time(rate(x[1m])[2m:5s]))",
    "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
]
REFUSED = [
    "max_over_time(x[2h:1s])",
    'count(count_values("v", x * time()))',
]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process: bytes now, and the most since `forget_peak`."""

    process_id: int

    def _read(self, name: str) -> int:
        status = Path(f"/proc/{self.process_id}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    @property
    def now(self) -> int:
        return self._read("VmRSS")

    @property
    def peak(self) -> int:
        return self._read("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process_id}/clear_refs").write_text("5")


@dataclass(frozen=True, slots=True)
class LimitedService:
    """A process that serves with a small limit and without caches, and some samples in it."""

    session: ClientSession
    url: str
    memory: Memory

    async def load(self) -> None:
        times_ms = (START + np.arange(N_SAMPLES) * SAMPLE_SECONDS) * 1000
        for first in range(0, N_SERIES, 200):
            series = [
                encode_series(
                    (("__name__", "x"), ("le", str(n % 10)), ("n", f"{n:04}")),
                    *((int(time), float(time % (n + 7))) for time in times_ms),
                )
                for n in range(first, first + 200)
            ]
            body = encode_request(series)
            url = f"{self.url}/api/v1/write"
            async with self.session.post(url, data=body, headers=WRITE_HEADERS) as response:
                assert response.status == 204

    async def ask(self, query: str) -> tuple[int, bytes]:
        """Status and the first bytes of the answer, all of which is read."""
        end = START + (N_STEPS - 1) * STEP_SECONDS
        form = {"query": query, "start": str(START), "end": str(end), "step": str(STEP_SECONDS)}
        async with self.session.post(f"{self.url}/api/v1/query_range", data=form) as response:
            head = b""
            async for chunk in response.content.iter_any():
                head = head or chunk
            return response.status, head


@asynccontextmanager
async def limited_service(database_url: str, folder: Path) -> AsyncIterator[LimitedService]:
    settings = {
        "query_max_memory_bytes": str(LIMIT_BYTES),
        "query_cache_bytes": "0",
    }
    with running_promcompat(database_url, folder / "promcompat.log", **settings) as program:
        async with ClientSession() as session:
            service = LimitedService(session, program.url, Memory(program.process.pid))
            await service.load()
            yield service


async def test_queries_stay_within_their_memory_and_give_it_back(
    plain_database_url: str, tmp_path: Path
) -> None:
    async with limited_service(plain_database_url, tmp_path) as service:
        before = service.memory.now
        for query in [*ANSWERED, *REFUSED]:
            service.memory.forget_peak()
            status, head = await service.ask(query)
            if query in REFUSED:
                assert status == 422, query
                assert too_much_memory(LIMIT_BYTES).encode() in head
            else:
                assert status == 200, f"{query}: {head[:200]!r}"
            taken = service.memory.peak - before
            assert taken <= LIMIT_BYTES * 1.25 + OTHER_BYTES, query
        async with asyncio.timeout(60):
            while service.memory.now > before + OTHER_BYTES // 2:  # noqa: ASYNC110 - of a process.
                await asyncio.sleep(0.2)
