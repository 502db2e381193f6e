"""Queries that ask too much are refused, and those nobody waits for end in the database too."""

import asyncio

import asyncpg
import pytest

from promcompat.core.errors import ExecutionError
from promql.budget import TOO_MANY_SAMPLES, too_much_memory
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.services.http_service import NOW_MS, Service, running_service
from tests.support.storage.repositories import (
    connected,
    drained_rows,
    locked_rows,
    opened_storage,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

TENANT = "default"
RUNNING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'promcompat read' AND state = 'active' AND datname = current_database()
"""
WRITE_HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
MEMORY_BYTES = 20_000_000
TOO_MUCH = too_much_memory(MEMORY_BYTES)
GROWING_TEXT = (
    f'label_replace(label_replace(up, "a", "{"$1" * 5000}", "job", "(.*)"), '
    f'"b", "{"$1" * 5000}", "a", "(.*)")'
)
HOSTILE = {
    "count_values": ('count_values("v", up * time())[1d:1s]', 422, TOO_MUCH),
    "label_replace": (GROWING_TEXT, 422, TOO_MUCH),
    "label_join": (f'label_join(up, "a", "{"-" * 500_000}", "job", "job")', 422, TOO_MUCH),
    "subquery of everything": ('{__name__=~".+"}[1y:1s]', 422, TOO_MUCH),
    "parentheses": ("(" * 30_000, 400, "unclosed left parenthesis"),
    "durations": (f"up[{'-' * 5_000}(1m+1m)]", 400, "nests deeper than 250 levels"),
    "subqueries": ("max_over_time(" * 300 + "up" + "[1h:1s])" * 300, 422, TOO_MUCH),
}
GIANT_SELECTORS = {
    "a regular expression of 100 kB": 'up{job=~"'
    + "|".join(f"j{n:05}" for n in range(15_000))
    + '|j7"}',
    "1,000 matchers": 'up{job="j7",' + ",".join(f'l{n}=""' for n in range(1_000)) + "}",
    "1,000 regular expressions": 'up{job="j7",'
    + ",".join(f'l{n}!~"x{n}.+"' for n in range(1_000))
    + "}",
}


async def wait_for_running(connection: asyncpg.Connection, wanted: bool) -> None:
    """Return when the server works on a statement of a query, or on none."""

    async def is_wanted() -> bool:
        return (await connection.fetchval(RUNNING) > 0) == wanted

    await eventually(is_wanted)


@pytest.mark.rows
async def test_client_that_goes_away_ends_its_statement(database_url: str) -> None:
    async with drained_rows(database_url) as storage, connected(database_url) as watcher:
        await storage.store.write_batch(TENANT, make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
        async with (
            running_service(storage.store, storage.catalogue) as service,
            locked_rows(database_url),
        ):
            request = asyncio.create_task(service.ask("query", query="up[5m]"))
            await wait_for_running(watcher, True)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            await wait_for_running(watcher, False)


@pytest.mark.rows
async def test_query_out_of_time_ends_its_statement(database_url: str) -> None:
    async with drained_rows(database_url) as storage, connected(database_url) as watcher:
        await storage.store.write_batch(TENANT, make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
        async with (
            running_service(storage.store, storage.catalogue) as service,
            locked_rows(database_url),
        ):
            status, body = await service.ask("query", query="up[5m]", timeout="300ms")
            assert status == 503
            assert body["errorType"] == "timeout"
            await wait_for_running(watcher, False)


async def test_samples_of_all_selections_count_together(database_url: str) -> None:
    async with opened_storage(database_url, max_samples=150) as storage:
        points = [(step, 1.0) for step in range(100)]
        await storage.store.write_batch(
            TENANT, make_batch({make_labels("a"): points, make_labels("b"): points})
        )
        selection, other = select_name("a", -1, 100), select_name("b", -1, 100)
        (block,) = await storage.store.select(TENANT, [selection])
        assert len(block.timestamps) == 100
        with pytest.raises(ExecutionError, match=TOO_MANY_SAMPLES):
            await storage.store.select(TENANT, [selection, other])
        # The connections are still good.
        assert len(await storage.store.select(TENANT, [selection])) == 1


@pytest.mark.rows
async def test_bytes_of_all_selections_count_together(database_url: str) -> None:
    # A row of the COPY stream takes 38 bytes.
    async with drained_rows(database_url, max_memory_bytes=6000) as storage:
        points = [(NOW_MS + step, 1.0) for step in range(100)]
        await storage.store.write_batch(
            TENANT, make_batch({make_labels("a"): points, make_labels("b"): points})
        )
        selections = [select_name(name, NOW_MS - 1, NOW_MS + 100) for name in "ab"]
        with pytest.raises(ExecutionError) as refused:
            await storage.store.select(TENANT, selections)
        assert str(refused.value) == too_much_memory(6000)
        assert len((await storage.store.select(TENANT, selections[:1]))[0].timestamps) == 100


async def test_query_beyond_its_memory_gets_422(database_url: str) -> None:
    async with opened_storage(database_url) as storage:
        series = {make_labels("up", job=f"j{job}"): [(NOW_MS, 1.0)] for job in range(50)}
        await storage.store.write_batch(TENANT, make_batch(series))
        async with running_service(
            storage.store, storage.catalogue, query_max_memory_bytes=100_000
        ) as service:
            status, body = await service.ask("query", query="max_over_time(up[1h:1s])")
            assert (status, body["errorType"]) == (422, "execution")
            assert body["error"] == too_much_memory(100_000)
            assert (await service.ask("query", query="count(up)"))[0] == 200


async def write_jobs(service: Service, time_ms: int, n_jobs: int = 50) -> int:
    """Send a sample of every job; the status."""
    series = [
        encode_series((("__name__", "up"), ("job", f"j{job}")), (time_ms, 1.0))
        for job in range(n_jobs)
    ]
    return (
        await service.post("/api/v1/write", data=encode_request(series), headers=WRITE_HEADERS)
    ).status


async def ask_hostile(service: Service, query: str) -> tuple[int, str]:
    """Status and error of an instant query."""
    response = await service.post("/api/v1/query", data={"query": query})
    return response.status, (await response.json()).get("error", "")


async def test_hostile_queries_are_refused(database_url: str) -> None:
    async with (
        opened_storage(database_url) as storage,
        running_service(
            storage.store, storage.catalogue, query_max_memory_bytes=MEMORY_BYTES
        ) as service,
    ):
        assert await write_jobs(service, NOW_MS) == 204
        for name, (query, status, text) in HOSTILE.items():
            got_status, error = await ask_hostile(service, query)
            assert (got_status, text in error) == (status, True), f"{name}: {error[:200]}"
        _, answer = await service.ask("query", query="count(up)")
        assert answer["data"]["result"][0]["value"][1] == "50"


async def test_chain_of_selectors_is_answered(database_url: str) -> None:
    async with opened_storage(database_url, read_connections=2) as storage:
        series = {make_labels(f"m{k}", k=str(k)): [(NOW_MS, float(k))] for k in range(300)}
        await storage.store.write_batch(TENANT, make_batch(series))
        async with running_service(storage.store, storage.catalogue) as service:
            form = {"query": " or ".join(f"m{k}" for k in range(300)), "stats": "all"}
            answer = await (await service.post("/api/v1/query", data=form)).json()
            values = [row["value"][1] for row in answer["data"]["result"]]
            assert values == [str(k) for k in range(300)]
            form = {"query": "+ on () ".join(f"m{k}" for k in range(300))}
            answer = await (await service.post("/api/v1/query", data=form)).json()
            assert [row["value"][1] for row in answer["data"]["result"]] == ["44850"]


async def test_giant_selectors_are_answered(database_url: str) -> None:
    async with (
        opened_storage(database_url) as storage,
        running_service(storage.store, storage.catalogue) as service,
    ):
        assert await write_jobs(service, NOW_MS) == 204
        for name, selector in GIANT_SELECTORS.items():
            response = await service.post("/api/v1/series", data={"match[]": selector})
            answer = await response.json()
            assert response.status == 200, f"{name}: {answer}"
            assert answer["data"] == [{"__name__": "up", "job": "j7"}], name
        # Each of a thousand selectors is one more to look up.
        form = [("match[]", f'up{{job="j{job}"}}') for job in range(1_000)]
        response = await service.post("/api/v1/series", data=form)
        assert len((await response.json())["data"]) == 50


async def test_ingest_answers_while_hostile_queries_run(database_url: str) -> None:
    async with (
        opened_storage(database_url) as storage,
        running_service(
            storage.store, storage.catalogue, query_max_memory_bytes=MEMORY_BYTES
        ) as service,
    ):
        assert await write_jobs(service, NOW_MS - 100_000) == 204

        async def attack(query: str) -> list[int]:
            return [(await ask_hostile(service, query))[0] for _ in range(2)]

        attacks = [asyncio.create_task(attack(query)) for query, _, _ in HOSTILE.values()]
        times_ms = range(NOW_MS - 40_000, NOW_MS, 10_000)
        statuses = [await write_jobs(service, time_ms) for time_ms in times_ms]
        assert statuses == [204] * len(times_ms)
        refused = [[status] * 2 for _, status, _ in HOSTILE.values()]
        assert await asyncio.gather(*attacks) == refused
        _, answer = await service.ask("query", query="sum(count_over_time(up[1m]))")
        assert answer["data"]["result"][0]["value"][1] == str(50 * len(times_ms))
