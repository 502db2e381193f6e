"""Series are made by one statement: each once, whoever else makes them, and durable in time."""

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from typing import Final

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sql.query_loader import load_queries
from tests.support.factories import make_batch, make_labels
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

_MAKE: Final = load_queries("series")["find_or_make_series"]
_GENERATION: Final = load_queries("series")["series_generation"]
_tenants = itertools.count(1_000)
groups_of_writers = st.lists(
    st.lists(st.lists(st.integers(0, 5), min_size=1, unique=True), min_size=1, max_size=3),
    min_size=2,
    max_size=3,
)


def fingerprint(number: int) -> bytes:
    return hashlib.md5(b"%d" % number, usedforsecurity=False).digest()


async def make(
    connection: asyncpg.Connection,
    tenant: int,
    numbers: Sequence[int],
    limits: tuple[int, int] = (0, 0),
) -> dict[int, int]:
    """The ids of some series of a metric; `numbers` is the order in which new ones get ids."""
    ordered = sorted(numbers, key=fingerprint)
    packed = await connection.fetchval(
        _MAKE,
        tenant,
        [fingerprint(number) for number in ordered],
        ["up"] * len(ordered),
        [f'{{"number":"{number}"}}' for number in ordered],
        [list(numbers).index(number) + 1 for number in ordered],
        *limits,
    )
    return dict(zip(ordered, np.frombuffer(packed, ">i8").tolist(), strict=True))


async def stored(connection: asyncpg.Connection, tenant: int) -> dict[int, int]:
    rows = await connection.fetch(
        "SELECT id, (labels ->> 'number')::integer AS number, fingerprint FROM promcompat.series"
        " WHERE tenant_id = $1",
        tenant,
    )
    assert all(row["fingerprint"] == fingerprint(row["number"]) for row in rows)
    assert len({row["number"] for row in rows}) == len(rows)
    return {row["number"]: row["id"] for row in rows}


async def generation(connection: asyncpg.Connection, tenant: int) -> int:
    return int((await connection.fetchrow(_GENERATION, tenant))["generation"])


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writers=groups_of_writers)
@example(writers=[[[0, 1, 2]], [[2, 1, 0]], [[3, 0], [4, 2, 5]]])
async def test_writers_of_the_same_series_get_the_same_ids(
    writers: list[list[list[int]]], database_url: str
) -> None:
    tenant = next(_tenants)

    async def write(groups: list[list[int]]) -> list[dict[int, int]]:
        async with connected(database_url) as connection:
            return [await make(connection, tenant, group) for group in groups]

    answers = itertools.chain(*await asyncio.gather(*map(write, writers)))
    async with connected(database_url) as connection:
        ids = await stored(connection, tenant)
    assert set(ids) == set(itertools.chain(*itertools.chain(*writers)))
    for answer in answers:
        assert answer.items() <= ids.items()


async def test_ids_ascend_in_the_order_that_the_writer_chose(database_url: str) -> None:
    async with connected(database_url) as connection:
        first = await make(connection, 1, [7, 3, 9])
        both = await make(connection, 1, [4, 3, 1, 9, 8])
    assert sorted(first, key=first.__getitem__) == [7, 3, 9]
    assert sorted(both, key=both.__getitem__) == [3, 9, 4, 1, 8]
    assert both.items() >= {3: first[3], 9: first[9]}.items()


async def test_no_more_ids_are_drawn_than_the_last_new_series_needs(database_url: str) -> None:
    drawn = "SELECT last_value FROM promcompat.series_id_seq"
    async with connected(database_url) as connection:
        known = list(range(100))
        await make(connection, 1, known)
        before = await connection.fetchval(drawn)
        await make(connection, 1, [*known[:2], 200, *known[2:]])
        assert await connection.fetchval(drawn) == before + 3


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
async def test_writer_waits_for_another_one_that_makes_the_same(
    database_url: str, *, commits: bool
) -> None:
    async with connected(database_url) as first, connected(database_url) as second:
        transaction = first.transaction()
        await transaction.start()
        ids = await make(first, 1, [0, 2])
        waiting = asyncio.create_task(make(second, 1, [0, 1, 2]))
        pid = second.get_server_pid()
        while not await first.fetchval(  # noqa: ASYNC110
            "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)", pid
        ):
            await asyncio.sleep(0.005)
        await (transaction.commit() if commits else transaction.rollback())
        made = await waiting
        assert await stored(first, 1) == made
        assert ({0: made[0], 2: made[2]} == ids) is commits


async def test_generation_changes_with_the_series_and_only_then(database_url: str) -> None:
    async with connected(database_url) as connection:
        generations = []
        for numbers in ([0], [1, 0], [0, 1]):
            await make(connection, 1, numbers)
            generations.append(await generation(connection, 1))
        assert generations[0] < generations[1] == generations[2]


async def test_making_series_does_not_wait_for_the_disk_but_their_samples_do(
    database_url: str,
) -> None:
    """Whatever the log has up to the series is on disk before a sample of them is acknowledged."""
    async with opened_storage(database_url) as storage, connected(database_url) as connection:
        await connection.execute("SET synchronous_commit = on")
        async with connection.transaction():
            await make(connection, 1, [0])
            assert await connection.fetchval("SHOW synchronous_commit") == "off"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        for number in range(3):
            labels = make_labels("up", number=str(number))
            await make(connection, 2, [number])
            logged = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            await storage.store.write_batch("default", make_batch({labels: [(1_000, 1.0)]}))
            assert await connection.fetchval("SELECT pg_current_wal_flush_lsn() >= $1", logged)
