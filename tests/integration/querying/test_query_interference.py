"""Hostile queries of a real service: it stays alive, answers others, and bounds its memory."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout

from conformance.processes import running_promcompat
from tests.integration.querying.test_query_memory import WRITE_HEADERS, Memory
from tests.support.formats.remote_write import encode_request, encode_series

pytestmark = pytest.mark.integration

LIMIT_BYTES = 200_000_000
OTHER_BYTES = 400_000_000
"""Bodies, trees that `parse_query` shows, and memory that was freed and not yet given back."""
MAX_HEALTHY_SECONDS = 2.0
"""What is promised is 0.2 s, on a machine that does nothing else; others test here too."""
QUERY_SECONDS = 2
HOSTILE = {
    "groups": 'up{a=~"' + "(" * 50_000 + "a" + ")" * 50_000 + '"}',
    "captures": 'up{a=~"' + "(a)" * 10_000 + '"}',
    "repetitions": 'up{a=~"' + "x{1000}" * 20_000 + '"}',
    "optional parts": 'up{a=~"' + "x{0,100}" * 5_000 + '"}',
    "properties": 'up{a=~"(?i)' + "\\\\pL" * 10_000 + '"}',
    "many patterns": "up{" + ",".join(f'a!~"x{n}(.{{1000}}){{5}}"' for n in range(200)) + "}",
    "many literals": 'up{a=~"' + "|".join(f"host{n:06}" for n in range(30_000)) + '"}',
    "matchers": "up{" + ",".join(f'a{n}!="x"' for n in range(5_000)) + "}",
    "nested subqueries": "max_over_time(" * 4_000 + "up" + "[1h:1m])" * 4_000,
    "large subqueries": "+".join(["sum_over_time(vector(1)[10d:1s])"] * 4),
    "chain": "+".join(["up"] * 20_000),
    "parentheses": "(" * 20_000 + "up" + ")" * 20_000,
    "long labels": 'label_join(up, "a", "' + "-" * 50_000 + '"' + ', "job"' * 500 + ")",
    "template of label_replace": f'label_replace(up, "a", "{"$1" * 50_000}", "job", "(.*)")',
}


@asynccontextmanager
async def healthy_throughout(session: ClientSession, url: str) -> AsyncIterator[list[float]]:
    """The seconds that each of many questions for health took meanwhile."""
    seconds: list[float] = []

    async def watch() -> None:
        while True:
            started = time.perf_counter()
            async with session.get(f"{url}/-/healthy") as response:
                assert response.status == 200
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield seconds
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def ask(session: ClientSession, url: str, endpoint: str, query: str) -> tuple[int, str]:
    name = "match[]" if endpoint == "series" else "query"
    async with session.post(f"{url}/api/v1/{endpoint}", data={name: query}) as response:
        return response.status, (await response.content.read(400)).decode(errors="replace")


async def test_hostile_queries_neither_stop_the_service_nor_fill_its_memory(
    plain_database_url: str, tmp_path: Path
) -> None:
    settings = {
        "query_max_memory_bytes": str(LIMIT_BYTES),
        "queries_max_memory_bytes": str(LIMIT_BYTES),
        "query_timeout": f"{QUERY_SECONDS}s",
        "query_cache_bytes": "0",
    }
    now_ms = time.time_ns() // 1_000_000
    series = [
        encode_series((("__name__", "up"), ("job", f"j{n}")), (now_ms, 1.0)) for n in range(20)
    ]
    timeout = ClientTimeout(total=60)
    log = tmp_path / "promcompat.log"
    with running_promcompat(plain_database_url, log, **settings) as program:
        async with ClientSession(timeout=timeout) as session:
            body = encode_request(series)
            url = f"{program.url}/api/v1/write"
            async with session.post(url, data=body, headers=WRITE_HEADERS) as response:
                assert response.status == 204
            memory = Memory(program.process.pid)
            before = memory.now
            memory.forget_peak()
            async with healthy_throughout(session, program.url) as seconds:
                for name, query in HOSTILE.items():
                    answers = await asyncio.gather(
                        *(ask(session, program.url, "query", query) for _ in range(2)),
                        ask(session, program.url, "parse_query", query),
                        ask(session, program.url, "series", query),
                    )
                    for status, text in answers:
                        assert status < 500 or "timed out" in text, f"{name}: {status} {text}"
                    assert max(seconds) < MAX_HEALTHY_SECONDS, name
            assert memory.peak - before < LIMIT_BYTES + OTHER_BYTES
            assert (await ask(session, program.url, "query", "count(up)"))[0] == 200
