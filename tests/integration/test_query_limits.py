"""Queries that ask too much are refused, and those nobody waits for end in the database too."""

import asyncio

import asyncpg
import pytest

from promcompat.core.errors import ExecutionError
from promql.budget import TOO_MANY_SAMPLES, too_much_memory
from tests.factories import make_batch, make_labels, select_name
from tests.http_service import NOW_MS, running_service
from tests.repositories import connected, locked_samples, opened_repository

pytestmark = pytest.mark.integration

TENANT = "default"
RUNNING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'promcompat read' AND state = 'active' AND datname = current_database()
"""
WAIT_SECONDS = 10.0


async def wait_for_running(connection: asyncpg.Connection, wanted: bool) -> None:
    """Return when the server works on a statement of a query, or on none."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await connection.fetchval(RUNNING) > 0) != wanted:  # noqa: ASYNC110 - of a server.
            await asyncio.sleep(0.01)


async def test_client_that_goes_away_ends_its_statement(database_url: str) -> None:
    async with opened_repository(database_url) as repository, connected(database_url) as watcher:
        await repository.write_batch(TENANT, make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
        async with running_service(repository) as service, locked_samples(database_url):
            request = asyncio.create_task(service.ask("query", query="up[5m]"))
            await wait_for_running(watcher, True)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
            await wait_for_running(watcher, False)


async def test_query_out_of_time_ends_its_statement(database_url: str) -> None:
    async with opened_repository(database_url) as repository, connected(database_url) as watcher:
        await repository.write_batch(TENANT, make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
        async with running_service(repository) as service, locked_samples(database_url):
            status, body = await service.ask("query", query="up[5m]", timeout="300ms")
            assert status == 503
            assert body["errorType"] == "timeout"
            await wait_for_running(watcher, False)


async def test_samples_of_all_selections_count_together(database_url: str) -> None:
    async with opened_repository(database_url, max_samples=150) as repository:
        points = [(step, 1.0) for step in range(100)]
        await repository.write_batch(
            TENANT, make_batch({make_labels("a"): points, make_labels("b"): points})
        )
        one, other = select_name("a", -1, 100), select_name("b", -1, 100)
        (block,) = await repository.select(TENANT, [one])
        assert len(block.timestamps) == 100
        with pytest.raises(ExecutionError, match=TOO_MANY_SAMPLES):
            await repository.select(TENANT, [one, other])
        # The connections are still good.
        assert len(await repository.select(TENANT, [one])) == 1


async def test_bytes_of_all_selections_count_together(database_url: str) -> None:
    # A row of the COPY stream takes 38 bytes.
    async with opened_repository(database_url, max_memory_bytes=6000) as repository:
        points = [(NOW_MS + step, 1.0) for step in range(100)]
        await repository.write_batch(
            TENANT, make_batch({make_labels("a"): points, make_labels("b"): points})
        )
        selections = [select_name(name, NOW_MS - 1, NOW_MS + 100) for name in "ab"]
        with pytest.raises(ExecutionError) as refused:
            await repository.select(TENANT, selections)
        assert str(refused.value) == too_much_memory(6000)
        assert len((await repository.select(TENANT, selections[:1]))[0].timestamps) == 100


async def test_query_beyond_its_memory_gets_422(database_url: str) -> None:
    async with opened_repository(database_url) as repository:
        series = {make_labels("up", job=f"j{job}"): [(NOW_MS, 1.0)] for job in range(50)}
        await repository.write_batch(TENANT, make_batch(series))
        async with running_service(repository, query_max_memory_bytes=100_000) as service:
            status, body = await service.ask("query", query="max_over_time(up[1h:1s])")
            assert (status, body["errorType"]) == (422, "execution")
            assert body["error"] == too_much_memory(100_000)
            assert (await service.ask("query", query="count(up)"))[0] == 200
